"""A fork while another thread holds a lock of ours: the child has its own, and trains."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from otel_netmon import forks

OURS = (
    *("collectives.steps.StepTracker", "collectives.groups.Groups", "collectives.jobs.Jobs"),
    *("collectives.event.EventRing", "collectives.tally.Tally", "collectives.sink.MetricSink"),
    *("collectives.engine.Engine", "collectives.background.Background", "collective_window.CollectiveWindow"),
    *("termination.Termination", "peers.Readings", "delivery.outbox.Outbox", "delivery.spool.Spool"),
    *("local_files._File", "monitors.scheduler.Scheduler", "monitors.interface.NetworkInterfaceMonitor"),
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
