"""All that a small job exports, as a file that is compared: a change of what is exported shows in its diff.

Ids are hashes of a run id that is given; what a clock or the machine decides stands there by its type. To write
the file anew: ``UPDATE_SNAPSHOTS=1 make test PYTEST_FLAGS=tests/e2e/test_snapshot.py``.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from otel_netmon import semconv
from tests.installed import ROOT, python_path

pytest.importorskip("torch", reason="needs torch: make test installs it")

SNAPSHOT: Final = Path(__file__).with_name("snapshot.txt")
PROGRAM: Final = Path(__file__).parent / "programs" / "snapshot.py"

PACKED: Final = (semconv.STEP_GROUPS, semconv.STEP_COLLECTIVES)
OF_THE_MACHINE: Final = {
    *("service.instance.id", "host.name", "process.pid", "telemetry.sdk.version", semconv.RANK_PID),
    *(semconv.STEP_SWITCHES_VOLUNTARY, semconv.STEP_SWITCHES_INVOLUNTARY, semconv.STEP_START),
}
IN_PASSING: Final = semconv.COLLECTIVE_AGE_METRIC.name
"""A metric that is there while a collective is in flight."""
SOMETIMES: Final = {semconv.STEP_PAUSES, semconv.STEP_RUN_QUEUE_TIME}
"""Attributes that are there, or not, as it happens or as the kernel is built."""


def run(folder: Path) -> Path:
    """The folder with what a job of two ranks wrote."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "MASTER_", "TORCH_"))}
    environ |= {
        "PYTHONPATH": python_path(folder / "site") or str(ROOT),
        "OMP_NUM_THREADS": "1",
        "OTEL_SERVICE_NAME": "snapshot",
        "OTEL_NETMON_DIAGNOSIS": "off",  # a job this short may be over before the first look
        "OTEL_NETMON_RUN_ID": "snapshot",
        "OTEL_NETMON_CAPTURE": "dispatcher",  # the same on every torch
        "OTEL_NETMON_TRACE_EVERY": "2",
        "OTEL_NETMON_HEARTBEAT": "3600",
        "OTEL_NETMON_MONITORS": "-all",
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "otel_netmon.cli", "run", "--output", str(folder / "out"), "--"),
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(PROGRAM)),
        ],
        cwd=folder, env=environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "out"


def exported(folder: Path, signal: str, *path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each item of one signal, with the lines that say where it comes from."""
    outer, middle, inner = path
    for file in sorted(folder.glob(f"{signal}-*.jsonl")):
        for line in file.read_text().splitlines():
            for group in json.loads(line)[outer]:
                resource = "\n".join(attributes(group["resource"]))
                for scope in group[middle]:
                    if scope["scope"]["name"] == semconv.SCOPE_COLLECTIVES:
                        yield resource, {**scope[inner][0], "schema": scope.get("schemaUrl")}
                        yield from ((resource, item) for item in scope[inner][1:])


def attributes(item: dict[str, Any]) -> Iterator[str]:
    """A line for each: its name, and value with its type; what the machine decides by its type alone."""
    for pair in sorted(item.get("attributes", ()), key=lambda pair: str(pair["key"])):
        ((kind, value),), name = pair["value"].items(), pair["key"]
        if name in PACKED:
            value = re.sub(r'"(after|duration)":\[[^]]*\]', r'"\1":…', value)
            value = re.sub(r"(\[\"[^\"]*\",\d+,\d+,)\d+", r"\1…", value)
        elif kind == "doubleValue" or name in OF_THE_MACHINE:
            value = "…"
        if name not in SOMETIMES:
            yield f"  {name} = {kind.removesuffix('Value')} {value}"


def span(item: dict[str, Any]) -> Iterator[str]:
    own_id = item["spanId"] if item["name"] in semconv.SPAN_PERIODS else "…"
    yield f"span {item['name']} {own_id} of {item['traceId']} below {item.get('parentSpanId')}"
    yield f"  kind {item['kind']}, flags {item['flags']}, status {item['status']}"
    yield from ("  link" for _ in item.get("links", ()))
    yield from (f"  event {event['name']}" for event in item.get("events", ()))
    yield from attributes(item)


def log(item: dict[str, Any]) -> Iterator[str]:
    yield f"log {item['eventName']} {item.get('spanId')} of {item.get('traceId')}, flags {item.get('flags')}"
    said = re.sub(r"process \d+", "process …", item["body"]["stringValue"])
    yield f"  {item['severityText']} {item['severityNumber']}: {said}"
    yield from attributes(item)


def metric(item: dict[str, Any]) -> Iterator[str]:
    (kind,) = {"sum", "gauge", "histogram"} & item.keys()
    data = item[kind]
    which = [f"{name} {data[name]}" for name in ("aggregationTemporality", "isMonotonic") if name in data]
    yield f"metric {item['name']} {kind} in {item['unit']}, {', '.join(which)}"
    points = []
    for point in data["dataPoints"]:
        counts = kind == "histogram" or item["name"] == semconv.COLLECTIVE_IO_METRIC.name
        value = next((point[name] for name in ("count", "asInt") if name in point), "…")
        points.append([*attributes(point), f"  value {value if counts else '…'}"])
    for lines in sorted(points):
        yield from lines


def small_run(folder: Path) -> str:
    """Everything, by rank; each metric as it was exported last."""
    spans = list(exported(folder, "traces", "resourceSpans", "scopeSpans", "spans"))
    spans.sort(key=lambda one: int(one[1]["startTimeUnixNano"]))
    logs = exported(folder, "logs", "resourceLogs", "scopeLogs", "logRecords")
    metrics = exported(folder, "metrics", "resourceMetrics", "scopeMetrics", "metrics")
    last = {(resource, item["name"]): item for resource, item in metrics if item["name"] != IN_PASSING}
    by_rank: dict[str, list[str]] = {}
    for resource, item in spans:
        by_rank.setdefault(resource, []).extend(span(item))
    for resource, lines in sorted((resource, list(log(item))) for resource, item in logs):
        by_rank.setdefault(resource, []).extend(lines)
    for (resource, _), item in sorted(last.items()):
        by_rank.setdefault(resource, []).extend(metric(item))
    return "".join(
        f"resource\n{resource}\n" + "\n".join(lines) + "\n" for resource, lines in sorted(by_rank.items())
    )


def test_what_a_small_job_exports_is_what_it_was(tmp_path: Path) -> None:
    found = small_run(run(tmp_path))
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.write_text(found)
    changed = difflib.unified_diff(
        SNAPSHOT.read_text().splitlines(), found.splitlines(), "as it was", "as it is", lineterm=""
    )
    assert not (lines := list(changed)), "\n".join([*lines, "UPDATE_SNAPSHOTS=1 writes it anew, for review"])
