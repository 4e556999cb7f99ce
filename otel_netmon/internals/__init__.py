"""Every private name of torch and OpenTelemetry that we touch: each probed, and guarded alone."""
