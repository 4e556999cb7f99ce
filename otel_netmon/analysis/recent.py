"""The last steps of a run that goes on: what is kept of them, and what it comes to.

The verdict is ``diagnose``'s, of the same evidence as offline; medians and waiting are worked out by the code of
the summary, from what each step packs of its collectives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from otel_netmon import semconv
from otel_netmon.analysis.evidence import EvidenceCollector, diagnoses
from otel_netmon.analysis.nics import NicTotal, NicTraffic
from otel_netmon.analysis.operations import percentile
from otel_netmon.analysis.results import Diagnosis
from otel_netmon.analysis.waiting import Matcher, Waiting
from otel_netmon.endings import LastCalls, RankExit
from otel_netmon.records import Heartbeat, HostSample, InFlight, RankStep, Source, Verdict
from otel_netmon.store.reader import Known

WINDOW: Final = 60
"""Steps that are looked at."""
_SLACK: Final = 8
"""Steps more that are kept: ranks do not write at the same moment."""
_MOST_OTHERS: Final = 20_000
"""Of each process, records that are no steps: readings of counters, mostly."""
_MARGIN: Final = 15_000_000_000
"""Nanoseconds before the first step of the window from which on readings are kept: a counter needs one before."""
_METRICS: Final = frozenset(
    metric.name
    for metric in (
        *(semconv.NIC_IO, semconv.TCP_IO, semconv.CGROUP_THROTTLED, semconv.MONITOR_AGE, semconv.TCP_BACKOFF),
        *(semconv.PEER_INFO, semconv.PEER_LATENCY_MIN),
    )
)
"""Those that a diagnosis or the view needs."""


@dataclass
class Step:
    """One step of all ranks, as far as they have told of it."""

    number: int
    ranks: dict[int, RankStep] = field(default_factory=dict)
    root: RankStep | None = None
    _waiting: Waiting | None = None
    _of: int = 0

    def seconds(self) -> list[float]:
        """Rank 0's, or else those of all ranks: what the summary takes a median of."""
        first = self.root or self.ranks.get(0)
        return [(each.end - each.start) / 1e9 for each in ([first] if first else self.ranks.values())]

    def waiting(self) -> Waiting:
        """Who waited for whom; worked out again when another rank has told."""
        if self._waiting is None or self._of != len(self.ranks):
            matcher, sizes = Matcher(), dict[str, int]()
            for rank, step in self.ranks.items():
                matcher.add_step(1, rank, step)
                sizes[_DEFAULT_GROUP] = step.world_size or 0
                sizes.update((use.group, use.ranks) for use in step.groups if use.ranks is not None)
            longest = max(((each.end - each.start) / 1e9 for each in self.ranks.values()), default=0.0)
            self._waiting = matcher.measure({1: self.number}, {1: longest}, sizes)
            self._of = len(self.ranks)
        return self._waiting


@dataclass
class Process:
    """One that wrote something."""

    source: Source
    rank: int | None = None
    run: str | None = None
    others: deque[tuple[int, Known]] = field(default_factory=lambda: deque(maxlen=_MOST_OTHERS))
    """With the times of those that have one."""
    sign: Heartbeat | InFlight | None = None
    """The last that says what is in flight."""
    last_end: int = 0
    """Of a step."""
    last_time: int = 0
    """The newest time in a record, by its own clock."""


class Recent:
    """Takes records as they come. Memory: some 1 kB for each rank's step in the window."""

    def __init__(self) -> None:
        self.run: str | None = None
        """The newest in the folder: it is the one that is looked at."""
        self.processes: dict[str, Process] = {}
        self.exits: dict[tuple[str | None, int], RankExit] = {}
        """By host and process id."""
        self._older: set[str] = set()
        self._told: list[RankExit | LastCalls] = []
        self._steps: dict[str, Step] = {}
        """By trace."""
        self._newest = 0
        self.highest: int | None = None

    def take(self, record: Known) -> str | None:
        """Take one record; which process it is of, unless it is of an older run."""
        if isinstance(record, Verdict):
            return None
        source = record.source or Source()
        process = self.processes.get(source.instance)
        if process is None:
            process = self.processes[source.instance] = Process(source)
        if isinstance(record, RankExit | LastCalls):
            self._told.append(record)
            if isinstance(record, RankExit):
                self.exits[source.host, record.pid] = record
            return source.instance
        if isinstance(record, HostSample):
            if record.metric in _METRICS:
                process.others.append((record.time, record))
            process.last_time = max(process.last_time, record.time)
            return source.instance
        rank = source.rank if record.rank is None else record.rank
        process.rank = process.rank if rank is None else rank
        if isinstance(record, RankStep | Heartbeat) and not self._is_of_run(record, process):
            return None
        self._take(record, process, rank)
        return source.instance

    def _is_of_run(self, record: RankStep | Heartbeat, process: Process) -> bool:
        run = record.run_id
        process.run = run or process.run
        time = record.time if isinstance(record, Heartbeat) else record.end
        if run is None or run == self.run:
            self._newest = max(self._newest, time)
            return True
        if run in self._older:
            return False
        if self.run is not None and time < self._newest:
            self._older.add(run)
            return False
        if self.run is not None:
            self._older.add(self.run)
        self.run, self._newest, self.highest = run, time, None
        self._steps.clear()
        for other in [name for name, each in self.processes.items() if each.run in self._older]:
            del self.processes[other]
        return True

    def _take(self, record: Known, process: Process, rank: int | None) -> None:
        time = 0
        if isinstance(record, RankStep):
            time = record.end
            process.last_end = max(process.last_end, record.end)
            if record.step is not None and record.incomplete is not True and rank is not None:
                self._step(record, rank)
                process.last_time = max(process.last_time, time)
                return
        elif isinstance(record, Heartbeat | InFlight):
            time = record.time
            process.sign = record
        else:
            time = getattr(record, "at", 0)
        process.last_time = max(process.last_time, time)
        process.others.append((time, record))

    def _step(self, record: RankStep, rank: int) -> None:
        assert record.step is not None
        step = self._steps.get(record.trace_id)
        if step is None:
            step = self._steps[record.trace_id] = Step(record.step)
        if record.name == semconv.SPAN_RANK_STEP:
            step.ranks[rank] = record
        elif record.name == semconv.SPAN_TRAIN_STEP:
            step.root = record
        if self.highest is None or record.step > self.highest:
            self.highest = record.step
            if len(self._steps) > 2 * (WINDOW + _SLACK):
                self._prune()

    def _prune(self) -> None:
        first = (self.highest or 0) - WINDOW - _SLACK
        self._steps = {trace: step for trace, step in self._steps.items() if step.number > first}
        since: dict[str, int] = {}
        for step in self._steps.values():
            for record in step.ranks.values():
                if record.source is not None:
                    name = record.source.instance
                    since[name] = min(record.start, since.get(name, record.start))
        default = min(since.values(), default=0)
        for name, process in self.processes.items():
            begin = since.get(name, default) - _MARGIN
            # Setups and steps that did not end are few, and say what the process was at.
            kept = [each for each in process.others if each[0] >= begin or not each[0]]
            process.others = deque(kept, _MOST_OTHERS)

    def window(self) -> list[Step]:
        """The last steps, in their order."""
        first = (self.highest or 0) - WINDOW
        return sorted(
            (step for step in self._steps.values() if step.number > first and step.ranks),
            key=lambda step: step.number,
        )

    def median(self, window: list[Step]) -> float | None:
        """Seconds of a step, as the summary has it."""
        return percentile(sorted(seconds for step in window for seconds in step.seconds()), 0.5)

    def diagnoses(self, window: list[Step]) -> tuple[Diagnosis, ...]:
        """Who is to blame in the window. Some 60 µs for each rank's step in it."""
        evidence = EvidenceCollector()
        for record in self._records(window):
            evidence.take(record)
        return tuple(each for each in diagnoses(evidence.runs()) if each.run_id in (self.run, None))

    def _records(self, window: list[Step]) -> Iterator[Known]:
        for step in window:
            yield from step.ranks.values()
        for process in self.processes.values():
            yield from (record for _, record in process.others)
        yield from self._told

    def nics(self) -> tuple[NicTotal, ...]:
        """What the NICs moved since about the first step of the window."""
        traffic = NicTraffic()
        for process in self.processes.values():
            for _, record in process.others:
                if isinstance(record, HostSample) and record.metric == semconv.NIC_IO.name:
                    traffic.add(record, record.source or Source())
        return traffic.totals()

    def hosts(self) -> Mapping[int, str]:
        """By rank."""
        return {each.rank: each.source.host or "" for each in self.processes.values() if each.rank is not None}


_DEFAULT_GROUP: Final = "0"
"""torch's name for the group of all ranks."""
