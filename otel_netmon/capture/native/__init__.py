"""The native capture: C++ that records calls without the interpreter lock, compiled by ``otel-netmon build``."""
