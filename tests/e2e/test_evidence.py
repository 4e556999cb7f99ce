"""Every step of every rank arrives once, whatever is sampled: in local files, and through a real collector."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_netmon.records import Collective, Heartbeat, RankStep
from tests.e2e.servers import free_ports, run, server
from tests.installed import ROOT, python_path
from tests.wrote import wrote

pytest.importorskip("torch", reason="needs torch: make test installs it")

STEPS = 12
PROGRAM = Path(__file__).parent / "programs" / "train.py"
SAMPLED = {
    "all": ({}, range(STEPS)),
    "every 4th step": ({"OTEL_NETMON_TRACE_EVERY": "4"}, range(0, STEPS, 4)),
    "no trace": ({"OTEL_TRACES_SAMPLER": "always_off"}, ()),
}


def train(
    folder: Path,
    environ: dict[str, str],
    *options: str,
    program: Path = PROGRAM,
    arguments: tuple[str, ...] = (str(STEPS),),
    expected: int = 0,
) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "MASTER_", "TORCH_"))}
    clean |= {"PYTHONPATH": python_path(folder / "site") or str(ROOT), "OMP_NUM_THREADS": "1"}
    code, output = run(
        (
            *(sys.executable, "-m", "otel_netmon.cli", "run", *options, "--"),
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *(str(program), *arguments),
        ),
        {**clean, "OTEL_NETMON_HEARTBEAT": "0.5", **environ},
    )
    assert code == expected, output


def check(folder: Path, sampled: set[int]) -> None:
    """Each rank's steps are there once, and say themselves which spans of collectives there are."""
    steps = [one for _, one in wrote(folder, RankStep) if one.name == "rank_step" and not one.incomplete]
    assert Counter((one.rank, one.step) for one in steps) == {(r, s): 1 for r in (0, 1) for s in range(STEPS)}
    assert {one.step for one in steps if one.sampled} == sampled
    traced = {one.trace_id: one for one in steps if one.sampled}
    spans = Counter((one.trace_id, one.rank) for _, one in wrote(folder, Collective) if one.trace_id in traced)
    assert spans == {(one.trace_id, one.rank): one.collective_count for one in steps if one.sampled}
    for one in steps:
        assert one.collective_count == len(one.calls) == sum(use.calls for use in one.groups) > 0
        assert one.source is not None and one.source.rank == one.rank
    assert {one.rank for _, one in wrote(folder, Heartbeat)} == {0, 1}


@pytest.mark.parametrize("how", SAMPLED)
def test_every_step_is_in_the_local_files(how: str, tmp_path: Path) -> None:
    environ, sampled = SAMPLED[how]
    folder = tmp_path / "out"
    train(tmp_path, environ, "--output", str(folder))
    check(folder, set(sampled))
    command = [sys.executable, "-m", "otel_netmon.cli", "summary", "--json", str(folder)]
    summary = json.loads(subprocess.run(command, capture_output=True, timeout=60, check=True).stdout)
    steps = [one for _, one in wrote(folder, RankStep) if one.name.startswith("rank_")]
    left_out = sum(one.collective_count or 0 for one in steps if not one.sampled)
    assert (summary["losses"]["missing_spans"], summary["losses"]["sampled_out"]) == (0, left_out)
    assert summary["steps"]["count"] == STEPS


def test_every_step_arrives_through_a_collector(binary: Callable[[str], str], tmp_path: Path) -> None:
    grpc, http, prometheus, jaeger = free_ports(4)
    ports = {
        "OTLP_GRPC_PORT": str(grpc),
        "OTLP_HTTP_PORT": str(http),
        "PROMETHEUS_ENDPOINT": f"localhost:{prometheus}",
        "JAEGER_ENDPOINT": f"127.0.0.1:{jaeger}",
    }
    command = (binary("otelcol"), f"--config={ROOT / 'collector-config' / 'local.yaml'}")
    with server(command, (grpc, http, prometheus), tmp_path / "otelcol.log", ports):
        environ, sampled = SAMPLED["every 4th step"]
        train(tmp_path, {**environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{grpc}"})
    check(tmp_path / "otel-netmon-collected", set(sampled))
