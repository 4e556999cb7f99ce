"""A fork while another thread holds a lock of ours: the child has its own, and trains."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from otel_netmon import forks

OURS = (
    *("capture.steps.StepTracker", "job.groups.Groups", "job.jobs.Jobs", "capture.ring.EventRing"),
    *("capture.aggregator.Aggregator", "emit.metrics.CollectiveMetrics", "engine.Engine"),
    *("emit.background.Background", "job.collective_window.CollectiveWindow", "termination.Termination"),
    *("job.peers.ReadingBuffer", "delivery.send_queue.SendQueue", "delivery.spool.Spool"),
    *(
        "delivery.local_files.JsonFile",
        "monitors.scheduler.Scheduler",
        "monitors.interface.NetworkInterfaceMonitor",
    ),
    *("monitors.observers",),
)


def test_the_child_trains_whatever_the_parent_held(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="pip install torch")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.unit.forking"],
        env={
            **os.environ,
            "OTEL_NETMON_OUTPUT_DIR": str(tmp_path / "files"),
            "OTEL_NETMON_SPOOL_DIR": str(tmp_path / "spool"),
            "OTEL_NETMON_HOST_MONITORS": "on",
            "OTEL_NETMON_INTERVAL": "0.2",
        },
        capture_output=True,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {name for name in OURS if not any(one.startswith(f"otel_netmon.{name}.") for one in found)} == set()
    assert {name: trained for name, trained in found.items() if trained != 2} == {}


def test_the_registry_keeps_nothing_alive_and_one_failure_stops_no_other() -> None:
    class Thing:
        begun = 0

        def __init__(self, error: Exception | None = None) -> None:
            self._error = error

        def after_fork_in_child(self) -> None:
            type(self).begun += 1
            if self._error is not None:
                raise self._error

    kept = [forks.register(Thing(RuntimeError("broken"))), forks.register(Thing())]
    before = len(forks._objects)
    for _ in range(1000):
        forks.register(Thing())
    gc.collect()
    assert len(forks._objects) < before + 100
    forks._after_in_child()
    assert Thing.begun == len(kept) == 2


def test_there_is_one_place_that_hears_of_forks() -> None:
    package = Path(forks.__file__).parent
    users = {path.name for path in package.rglob("*.py") if "register_at_fork" in path.read_text()}
    assert users == {"forks.py"}


def test_a_child_does_not_report_what_its_parent_measured(tmp_path: Path) -> None:
    """The SDK keeps sums in a forked child, and would report them once more in its name."""
    pytest.importorskip("torch", reason="pip install torch")
    code = """
        import json, os, sys, torch, torch.distributed as dist
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from otel_netmon import TorchDistributedInstrumentor
        reader = InMemoryMetricReader()
        TorchDistributedInstrumentor().instrument(meter_provider=MeterProvider([reader]))

        def train(steps):
            dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
            for _ in range(steps):
                dist.all_reduce(torch.ones(4))
            dist.destroy_process_group()

        def told():
            data = reader.get_metrics_data()
            metrics = json.loads(data.to_json())["resource_metrics"] if data else []
            all_of = [m for r in metrics for s in r["scope_metrics"] for m in s["metrics"]]
            found = {m["name"]: m["data"]["data_points"] for m in all_of}
            counts = found.get("torch.distributed.collective.duration", [])
            io = found.get("torch.distributed.collective.io", [])
            return [sum(p["count"] for p in counts), sum(p["value"] for p in io)]

        train(5)
        parent = told()
        reading, writing = os.pipe()
        if os.fork() == 0:
            before = told()
            train(2)
            os.write(writing, json.dumps([parent, before, told()]).encode())
            os._exit(0)
        os.wait()
        sys.stdout.write(os.read(reading, 1000).decode())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )
    assert json.loads(done.stdout or "null") == [[5, 80], [0, 0], [2, 32]], done.stderr
