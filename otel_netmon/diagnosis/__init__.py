"""Who is to blame, and why: evidence to findings. Pure: no clock, no I/O, no torch, no OpenTelemetry."""
