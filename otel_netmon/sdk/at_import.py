"""Imported before OpenTelemetry: what its API reads while it is imported, and then raises or logs a traceback."""

import os

from otel_netmon.sdk.check import apply, names
from otel_netmon.sdk.values import Checked

_checked = Checked(os.environ)
names(_checked, {"OTEL_PROPAGATORS", "OTEL_PYTHON_CONTEXT"})
if _checked.problems:
    apply(_checked.environ, _checked.problems)
