"""The two entry points that ``opentelemetry-instrument`` loads, and ``step()``.

``netmon`` watches the host and needs no torch. ``torch_distributed`` captures collectives; it waits for the
program to import torch and never does so itself. Neither lets an exception out: the loader would then skip
every instrumentation after it.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from otel_netmon.sdk import at_import  # noqa: F401  # before OpenTelemetry, which it spares bad values

# isort: split
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider
from wrapt import register_post_import_hook

from otel_netmon import config, runtime, semconv
from otel_netmon.version import __version__

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from otel_netmon.collectives.engine import Engine
    from otel_netmon.monitors import Monitor, Scheduler


class NetmonInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # the base is untyped
    """The monitors: those of the host in the one process that owns it (``runtime.claim_host``), and in every rank
    the one that sums up its own collectives.

    ``instrument()`` starts one scheduler thread where there is something to watch, and nothing elsewhere;
    ``instrument(meter_provider=…)`` uses that provider. Needs no torch.
    """

    _scheduler: Scheduler | None = None
    _monitors: tuple[Monitor, ...] = ()

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: the monitors need no library of the user's."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        runtime.guarded(self._start, kwargs.get("meter_provider"))

    def _uninstrument(self, **_: Any) -> None:
        runtime.guarded(self._stop)
        for monitor in self._monitors:
            runtime.guarded(monitor.unregister)
        self._monitors = ()

    def _start(self, meter_provider: MeterProvider | None) -> None:
        owns_host = runtime.claim_host()
        trains = runtime.role() in (runtime.Role.RANK, runtime.Role.PLAIN)
        if not owns_host and not trains:
            return
        from opentelemetry import metrics

        from otel_netmon.monitors import Scheduler
        from otel_netmon.monitors.registry import monitors_for

        chosen = monitors_for(host=owns_host, rank=trains)
        if not chosen:
            return
        meter = (meter_provider or metrics.get_meter_provider()).get_meter(
            semconv.SCOPE_MONITORS, __version__, semconv.SCHEMA_URL
        )
        self._monitors = chosen
        for monitor in self._monitors:
            monitor.register(meter)
        self._scheduler = Scheduler(self._monitors, config.current().interval)
        self._scheduler.start()
        atexit.register(self._stop)

    def _stop(self) -> None:
        """End the sampling with a last sample of what sends nothing, so that the last export has it all."""
        atexit.unregister(self._stop)
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is None:
            return
        scheduler.sample_now(min(1.0, config.current().exit_timeout))
        scheduler.stop(config.current().exit_timeout)
        runtime.release_host(os.environ)


class TorchDistributedInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # the base is untyped
    """Every collective of ``torch.distributed``, once torch is imported.

    ``instrument(tracer_provider=…, meter_provider=…)`` uses those providers, otherwise whatever is global when
    the first collective was emitted. ``uninstrument()`` takes kernels and hooks out and emits what is left.
    """

    _engine: Engine | None = None
    _arguments: tuple[TracerProvider | None, MeterProvider | None] | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: without torch there is nothing to capture, and that is not a conflict."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        runtime.guarded(self._prepare, kwargs.get("tracer_provider"), kwargs.get("meter_provider"))

    def _uninstrument(self, **_: Any) -> None:
        self._arguments = None
        engine, self._engine = self._engine, None
        if engine is not None:
            runtime.guarded(engine.stop)

    def _prepare(self, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None) -> None:
        if config.current().capture == "off" or runtime.sdk_is_disabled():
            return
        if runtime.role() in (runtime.Role.LAUNCHER, runtime.Role.HELPER):
            return
        if isinstance(tracer_provider, NoOpTracerProvider) and isinstance(meter_provider, NoOpMeterProvider):
            return  # nobody would get anything
        self._arguments = (tracer_provider, meter_provider)
        register_post_import_hook(_torch_imported, "torch")


def _torch_imported(_module: Any) -> None:
    """torch is there: start, if still wanted. A hook cannot be taken back from wrapt, so it may come late."""
    runtime.guarded(_start_engine, TorchDistributedInstrumentor())


def _start_engine(instrumentor: TorchDistributedInstrumentor) -> None:
    if instrumentor._arguments is None or instrumentor._engine is not None:
        return
    from otel_netmon.collectives.engine import Engine

    engine = Engine(*instrumentor._arguments)
    engine.start()
    instrumentor._engine = engine


def _after_fork_in_child() -> None:
    engine = TorchDistributedInstrumentor()._engine
    if engine is not None:
        runtime.guarded(engine.after_fork)


os.register_at_fork(after_in_child=_after_fork_in_child)


@contextmanager
def step() -> Iterator[None]:
    """Mark one training step: ``with otel_netmon.step(): …``.

    For loops without an optimizer, or where a step is not what the optimizer's step says. From the first use
    on, optimizer steps no longer count. Does nothing when collectives are not captured; exceptions pass.
    """
    engine = TorchDistributedInstrumentor()._engine
    if engine is None:
        yield
        return
    with engine.steps.step():
        yield
