"""A DDP job of two ranks with 25 collectives a step, with and without us: CPU, step time, bytes.

On two cores the ranks leave nothing idle. With a pause in each step, as of a GPU or a slow disk, half is idle.
"""

from __future__ import annotations

import gzip
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.captured import packing
from benchmarks.measuring import Line, Size, differences, job, otel_netmon_run, ratio, sink, spread, turns

_LOADS = (("no core idle", 0.0), ("half idle", 0.04))


def whole_jobs(size: Size) -> Iterator[Line]:
    """Jobs under ``otel-netmon run`` with files, and plain ones, by turns. Imports and start are left out."""
    steps = size(60, 3)
    limit = packing(size(100_000, 100))
    for load, pause in _LOADS[: size(2, 1)]:
        said: dict[str, list[list[dict[str, Any]]]] = {"plain": [], "ours": []}

        def once(way: str, pause: float = pause, said: dict[str, list[list[dict[str, Any]]]] = said) -> float:
            with tempfile.TemporaryDirectory() as folder:
                under = otel_netmon_run(Path(folder)) if way == "ours" else []
                said[way].append(job("ddp.py", "whole", steps, pause, under=under))
            return float(sum(one["cpu"]["process"] for one in said[way][-1]))

        found = turns({"plain": lambda: once("plain"), "ours": lambda: once("ours")}, size(3, 1))
        what = f"process CPU of a DDP job, with / without, {load}"
        yield Line(
            f"{what} (95 % interval)", "", ratio(found["plain"], found["ours"]), None, "1.07 to 1.15", 1.015
        )

        def per_call(way: str, part: str, said: dict[str, list[list[dict[str, Any]]]] = said) -> list[float]:
            return [
                sum(one["cpu"][part] for one in ranks) / sum(one["calls"] for one in ranks) * 1e6
                for ranks in said[way]
            ]

        ours = spread(per_call("ours", "ours"))
        what = f"background CPU per collective, in that job, {load}"
        yield Line(f"{what}: our threads, monitors and metrics included", "us", ours, limit, "150", 8.0)
        rest = differences(per_call("plain", "rest"), per_call("ours", "rest"))
        yield Line(f"{what}: more on torch's threads", "us", rest, None, "100", None)
        main = differences(per_call("plain", "main"), per_call("ours", "main"))
        yield Line(f"{what}: more on the main thread", "us", main)


def alternating_steps(size: Size) -> Iterator[Line]:
    """Blocks of steps that are captured and not, by turns in one job; both ranks' figures are averaged."""
    for load, pause in _LOADS[: size(2, 1)]:
        with tempfile.TemporaryDirectory() as folder:
            blocks, steps = size(40), size(5, 1)
            ranks = job("ddp.py", "blocks", blocks, steps, pause, OTEL_NETMON_OUTPUT_DIR=folder)

        def both(name: str, ranks: list[dict[str, Any]] = ranks) -> list[float]:
            return [statistics.mean(each) for each in zip(*(one[name] for one in ranks), strict=True)]

        plain = statistics.median(both("plain_step")) * 1e3
        yield Line(f"step time without us, {load}", "ms", spread([1e3 * one for one in both("plain_step")]))
        time = ratio(both("plain_step"), both("captured_step"))
        what = f"step time, with / without, {load}"
        note = f"{blocks} pairs of blocks, {plain:.0f} ms"
        yield Line(f"{what} (95 % interval)", "", time, None, "1.02 to 1.08", 1.01, note=note)
        cpu = ratio(both("plain_cpu"), both("captured_cpu"))
        yield Line(
            f"process CPU per step, with / without, {load} (95 % interval)", "", cpu, None, "1.07 to 1.15", 1.015
        )


def on_the_wire(size: Size) -> Iterator[Line]:
    """Spans and log events, ``rank_step`` included, per collective; metrics apart. Compressed by request."""
    steps = size(100, 3)
    with sink() as (endpoint, received):
        to_sink = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        ranks = job("ddp.py", "whole", steps, 0, under=otel_netmon_run(None), **to_sink)
        calls = sum(one["calls"] for one in ranks)
        paths = received()
    with tempfile.TemporaryDirectory() as name:
        ranks = job("ddp.py", "whole", steps, 0, under=otel_netmon_run(Path(name)))
        files = list(Path(name).glob("*.jsonl"))
        json_lines = {
            "traces and logs": [
                one for path in files if not path.name.startswith("metrics") for one in _lines(path)
            ],
            "metrics": [one for path in files if path.name.startswith("metrics") for one in _lines(path)],
        }
    protobuf = {
        "traces and logs": [found for path, found in paths.items() if "metrics" not in path],
        "metrics": [found for path, found in paths.items() if "metrics" in path],
    }
    for signals in ("traces and logs", "metrics"):
        for how in ("raw", "gzip"):
            is_goal = (signals, how) == ("traces and logs", "gzip")
            value = sum(one[how] for one in protobuf[signals]) / calls
            what = f"OTLP per collective, {signals}, {how}"
            most = 60.0 if is_goal else None
            yield Line(f"{what}: protobuf", "By", spread([value]), None, "500" if how == "raw" else "", most)
            sizes = (len(one) if how == "raw" else len(gzip.compress(one, 6)) for one in json_lines[signals])
            value = sum(sizes) / calls
            yield Line(f"{what}: JSON lines", "By", spread([value]), None, "1,500" if how == "raw" else "")
    yield from _of_a_large_job(size(300, 3))


def _of_a_large_job(steps: int) -> Iterator[Line]:
    """The same of each step of each rank, where single collectives of few go out."""
    with sink() as (endpoint, received), tempfile.TemporaryDirectory() as name:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_NETMON_VOLUME": "steps",
            "OTEL_NETMON_STEPS_DIR": f"{name}/host",
        }
        ranks = job("ddp.py", "whole", steps, 0, under=otel_netmon_run(None), **settings)
        paths = received()
        kept = sum(one.stat().st_size for one in Path(name, "host").iterdir())
    calls, of = sum(one["calls"] for one in ranks), steps * len(ranks)
    about = f"{calls / of:.0f} collectives a step, OTEL_NETMON_VOLUME=steps"
    for how in ("raw", "gzip"):
        value = sum(found[how] for path, found in paths.items() if "metrics" not in path) / of
        what = f"OTLP per step and rank, traces and logs, {how}: protobuf; {about}"
        yield Line(what, "By", spread([value]))
    yield Line(f"kept on the host per step and rank; {about}", "By", spread([kept / of]))


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)
