"""The two instrumentors as a loader and as a user call them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

import pytest
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import otel_netmon
from otel_netmon import NetmonInstrumentor, TorchDistributedInstrumentor, config, semconv
from otel_netmon.capture.native import loader


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(config.HOST_OWNER, raising=False)
    config.current.cache_clear()
    yield
    for instrumentor in (NetmonInstrumentor(), TorchDistributedInstrumentor()):
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.uninstrument()
    config.current.cache_clear()


def python(code: str, **environ: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**clean, **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def metric_names(reader: InMemoryMetricReader) -> dict[str, int]:
    data = reader.get_metrics_data()
    if data is None:
        return {}
    return {
        metric.name: len(list(metric.data.data_points))
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def metrics_once_there(reader: InMemoryMetricReader, *needed: str) -> dict[str, int]:
    """The metrics as soon as those ``needed`` are there; the first sample is made in a thread."""
    names: dict[str, int] = {}
    for _ in range(200):
        names = metric_names(reader)
        if set(needed) <= set(names):
            break
        threading.Event().wait(0.05)
    return names


def test_both_are_entry_points_of_the_loader() -> None:
    found = {point.name: point.load() for point in entry_points(group="opentelemetry_instrumentor")}
    assert found["netmon"] is NetmonInstrumentor
    assert found["torch_distributed"] is TorchDistributedInstrumentor
    assert NetmonInstrumentor.__bases__ == TorchDistributedInstrumentor.__bases__ == (BaseInstrumentor,)


def test_the_monitors_report_through_the_given_provider_until_uninstrumented() -> None:
    reader = InMemoryMetricReader()
    before = threading.active_count()
    NetmonInstrumentor().instrument(meter_provider=MeterProvider([reader]))
    NetmonInstrumentor().instrument(meter_provider=MeterProvider([InMemoryMetricReader()]))  # does nothing
    names = metrics_once_there(reader, semconv.NIC_IO.name, semconv.MONITOR_SUCCESS.name)
    assert names[semconv.MONITOR_SUCCESS.name] >= 1
    assert names[semconv.NIC_IO.name] >= 2
    NetmonInstrumentor().uninstrument()
    assert metric_names(reader) == {}
    assert threading.active_count() == before
    assert config.HOST_OWNER not in os.environ


def test_a_rank_that_does_not_own_the_host_has_no_host_monitors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    reader = InMemoryMetricReader()
    NetmonInstrumentor().instrument(meter_provider=MeterProvider([reader]))
    names = metrics_once_there(reader, semconv.MONITOR_SUCCESS.name)
    assert names[semconv.MONITOR_SUCCESS.name] == 3  # its own collectives, connections and quotas
    assert semconv.NIC_IO.name not in names


def test_instrumenting_does_not_import_torch() -> None:
    code = """
        import sys
        from otel_netmon import NetmonInstrumentor, TorchDistributedInstrumentor
        NetmonInstrumentor().instrument()
        TorchDistributedInstrumentor().instrument()
        print("torch" in sys.modules)
    """
    assert python(code) == "False"


BACKENDS = [
    *("dispatcher", "hooks"),
    pytest.param("native", marks=pytest.mark.skipif(loader.find() is None, reason="make native")),
]
"""Hooks are the dispatcher where torch has none."""


@pytest.mark.parametrize("capture", BACKENDS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_everything_is_put_back_by_identity(when: str, capture: str) -> None:
    """What is replaced in torch is there again after uninstrument(); kernels and hooks are gone."""
    code = f"""
        import sys
        if {when!r} == "after":
            import torch
        from otel_netmon import TorchDistributedInstrumentor
        TorchDistributedInstrumentor().instrument()
        import torch, torch.distributed as dist
        from torch.optim import optimizer
        from torch.utils.data.dataloader import _BaseDataLoaderIter
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        group = dist.group.WORLD

        def kernel():
            return torch._C._dispatch_has_kernel_for_dispatch_key("c10d::monitored_barrier_", "BackendSelect")

        def names():
            owners = (dist, dist.distributed_c10d, torch.optim.Optimizer, torch.ops.c10d.allreduce_.default,
                      torch.distributed.Work, torch.distributed.ProcessGroup,
                      torch.nn.parallel.DistributedDataParallel, _BaseDataLoaderIter)
            return {{(owner, name): value for owner in owners for name, value in list(vars(owner).items())
                    if callable(value)}}

        def changed(a, b):
            return sorted(name for (owner, name), value in a.items() if b.get((owner, name)) is not value)

        with_us = names()
        assert kernel() and len(optimizer._global_optimizer_post_hooks) == 1
        TorchDistributedInstrumentor().uninstrument()
        without = names()
        hooks = hasattr(dist.ProcessGroup, "register_pre_hook") and {capture!r} != "dispatcher"
        assert changed(with_us, without) == [
            "__init__", "__init__", "__next__", "_register_process_group", "_unregister_all_process_groups",
            "_update_default_pg", *([] if {capture!r} == "native" else ["recv", "recv_anysource", "send"]), "wait",
        ]
        assert not kernel() and not optimizer._global_optimizer_post_hooks
        assert not group._has_hooks() if hooks and hasattr(group, "_has_hooks") else True
        TorchDistributedInstrumentor().instrument()
        assert kernel() and len(optimizer._global_optimizer_post_hooks) == 1
        dist.all_reduce(torch.ones(2))  # on a group that was there before
        TorchDistributedInstrumentor().instrument()
        assert len(optimizer._global_optimizer_post_hooks) == 1
        TorchDistributedInstrumentor().uninstrument()
        assert changed(without, names()) == [] and dist.Work.wait is without[dist.Work, "wait"]
        import gc
        assert not any("otel_netmon" in str(getattr(each, "__module__", "")) for each in gc.callbacks)
        dist.destroy_process_group()
        print("ok")
    """
    assert python(code, OTEL_NETMON_CAPTURE=capture) == "ok"


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_NETMON_CAPTURE": "off"},
        {"OTEL_NETMON_CAPTURE": "nonsense"},
    ],
)
def test_capture_off_puts_nothing_in(environ: dict[str, str]) -> None:
    code = """
        import torch
        from otel_netmon import TorchDistributedInstrumentor
        TorchDistributedInstrumentor().instrument()
        print(torch._C._dispatch_has_kernel_for_dispatch_key("c10d::monitored_barrier_", "BackendSelect"))
    """
    assert python(code, **environ) == str(environ["OTEL_NETMON_CAPTURE"] != "off")


def test_a_failure_of_ours_does_not_reach_the_loader(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("otel_netmon.job.roles.claim_host", breaks)
    monkeypatch.setattr("otel_netmon.instrumentor.register_post_import_hook", breaks)
    NetmonInstrumentor().instrument()
    TorchDistributedInstrumentor().instrument()
    assert caplog.text.count("going on without it") == 2


def test_step_without_capture_is_nothing_and_lets_exceptions_pass() -> None:
    with pytest.raises(KeyError), otel_netmon.step():
        raise KeyError


@pytest.mark.parametrize("capture", BACKENDS)
def test_a_group_that_was_there_before_is_seen(capture: str) -> None:
    code = """
        import torch, torch.distributed as dist
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from otel_netmon import TorchDistributedInstrumentor

        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        other = dist.new_group([0])
        spans, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        dist.all_reduce(torch.ones(2))
        TorchDistributedInstrumentor().instrument(tracer_provider=provider)
        dist.all_reduce(torch.ones(3))
        dist.broadcast(torch.ones(4), 0, group=other)
        TorchDistributedInstrumentor().uninstrument()
        dist.all_reduce(torch.ones(5))
        print(sorted(span.name for span in spans.get_finished_spans()))
        dist.destroy_process_group()
    """
    assert python(code, OTEL_NETMON_CAPTURE=capture) == "['all_reduce', 'broadcast', 'rank_step', 'train_step']"


@pytest.mark.parametrize("off", ["environment", "providers"])
def test_where_nobody_would_get_anything_nothing_is_put_in(off: str) -> None:
    code = f"""
        import torch
        from opentelemetry.metrics import NoOpMeterProvider
        from opentelemetry.trace import NoOpTracerProvider
        from otel_netmon import TorchDistributedInstrumentor

        before = torch.distributed.Work.wait, torch.optim.Optimizer.__init__
        given = dict(tracer_provider=NoOpTracerProvider(), meter_provider=NoOpMeterProvider())
        TorchDistributedInstrumentor().instrument(**given if {off!r} == "providers" else {{}})
        assert (torch.distributed.Work.wait, torch.optim.Optimizer.__init__) == before
        assert not torch._C._dispatch_has_kernel_for_dispatch_key("c10d::monitored_barrier_", "BackendSelect")
        print("ok")
    """
    environ = {"OTEL_SDK_DISABLED": "true"} if off == "environment" else {}
    assert python(code, **environ) == "ok"


def test_an_engine_may_be_started_and_stopped_any_number_of_times() -> None:
    code = """
        import os, threading, time, torch, torch.distributed as dist
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from otel_netmon.engine import Engine
        kept, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(kept))
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        engine, took = Engine(provider), []
        for number in range(5):
            engine.start()
            for _ in range(3):
                dist.all_reduce(torch.ones(2))
            since = time.monotonic()
            engine.stop()
            took.append(time.monotonic() - since)
            if number == 0:
                before = len(os.listdir("/proc/self/fd")), threading.active_count()
        dist.all_reduce(torch.ones(2))
        assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
        print(sum(span.name == "all_reduce" for span in kept.get_finished_spans()))
        dist.destroy_process_group()
    """
    assert python(code) == "15"
