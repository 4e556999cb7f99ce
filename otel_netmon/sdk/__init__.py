"""OpenTelemetry's own variables, read as its SDK reads them: what in them cannot work, and where OTLP goes."""
