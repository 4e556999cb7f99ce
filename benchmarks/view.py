"""What it costs to look at a run: the live view's share of a core, and how fast a folder is exported."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measuring import Line, Size, sink, spread
from otel_netmon import schema, semconv
from otel_netmon.cli import main
from otel_netmon.records import Call, Collective, GroupUse, RankStep

RANKS = 8
CALLS = 25
STEP = 0.5
"""Seconds."""
LATE = 3
"""This rank is, by 40 ms."""


def looking_on(size: Size) -> Iterator[Line]:
    """The view beside a run that writes as much as a real one, and exports of such a run."""
    yield from _live(size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "run"
        folder.mkdir()
        begin = time.time_ns() - 10**12
        for step in range(size(200, 3)):
            _write(folder, step, begin)
        read = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        yield from _perfetto(folder, read, size)
        yield from _otlp(folder, read)


def _live(size: Size) -> Iterator[Line]:
    """CPU of the process once it is started and its window is full; steps go on meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        folder, done = Path(name), threading.Event()
        begin = time.time_ns() - int(60 * STEP * 1e9)
        for step in range(60):
            _write(folder, step, begin)
        writer = threading.Thread(target=_go_on, args=(folder, begin, done))
        writer.start()
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "otel_netmon.cli", "live", str(folder)]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL) as process:
            reader = threading.Thread(target=_drain, args=(ours,), daemon=True)
            reader.start()
            time.sleep(size(8, 3))
            shares = []
            for _ in range(size(6, 1)):
                before, since = _cpu(process.pid), time.perf_counter()
                time.sleep(size(10, 1))
                shares.append(100 * (_cpu(process.pid) - before) / (time.perf_counter() - since))
            process.terminate()
        done.set()
        writer.join()
        os.close(theirs)
        os.close(ours)
    what = f"live view of {RANKS} ranks, {CALLS} collectives in {STEP:g} s: share of a core"
    yield Line(what, "%", spread(shares), most=2.0)


def _perfetto(folder: Path, read: float, size: Size) -> Iterator[Line]:
    speeds = []
    for _ in range(size(5, 1)):
        with contextlib.redirect_stdout(io.StringIO()):
            since = time.process_time()
            code = main(["export", "perfetto", str(folder), "-o", str(folder.parent / "out")])
            speeds.append(read / (time.process_time() - since))
        if code:
            raise RuntimeError("export perfetto failed; is the package perfetto installed?")
    written = (folder.parent / "out").stat().st_size / 1e6
    yield Line(
        f"export perfetto, {read:.0f} MB of telemetry to {written:.1f}: read a CPU second", "MB", spread(speeds)
    )


def _otlp(folder: Path, read: float) -> Iterator[Line]:
    with sink() as (endpoint, _), contextlib.redirect_stdout(io.StringIO()):
        since = time.process_time()
        code = main(["export", "otlp", str(folder), endpoint])
        speed = read / (time.process_time() - since)
    if code:
        raise RuntimeError("export otlp failed")
    yield Line(f"export otlp, {read:.0f} MB of telemetry: sent a CPU second", "MB", spread([speed]))


def _go_on(folder: Path, begin: int, done: threading.Event) -> None:
    step = 60
    while not done.wait(max(0.0, (begin + (step + 1) * STEP * 1e9 - time.time_ns()) / 1e9)):
        _write(folder, step, begin)
        step += 1


def _drain(fd: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(fd, 65536):
            pass


def _cpu(pid: int) -> float:
    """Seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _write(folder: Path, step: int, begin: int) -> None:
    """A step of all ranks, a line for each, as the file exporter writes them."""
    for rank in range(RANKS):
        source: dict[str, Any] = {
            semconv.SERVICE_INSTANCE: f"i{rank}",
            semconv.HOST_NAME: f"h{rank}",
            semconv.RANK: rank,
            semconv.WORLD_SIZE: RANKS,
        }
        late = 0.04 if rank == LATE else 0.0
        start = begin + int(step * STEP * 1e9)
        end = start + int(STEP * 1e9)
        trace, own = f"{step + 1:032x}", f"{step * RANKS + rank + 1:016x}"
        spans, calls = [], []
        for call in range(CALLS):
            entered = start + int((0.2 + late + call * 0.008) * 1e9)
            left = start + int((0.25 + call * 0.008) * 1e9)
            sequence = step * CALLS + call
            calls.append(Call("all_reduce", "0", (entered - start) // 1000, (left - entered) // 1000))
            one = Collective(
                "all_reduce", "0", "gloo", RANKS, rank, rank, "host", 4_000_000, sequence, "float32", 1_000_000,
                is_async=True, algbw=1.1e8, busbw=1.9e8,
            )  # fmt: skip
            about = schema.attributes(one)
            spans.append(
                _span("all_reduce", trace, f"{call:08x}{step * RANKS + rank:08x}", (entered, left), about, own)
            )
        use = GroupUse("0", CALLS, CALLS * 4_000_000, 1_250_000, (step + 1) * CALLS - 1, RANKS)
        record = RankStep(
            "rank_step", "run", 0, rank, 0, RANKS, step, sampled=True, collective_count=CALLS,
            collective_time=0.25, issue_time=0.25 + late, gc_time=0.0, data_time=0.001, cpu_time=0.2,
            run_queue_time=0.002, groups=(use,), calls=tuple(calls),
        )  # fmt: skip
        spans.append(_span("rank_step", trace, own, (start, end), schema.attributes(record), "0" * 15 + "1"))
        scope: dict[str, Any] = {"scope": {"name": semconv.SCOPE_COLLECTIVES}, "spans": spans}
        group = {"resource": {"attributes": _pairs(source)}, "scopeSpans": [{**scope, "schemaUrl": "u"}]}
        with (folder / f"traces-h{rank}-rank{rank}.jsonl").open("a") as file:
            file.write(json.dumps({"resourceSpans": [group]}, separators=(",", ":")) + "\n")


def _span(name: str, trace: str, own: str, times: tuple[int, int], about: dict[str, Any], parent: str) -> Any:
    return {
        "traceId": trace,
        "spanId": own,
        "parentSpanId": parent,
        "name": name,
        "kind": 1,
        "startTimeUnixNano": str(times[0]),
        "endTimeUnixNano": str(times[1]),
        "attributes": _pairs(about),
        "status": {},
    }


def _pairs(about: dict[str, Any]) -> list[Any]:
    kinds = {str: "stringValue", bool: "boolValue", int: "intValue", float: "doubleValue"}
    return [
        {"key": str(key), "value": {kinds[type(value)]: str(value) if type(value) is int else value}}
        for key, value in about.items()
    ]
