"""What one captured ``all_reduce`` adds to the thread that calls it, beside other ways to time collectives.

The ways alternate in short rounds. A figure is the median over the rounds of the difference between the median
call of a way and that of the plain call in the same round; the spread is the quartiles of these differences.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from opentelemetry import context

from benchmarks.captured import (
    Call,
    Providers,
    asynchronous,
    backends,
    blocking,
    capturing,
    empty_hooks,
    group,
    providers_to,
    providers_to_nowhere,
)  # fmt: skip
from benchmarks.measuring import Line, Size, differences, sink, turns

_BEFORE = {"native": "", "hooks": "5 to 11", "dispatcher": "15 to 19"}
_MOST = {("native", False): 0.5, ("native", True): 0.5, ("hooks", False): 4.0, ("hooks", True): 6.0}
_LOADED_BEFORE = {"native": "", "hooks": "50 to 130", "dispatcher": ""}

Way = tuple[AbstractContextManager[Any] | Callable[[], AbstractContextManager[Any]], Call]


def naive(providers: Providers, call: Call) -> Call:
    """What one would write first: a span and a histogram around the call."""
    tracer = providers[0].get_tracer("naive")
    duration = providers[1].get_meter("naive").create_histogram("duration", "s")

    def all_reduce(tensor: torch.Tensor) -> None:
        start = time.perf_counter()
        attributes = {"name": "all_reduce", "size": tensor.nbytes, "group": "0"}
        with tracer.start_as_current_span("all_reduce", context=context.Context(), attributes=attributes):
            call(tensor)
        duration.record(time.perf_counter() - start, {"name": "all_reduce"})

    return all_reduce


def comms_logger(is_async: bool) -> Call | None:
    """DeepSpeed's way to time collectives; ``None`` where it is not installed."""
    try:
        import deepspeed.comm as ds
    except ImportError:
        return None
    ds.init_distributed(dist_backend="gloo", auto_mpi_discovery=False, verbose=False, dist_init_required=False)
    ds.configure(enabled=True, prof_all=True, prof_ops=[], verbose=False, debug=False)
    if is_async:
        return lambda tensor: ds.all_reduce(tensor, async_op=True).wait()
    call: Call = ds.all_reduce
    return call


@contextlib.contextmanager
def hooked(module: Any) -> Iterator[None]:
    """Empty C++ hooks on the default group."""
    world = torch.distributed.group.WORLD
    module.attach(world)
    try:
        yield
    finally:
        module.detach(world)


def medians(ways: dict[str, Way], rounds: int, calls: int) -> dict[str, list[float]]:
    """Microseconds of the median call, by way and round."""
    tensor = torch.ones(16)

    def one(way: Way) -> float:
        around, call = way
        with around() if callable(around) else around:
            for _ in range(min(calls, 20)):
                call(tensor)
            each = []
            for _ in range(calls):
                start = time.perf_counter_ns()
                call(tensor)
                each.append(time.perf_counter_ns() - start)
        return statistics.median(each) / 1e3

    return turns({name: lambda way=way: one(way) for name, way in ways.items()}, rounds)  # type: ignore[misc]  # bound


def on_the_calling_thread(size: Size) -> Iterator[Line]:
    """On torch's fake backend."""
    os.environ["OTEL_NETMON_EMIT_INTERVAL"] = "60"  # the emitter is measured by itself
    torch.set_num_threads(1)
    hooks = None if size.is_tiny else empty_hooks()
    nowhere = providers_to_nowhere()
    profiler = lambda: torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])  # noqa: E731  # one of a table of ways
    for is_async, call in ((False, blocking), (True, asynchronous)):
        kind = f"on the calling thread, fake, {'async' if is_async else 'blocking'}"
        with group("fake"):
            ways: dict[str, Way] = {"plain": (contextlib.nullcontext(), call)}
            why = backends()
            for backend in (name for name in why if not why[name]):
                ways[backend] = (lambda backend=backend: capturing(backend, nowhere), call)  # type: ignore[misc]  # mypy infers no lambda with defaults
            if hooks is not None:
                ways["empty C++ hooks"] = (lambda: hooked(hooks), call)
            ways["naive span and histogram"] = (contextlib.nullcontext(), naive(nowhere, call))
            ways["torch.profiler (CPU)"] = (profiler, call)
            logger = comms_logger(is_async)
            if logger is not None:
                ways["DeepSpeed comms_logger"] = (contextlib.nullcontext(), logger)
            found = medians(ways, size(30), size(200))
        plain = found.pop("plain")
        yield Line(
            f"plain call, fake, {'async' if is_async else 'blocking'}", "us", differences([0] * len(plain), plain)
        )
        limit = differences(plain, found["empty C++ hooks"]).median if hooks is not None else None
        for name in (*why, *(one for one in found if one not in why)):
            before, most = _BEFORE.get(name, ""), _MOST.get((name, is_async))
            if name in found:
                yield Line(f"{kind}: {name}", "us", differences(plain, found[name]), limit, before, most)
            else:
                yield Line(f"{kind}: {name}", "us", None, limit, before, most, note=why[name])
        if hooks is None:
            yield Line(f"{kind}: empty C++ hooks", "us", note="not measured: no compiler, no hooks, or --tiny")
        if logger is None:
            yield Line(f"{kind}: DeepSpeed comms_logger", "us", note="not measured: pip install deepspeed")


def while_delivering(size: Size) -> Iterator[Line]:
    """In a tight loop on gloo, with the emitter and the exporters beside it."""
    torch.set_num_threads(1)
    tensor = torch.ones(16)

    def block(seconds: float) -> float:
        each, end = [], time.perf_counter() + seconds
        while (start := time.perf_counter_ns()) < end * 1e9:
            blocking(tensor)
            each.append(time.perf_counter_ns() - start)
        return statistics.median(each) / 1e3

    seconds = 0.02 if size.is_tiny else 0.8
    for kind in ("files", "OTLP"):
        with tempfile.TemporaryDirectory() as folder, sink() as (endpoint, _), group("gloo"):
            where = providers_to(kind, folder if kind == "files" else endpoint)
            why = backends()

            def captured(backend: str, where: Providers = where) -> float:
                with capturing(backend, where):
                    block(seconds / 4)
                    return block(seconds)

            ways: dict[str, Callable[[], float]] = {"plain": lambda: block(seconds)}
            for backend in (name for name in why if not why[name]):
                ways[backend] = lambda backend=backend: captured(backend)  # type: ignore[misc]  # mypy infers no lambda with defaults
            found = turns(ways, size(6))
            for provider in where:
                provider.shutdown()
        plain = found["plain"]
        for backend in why:
            measured = differences(plain, found[backend]) if backend in found else None
            what = f"on the calling thread, gloo, tight loop, delivering to {kind}: {backend}"
            most = 3.0 if backend == "native" else None
            yield Line(what, "us", measured, None, _LOADED_BEFORE[backend], most, note=why[backend])
