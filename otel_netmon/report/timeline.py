"""A run drawn as rows of slices: hosts, their ranks, and on each rank's row its steps, in them its collectives,
and in those the waiting for the last rank and the transfer.

Collectives that overlap one another, or reach beyond their step, are on lanes below the rank's row. From each
slice of waiting a flow leads to where the rank that came last entered. Rows of different hosts are laid over one
another by ``analysis.clocks``, which says how, and how exact that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from otel_netmon import semconv
from otel_netmon.analysis.clocks import Clocks
from otel_netmon.analysis.results import Diagnosis
from otel_netmon.analysis.timeline import DrawnCall, Key, Met, Part, StepOfAll
from otel_netmon.diagnosis.finding import Finding
from otel_netmon.records import RankStep, Value
from otel_netmon.report.perfetto import TraceFile

_HELD: Final = 32
"""Steps that wait at the beginning until the clocks of all hosts are known."""
_NAMES: Final = {semconv.SPAN_RANK_SETUP: "setup", semconv.SPAN_RANK_WINDOW: "window"}
_SHOWN: Final = (
    *("collective_time", "wait_time", "data_time", "gc_time", "cpu_time", "run_queue_time", "throttled_time"),
    "first_collective",
)
"""Seconds of a step that its slice tells, in milliseconds."""


@dataclass
class _Row:
    track: int
    rank: int
    host: str
    lanes: list[int] = field(default_factory=list)
    """Tracks, and ..."""
    ends: list[int] = field(default_factory=list)
    """... until when they are taken, by the host's clock."""
    until: int = 0
    """The same of the row itself."""


class Drawing:
    """Takes steps in their order; ``findings`` and ``finish`` at the end. Memory: some 100 bytes a step."""

    def __init__(
        self,
        file: TraceFile,
        wants_step: Callable[[int | None], bool] = lambda _: True,
        wants_rank: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self._file = file
        self._wants_step, self._wants_rank = wants_step, wants_rank
        self.clocks = Clocks()
        self._held: list[StepOfAll] | None = []
        self._hosts: dict[str, int] = {}
        self._rows: dict[str, _Row] = {}
        self._same = 0
        self._starts: dict[tuple[str | None, int], int] = {}
        """By run and step, when the first rank began it."""
        self.steps = 0
        """That were drawn."""
        self.waits = 0
        """Slices of waiting."""

    @property
    def ranks(self) -> int:
        """Rows."""
        return len(self._rows)

    def draw(self, steps: Iterable[StepOfAll]) -> None:
        """Draw these, and learn the clocks of those that nobody asked for."""
        for step in steps:
            self.clocks.learn(step)
            if not self._wants_step(step.number):
                continue
            if self._held is None:
                self._step(step)
                continue
            self._held.append(step)
            hosts = {part.source.host or "" for part in step.parts.values()}
            if len(self._held) >= _HELD or hosts == self.clocks.known() & hosts:
                self._release()

    def finish(self) -> None:
        """Draw what waits."""
        self._release()

    def _release(self) -> None:
        held, self._held = self._held or [], None
        for step in held:
            self._step(step)

    def _step(self, step: StepOfAll) -> None:
        parts = {instance: part for instance, part in step.parts.items() if self._wants_rank(part.rank)}
        self.steps += bool(parts)
        colours: dict[Key, int] = {}
        flows = self._flows(step, parts)
        for instance, part in parts.items():
            row = self._row(instance, part)
            until = row.until
            period = part.period
            if period is not None:
                self._begin_period(row, period)
                until = period.start
            for call in part.calls:
                inside = period is None or (period.start <= call.start and call.end <= period.end)
                if inside and call.start >= until:
                    track, until = row.track, call.end
                else:
                    track = self._lane(row, call)
                key = call.group, call.operation, -1 if call.sequence is None else call.sequence
                met = step.met.get(key)
                if met is not None and key not in colours:
                    self._same += 1
                    colours[key] = self._same
                ends = flows.get((key, instance), ())
                waits_for = None if met is None or met.last == instance else step.parts[met.last].rank
                self._call(row, track, call, met=met, waits_for=waits_for, flows=ends, same=colours.get(key, 0))
            if period is not None:
                self._file.end(row.track, self._at(row, period.end))
                until = max(until, period.end)
            row.until = max(row.until, until)

    def _begin_period(self, row: _Row, period: RankStep) -> None:
        start = self._at(row, period.start)
        about: dict[str, Value | None] = {
            f"{name}_ms": _ms(getattr(period, name)) for name in _SHOWN if getattr(period, name) is not None
        }
        about["collectives"], about["bytes"] = period.collective_count, period.collective_size
        name = _NAMES.get(period.name, "step")
        if period.step is not None:
            name = f"step {period.step}"
            place = period.run_id, period.step
            self._starts[place] = min(start, self._starts.get(place, start))
        self._file.begin(row.track, start, f"{name}, did not end" if period.incomplete else name, about)

    def _call(
        self,
        row: _Row,
        track: int,
        call: DrawnCall,
        *,
        met: Met | None,
        waits_for: int | None,
        flows: tuple[int, ...],
        same: int,
    ) -> None:
        """A collective, and in it waiting and transfer where both are known; ``waits_for`` is a rank."""
        begin, end = self._at(row, call.start), self._at(row, call.end)
        waited = None if met is None or call.duration is None else call.duration - met.shortest
        about: dict[str, Value | None] = {
            "group": call.group,
            "sequence": call.sequence,
            "bytes": call.size,
            "busbw_MB_per_s": None if call.busbw is None else round(call.busbw / 1e6, 3),
            "waited_ms": _ms(waited),
            "device_ms": _ms(call.duration) if call.duration is not None and not call.on_host else None,
            "what": call.note,
        }
        came_last = met is not None and waits_for is None
        self._file.begin(track, begin, call.operation, about, flows=flows if came_last else (), same=same)
        if met is not None and call.on_host:
            middle = self._at(row, _middle(call, met))
            if middle > begin:
                self.waits += waits_for is not None
                name = f"waiting for rank {waits_for}"
                self._file.begin(track, begin, name, flows=() if came_last else flows)
                self._file.end(track, middle)
            self._file.begin(track, middle, "transfer")
            self._file.end(track, end)
        self._file.end(track, end)

    def _flows(self, step: StepOfAll, parts: dict[str, Part]) -> dict[tuple[Key, str], tuple[int, ...]]:
        """By collective and process: one for each rank that waited, at both of its ends."""
        found: dict[tuple[Key, str], tuple[int, ...]] = {}
        for instance, part in parts.items():
            for call in part.calls:
                if call.sequence is None or not call.on_host:
                    continue
                key = call.group, call.operation, call.sequence
                met = step.met.get(key)
                if met is None or met.last == instance or met.last not in parts:
                    continue
                if self._placed(part, _middle(call, met)) > self._placed(part, call.start):
                    flow = self._file.new_flow()
                    found[key, instance] = (flow,)
                    found[key, met.last] = (*found.get((key, met.last), ()), flow)
        return found

    def _placed(self, part: Part, time: int) -> int:
        return self.clocks.place(part.source.host or "", time)

    def _at(self, row: _Row, time: int) -> int:
        return self.clocks.place(row.host, time)

    def _row(self, instance: str, part: Part) -> _Row:
        row = self._rows.get(instance)
        if row is None:
            host = part.source.host or ""
            if host not in self._hosts:
                name = f"host {host}" if host else "host not known"
                self._hosts[host] = self._file.track(name, order=1 + len(self._hosts))
            again = any(one.rank == part.rank and one.host == host for one in self._rows.values())
            name = f"rank {part.rank}" + (f" (process {part.source.pid or instance})" if again else "")
            track = self._file.track(name, self._hosts[host], part.rank)
            row = self._rows[instance] = _Row(track, part.rank, host)
        return row

    def _lane(self, row: _Row, call: DrawnCall) -> int:
        """A track below the row on which nothing else is at that time."""
        for place, end in enumerate(row.ends):
            if end <= call.start:
                row.ends[place] = call.end
                return row.lanes[place]
        order = len(row.lanes)
        row.lanes.append(self._file.track("overlapping, or beyond its step", row.track, order))
        row.ends.append(call.end)
        return row.lanes[order]

    def findings(self, diagnoses: Iterable[Diagnosis]) -> int:
        """Instants for the findings that have a step which was drawn; how many there are."""
        track, count = None, 0
        for diagnosis in diagnoses:
            for finding in diagnosis.findings:
                at = self._first_start(diagnosis.run_id, finding)
                if at is not None and finding.accuses:
                    track = track or self._file.track("findings", self._file.track("diagnosis"))
                    self._file.instant(track, at, finding.sentence, _about(finding))
                    count += 1
        return count

    def _first_start(self, run: str | None, finding: Finding) -> int | None:
        first, last = finding.first_step, finding.last_step
        if first is None:
            return None
        steps = range(first, (first if last is None else last) + 1)
        return min((at for (of, step), at in self._starts.items() if of == run and step in steps), default=None)


def _middle(call: DrawnCall, met: Met) -> int:
    """When the last rank came, by the clock of this one."""
    return min(call.end, max(call.start, call.end - round(met.shortest * 1e9)))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1e3, 6)


def _about(finding: Finding) -> dict[str, Value | None]:
    return {
        "kind": finding.kind.value,
        "cause": finding.cause.value if finding.cause else None,
        "first_step": finding.first_step,
        "last_step": finding.last_step,
        "lost_ms": _ms(finding.lost),
        "confidence": finding.confidence.value,
        "not_excluded": "; ".join(finding.not_excluded) or None,
    }
