"""The Flight Recorder's dumps of a job that hung, one file for each rank, to the evidence of a diagnosis.

A dump has no clock of when it was made, and often only what had not ended: so nothing is said of how long. Sends
and receives are numbered alike on both ranks in groups of two only.
"""

from __future__ import annotations

import re
from collections import defaultdict
from math import prod
from pathlib import Path
from typing import Final

from otel_netmon.diagnosis.evidence import CallSeen, Evidence
from otel_netmon.flight_recorder import Dump, Entry, FlightRecorderError, load

_NAMED: Final = re.compile(r"(?:.*[^0-9])?([0-9]{1,7})(?:\.pkl|\.pickle)?\Z")
"""torch ends the name with the rank."""
_COMPLETED: Final = "completed"


def dumps_in(folder: Path) -> dict[int, Dump]:
    """By rank. What is no dump is passed over; of two of one rank the one whose name is last counts."""
    found = {}
    for path in sorted(folder.iterdir()):
        named = _NAMED.match(path.name)
        if named is not None and path.is_file() and not path.is_symlink():
            try:
                found[int(named[1])] = load(path)
            except (FlightRecorderError, OSError):
                continue
    return found


def evidence_of(dumps: dict[int, Dump]) -> Evidence:
    """What they say together."""
    ranks = {rank for dump in dumps.values() for members in dump.ranks.values() for rank in members}
    evidence = Evidence(max((*ranks, *dumps), default=-1) + 1)
    labels = _labels(dumps)
    for rank, dump in dumps.items():
        evidence.hosts[rank] = ""
        for name, members in dump.ranks.items():
            evidence.members[labels[name, members]] = frozenset(members)
        for entry in dump.entries:
            members = dump.ranks.get(entry.group, ())
            label = labels.get((entry.group, members), entry.group)
            if entry.is_p2p:
                if len(members) != 2:
                    continue
                label = f"{label} (send and recv)"
                evidence.members[label] = frozenset(members)
            calls = evidence.calls.setdefault(label, {}).setdefault(rank, {})
            calls[entry.sequence] = _call(entry)
    return evidence


def _labels(dumps: dict[int, Dump]) -> dict[tuple[str, tuple[int, ...]], str]:
    """What each group is called: by its name, unless others have it, too."""
    groups: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    for dump in dumps.values():
        for name, members in dump.ranks.items():
            groups[name].add(members)
    return {
        (name, members): name if len(of) == 1 else f"{name} of ranks {', '.join(map(str, members))}"
        for name, of in groups.items()
        for members in of
    }


def _call(entry: Entry) -> CallSeen:
    has_ended = entry.retired or entry.state == _COMPLETED
    sizes = entry.input_sizes or entry.output_sizes
    operation = "send or recv" if entry.is_p2p else entry.operation
    size = None if entry.is_p2p else sum(prod(each) for each in sizes)
    return CallSeen(
        operation, size, entry.created, (entry.discovered_completed or entry.created) if has_ended else None
    )
