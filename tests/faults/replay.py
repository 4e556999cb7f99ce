"""A run as it could be known at each moment: what had been written by then, and nothing else."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from otel_netmon import semconv
from otel_netmon.analysis.evidence import EvidenceCollector
from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.diagnosis.finding import Cause, Direction, Finding, Kind
from otel_netmon.records import Collective, RankStep
from otel_netmon.store.problems import Problems
from otel_netmon.store.reader import Known, records
from otel_netmon.store.values import attributes

from .grading import Truth

EVERY = 500_000_000
"""Nanoseconds between two looks."""
LATE = 1_000_000_000
"""Nanoseconds after which a record can be read, where it was not taken down."""


class _Line(NamedTuple):
    at: int
    """When it could be read."""
    file: str
    records: list[Known]


def looks(
    folder: Path, truth: Truth, *, keep: Callable[[list[Known]], list[Known]] = list
) -> Iterator[tuple[int, Evidence]]:
    """The time of each look, and the evidence then, of the run with the most ranks; of what ``keep`` leaves."""
    lines = _lines(folder)
    if not lines:
        return
    collector, place = EvidenceCollector(), 0
    heard: dict[int, int] = {}
    at = lines[0].at + EVERY
    while at <= lines[-1].at + EVERY:
        while place < len(lines) and lines[place].at <= at:
            for record in keep(lines[place].records):
                collector.take(record)
                rank = record.source.rank if record.source else None
                if rank is not None:
                    heard[rank] = lines[place].at
            place += 1
        evidence = max(collector.runs().values(), key=lambda each: len(each.hosts))
        evidence.silent = {
            rank: (at - last) / 1e9 for rank, last in heard.items() if not _said_goodbye(truth, rank, at)
        }
        yield at, evidence
        at += EVERY


def _said_goodbye(truth: Truth, rank: int, at: int) -> bool:
    """Whether its process had ended by then, and had the time to say so."""
    return truth.codes.get(rank) in (0, 1, -15) and truth.ended.get(rank, at) < at


def told(folder: Path) -> list[tuple[int, Finding]] | None:
    """What the job's own live diagnosis told, and when; ``None``: it had none."""
    metric = f'"{semconv.DIAGNOSIS_DURATION_METRIC.name}"'.encode()
    files = sorted((folder / "telemetry").glob("*.jsonl"))
    if not any(metric in file.read_bytes() for file in files if file.name.startswith("metrics")):
        return None
    found: list[tuple[int, Finding]] = []
    for file in files:
        if file.name.startswith("logs"):
            for line in file.read_text().splitlines():
                if semconv.EVENT_DIAGNOSIS in line:
                    found += _told_in(json.loads(line))
    return sorted(found, key=lambda each: each[0])


def _told_in(message: dict[str, Any]) -> Iterator[tuple[int, Finding]]:
    scopes = (scope for group in message["resourceLogs"] for scope in group["scopeLogs"])
    for log in (log for scope in scopes for log in scope["logRecords"]):
        about = attributes(log.get("attributes"), Problems())
        if log.get("eventName") == semconv.EVENT_DIAGNOSIS and not about[semconv.DIAGNOSIS_OVER]:
            ranks, hosts = (
                tuple(filter(None, str(about.get(name, "")).split(",")))
                for name in (semconv.DIAGNOSIS_RANKS, semconv.DIAGNOSIS_HOSTS)
            )
            cause, way = about.get(semconv.DIAGNOSIS_CAUSE), about.get(semconv.DIAGNOSIS_DIRECTION)
            finding = Finding(
                Kind(about[semconv.DIAGNOSIS_KIND]), log["body"]["stringValue"], tuple(map(int, ranks)), hosts,
                direction=Direction(way) if way else None, cause=Cause(cause) if cause else None,
            )  # fmt: skip
            yield int(log["timeUnixNano"]), finding


def _lines(folder: Path) -> list[_Line]:
    arrivals: dict[str, tuple[list[int], list[int]]] = {}
    path = folder / "arrivals.jsonl"
    if path.exists():
        for line in path.read_text().splitlines():
            at, name, size = json.loads(line)
            sizes, times = arrivals.setdefault(name, ([], []))
            sizes.append(size)
            times.append(at)
    found = []
    for file in sorted((folder / "telemetry").glob("*.jsonl")):
        sizes, times = arrivals.get(file.name, ([], []))
        offset = 0
        for data in file.read_bytes().splitlines(keepends=True):
            offset += len(data)
            some = records(json.loads(data), Problems(), file.name)
            place = bisect_left(sizes, offset)
            if place < len(times):
                found.append(_Line(times[place], file.name, some))
            elif some:
                found.append(_Line(max(map(_ended, some)) + LATE, file.name, some))
    return sorted(found, key=lambda line: line.at)


def _ended(record: Known) -> int:
    if isinstance(record, Collective | RankStep):
        return record.end
    return getattr(record, "time", 0) or getattr(record, "at", 0)
