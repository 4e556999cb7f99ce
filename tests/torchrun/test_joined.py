"""Who a process is says its group, whoever made the process, and only as long as that group stands."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from otel_netmon import semconv
from otel_netmon.records import Collective, HostSample
from tests.torchrun.harness import PROGRAMS, ROOT
from tests.wrote import source_of, wrote


def run(folder: Path, *arguments: str, **environ: str) -> None:
    """`otel-netmon run` of ``joined.py``; its files go to ``folder/out``."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TORCH"))}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "otel_netmon.cli", "run", "--output", str(folder / "out"), "--"),
            *(sys.executable, str(PROGRAMS / "joined.py"), *arguments, str(folder)),
        ],
        env={**clean, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OTEL_NETMON_INTERVAL": "0.5", **environ},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr or "ProcessExitedException" in done.stderr, done.stderr


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_group_that_is_made_again_is_another_job(method: str, tmp_path: Path) -> None:
    run(tmp_path, "again", method)
    members: dict[tuple[int | None, int | None], list[tuple[int | None, str]]] = defaultdict(list)
    for _, span in wrote(tmp_path / "out", Collective, "traces-*.jsonl"):
        if span.operation == "all_reduce":
            members[source_of(span).world_size, span.sequence].append((span.rank, span.trace_id))
            assert source_of(span).rank == span.rank
            assert span.rank is not None
    for size in (3, 2):
        for number in range(1, 21):
            found = members[size, number]
            assert sorted(rank or 0 for rank, _ in found) == list(range(size)), (size, number)
            assert len({trace for _, trace in found}) == 1, (size, number)
    assert not {t for (size, _), of in members.items() if size == 3 for _, t in of} & {
        t for (size, _), of in members.items() if size == 2 for _, t in of
    }
    # what belongs to a rank runs in every one of them, and says so
    names = ("otel_netmon.process.", "otel_netmon.collective.window.")
    ranks: dict[str, set[int]] = {name: set() for name in names}
    for file, sample in wrote(tmp_path / "out", HostSample, "metrics-*.jsonl"):
        rank = source_of(sample).rank
        for name, seen in ranks.items():
            if sample.metric.startswith(name) and rank is not None:
                assert f"-rank{rank}-" in file
                seen.add(rank)
    assert all(seen == {0, 1, 2} for seen in ranks.values()), ranks


def test_processes_without_a_default_group_have_no_rank_and_lose_nothing(tmp_path: Path) -> None:
    # RANK as a framework sets it for its workers: no launcher of ranks said it
    run(tmp_path, "rollout", "spawn", OTEL_METRIC_EXPORT_INTERVAL="60000")
    at: dict[int | None, dict[int | None, Collective]] = defaultdict(dict)
    for file, span in wrote(tmp_path / "out", Collective, "traces-*.jsonl"):
        if span.group == "weights":
            at[span.sequence][span.group_rank] = span
            assert (span.rank, source_of(span).rank) in ((0, 0), (None, None)), file
    assert sorted(number or 0 for number in at) == list(range(1, 21))
    for number, members in at.items():
        assert set(members) == {0, 1, 2}, number
        assert len({span.trace_id for span in members.values()}) == 1
        root = members[0].span_id
        assert not members[0].parent_id
        assert {members[rank].parent_id for rank in (1, 2)} == {root}
    counts: dict[tuple[str, int], float] = defaultdict(float)
    for file, sample in wrote(tmp_path / "out", HostSample, "metrics-*.jsonl"):
        if sample.metric == semconv.COLLECTIVE_DURATION_METRIC.name and source_of(sample).rank is None:
            counts[file, sample.time] += sample.value
    most = {file: max(value for (name, _), value in counts.items() if name == file) for file, _ in counts}
    assert sorted(most.values()) == [20, 20], "the metrics of the two that were killed"
