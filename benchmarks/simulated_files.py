"""Writes a simulated job as the OTLP JSON lines that its ranks would have written, a file for each and signal.

Two volumes. ``full``: a span for each step of each rank, and for each collective. ``steps``, as of a job of many
ranks: each step of each rank is a log event without its single calls; every 100th step and those that are slow
have them, and a trace of at most 5,000 spans (see docs/volume.md).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np

from benchmarks.planted import Shape, host_name
from benchmarks.simulated import AXES, CALLS, Job
from benchmarks.simulated_texts import OF_PEER, SAID, Texts
from benchmarks.simulated_traffic import Reading, readings
from benchmarks.templates import pairs
from otel_netmon import schema, semconv
from otel_netmon.bandwidth import bus_factor
from otel_netmon.emit.chosen import EVERY, call_stride, rank_stride
from otel_netmon.job import identity
from otel_netmon.records import Call, Pause, RankStep

Volume = Literal["full", "steps"]
RUN: Final = hashlib.blake2b(b"simulated", digest_size=16).hexdigest()
EPOCH: Final = 1_795_600_741 * 10**9
_STEPS_A_LINE: Final = 7
"""Exporters send every five seconds."""


class Group(NamedTuple):
    """A process group, and the place of a rank in it."""

    name: str
    size: int
    rank: int


def groups(shape: Shape, rank: int) -> dict[str, Group]:
    """By axis, the group that a rank is in; named by number, as torch does."""
    host, local = divmod(rank, shape.tensor)
    stage, copy = divmod(host, shape.data)
    of_data = 1 + shape.hosts
    of_pipe = of_data + shape.pipeline * shape.tensor
    return {
        "tensor": Group(str(1 + host), shape.tensor, local),
        "pipe": Group(str(of_pipe + copy * shape.tensor + local), shape.pipeline, stage),
        "data": Group(str(of_data + stage * shape.tensor + local), shape.data, copy),
        "world": Group("0", shape.ranks, rank),
    }


def write(job: Job, folder: Path, volume: Volume) -> int:
    """Write the files of all ranks; their bytes. Some 15 µs for each record."""
    folder.mkdir(parents=True, exist_ok=True)
    steps = job.steps
    said = np.stack([[step.sums[name] for name in SAID] for step in steps])
    durations = np.stack([[step.sums[axis] for axis in AXES] for step in steps])
    times = np.stack([[step.begin, step.end] for step in steps])
    writer = _Writer(job, folder, volume)
    return sum(
        writer.rank(rank, times[:, :, rank].tolist(), said[:, :, rank].tolist(), durations[:, :, rank].tolist())
        for rank in range(job.shape.ranks)
    )


class _Writer:
    """Writes one rank after the other."""

    def __init__(self, job: Job, folder: Path, volume: Volume) -> None:
        self._job, self._shape, self._folder = job, job.shape, folder
        self._texts = Texts(job.shape, RUN)
        self._is_full = volume == "full"
        ranks = job.shape.ranks
        self._traced = 1 if self._is_full else rank_stride(ranks)
        self._sampled = (1 if self._is_full else call_stride(ranks, len(CALLS))) or ranks
        keys = [str(number * len(CALLS)) for number in range(len(job.steps))]
        self._keys = keys
        self._traces = [f"{identity.trace_id(RUN, key):032x}" for key in keys]
        self._roots = [f"{identity.root_id(RUN, key):016x}" for key in keys]

    def rank(self, rank: int, times: Any, said: Any, durations: Any) -> int:
        """Write what one rank says; the bytes of it."""
        spans: list[str] = []
        logs: list[str] = []
        host, local = divmod(rank, self._shape.tensor)
        name, pid = host_name(host), 4000 + local
        instance = f"{rank:08x}-0000-4000-8000-{pid:012x}"
        about = instance, name, pid, rank, local, self._shape.ranks
        ends = f"{name}-rank{rank}-{pid}-{rank:06x}.jsonl"
        size = 0
        with (
            (self._folder / f"traces-{ends}").open("w") as traces,
            (self._folder / f"logs-{ends}").open("w") as events,
        ):
            of = _OfRank(self._job, rank)
            for number in range(len(times)):
                self._step(of, number, (times[number], said[number], durations[number]), spans, logs)
                if number % _STEPS_A_LINE == _STEPS_A_LINE - 1 or number == len(times) - 1:
                    for file, some, line in ((traces, spans, self._texts.spans), (events, logs, self._texts.logs)):
                        if some:
                            size += file.write(line(*about[:5], ",".join(some)))
                            some.clear()
        if not (self._folder / f"traces-{ends}").stat().st_size:
            (self._folder / f"traces-{ends}").unlink()
        return size

    def _step(self, of: _OfRank, number: int, values: Any, spans: list[str], logs: list[str]) -> None:
        """What a rank says of one step, and what it read meanwhile."""
        step, texts, rank = self._job.steps[number], self._texts, of.rank
        (begin, end), said, durations = values
        start, stop = of.time(begin), of.time(end)
        trace, root = self._traces[number], self._roots[number]
        own = f"{identity.rank_id(RUN, self._keys[number], rank):016x}"
        is_traced = step.is_traced and rank % self._traced == 0
        is_sampled = is_traced and rank % self._sampled == 0 and (self._is_full or number % EVERY == 0)
        more: dict[str, Any] = {}
        if step.starts is not None and step.ends is not None:
            starts, ends = step.starts[:, rank].tolist(), step.ends[:, rank].tolist()
            more[str(semconv.STEP_COLLECTIVES)] = of.packed(starts, ends, begin)
            if is_sampled:
                spans += self._calls(of, number, starts, ends, own)
        if rank in step.pauses:
            kind, at, seconds = step.pauses[rank]
            record = RankStep("", pauses=(Pause(kind, int(at * 1e6), int(seconds * 1e6)),))
            more |= schema.attributes(record)
        uses: list[Any] = []
        for use, duration in zip(of.uses, durations, strict=True):
            uses += (use.group.name, use.calls, use.size, int(duration * 1e6))
            if use.axis != "pipe":
                uses.append((number + 1) * use.calls)
            uses.append(use.group.size)
        fields = (
            trace, root, own, start, stop, rank, of.local, number, of.calls, of.size,
            *(round(value, 9) for value in said), *uses, pairs(more),
        )  # fmt: skip
        read = of.read_until(end)
        if is_traced:
            peers = [
                texts.peer_event(of.time(reading.at), *each[:OF_PEER])
                for reading in read
                for each in reading.peers
            ]
            spans.append(texts.step[True, is_sampled](*fields, f'"events":[{",".join(peers)}],' if peers else ""))
            if rank == 0:
                spans.append(texts.root(trace, root, start, stop, number))
        else:
            logs.append(texts.step[False, False](*fields))
            logs += (
                texts.peer_log(of.time(reading.at), *each[:OF_PEER], trace, own)
                for reading in read
                for each in reading.peers
            )
        for reading in read:
            logs.append(texts.nic(of.time(reading.at), *reading.nic[:1], *reading.nic[2:7]))
            logs.append(texts.beat(of.time(reading.at), rank, of.local, number))

    def _calls(self, of: _OfRank, number: int, starts: list[float], ends: list[float], own: str) -> list[str]:
        found = []
        counted = dict.fromkeys(AXES, 0)
        for place, (call, start, end) in enumerate(zip(CALLS, starts, ends, strict=True)):
            if start != start:  # NaN: the rank makes none
                continue
            group = of.groups[call.axis]
            counted[call.axis] += 1
            algbw = float(int(call.size / (end - start)))
            sequence = () if call.axis == "pipe" else (number * of.per_step[call.axis] + counted[call.axis],)
            factor = bus_factor(call.operation, group.size)
            found.append(
                self._texts.calls[place](
                    self._traces[number],
                    own,
                    f"{((number * 64 + place) << 20) + of.rank + 1:016x}",
                    of.time(start),
                    of.time(end),
                    group.name,
                    group.rank,
                    of.rank,
                    *sequence,
                    algbw,
                    *(() if factor is None else (algbw * factor,)),
                )
            )
        return found


class _Use(NamedTuple):
    axis: str
    group: Group
    calls: int
    size: int


class _OfRank:
    """What stays the same on a rank, and how far its readings were told."""

    def __init__(self, job: Job, rank: int) -> None:
        self.rank = rank
        host, self.local = divmod(rank, job.shape.tensor)
        self._epoch = EPOCH + int(job.skew[host] * 1e9)
        self.groups = groups(job.shape, rank)
        stage = self.groups["pipe"].rank
        pipes = sum((stage > 0, stage > 0, stage < job.shape.pipeline - 1, stage < job.shape.pipeline - 1))
        self.per_step = {axis: sum(call.axis == axis for call in CALLS) for axis in AXES} | {"pipe": pipes}
        sizes = {call.axis: call.size for call in CALLS}
        self.uses = [
            _Use(axis, self.groups[axis], self.per_step[axis], self.per_step[axis] * sizes[axis]) for axis in AXES
        ]
        self.calls = sum(use.calls for use in self.uses)
        self.size = sum(use.size for use in self.uses)
        self._readings = list(readings(job, rank))

    def time(self, seconds: float) -> int:
        """By the clock of its host, in nanoseconds."""
        return self._epoch + int(seconds * 1e9)

    def read_until(self, end: float) -> list[Reading]:
        """Readings that were not told yet."""
        read = [each for each in self._readings if each.at <= end]
        del self._readings[: len(read)]
        return read

    def packed(self, starts: list[float], ends: list[float], begin: float) -> Any:
        """The calls of a step in their attribute."""
        made = tuple(
            Call(call.operation, self.groups[call.axis].name, int((start - begin) * 1e6), int((end - start) * 1e6))
            for call, start, end in zip(CALLS, starts, ends, strict=True)
            if start == start  # NaN: the rank makes none
        )
        return schema.attributes(RankStep("", calls=made))[str(semconv.STEP_COLLECTIVES)]
