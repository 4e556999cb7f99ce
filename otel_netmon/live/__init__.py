"""Diagnosis while the job runs: each rank's digest goes through ``job``, one rank merges them and tells.

May import the bottom floor, ``job`` and ``diagnosis``.
"""
