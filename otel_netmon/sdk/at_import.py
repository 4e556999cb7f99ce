"""Imported before OpenTelemetry: what its API reads while it is imported, and then raises or logs a traceback."""

import logging
import os

from otel_netmon.sdk.check import apply, check_names

_works, _problems = check_names(os.environ, ("OTEL_PROPAGATORS", "OTEL_PYTHON_CONTEXT"))
if _problems:
    apply(_works, _problems, os.environ, logging.getLogger(__name__))
