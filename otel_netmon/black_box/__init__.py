"""A rank's last collectives in a file that it maps into its memory, read by whoever outlives it.

A process that is killed loses what it has not exported: half a second of collectives, and the one that matters is
among them. What stands in this file does not go with the process. The launcher makes a private folder for these
files in memory (``folder``) and names it in its children's environment; a rank keeps one file there while it runs
(``box``) and deletes it when all is exported; whoever finds one whose process has ended reads it (``layout``).
"""
