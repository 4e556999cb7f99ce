"""Diagnosis while the job runs: each rank's digest through the job's store, one rank that merges and tells.

Nothing here runs on a training thread, and nothing here knows OpenTelemetry.
"""
