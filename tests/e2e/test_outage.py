"""A whole job of four ranks while the collector is gone; and jobs whose data loaders start processes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_netmon import semconv

from .faulty import Faulty, Protocol, free_port, serving, until

pytest.importorskip("torch")

PROGRAMS = Path(__file__).parent / "programs"
RANKS, RATE = 4, 500
OUTAGE = float(os.environ.get("TEST_OUTAGE", "12"))
"""Seconds; `make chaos` takes 60."""
AROUND = 9.0
"""Seconds before and after; longer than the longest pause between two attempts."""


def environment(faulty: Faulty, port: int, folder: Path, **more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TORCH"))}
    return {
        **clean,
        "OMP_NUM_THREADS": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": faulty.protocol,
        "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        "OTEL_NETMON_SPOOL_DIR": str(folder / "spool"),
        **more,
    }


@pytest.mark.timeout(300)
@pytest.mark.row("the collector is dead for a minute in a run of 4 ranks at 500 spans/s each")
def test_the_collector_is_away_in_the_middle_of_a_run(tmp_path: Path, ledger: Callable[..., None]) -> None:
    faulty, port = Faulty("grpc"), free_port()

    def different() -> int:
        return sum(len(faulty.different.get(name, ())) for name in ("all_reduce", "broadcast"))

    command = [
        *(str(Path(sys.executable).with_name("otel-netmon")), "run", "--"),
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}"),
        *(str(PROGRAMS / "steady.py"), str(RATE), str(2 * AROUND + OUTAGE), str(tmp_path)),
    ]
    job = subprocess.Popen(
        command,
        env=environment(faulty, port, tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said: list[str] = []
    reading = threading.Thread(target=lambda: said.append(job.communicate()[0]), daemon=True)
    reading.start()
    try:
        with serving(faulty, port):
            faulty.wait_for(RATE, 90)  # the training has begun
            time.sleep(AROUND)
        down = time.time()
        time.sleep(OUTAGE)
        up = time.time()
        spooled = sum(file.stat().st_size for file in (tmp_path / "spool").glob("*.spool"))
        with serving(faulty, port):
            job.wait(120)
            ended = time.time()
            reading.join(10)
            assert job.returncode == 0, said
            ranks = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(RANKS)]
            made = sum(rank["calls"] for rank in ranks)
            left = [file.name for file in (tmp_path / "spool").glob("*.spool")]
            until(
                lambda: different() >= made,
                20,
                lambda: f"{made} made, {faulty.names} came, left {left}: {said}",
            )
    finally:
        if job.poll() is None:
            job.kill()
    assert spooled > 0
    arrived = faulty.names["all_reduce"] + faulty.names["broadcast"]
    twice = arrived - different()  # of collectives: the steps' spans come in the same requests
    assert different() == made
    counted = faulty.counts[semconv.COLLECTIVE_DURATION_METRIC.name]
    assert sorted(counted.values()) == sorted(rank["calls"] for rank in ranks)  # and so are the metrics' sums
    with_it = median(step for rank in ranks for since, step in rank["steps"] if since < down or since > up)
    without = median(step for rank in ranks for since, step in rank["steps"] if down < since < up)
    ledger(
        sent=made,
        lost=made - different(),
        twice=twice,
        exit=ended - max(rank["end"] for rank in ranks),
        note=f"{OUTAGE:g} s; {made / RANKS / (2 * AROUND + OUTAGE):.0f} spans/s a rank; collectives of a step "
        f"{1e3 * with_it:.1f} ms, in the outage {1e3 * without:.1f} ms",
    )


def median(values: Any) -> float:
    return float(statistics.median(list(values)))


@pytest.mark.row("data loaders that start workers by fork, spawn or forkserver")
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_the_workers_of_a_data_loader(
    how: str, protocol: Protocol, tmp_path: Path, ledger: Callable[..., None]
) -> None:
    faulty, port = Faulty(protocol), free_port()
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    environ = environment(faulty, port, tmp_path, MASTER_PORT=str(free_port()), **alone)
    command = [str(Path(sys.executable).with_name("otel-netmon")), "run", "--", sys.executable]
    with serving(faulty, port):
        done = subprocess.run(
            [*command, str(PROGRAMS / "loaders.py"), how], env=environ, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        wanted = {"train_step": 16, "rank_step": 16, "all_reduce": 32}
        until(lambda: len(faulty.spans) >= sum(wanted.values()), 20, lambda: str(faulty.names))
    assert dict(faulty.names) == wanted
    assert set(faulty.spans.values()) == {1}
    ledger(sent=64, lost=64 - len(faulty.spans), twice=0)
