"""Real trainers, unmodified, under ``otel-netmon run``: seen whole, by steps, and not changed by it.

They need packages of their own: ``make test-trainers`` installs them and runs this, on the native capture where
that is built for its torch.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from otel_netmon import semconv
from otel_netmon.capture.native import loader

PROGRAMS = Path(__file__).parent / "programs"
BIN = Path(sys.executable).parent
TORCHRUN = (str(BIN / "torchrun"), "--standalone", "--nproc-per-node", "2")
STEPS = 5
CAPTURE = "auto" if loader.find() is None else "native"

TRAINERS = {
    "hf_trainer": ("transformers", TORCHRUN),
    "accelerate_loop": ("accelerate", TORCHRUN),
    "deepspeed_zero1": ("deepspeed", TORCHRUN),
    "lightning_ddp": ("lightning", (sys.executable,)),
    "ray_train": ("ray", (sys.executable,)),
}
RLHF = {"ray_rlhf": ("ray", (sys.executable,))}
"""Trainers and rollout workers: the latter have no default group, no rank and no step."""
SECONDS = 240

pytestmark = pytest.mark.timeout(2 * SECONDS + 20)  # with and without; the first time DeepSpeed compiles


def train(program: str, folder: Path, *before: str) -> subprocess.CompletedProcess[str]:
    work = folder / ("ours" if before else "plain")
    work.mkdir()
    unwanted = ("OTEL_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_", "TORCH")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    environ |= {"PATH": f"{BIN}:{environ['PATH']}", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environ["OTEL_NETMON_CAPTURE"] = CAPTURE
    _, launcher = (TRAINERS | RLHF)[program]
    return subprocess.run(
        [*before, *launcher, str(PROGRAMS / f"{program}.py"), str(work)],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def losses(done: subprocess.CompletedProcess[str]) -> str:
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("losses"))
    return line


def attributes(holder: dict[str, Any]) -> dict[str, Any]:
    values = {a["key"]: next(iter(a["value"].items())) for a in holder.get("attributes", [])}
    return {key: int(value) if kind == "intValue" else value for key, (kind, value) in values.items()}


def spans_in(folder: Path) -> list[dict[str, Any]]:
    return [
        {**span, "attributes": attributes(span)}
        for file in folder.glob("traces-*.jsonl")
        for line in file.read_text().splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


@pytest.mark.parametrize("program", TRAINERS)
def test_a_real_trainer(program: str, tmp_path: Path) -> None:
    package, _ = TRAINERS[program]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}: make test-trainers")
    plain = train(program, tmp_path)
    assert plain.returncode == 0, plain.stderr[-3000:]
    output = tmp_path / "telemetry"
    ours = train(program, tmp_path, str(BIN / "otel-netmon"), "run", "--output", str(output), "--")
    assert ours.returncode == 0, ours.stderr[-3000:]
    assert losses(ours) == losses(plain)
    assert not re.search("captur(ed|ing) by", ours.stderr)  # another backend instead

    spans = spans_in(output)
    steps: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for span in spans:
        if span["name"] == semconv.SPAN_RANK_STEP and semconv.STEP_INCOMPLETE not in span["attributes"]:
            steps[span["attributes"][semconv.STEP]].append(span)
    assert sorted(steps) == list(range(STEPS))
    for number, ranks in steps.items():
        assert sorted(span["attributes"][semconv.RANK] for span in ranks) == [0, 1], number
        assert len({span["traceId"] for span in ranks}) == 1
        assert all(span["attributes"][semconv.STEP_COLLECTIVE_COUNT] > 0 for span in ranks)
    ids = {span["spanId"] for span in spans}
    collectives = [span for span in spans if span["name"] in semconv.SPAN_COLLECTIVES]
    assert all(span["parentSpanId"] in ids for span in collectives)
    per_rank = Counter((span["attributes"][semconv.RANK], span["name"]) for span in collectives)
    for (rank, name), count in per_rank.items():
        assert per_rank[1 - rank, name] == count
    assert not any(semconv.ERROR_TYPE in span["attributes"] for span in collectives)
    assert not any(semconv.COLLECTIVE_STATE in span["attributes"] for span in collectives)


def test_rollout_workers_without_a_default_group_lose_nothing(tmp_path: Path) -> None:
    """Two trainers and two rollout actors, five rounds of four broadcasts, and at the end all are killed."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs ray: make test-trainers")
    plain = train("ray_rlhf", tmp_path)
    assert plain.returncode == 0, plain.stderr[-3000:]
    ours = train("ray_rlhf", tmp_path, str(BIN / "otel-netmon"), "run", "--output", str(tmp_path / "out"), "--")
    assert ours.returncode == 0, ours.stderr[-3000:]
    assert losses(ours) == losses(plain)
    assert not re.search("captur(ed|ing) by", ours.stderr)
    members: dict[int, dict[int, dict[str, Any]]] = defaultdict(dict)
    for span in spans_in(tmp_path / "out"):
        about = span["attributes"]
        if about.get(semconv.GROUP_NAME) == "weights":
            members[about[semconv.COLLECTIVE_SEQUENCE]][about[semconv.GROUP_RANK]] = span
    assert sorted(members) == list(range(1, 21))
    for of in members.values():
        assert set(of) == {0, 1, 2}
        assert len({span["traceId"] for span in of.values()}) == 1
        root = of[0]["spanId"]
        assert [of[0].get("parentSpanId", ""), of[1]["parentSpanId"], of[2]["parentSpanId"]] == ["", root, root]
        assert of[0]["attributes"][semconv.RANK] == 0
        assert semconv.RANK not in of[1]["attributes"] and semconv.RANK not in of[2]["attributes"]
    measured = [counts for file in (tmp_path / "out").glob("metrics-*.jsonl") if (counts := broadcasts_in(file))]
    assert sorted(measured) == [20, 20, 20]


def broadcasts_in(file: Path) -> int:
    """How many collectives of the group of weights the last metrics of a process counted."""
    found = 0
    for line in file.read_text().splitlines():
        for resource in json.loads(line)["resourceMetrics"]:
            for metric in (one for scope in resource["scopeMetrics"] for one in scope["metrics"]):
                if metric["name"] == semconv.COLLECTIVE_DURATION_METRIC.name:
                    points = metric["histogram"]["dataPoints"]
                    of = [one for one in points if attributes(one).get(semconv.GROUP_NAME) == "weights"]
                    found = max(found, sum(int(one["count"]) for one in of))
    return found
