"""Summaries and findings for people: on a terminal, as one HTML file, as a timeline.

May import the bottom floor, ``analysis`` and ``diagnosis``; never touches a live process, never imports torch.
"""
