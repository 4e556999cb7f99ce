"""The training side: every collective recorded where it passes, and said in OpenTelemetry in the background."""
