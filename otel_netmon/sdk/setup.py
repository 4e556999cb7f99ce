"""OpenTelemetry's SDK in this process: set up where it was not, from ``OTEL_*`` variables that work."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import PurePath
from typing import Final

from otel_netmon.guard import guarded
from otel_netmon.sdk import otlp
from otel_netmon.sdk.check import apply, check
from otel_netmon.sdk.values import SIGNALS, installed
from otel_netmon.streams import hold_closed

_logger = logging.getLogger(__name__)

_instrumented: Final[list[bool]] = []


def instrument_this_process() -> None:
    """What ``opentelemetry-instrument`` does in each Python, once. For our own ``sitecustomize``."""
    guarded(_instrument_this_process)


def _instrument_this_process() -> None:
    from opentelemetry.instrumentation import auto_instrumentation

    # Where `opentelemetry-instrument` is above us, the next sitecustomize was its own, and has done it.
    ran = getattr(sys.modules.get("sitecustomize"), "__file__", None) or ""
    done = PurePath(ran).parent == PurePath(auto_instrumentation.__file__ or ".").parent
    if _instrumented or done:
        return
    _instrumented.append(True)
    auto_instrumentation.initialize()


def sdk_is_disabled(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether ``OTEL_SDK_DISABLED`` is true, as OpenTelemetry reads it."""
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def configure_sdk_if_nobody_did() -> None:
    """Set up the SDK from ``OTEL_*`` variables when no distribution did. Called by the auto-instrumentation.

    ``opentelemetry-instrument`` leaves this to a distribution's configurator; where none is installed it loads
    instrumentors and exports nothing. A provider that exists is never replaced, and nothing is done unless
    the user named an exporter or an OTLP endpoint.
    """
    guarded(_configure_sdk, os.environ)


def _configure_sdk(environ: MutableMapping[str, str]) -> None:
    from opentelemetry import trace

    from otel_netmon.internals.otel_internals import configure_sdk

    if sdk_is_disabled(environ):
        return
    hold_closed()
    configurator = environ.get("OTEL_PYTHON_CONFIGURATOR")
    if any(configurator in (None, name) for name in installed("opentelemetry_configurator")):
        return
    if not _name_exporters(environ):
        return
    apply(*check(environ), environ, _logger)
    if not _name_exporters(environ):
        return
    # These make the API look for a provider before there is one, and find one without exporters.
    providers = {name: environ.pop(name) for name in _PROVIDERS if name in environ}
    try:
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            configure_sdk()
    except Exception as error:  # of the settings, whose text says more than a traceback
        _logger.warning("otel-netmon: OpenTelemetry refuses its settings, so nothing is recorded: %s", error)
        _logger.debug("otel-netmon: where it refused them", exc_info=error)
    finally:
        environ.update(providers)


_PROVIDERS: Final = tuple(f"OTEL_PYTHON_{kind}_PROVIDER" for kind in ("TRACER", "METER", "LOGGER"))


def _name_exporters(environ: MutableMapping[str, str]) -> bool:
    """Name an exporter for each signal that has an endpoint; whether any has one."""
    wanted = bool(environ.get("OTEL_CONFIG_FILE", "").strip())
    for signal in SIGNALS:
        variable = f"OTEL_{signal.upper()}_EXPORTER"
        exporter = environ.get(variable, "").strip()
        # the specification's default
        if not exporter and otlp.endpoint(environ, signal)[0]:
            environ[variable] = exporter = "otlp"
        wanted = wanted or exporter.lower() not in ("", "none")
    return wanted
