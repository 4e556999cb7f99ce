"""The native capture: C++ that records each call without the interpreter lock, compiled by ``otel-netmon build``."""
