"""Imported before OpenTelemetry: what its API reads while it is imported, and then raises or logs a traceback."""

import os

_READ = {"OTEL_PROPAGATORS", "OTEL_PYTHON_CONTEXT"}

if any(os.environ.get(name, "").strip() for name in _READ):
    from otel_netmon.sdk.check import apply, names
    from otel_netmon.sdk.values import Checked

    _checked = Checked(os.environ)
    names(_checked, _READ)
    if _checked.problems:
        apply(_checked.environ, _checked.problems)
