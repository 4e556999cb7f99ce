"""The way out to a collector: OTLP requests that are kept, on disk where need be, until they are taken."""
