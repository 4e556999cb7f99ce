"""The two entry points that ``opentelemetry-instrument`` loads, and ``step()``.

``torch_distributed`` waits for the program to import torch and never does so itself. Neither raises: the loader
would then skip every instrumentation after it.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from otel_netmon.guard import guarded
from otel_netmon.sdk import at_import  # noqa: F401  # before OpenTelemetry, which it spares bad values

# isort: split
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider
from wrapt import register_post_import_hook

from otel_netmon import config, forks, semconv
from otel_netmon.job import roles
from otel_netmon.sdk.setup import sdk_is_disabled, without_collections
from otel_netmon.version import __version__

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from otel_netmon.engine import Engine
    from otel_netmon.launcher.watcher import RankWatcher
    from otel_netmon.monitors import Monitor, Scheduler


class NetmonInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # the base is untyped
    """The monitors: those of the host in the one process that owns it (``roles.claim_host``), and in every rank
    the one that sums up its own collectives.

    ``instrument()`` starts a thread for each monitor that has something to watch, and nothing elsewhere;
    ``instrument(meter_provider=…)`` uses that provider. Needs no torch.
    """

    _schedulers: tuple[Scheduler, ...] = ()
    _monitors: tuple[Monitor, ...] = ()
    _meter_provider: MeterProvider | None = None
    _watcher: RankWatcher | None = None
    _wanted = False
    _trains = False
    """Whether the monitors of a rank run."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: the monitors need no library of the user's."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        self._meter_provider = kwargs.get("meter_provider")
        self._wanted = True
        forks.register(self)
        guarded(self._start)

    def _uninstrument(self, **_: Any) -> None:
        self._wanted = False
        guarded(self._stop)
        if self._watcher is not None:
            guarded(self._watcher.stop)
            self._watcher = None
        for monitor in self._monitors:
            guarded(monitor.unregister)
        self._monitors = ()

    def joined(self) -> None:
        """This process is in a group: the monitors of a rank run from now on, whoever made the process."""
        if self._wanted and not self._trains:
            self._run(host=False, rank=True)

    def after_fork_in_child(self) -> None:
        """The threads are the parent's, and a child has no rank until it is in a group."""
        atexit.unregister(self._stop)
        self._schedulers, self._monitors, self._trains, self._watcher = (), (), False, None

    def _start(self) -> None:
        is_host, role = roles.claim_host(), roles.role()
        guarded(self._run, host=is_host, rank=role in (roles.Role.RANK, roles.Role.PLAIN))
        if is_host or role is roles.Role.LAUNCHER:
            from otel_netmon.launcher.watcher import RankWatcher

            self._watcher = RankWatcher(lists=role is not roles.Role.RANK)
            self._watcher.start()

    def _run(self, *, host: bool, rank: bool) -> None:
        if not host and not rank:
            return
        self._trains = self._trains or rank
        from opentelemetry import metrics

        from otel_netmon.monitors import Scheduler
        from otel_netmon.monitors.registry import monitors_for

        chosen = monitors_for(host=host, rank=rank)
        if not chosen:
            return
        meter = (self._meter_provider or metrics.get_meter_provider()).get_meter(
            semconv.SCOPE_MONITORS, __version__, semconv.SCHEMA_URL
        )
        for monitor in chosen:
            monitor.register(meter)
        self._monitors = (*self._monitors, *chosen)
        scheduler = Scheduler(chosen, config.current().interval)
        self._schedulers = (*self._schedulers, scheduler)
        scheduler.start()
        atexit.unregister(self._stop)
        atexit.register(self._stop)

    def _stop(self) -> None:
        """Stop sampling, after a last sample of the monitors that send nothing, for the last export."""
        atexit.unregister(self._stop)
        schedulers, self._schedulers, self._trains = self._schedulers, (), False
        for scheduler in schedulers:
            scheduler.sample_now(min(1.0, config.current().exit_timeout))
            scheduler.stop(config.current().exit_timeout)
        if schedulers:
            roles.release_host(os.environ)


class TorchDistributedInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # the base is untyped
    """Every collective of ``torch.distributed``, once torch is imported.

    ``instrument(tracer_provider=…, meter_provider=…)`` uses those providers, otherwise whatever is global when
    the first collective was emitted. ``uninstrument()`` removes kernels and hooks and emits what is left.
    """

    _engine: Engine | None = None
    _is_late = False
    """Whether torch was imported before, and optimizers perhaps made."""
    _arguments: tuple[TracerProvider | None, MeterProvider | None] | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: without torch there is nothing to capture, and that is not a conflict."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        guarded(self._prepare, kwargs.get("tracer_provider"), kwargs.get("meter_provider"))

    def _uninstrument(self, **_: Any) -> None:
        self._arguments = None
        engine, self._engine = self._engine, None
        if engine is not None:
            guarded(engine.stop)

    def _prepare(self, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None) -> None:
        if config.current().capture == "off" or sdk_is_disabled():
            return
        role = roles.role()
        if role is roles.Role.LAUNCHER or (role is roles.Role.HELPER and not roles.is_fork_server()):
            return
        if isinstance(tracer_provider, NoOpTracerProvider) and isinstance(meter_provider, NoOpMeterProvider):
            return  # nothing would be exported
        self._arguments = (tracer_provider, meter_provider)
        self._is_late = "torch" in sys.modules
        register_post_import_hook(_torch_imported, "torch")


def _torch_imported(_module: Any) -> None:
    """torch is imported: start, if still wanted. wrapt cannot unregister a hook, so this may come late."""
    instrumentor = TorchDistributedInstrumentor()
    if instrumentor._arguments is not None and instrumentor._engine is None:
        guarded(_start_engine, instrumentor, *instrumentor._arguments)


def _start_engine(instrumentor: TorchDistributedInstrumentor, *providers: Any) -> None:
    with without_collections():
        from otel_netmon.engine import Engine
        from otel_netmon.monitors.quota import ThrottledTime

        engine = Engine(*providers, joined=NetmonInstrumentor().joined, throttled=ThrottledTime)
        engine.start(from_the_start=not instrumentor._is_late)
    instrumentor._engine = engine


@contextmanager
def step() -> Iterator[None]:
    """Mark one training step: ``with otel_netmon.step(): …``.

    For loops without an optimizer, or where a step is not what ends with the optimizer's step. From the first use
    on, optimizer steps no longer count. Does nothing when collectives are not captured; exceptions pass.
    """
    engine = TorchDistributedInstrumentor()._engine
    if engine is None:
        yield
        return
    with engine.step():
        yield
