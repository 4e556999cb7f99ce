"""OpenTelemetry's SDK in this process: set up where it was not, from ``OTEL_*`` variables that work."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
    """What ``opentelemetry-instrument`` does in each Python, once. For our own ``sitecustomize``.

    Some 60,000 objects are left by this, OpenTelemetry's modules for the most part, and nothing of the program is
    there yet. Garbage collections of the training need not visit them: they are frozen. (That keeps 200 kB of
    garbage alive, and saves 10 to 30 ms in each full collection, and a copy of their pages in each fork.)
    """
    with without_collections():
        guarded(_instrument_this_process)
        gc.freeze()


def _instrument_this_process() -> None:
    from opentelemetry.instrumentation import auto_instrumentation

    # Where `opentelemetry-instrument` is above us, the next sitecustomize was its own, and has done it.
    ran = getattr(sys.modules.get("sitecustomize"), "__file__", None) or ""
    done = PurePath(ran).parent == PurePath(auto_instrumentation.__file__ or ".").parent
    if _instrumented or done:
        return
    _instrumented.append(True)
    auto_instrumentation.initialize()


@contextmanager
def without_collections() -> Iterator[None]:
    """No garbage collections meanwhile. For imports of ours, which leave thousands of objects that all stay.

    Where torch is imported as well, the full collection that they otherwise cause takes longer than they do.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def sdk_is_disabled() -> bool:
    """Whether ``OTEL_SDK_DISABLED`` is true, as OpenTelemetry reads it."""
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def configure_sdk_if_nobody_did() -> None:
    """Set up the SDK from ``OTEL_*`` variables when no distribution did. Called by the auto-instrumentation.

    ``opentelemetry-instrument`` leaves this to a distribution's configurator; where none is installed it loads
    instrumentors and exports nothing. A provider that exists is never replaced, and nothing is done unless
    the user named an exporter or an OTLP endpoint.
    """
    guarded(_configure_sdk)


def _configure_sdk() -> None:
    from opentelemetry import trace

    from otel_netmon.internals.otel_internals import configure_sdk

    if sdk_is_disabled():
        return
    hold_closed()
    configurator = os.environ.get("OTEL_PYTHON_CONFIGURATOR")
    if any(configurator in (None, name) for name in installed("opentelemetry_configurator")):
        return
    if not _name_exporters():
        return
    apply(*check(os.environ))
    if not _name_exporters():
        return
    # These make the API look for a provider before there is one, and find one without exporters.
    providers = {name: os.environ.pop(name) for name in _PROVIDERS if name in os.environ}
    try:
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            configure_sdk()
    except Exception as error:  # of the settings, whose text says more than a traceback
        _logger.warning("otel-netmon: OpenTelemetry refuses its settings, so nothing is recorded: %s", error)
        _logger.debug("otel-netmon: where it refused them", exc_info=error)
    finally:
        os.environ.update(providers)


_PROVIDERS: Final = tuple(f"OTEL_PYTHON_{kind}_PROVIDER" for kind in ("TRACER", "METER", "LOGGER"))


def _name_exporters() -> bool:
    """Name an exporter for each signal that has an endpoint; whether any has one."""
    wanted = bool(os.environ.get("OTEL_CONFIG_FILE", "").strip())
    for signal in SIGNALS:
        variable = f"OTEL_{signal.upper()}_EXPORTER"
        exporter = os.environ.get(variable, "").strip()
        if not exporter and otlp.endpoint(os.environ, signal)[0]:
            os.environ[variable] = exporter = "otlp"  # the specification's default
        wanted = wanted or exporter.lower() not in ("", "none")
    return wanted
