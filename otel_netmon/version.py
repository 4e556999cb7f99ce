"""The version, once: read by the build, the instrumentation scope and `otel-netmon --version`."""

__version__ = "0.1.0"
