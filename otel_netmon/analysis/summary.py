"""One run's telemetry, summed up from its files: ranks, steps, collectives, waiting, NICs, losses."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final, NamedTuple

from otel_netmon import semconv
from otel_netmon.analysis.apart import find_apart
from otel_netmon.analysis.counted import Counted
from otel_netmon.analysis.coverage import Coverage
from otel_netmon.analysis.detailing import DetailCollector, Matching
from otel_netmon.analysis.details import Details
from otel_netmon.analysis.evidence import EvidenceCollector, diagnoses
from otel_netmon.analysis.nics import NicTraffic
from otel_netmon.analysis.operations import Operations, percentile, seconds_of
from otel_netmon.analysis.results import Alive, Losses, StepSummary, Summary
from otel_netmon.analysis.waiting import Matcher
from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.endings import LastCalls, RankExit
from otel_netmon.records import (
    Collective,
    Heartbeat,
    HostSample,
    HostTraffic,
    InFlight,
    PeerTraffic,
    RankStep,
    Source,
    Verdict,
)
from otel_netmon.store.files import Progress, telemetry_files
from otel_netmon.store.problems import FolderError, Problems
from otel_netmon.store.reader import Known, read

_OF_STEPS: Final = (Collective, RankStep, Heartbeat, InFlight)
_Other = RankStep | Heartbeat | InFlight | PeerTraffic | HostTraffic | Verdict | RankExit | LastCalls
_NOBODY: Final = Source()


class Recorded(NamedTuple):
    """A run that lies elsewhere than in files."""

    name: str
    records: Iterable[Known]
    """Each series of points in the order of time."""


def summarise(
    folder: Path | Recorded, *, exclude: Collection[str] = (), progress: Progress = lambda _done, _total: None
) -> Summary:
    """Read the files in ``folder`` and sum them up; raises ``FolderError`` when they hold no telemetry.

    Linear in the input: some 25 µs of CPU and 100 bytes per span.
    """
    return _read(folder, exclude, progress, _Findings())


def examine(
    folder: Path | Recorded, *, exclude: Collection[str] = (), progress: Progress = lambda _done, _total: None
) -> tuple[Summary, Details]:
    """The same summary, and what pictures of the run need beside it; the files are read once."""
    found = _Findings(DetailCollector())
    summary = _read(folder, exclude, progress, found)
    return summary, found.details(summary)


def _read(folder: Path | Recorded, exclude: Collection[str], progress: Progress, found: _Findings) -> Summary:
    problems = Problems()
    if isinstance(folder, Recorded):
        for record in folder.records:
            found.take(record)
        if not found.records:
            raise FolderError(f"{folder.name} holds no telemetry of that run")
        return found.summary(folder.name, 0, 0, problems)
    paths = telemetry_files(folder, problems, exclude)
    total = sum(path.lstat().st_size for path in paths)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, max(total, done))

    for path in paths:
        for record in read(path, problems, advance):
            found.take(record)
    if not found.records and not problems.unknown:
        raise FolderError(
            f"{folder} holds no telemetry: nothing in its {len(paths)} files could be read as OTLP JSON"
        )
    return found.summary(str(folder), len(paths), total, problems)


class _Done:
    """One complete step: its number and seconds on each rank; a root is rank 0's. Memory: 24 bytes a rank."""

    def __init__(self) -> None:
        self._ranks, self._numbers, self._seconds = array("q"), array("q"), array("d")

    def add(self, rank: int, number: int, seconds: float) -> None:
        """What one rank says; what it says last counts."""
        self._ranks.append(rank)
        self._numbers.append(number)
        self._seconds.append(seconds)

    def numbers(self) -> dict[int, int]:
        """By rank."""
        return dict(zip(self._ranks, self._numbers, strict=True))

    def seconds(self) -> dict[int, float]:
        """By rank."""
        return dict(zip(self._ranks, self._seconds, strict=True))


class _Findings:
    """Takes records in any order of files; ``summary`` at the end."""

    def __init__(self, detail: DetailCollector | None = None) -> None:
        self.records = 0
        self._detail = detail
        self._runs_found: dict[str | None, Evidence] = {}
        self._ranks: set[int] = set()
        self._world_sizes: set[int | None] = set()
        self._signs: dict[int, Heartbeat | InFlight] = {}
        """By rank, the last one."""
        self._runs: set[str] = set()
        self._traces: dict[str, int] = {}
        self._step_of: dict[int, int] = {}
        self._done: dict[int, _Done] = defaultdict(_Done)
        """Of each complete step, by trace."""
        self._has_roots = False
        self._matcher = Matcher()
        self._nics = NicTraffic()
        self._counted = Counted()
        self._operations = Operations()
        self._coverage = Coverage()
        self._evidence = EvidenceCollector()

    def take(self, record: Known) -> None:
        """Take one record; each series of points in the order of time."""
        self.records += 1
        self._evidence.take(record)
        source = record.source or _NOBODY
        if isinstance(record, HostSample):
            self._world_sizes.add(source.world_size)
            self._counted.add(record, source)
            if record.metric == semconv.NIC_IO.name:
                self._nics.add(record, source)
        else:
            self._take(record, source)

    def _take(self, record: Collective | _Other, source: Source) -> None:
        """One that is no point of a metric."""
        self._world_sizes.add(source.world_size)
        if isinstance(record, _OF_STEPS):
            rank = source.rank if record.rank is None else record.rank
            if isinstance(record, Collective):
                self._collective(record, self._trace(record, rank), rank, source.instance)
                return
            self._world_sizes.add(record.world_size)
            if isinstance(record, RankStep):
                self._step(record, self._trace(record, rank), rank, source.instance)
            elif rank is not None:
                self._signs[rank] = max(self._signs.get(rank, record), record, key=lambda each: each.time)
        elif self._detail is not None and isinstance(record, Verdict):
            self._detail.add_verdict(record)

    def _trace(self, record: Collective | RankStep, rank: int | None) -> int:
        """The number of its trace."""
        if rank is not None:
            self._ranks.add(rank)
        return self._traces.setdefault(record.trace_id, len(self._traces))

    def _collective(self, one: Collective, trace: int, rank: int | None, instance: str) -> None:
        seconds = seconds_of(one)
        self._operations.add(one, rank, instance, seconds)
        self._coverage.spans[instance][trace] += 1
        if seconds is not None and rank is not None and one.sequence is not None and one.group_size:
            where = trace, one.group or "", one.operation
            # Of one on a device the span says when it was enqueued, not when it began.
            start = one.start / 1e9 if one.device_duration is None else math.nan
            self._matcher.add(where, one.sequence, one.group_size, rank, seconds, start=start, of=one)

    def _step(self, step: RankStep, trace: int, rank: int | None, instance: str) -> None:
        if step.step is not None:
            self._step_of[trace] = step.step
        elif step.name in (semconv.SPAN_SETUP, semconv.SPAN_RANK_SETUP):
            self._step_of[trace] = -1
        if step.run_id is not None:
            self._runs.add(step.run_id)
        self._coverage.period(step, instance, trace)
        if self._detail is not None:
            self._detail.add_step(step, trace, rank)
        if step.sampled is False:
            self._operations.add_step(step, rank, instance)
            if rank is not None:
                self._matcher.add_step(trace, rank, step)
        if step.step is not None and step.incomplete is not True:
            is_root = step.name == semconv.SPAN_TRAIN_STEP
            self._has_roots |= is_root
            self._done[trace].add(0 if is_root else rank or 0, step.step, (step.end - step.start) / 1e9)

    def summary(self, folder: str, files: int, size: int, problems: Problems) -> Summary:
        """What it came to; the arguments are passed on."""
        counted, ended = self._counted.collectives(), self._operations.ended()
        missing, sampled_out = self._coverage.of(ended, counted, self._counted.steps())
        apart = {instance for instance in self._coverage.spans if self._coverage.is_apart(instance)}
        operations = self._operations.summaries(counted, apart)
        world_size = self._world_size()
        sizes = self._sizes()
        self._runs_found = self._evidence.runs()
        counting = {rank for rank in self._counted.ranks.values() if rank is not None}
        return Summary(
            ranks=tuple(sorted(self._ranks)),
            silent_ranks=tuple(sorted(counting - self._ranks - self._signs.keys())),
            alive=tuple(_alive(rank, self._signs[rank]) for rank in sorted(self._signs.keys() - self._ranks)),
            world_size=world_size,
            runs=tuple(sorted(self._runs)),
            steps=self._steps(),
            apart=find_apart(of.numbers() for of in self._done.values()),
            operations=operations,
            waiting=self._matcher.measure(self._step_of, self._longest(), sizes) if ended or sampled_out else None,
            nics=self._nics.totals(),
            diagnoses=diagnoses(self._runs_found),
            losses=Losses(
                dropped=self._counted.dropped(),
                missing_spans=missing,
                sampled_out=sampled_out,
                truncated_lines=problems.truncated,
                corrupt_lines=problems.corrupt,
                bad_records=problems.records,
                skipped_files=problems.files,
            ),
            folder=folder,
            files=files,
            size=size,
        )

    def details(self, summary: Summary) -> Details:
        """Of the run with the most steps of ranks; after ``summary``."""
        if self._detail is None or not self._runs_found:
            return Details()
        run = max(self._runs_found, key=lambda each: sum(map(len, self._runs_found[each].steps.values())))
        finding = next(
            (each.findings[0] for each in summary.diagnoses if each.run_id == run and each.findings), None
        )
        matching = Matching(
            self._matcher,
            self._sizes(),
            {number: self._traces[trace] for number, trace in self._evidence.traces[run].items()},
            self._step_of,
            {each.rank: each.caused for each in summary.waiting.ranks} if summary.waiting else {},
        )
        return self._detail.details(matching, run, self._runs_found[run], finding)

    def _world_size(self) -> int | None:
        return max(filter(None, self._world_sizes), default=None)

    def _sizes(self) -> dict[str, int]:
        """Of groups."""
        return {_DEFAULT_GROUP: self._world_size() or 0, **self._operations.group_sizes()}

    def _steps(self) -> StepSummary | None:
        counted = self._coverage.steps(self._counted.steps())
        of_all = {trace: of.seconds() for trace, of in self._done.items()}
        times = {trace: [ranks[0]] for trace, ranks in of_all.items() if 0 in ranks}
        times = times or {trace: [*ranks.values()] for trace, ranks in of_all.items()}
        if not times:
            return None if counted is None else StepSummary(counted, 0, None, None, None, None)
        ordered = sorted(seconds for of in times.values() for seconds in of)
        return StepSummary(
            max(len(times), counted or 0),
            len(times.keys() & self._coverage.traced()),
            self._coverage.numbered(),
            semconv.SPAN_TRAIN_STEP if self._has_roots else semconv.SPAN_RANK_STEP,
            percentile(ordered, 0.5),
            percentile(ordered, 0.99),
            len(times),
        )

    def _longest(self) -> dict[int, float]:
        """Seconds of each step on the rank that took longest."""
        return {trace: max(of.seconds().values()) for trace, of in self._done.items()}


def _alive(rank: int, sign: Heartbeat | InFlight) -> Alive:
    step, in_flight = (sign.step, sign.in_flight) if isinstance(sign, Heartbeat) else (None, (sign,))
    if not in_flight:
        return Alive(rank, step, None, None, None)
    return Alive(rank, step, in_flight[0].operation, in_flight[0].group, in_flight[0].age)


_DEFAULT_GROUP = "0"
"""torch's name for the group of all ranks."""
