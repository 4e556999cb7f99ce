"""Telemetry files to the evidence that a diagnosis rests on, one for each run in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from otel_netmon import semconv
from otel_netmon.analysis.processes import Process, add_call, add_last_calls
from otel_netmon.analysis.results import Diagnosis
from otel_netmon.covered import covered
from otel_netmon.diagnosis.diagnose import diagnose
from otel_netmon.diagnosis.evidence import CallSeen, Evidence, Exit
from otel_netmon.diagnosis.steps import StepSample, StepTable, sample_of
from otel_netmon.diagnosis.thresholds import BACKOFF
from otel_netmon.diagnosis.traffic import Traffic
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
from otel_netmon.store.reader import Known

_ON_RANK: Final = frozenset(semconv.EVENT_OF_PERIOD)
_OfTraining = Collective | RankStep | PeerTraffic | HostTraffic | InFlight | Heartbeat
_TOLD: Final = (RankExit, LastCalls)
_Own = _OfTraining | HostSample
"""What a process says of itself."""
_MOST_RANKS: Final = 1 << 20


class EvidenceCollector:
    """Takes records in any order of files; each process's own in the order of time. Memory: some 250 bytes for
    each rank's step, and some 150 for each of its collectives until its step comes."""

    def __init__(self) -> None:
        self._processes: dict[str, Process] = defaultdict(Process)
        self._world_size: dict[str | None, int] = {}
        self._group_sizes: dict[str, int] = {}
        self._traces: dict[str, int] = {}
        self._told: list[RankExit | LastCalls] = []
        """What launchers said of the ends of ranks."""
        self._sampled: tuple[Source | None, Process] = None, Process()
        """The last process that a point of a metric was of: mostly it is that of the next one too."""
        self.traces: dict[str | None, dict[int, str]] = {}
        """By run, the trace of each step in its evidence; after ``runs``."""

    def take(self, record: Known) -> None:
        """Take one record."""
        if isinstance(record, HostSample):
            source, process = self._sampled
            if record.source is not source or source is None:
                process = self._process(record, record.source or Source())
                self._sampled = record.source, process
            process.last_sign = max(process.last_sign, record.time)
            process.samples.add(record)
        elif isinstance(record, _TOLD):
            self._told.append(record)
        elif not isinstance(record, Verdict):  # what was made of evidence is none
            self._take(record)

    def _process(self, record: _Own, source: Source) -> Process:
        """That which a record is of, with what the record says of it."""
        process = self._processes[source.instance]
        process.host = source.host or process.host
        process.pid = source.pid or process.pid
        rank = source.rank if isinstance(record, HostSample) or record.rank is None else record.rank
        if rank is not None and 0 <= rank < _MOST_RANKS:
            process.rank = rank
        if source.world_size is not None and source.rank is not None:
            self._world_size[process.run] = source.world_size
        return process

    def _take(self, record: _OfTraining) -> None:
        process = self._process(record, record.source or Source())
        if isinstance(record, Collective):
            if record.group_size is not None:
                self._group_sizes[record.group or ""] = record.group_size
            _collective(process, record)
        elif isinstance(record, RankStep):
            _step(process, record, self._traces.setdefault(record.trace_id, len(self._traces)))
            if record.world_size is not None:
                self._world_size[process.run] = record.world_size
        elif isinstance(record, PeerTraffic):
            _traffic(process, record)
        elif isinstance(record, HostTraffic):
            process.nics.append(record)
        elif isinstance(record, InFlight):
            _in_flight(process, (record,), record.time)
        else:
            _heartbeat(process, record)

    def runs(self) -> dict[str | None, Evidence]:
        """The evidence of each run; a process that belongs to none (a launcher, say) counts for all of them."""
        self._hear()
        ids: set[str | None] = {process.run for process in self._processes.values() if process.run is not None}
        return {run: self._evidence(run, len(ids) == 1) for run in ids or {None}}

    def _hear(self) -> None:
        """Give to each process what its launcher said of its end; that may be all that is known of it."""
        by_pid = {(process.host, process.pid): process for process in self._processes.values() if process.pid}
        hosts: dict[int | None, set[str | None]] = defaultdict(set)
        for each in self._processes.values():
            hosts[each.rank].add(each.host)
        told, self._told = self._told, []
        # Last calls first: they say of which run and rank a process was that nothing else is known of.
        for record in sorted(told, key=lambda said: isinstance(said, RankExit)):
            host = record.source.host if record.source is not None else None
            place = host, record.pid
            if place not in by_pid:
                if record.rank is not None and host not in hosts.get(record.rank, {host}):
                    continue  # of another job: the rank of that number is elsewhere
                by_pid[place] = self._processes[f"{host}:{record.pid}"]
                by_pid[place].host, by_pid[place].pid = place
            process = by_pid[place]
            if process.rank is None and record.rank is not None and record.rank < _MOST_RANKS:
                process.rank = record.rank
            if record.world_size is not None:
                run = record.run_id if isinstance(record, LastCalls) else process.run
                self._world_size[run] = record.world_size
            if isinstance(record, LastCalls):
                add_last_calls(process, record)
            else:
                process.exit = Exit(record.code, record.signal, record.time)

    def _evidence(self, run: str | None, is_only: bool) -> Evidence:
        sizes = [size for of, size in self._world_size.items() if of in (run, None)]
        largest = max(sizes, default=None)
        world_size = None if largest is None else min(largest, _MOST_RANKS)  # whatever a damaged file says
        evidence = Evidence(world_size, group_sizes=self._group_sizes)
        taken: list[Process] = []
        for instance, process in self._processes.items():
            is_host = process.rank is None
            if process.run != run and not (process.run is None and (is_only or is_host)):
                continue
            for metric, about, readings in process.samples.counters():
                evidence.counters.setdefault(process.host or "", {})[metric, instance, about] = readings
            taken.append(process)
            if process.rank is not None:
                _join(evidence, process, process.rank)
        for traffic in evidence.traffic.values():
            traffic.put_in_order()
        for process in taken:
            for host, probes in process.samples.floors(evidence.hosts):
                pair = process.host or "", host
                evidence.floors[pair] = sorted((*evidence.floors.get(pair, ()), *probes))
        names = [*self._traces]
        self.traces[run] = {number: names[trace] for number, trace in _add_steps(evidence, taken).items()}
        return evidence


def diagnoses(runs: Mapping[str | None, Evidence]) -> tuple[Diagnosis, ...]:
    """Who is to blame, of each run in which there is a rank."""
    return tuple(
        Diagnosis(run, len(evidence.hosts), len(evidence.common_steps(0)), diagnose(evidence))
        for run, evidence in runs.items()
        if evidence.hosts
    )


def collect(records: Iterable[Known]) -> dict[str | None, Evidence]:
    """The evidence in ``records``, by run."""
    collector = EvidenceCollector()
    for record in records:
        collector.take(record)
    return collector.runs()


def _collective(process: Process, one: Collective) -> None:
    process.last_sign = max(process.last_sign, one.end)
    is_open = one.state == semconv.STATE_IN_FLIGHT
    process.said_end |= is_open
    if one.parent_id is not None and not is_open:
        process.below[one.parent_id].append((one.start, one.end, bool(one.is_async)))
    if one.group is not None and one.sequence is not None:
        end = None if is_open else one.end
        call = CallSeen(one.operation, one.size, one.start, end, one.error, one.error_message)
        add_call(process, one.group, one.sequence, call)


def _traffic(process: Process, each: PeerTraffic) -> None:
    process.traffic.add(each)
    process.samples.met(each.address, each.peer, each.host)
    if each.backoff >= BACKOFF:
        process.backed_off[each.peer] = max(each.at, process.backed_off.get(each.peer, 0))


def _step(process: Process, step: RankStep, trace: int) -> None:
    process.last_sign = max(process.last_sign, step.end)
    if step.name not in _ON_RANK:
        return
    process.run = step.run_id or process.run
    for use in step.groups:
        if use.last_sequence is not None:
            process.heads[use.group] = max(use.last_sequence, process.heads.get(use.group, -1))
            if not step.incomplete:
                process.ended[use.group] = max(use.last_sequence, process.ended.get(use.group, -1))
    if step.step is None:
        return
    if step.incomplete:
        process.said_end = True
        process.open_since = step.start
    else:
        sample = _completed(sample_of(step), process.below.pop(step.span_id, ()))
        if sample.issued is None or sample.in_collectives is None:
            process.unfinished[len(process.steps)] = step.span_id
        process.steps.add(trace, step.step, sample)


def _in_flight(process: Process, some: Iterable[InFlight], time: int) -> None:
    process.last_sign = max(process.last_sign, time)
    for each in some:
        if each.sequence is not None:
            start = time - int(each.age * 1e9)
            process.hanging[each.group, each.sequence] = CallSeen(each.operation, each.size, start, None)


def _heartbeat(process: Process, beat: Heartbeat) -> None:
    process.run = beat.run_id or process.run
    process.hanging.clear()
    _in_flight(process, beat.in_flight, beat.time)
    for each in beat.sequences:
        process.heads[each.group] = max(each.sequence, process.heads.get(each.group, -1))
    if beat.step_age is not None:
        process.open_since = beat.time - int(beat.step_age * 1e9)


def _join(evidence: Evidence, process: Process, rank: int) -> None:
    """A rank may have been several processes, one after the other, where a launcher started it again."""
    evidence.hosts[rank] = process.host or evidence.hosts.get(rank, "")
    for (group, sequence), call in process.hanging.items():
        if sequence > process.ended.get(group, -1):  # else it has ended since, and its span is not here
            add_call(process, group, sequence, call)
    for group, calls in process.calls.items():
        evidence.calls.setdefault(group, {}).setdefault(rank, {}).update(calls)
    for group, head in process.heads.items():
        evidence.heads.setdefault(group, {})[rank] = head
    evidence.nics[rank] = sorted((*evidence.nics.get(rank, ()), *process.nics), key=lambda each: each.at)
    evidence.traffic.setdefault(rank, Traffic()).merge(process.traffic)
    backed_off = evidence.backed_off.setdefault(rank, {})
    for peer, time in (*process.backed_off.items(), *process.samples.backed_off()):
        backed_off[peer] = max(time, backed_off.get(peer, 0))
    evidence.last_sign[rank] = max(process.last_sign, evidence.last_sign.get(rank, 0))
    if process.said_end:
        evidence.said_end.add(rank)
    if process.exit is not None:
        evidence.exits[rank] = process.exit
    if process.open_since is not None:
        evidence.open_since[rank] = process.open_since


def _completed(sample: StepSample, below: Sequence[tuple[int, int, bool]]) -> StepSample:
    """With what only the spans of its collectives say."""
    if not below:
        return sample
    if sample.issued is None:
        sample = sample._replace(issued=_issued(sample.start, below))
    if sample.in_collectives is None:
        sample = sample._replace(in_collectives=covered((begin, end) for begin, end, _ in below) / 1e9)
    return sample


def _issued(start: int, below: Sequence[tuple[int, int, bool]]) -> float | None:
    """Seconds until the last asynchronous collective was issued, without blocking calls before."""
    last = max((begin for begin, _, is_async in below if is_async), default=None)
    if last is None:
        return None
    blocked = covered(((begin, end) for begin, end, is_async in below if not is_async), last)
    return (last - start - blocked) / 1e9


def _add_steps(evidence: Evidence, processes: Sequence[Process]) -> dict[int, int]:
    """The trace of each number. Steps meet by their trace; its number is what its first rank says, for ranks may
    count apart, and of several traces of one number that of most ranks counts."""
    ranked = [(process.rank, process) for process in processes if process.rank is not None]
    ranks: dict[int, int] = defaultdict(int)
    first: dict[int, tuple[int, int]] = {}
    last: dict[int, int] = defaultdict(int)
    for rank, process in ranked:
        for trace, number in dict(process.steps.numbered()).items():
            ranks[trace] += 1
            last[trace] = max(rank, last[trace])
            if trace not in first or rank <= first[trace][0]:
                first[trace] = rank, number
    traces = {first[trace][1]: trace for trace in sorted(ranks, key=ranks.__getitem__)}
    tables = {trace: StepTable(1 + last[trace]) for trace in traces.values()}
    evidence.steps = {number: tables[trace] for number, trace in traces.items()}
    for rank, process in ranked:
        for place, (trace, _, sample) in enumerate(process.steps):
            if trace in tables:
                below = process.below.get(process.unfinished.get(place, ""), ())
                tables[trace].add(rank, _completed(sample, below))
    return traces
