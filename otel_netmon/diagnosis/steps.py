"""What all ranks did in one step: columns with a value for each rank, so that ten thousand are soon compared."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, TypeVar

from otel_netmon.covered import covered
from otel_netmon.diagnosis.medians import known, median
from otel_netmon.records import RankStep

_T = TypeVar("_T")

_NAN: Final = math.nan


class StepSample(NamedTuple):
    """One complete step on one rank; durations in seconds, ``None`` where they are not known."""

    start: int
    """Nanoseconds of the rank's own clock, as ``end``."""
    end: int
    in_collectives: float | None = None
    """In which at least one collective was in flight."""
    data: float | None = None
    gc: float | None = None
    cpu: float | None = None
    run_queue: float | None = None
    issued: float | None = None
    """From the start of the step to that of its last asynchronous collective, without the calls that the caller
    was blocked in before: what the rank itself needed until everything was on its way."""
    throttled: float | None = None
    """Its cgroup stopped by a CPU quota, summed over its CPUs."""
    calls: int | None = None
    size: int | None = None
    waited: float | None = None
    """The main thread in ``Work.wait``."""


class StepTable:
    """The samples of one step. Columns are by rank; NaN where nothing is known. Memory: some 110 bytes a rank."""

    __slots__ = (
        *(
            "_kinds",
            "_worked_out",
            "cpu",
            "data",
            "duration",
            "end",
            "gc",
            "issued",
            "own",
            "run_queue",
            "running",
            "start",
            "throttled",
            "waited",
        ),
        "work",
    )

    def __init__(self, ranks: int = 0) -> None:
        self.start = array("q", bytes(8 * ranks))
        self.end = array("q", bytes(8 * ranks))
        nothing = array("d", [_NAN]) * ranks
        self.duration = nothing[:]
        self.own = nothing[:]
        """In which no collective was in flight: the rank's own doing."""
        self.running = nothing[:]
        """Of that, without waiting for a CPU."""
        self.data = nothing[:]
        self.gc = nothing[:]
        self.cpu = nothing[:]
        self.run_queue = nothing[:]
        self.issued = nothing[:]
        self.throttled = nothing[:]
        self.waited = nothing[:]
        self._worked_out: dict[str, Any] = {}
        self._kinds: dict[tuple[int | None, int | None], tuple[int | None, int | None]] = {}
        self.work: dict[int, tuple[int | None, int | None]] = {}
        """Of each rank that took it: its collectives and their bytes, which tell what it has to do in a step."""

    def __len__(self) -> int:
        return len(self.work)

    def __contains__(self, rank: object) -> bool:
        return rank in self.work

    def __iter__(self) -> Iterator[int]:
        return iter(self.work)

    def add(self, rank: int, sample: StepSample) -> None:
        """A rank's sample; a second one replaces the first."""
        self._worked_out.clear()
        while len(self.start) <= rank:
            self._grow()
        start, end, inside, data, gc, cpu, run_queue, issued, throttled, calls, size, waited = sample
        duration = (end - start) / 1e9
        own = _NAN if inside is None else max(0.0, duration - inside)
        self.start[rank], self.end[rank] = start, end
        self.duration[rank] = duration
        self.own[rank] = own
        self.running[rank] = own if run_queue is None or own < run_queue else own - run_queue
        self.data[rank] = _NAN if data is None else data
        self.gc[rank] = _NAN if gc is None else gc
        self.cpu[rank] = _NAN if cpu is None else cpu
        self.run_queue[rank] = _NAN if run_queue is None else run_queue
        self.issued[rank] = _NAN if issued is None else issued
        self.throttled[rank] = _NAN if throttled is None else throttled
        self.waited[rank] = _NAN if waited is None else waited
        done = calls, size  # one object for many ranks: the garbage collector looks at each
        self.work[rank] = self._kinds.setdefault(done, done)

    def _grow(self) -> None:
        more = max(8, len(self.start))
        for times in (self.start, self.end):
            times.extend(array("q", bytes(8 * more)))
        nothing = array("d", [_NAN]) * more
        known = self.duration, self.own, self.running, self.data, self.gc, self.cpu, self.run_queue, self.issued
        for column in (*known, self.throttled, self.waited):
            column.extend(nothing)

    def once(self, what: str, work_out: Callable[[], _T]) -> _T:
        """``what`` of these samples, worked out at the first call after they changed: a step is looked at again
        and again, and soon all ranks have told of it."""
        if what not in self._worked_out:
            self._worked_out[what] = work_out()
        return self._worked_out[what]  # type: ignore[no-any-return]  # what is called the same is the same

    def members(self) -> int:
        """A hash of the ranks that took it."""
        return self.once("members", lambda: hash(frozenset(self.work)))

    def shortest(self) -> float:
        """Seconds on the rank that was quickest."""
        return self.once("shortest", lambda: min(known(self.duration)))

    def usual(self) -> float:
        """Seconds on the median rank."""
        return self.once("usual", lambda: median(known(self.duration)))


class StepRows:
    """Samples of one rank's steps, one behind the other. Memory: some 120 bytes each."""

    __slots__ = ("_numbers", "_seconds")

    def __init__(self) -> None:
        self._numbers = array("q")
        """Six of each, -1 where one is not known: two of who adds it, then those of a sample that are whole."""
        self._seconds = array("d")
        """Eight of each, NaN where one is not known."""

    def __len__(self) -> int:
        return len(self._numbers) // 6

    def add(self, trace: int, number: int, sample: StepSample) -> None:
        """Add one, of a trace and under a number."""
        start, end, inside, data, gc, cpu, run_queue, issued, throttled, calls, size, waited = sample
        self._numbers.extend(
            (trace, number, start, end, -1 if calls is None else calls, -1 if size is None else size)
        )
        self._seconds.extend(
            _NAN if value is None else value
            for value in (inside, data, gc, cpu, run_queue, issued, throttled, waited)
        )

    def numbered(self) -> Iterator[tuple[int, int]]:
        """Trace and number of each."""
        return zip(self._numbers[::6], self._numbers[1::6], strict=True)

    def __iter__(self) -> Iterator[tuple[int, int, StepSample]]:
        """Trace, number and sample of each, in their order."""
        numbers, seconds = iter(self._numbers), iter(self._seconds)
        rows = zip(*[numbers] * 6, strict=True), zip(*[seconds] * 8, strict=True)
        for (trace, number, start, end, calls, size), row in zip(*rows, strict=True):
            inside, data, gc, cpu, run_queue, issued, throttled, waited = (
                None if value != value else value  # noqa: PLR0124 - NaN is not
                for value in row
            )
            yield trace, number, StepSample(
                start, end, inside, data, gc, cpu, run_queue, issued, throttled,
                None if calls < 0 else calls, None if size < 0 else size, waited,
            )  # fmt: skip


def sample_of(step: RankStep) -> StepSample:
    """What a record says of a step, in the clock that its times are of."""
    inside = step.collective_time
    if inside is None and len(step.calls) == step.collective_count:
        inside = covered((each.start, each.start + (each.duration or 0)) for each in step.calls) / 1e6
    return StepSample(
        step.start,
        step.end,
        inside,
        step.data_time,
        step.gc_time,
        step.cpu_time,
        step.run_queue_time,
        step.issue_time,
        step.throttled_time,
        calls=step.collective_count,
        size=step.collective_size,
        waited=step.wait_time,
    )
