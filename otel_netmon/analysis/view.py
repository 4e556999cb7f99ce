"""What is shown of a run that goes on, as plain frozen values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from otel_netmon.analysis.nics import NicTotal
from otel_netmon.analysis.recent import Recent, Step
from otel_netmon.diagnosis.thresholds import HANG_SECONDS
from otel_netmon.records import Heartbeat, InFlight, RankStep

_SHARES: Final = ("collective_time", "data_time", "gc_time", "run_queue_time")


@dataclass(frozen=True)
class RankView:
    """One rank over the window. Shares are of the time of its steps, ``None`` where nothing is known."""

    rank: int
    host: str
    caused: float
    """Seconds that the others waited for it, as in the summary."""
    waited: float | None
    """Of the time of the steps, as in the summary."""
    in_collectives: float | None
    data: float | None
    gc: float | None
    run_queue: float | None
    late: tuple[float, ...]
    """Of each step of the window, ``caused``."""


@dataclass(frozen=True)
class Stalled:
    """A call that does not end; ``age`` in seconds."""

    rank: int
    operation: str
    group: str
    sequence: int | None
    age: float


@dataclass(frozen=True)
class RunView:
    """All of it but the verdict."""

    step: int | None
    first: int | None
    """Step of the window."""
    steps: int
    """In the window."""
    median: float | None
    ranks: tuple[RankView, ...]
    """The worst first."""
    world_size: int | None
    nics: tuple[NicTotal, ...]
    stalled: tuple[Stalled, ...]


def view_of(recent: Recent, ages: Mapping[str, float]) -> RunView:
    """What is known now. ``ages``: by process, seconds since its last sign of life."""
    window = recent.window()
    known = {rank: None for step in window for rank in step.ranks}
    sizes = [each.world_size or 0 for step in window[-1:] for each in step.ranks.values()]
    sizes += [process.source.world_size or 0 for process in recent.processes.values()]
    return RunView(
        recent.highest,
        window[0].number if window else None,
        len(window),
        recent.median(window),
        _ranks(window, sorted({*known, *recent.hosts()}), recent.hosts()),
        max(sizes, default=0) or None,
        recent.nics(),
        tuple(sorted(_stalled(recent, ages), key=lambda one: (-one.age, one.rank))),
    )


def _ranks(window: list[Step], ranks: list[int], hosts: Mapping[int, str]) -> tuple[RankView, ...]:
    caused: dict[int, list[float]] = {rank: [0.0] * len(window) for rank in ranks}
    waited: dict[int, float] = defaultdict(float)
    matched = 0.0
    for place, step in enumerate(window):
        waiting = step.waiting()
        if waiting.matched:
            matched += max((each.end - each.start) / 1e9 for each in step.ranks.values())
        for each in waiting.ranks:
            waited[each.rank] += each.waited
            caused[each.rank][place] = each.caused
    found = []
    for rank in ranks:
        records = [step.ranks[rank] for step in window if rank in step.ranks]
        seconds = sum(each.end - each.start for each in records) / 1e9
        share = waited[rank] / matched if matched and rank in waited else None
        inside, data, gc, run_queue = (_share(records, name, seconds) for name in _SHARES)
        late = tuple(caused[rank])
        found.append(RankView(rank, hosts.get(rank, ""), sum(late), share, inside, data, gc, run_queue, late))
    return tuple(sorted(found, key=lambda one: (-one.caused, one.rank)))


def _share(records: list[RankStep], name: str, seconds: float) -> float | None:
    known = [value for each in records if (value := getattr(each, name)) is not None]
    return sum(known) / seconds if known and seconds > 0 else None


def _stalled(recent: Recent, ages: Mapping[str, float]) -> list[Stalled]:
    found = []
    for instance, process in recent.processes.items():
        sign = process.sign
        if sign is None or process.rank is None or sign.time < process.last_end:
            continue  # a step has ended since
        calls: tuple[InFlight, ...] = sign.in_flight if isinstance(sign, Heartbeat) else (sign,)
        since = max(0.0, (process.last_time - sign.time) / 1e9) + ages.get(instance, 0.0)
        for call in calls:
            age = call.age + since
            if call.age >= HANG_SECONDS:
                found.append(Stalled(process.rank, call.operation, call.group, call.sequence, age))
    return found
