"""A training job that never was: TP x PP x DP ranks, faults planted in it, hosts whose clocks differ.

A host is a tensor-parallel group. In a step each rank computes and joins some 25 collectives, as Megatron's would:
all-reduces within its host, sends and receives between the stages of its pipeline, reduce-scatters and all-gathers
over the ranks that hold the same part of the model, which overlap with computing, and one all-reduce of all ranks.
A collective ends everywhere at about the same time, so a late rank makes the others wait, and nobody's own time
but its own is longer. What is true of the faults is told beside the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted import OF_HOSTS, Fault, Shape, host_name, planted
from otel_netmon.emit.chosen import EVERY
from otel_netmon.job.slow_steps import SlowRule

Floats = NDArray[np.float64]

_TENSOR_CALLS, _DATA_CALLS = 10, 5
_TENSOR_SIZE, PIPE_SIZE, _DATA_SIZE = 33_554_432, 8_388_608, 50_331_648
LINE: Final = 2.4e9
"""Bytes a second that a link moves while it is busy."""


class Call(NamedTuple):
    """A collective of a step: ``axis`` says on which of its groups a rank makes it."""

    operation: str
    axis: str
    is_async: bool
    size: int


_PIPE = (("recv", True), ("send", False), ("recv", False), ("send", True))
"""In order: from the stage before, to the one behind, and back."""


def calls() -> tuple[Call, ...]:
    """Those of a step in their order; a rank of the first or last stage leaves out sends and receives."""
    tensor = [Call("all_reduce", "tensor", False, _TENSOR_SIZE)] * (_TENSOR_CALLS // 2)
    pipe = [Call(operation, "pipe", False, PIPE_SIZE) for operation, _ in _PIPE]
    scatter = [Call("reduce_scatter", "data", True, _DATA_SIZE)] * _DATA_CALLS
    gather = [Call("all_gather", "data", True, _DATA_SIZE)] * _DATA_CALLS
    norm = Call("all_reduce", "world", False, 4)
    return (pipe[0], *tensor, pipe[1], pipe[2], *tensor, pipe[3], *scatter, norm, *gather)


CALLS: Final = calls()
AXES: Final = ("tensor", "pipe", "data", "world")


class Step(NamedTuple):
    """One step; arrays are by rank, those of calls by call and then rank, NaN where a rank makes none. Seconds of
    the true time."""

    begin: Floats
    end: Floats
    starts: Floats | None
    ends: Floats | None
    """``None`` where nobody keeps the single calls."""
    sums: dict[str, Floats]
    """By axis, the durations of the calls on it; and by name what a rank says of its step."""
    pauses: dict[int, tuple[str, float, float]]
    """By rank: what paused, after how many seconds, for how long."""
    is_traced: bool


@dataclass
class Job:
    """What was simulated."""

    shape: Shape
    steps: list[Step]
    faults: tuple[Fault, ...]
    skew: Floats
    """Of the clock of each host, in seconds."""
    rates: Floats
    """Goodput of what leaves a host, as a share of the line; and of what enters it."""
    into: Floats
    losses: Floats
    """Share of segments that are sent again of what leaves a host."""
    noise: np.random.Generator
    broken_at: float = math.inf
    """Since when links are as ``rates``, ``into`` and ``losses`` say."""

    @property
    def seconds(self) -> float:
        """Of all steps."""
        return float(self.steps[-1].end.max() - self.steps[0].begin.min())


def simulate(shape: Shape, steps: int, faults: Sequence[str] = (), *, keep_all: bool = True, seed: int = 7) -> Job:
    """``steps`` steps. ``keep_all``: the single calls of each step are kept, and each is traced."""
    noise = np.random.default_rng(seed)
    where = planted(shape, faults, steps)
    job = Job(
        shape,
        [],
        where,
        skew=noise.uniform(-0.005, 0.005, shape.hosts),
        rates=np.ones(shape.hosts),
        into=np.ones(shape.hosts),
        losses=np.full(shape.hosts, 1e-5),
        noise=noise,
    )
    now = noise.uniform(0.0, 0.01, shape.ranks)
    rule = SlowRule()
    for number in range(steps):
        for fault in where:
            if fault.name in OF_HOSTS and number == fault.since:
                _break_link(job, fault)
                job.broken_at = float(now.max())
        step = _Simulated(job, number, now).run()
        took = float(step.end.max() - step.begin.min())
        is_slow = rule.takes(took)
        is_traced = keep_all or number % EVERY == 0 or is_slow
        step = step._replace(is_traced=is_traced)
        job.steps.append(step if is_traced else step._replace(starts=None, ends=None))
        now = step.end.copy()
    return job


def _break_link(job: Job, fault: Fault) -> None:
    host = [host_name(each) for each in range(job.shape.hosts)].index(fault.hosts[0])
    if fault.name == "slow_link":
        job.rates[host], job.into[host] = 0.35, 0.65  # acknowledgements of the other way wait as well
    else:
        job.rates[host], job.losses[host] = 0.7, 0.015


class _Simulated:
    """One step, call by call: ``_now`` is the time on each rank, by stage, copy, and place in its host."""

    def __init__(self, job: Job, number: int, begin: Floats) -> None:
        self._job, self._shape, self._number, self._noise = job, job.shape, number, job.noise
        self._begin = begin
        shape = job.shape
        self._grid = (shape.pipeline, shape.data, shape.tensor)
        self._now = begin.reshape(self._grid).copy()
        self._starts = np.full((len(CALLS), *self._grid), np.nan)
        self._ends = np.full((len(CALLS), *self._grid), np.nan)
        self._said = {
            name: np.zeros(self._grid) for name in ("cpu", "wait", "collector", "loader", "queue", "throttled")
        }
        self._pauses: dict[int, tuple[str, float, float]] = {}

    def run(self) -> Step:
        half, last = _TENSOR_CALLS // 2, self._shape.pipeline - 1
        self._said["queue"] += self._noise.exponential(0.001, self._grid)
        self._said["loader"] += self._noise.uniform(0.0001, 0.0005, self._grid)
        self._begin_with(self._extra())
        forward = np.zeros(self._grid[1:])
        for stage in range(last + 1):
            if stage > 0:
                self._receive(0, stage, forward)
            for call in range(1, 1 + half):
                self._within_host(call, stage, 0.008)
            if stage < last:
                forward = self._send(1 + half, stage)
        backward = np.zeros(self._grid[1:])
        for stage in range(last, -1, -1):
            if stage < last:
                self._receive(2 + half, stage, backward)
            for call in range(3 + half, 3 + 2 * half):
                self._within_host(call, stage, 0.016)
            if stage > 0:
                backward = self._send(3 + 2 * half, stage)
        first = 4 + 2 * half
        self._over_copies(first, 0.004)
        self._over_all(first + _DATA_CALLS)
        self._over_copies(first + _DATA_CALLS + 1, 0.002)
        self._compute(0.003)
        return self._step()

    def _compute(self, seconds: float, stage: int | slice = slice(None)) -> None:
        now = self._now[stage]
        spent = seconds * self._noise.lognormal(0.0, 0.03, now.shape)
        self._now[stage] = now + spent
        self._said["cpu"][stage] += spent

    def _extra(self) -> Floats:
        """Seconds by which ranks begin to work later: now and then anybody, and those with a fault."""
        noise, shape = self._noise, self._shape
        extra = np.where(noise.random(shape.ranks) < 0.005, noise.exponential(0.01, shape.ranks), 0.0)
        said = {name: value.reshape(-1) for name, value in self._said.items()}
        said["cpu"] += extra
        for fault in self._job.faults:
            if self._number < fault.since or fault.name in OF_HOSTS:
                continue
            rank, since = fault.ranks[0], self._number - fault.since
            if fault.name == "straggler" and noise.random() < 0.95:
                extra[rank] += 0.04
                said["cpu"][rank] += 0.04
            elif fault.name == "throttled" and noise.random() < 0.97:
                extra[rank] += 0.12
                said["queue"][rank] += 0.11
                said["throttled"][rank] += 0.35
            elif fault.name in ("collector", "loader") and since % 6 == 0:
                extra[rank] += 0.45
                said[fault.name][rank] += 0.45
                self._pauses[rank] = "gc" if fault.name == "collector" else "data", 0.001, 0.45
        return extra

    def _begin_with(self, extra: Floats) -> None:
        self._now += extra.reshape(self._grid)

    def _receive(self, call: int, stage: int, arrives: Floats) -> None:
        start = self._now[stage].copy()
        self._set(call, stage, start, np.maximum(start, arrives) + 0.001)

    def _send(self, call: int, stage: int) -> Floats:
        start = self._now[stage].copy()
        rates: Floats = self._job.rates.reshape(self._grid[:2])[stage, :, None]
        end: Floats = start + PIPE_SIZE / LINE / rates
        self._set(call, stage, start, end)
        return end

    def _within_host(self, call: int, stage: int, seconds: float) -> None:
        self._compute(seconds, stage)
        start = self._now[stage].copy()
        end = start.max(axis=1, keepdims=True) + 0.0012
        self._set(call, stage, start, end + self._noise.uniform(0, 5e-5, start.shape))

    def _set(self, call: int, stage: int, start: Floats, end: Floats) -> None:
        self._starts[call, stage], self._ends[call, stage] = start, end
        self._now[stage] = end

    def _over_copies(self, first: int, seconds: float) -> None:
        """Asynchronous: a call begins while others are in flight, and all are waited for behind the last."""
        slowest = np.minimum(self._job.rates, self._job.into).reshape(self._grid[:2]).min(axis=1)[:, None, None]
        transfer = _DATA_SIZE / LINE / slowest
        done = np.zeros(1)
        for call in range(first, first + _DATA_CALLS):
            self._compute(seconds)
            self._starts[call] = self._now
            done = np.maximum(self._now.max(axis=1, keepdims=True), done) + transfer
            self._ends[call] = done + self._noise.uniform(0, 1e-4, self._grid)
        end = np.maximum(self._now, self._ends[call])
        self._said["wait"] += end - self._now
        self._now = end

    def _over_all(self, call: int) -> None:
        self._starts[call] = self._now
        self._now = self._now.max() + 0.001 + self._noise.uniform(0, 1e-4, self._grid)
        self._ends[call] = self._now

    def _step(self) -> Step:
        starts, ends = self._starts.reshape(len(CALLS), -1), self._ends.reshape(len(CALLS), -1)
        durations = ends - starts
        sums = {name: value.reshape(-1) for name, value in self._said.items()}
        for axis in AXES:
            sums[axis] = np.nansum(durations[[call.axis == axis for call in CALLS]], axis=0)
        inside, until = np.zeros(self._shape.ranks), np.zeros(self._shape.ranks)
        blocked = np.zeros(self._shape.ranks)
        for call, start, end in zip(CALLS, starts, ends, strict=True):
            more = np.nan_to_num(np.maximum(0.0, end - np.maximum(start, until)))
            inside += more
            until = np.fmax(until, end)
            if not call.is_async:
                blocked += np.nan_to_num(end - start)
        sums["inside"] = inside
        sums["first"] = np.fmin.reduce(starts) - self._begin
        sums["issued"] = starts[-1] - self._begin - blocked
        return Step(self._begin, self._now.reshape(-1), starts, ends, sums, self._pauses, is_traced=True)
