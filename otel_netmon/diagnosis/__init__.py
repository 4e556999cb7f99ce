"""From evidence to findings: which rank, host, pair or NIC is to blame, for what, and what was not excluded.

Pure: no clock, no I/O, no torch, no OpenTelemetry. May import the bottom floor alone, so that it runs in a live
job as well as on files.
"""
