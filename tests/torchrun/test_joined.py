"""Who a process is says its group, whoever made the process, and only as long as that group stands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.torchrun.harness import PROGRAMS, ROOT

TD = "torch.distributed."


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


def plain(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in attributes}


def records(folder: Path, signal: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """File, resource and span (or metric) of all that was written."""
    outer, middle, inner = {
        "traces": ("resourceSpans", "scopeSpans", "spans"),
        "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
    }[signal]
    for path in sorted((folder / "out").glob(f"{signal}-*.jsonl")):
        for line in path.read_text().splitlines():
            for resource in json.loads(line)[outer]:
                about = plain(resource["resource"]["attributes"])
                for scope in resource[middle]:
                    for one in scope[inner]:
                        yield path.name, about, one


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_group_that_is_made_again_is_another_job(method: str, tmp_path: Path) -> None:
    run(tmp_path, "again", method)
    members: dict[tuple[str, int], list[tuple[str, str]]] = defaultdict(list)
    for _, about, span in records(tmp_path, "traces"):
        if span["name"] == "all_reduce":
            own = plain(span["attributes"])
            key = own[TD + "world_size"], int(own[TD + "collective.sequence"])
            members[key].append((own[TD + "rank"], span["traceId"]))
            assert (about[TD + "rank"], about[TD + "world_size"]) == (own[TD + "rank"], own[TD + "world_size"])
    for size in (3, 2):
        for number in range(1, 21):
            found = members[str(size), number]
            assert sorted(rank for rank, _ in found) == [str(rank) for rank in range(size)], (size, number)
            assert len({trace for _, trace in found}) == 1, (size, number)
    assert not {t for (size, _), of in members.items() if size == "3" for _, t in of} & {
        t for (size, _), of in members.items() if size == "2" for _, t in of
    }
    # what belongs to a rank runs in every one of them, and says so
    names = ("otel_netmon.process.", "otel_netmon.collective.window.")
    ranks: dict[str, set[str]] = {name: set() for name in names}
    for file, about, metric in records(tmp_path, "metrics"):
        for name, seen in ranks.items():
            if metric["name"].startswith(name) and TD + "rank" in about:
                assert f"-rank{about[TD + 'rank']}-" in file
                seen.add(about[TD + "rank"])
    assert all(seen == {"0", "1", "2"} for seen in ranks.values()), ranks


def test_processes_without_a_default_group_have_no_rank_and_lose_nothing(tmp_path: Path) -> None:
    # RANK as a framework sets it for its workers: no launcher of ranks said it
    run(tmp_path, "rollout", "spawn", OTEL_METRIC_EXPORT_INTERVAL="60000")
    at: dict[int, dict[str, Any]] = defaultdict(dict)
    for file, about, span in records(tmp_path, "traces"):
        own = plain(span["attributes"])
        if own.get(TD + "group.name") == "weights":
            at[int(own[TD + "collective.sequence"])][own[TD + "group.rank"]] = span
            assert (own.get(TD + "rank"), about.get(TD + "rank")) in (("0", "0"), (None, None)), file
    assert sorted(at) == list(range(1, 21))
    for number, members in at.items():
        assert set(members) == {"0", "1", "2"}, number
        assert len({span["traceId"] for span in members.values()}) == 1
        root = members["0"]["spanId"]
        assert not members["0"].get("parentSpanId")
        assert {members[rank]["parentSpanId"] for rank in "12"} == {root}
    most: dict[str, int] = defaultdict(int)
    for file, about, metric in records(tmp_path, "metrics"):
        if metric["name"] == TD + "collective.duration" and TD + "rank" not in about:
            count = sum(int(point["count"]) for point in metric["histogram"]["dataPoints"])
            most[file] = max(most[file], count)
    assert sorted(most.values()) == [20, 20], "the metrics of the two that were killed"
