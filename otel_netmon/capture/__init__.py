"""The training side: each collective is recorded where it passes. Nothing here knows OpenTelemetry."""
