"""What one process wrote, or others said of it, until it is known of which run and rank it is."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Final

from otel_netmon.analysis.samples import Samples
from otel_netmon.diagnosis.evidence import CallSeen, Exit
from otel_netmon.diagnosis.steps import StepRows
from otel_netmon.diagnosis.traffic import Traffic
from otel_netmon.endings import LastCalls
from otel_netmon.records import HostTraffic

_KEPT: Final = 256
"""Calls of a group that are kept of each rank; the older half goes when there are more."""


@dataclass
class Process:
    """What one process wrote, until it is known of which run and rank it is."""

    host: str | None = None
    pid: int | None = None
    rank: int | None = None
    run: str | None = None
    steps: StepRows = field(default_factory=StepRows)
    unfinished: dict[int, str] = field(default_factory=dict)
    """By place in ``steps``, the span of one of which the spans below it may tell more."""
    below: dict[str, list[tuple[int, int, bool]]] = field(default_factory=lambda: defaultdict(list))
    """By the span above: start and end of each collective, and whether it is asynchronous."""
    traffic: Traffic = field(default_factory=Traffic)
    backed_off: dict[int | str, int] = field(default_factory=dict)
    calls: dict[str, dict[int, CallSeen]] = field(default_factory=lambda: defaultdict(dict))
    heads: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    """By group, the last number of which a step says that it ended."""
    hanging: dict[tuple[str, int], CallSeen] = field(default_factory=dict)
    """By group and number, what was in flight when that was said last."""
    nics: list[HostTraffic] = field(default_factory=list)
    samples: Samples = field(default_factory=Samples)
    last_sign: int = 0
    said_end: bool = False
    open_since: int | None = None
    exit: Exit | None = None


def add_call(process: Process, group: str, sequence: int, call: CallSeen) -> None:
    """What a process did under a number of a group; one that is known to have ended stays so."""
    calls = process.calls[group]
    known = calls.get(sequence)
    if known is None or known.end is None:
        calls[sequence] = call
        if len(calls) > _KEPT:
            for old in sorted(calls)[: _KEPT // 2]:
                del calls[old]


def add_last_calls(process: Process, last: LastCalls) -> None:
    """What it was at when it ended, by what it left behind."""
    process.run = last.run_id or process.run
    process.last_sign = max(process.last_sign, last.time)
    for call in last.calls:
        if call.sequence is None or (call.duration is None and call.sequence <= process.ended.get(call.group, -1)):
            continue  # it has ended, and its span is not here
        start = last.time - call.age * 1000
        end = None if call.duration is None else start + call.duration * 1000
        add_call(process, call.group, call.sequence, CallSeen(call.operation, call.size, start, end, call.error))
    if last.step_age is not None:
        process.open_since = last.time - int(last.step_age * 1e9)
