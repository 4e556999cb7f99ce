"""Which findings are told: those that two looks agree on, once, and when they are gone."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from otel_netmon.diagnosis.finding import Finding, Kind

LOOKS: Final = 2
LOOKS_PAUSES: Final = 3
"""That agree before a finding is told (pauses come now and then, and one look more shows another), and ..."""
GONE: Final = 5
"""... that do not have it before it is said to be over."""
_HANDED_OVER: Final = 2 * GONE
"""Looks for which what another has told is not told again: the first ones are without some ranks' steps."""
_SILENT: Final = (Kind.NOTHING, Kind.INSUFFICIENT)
ONCE: Final = (Kind.PAUSED, Kind.FLAPPING, Kind.STOPPED, Kind.FROZEN)
"""Kinds of one step: another step of that kind is another finding."""

Key = tuple[Kind, tuple[int, ...], tuple[str, ...], int | None]


class Change(NamedTuple):
    """Something to tell."""

    finding: Finding
    is_over: bool


def key_of(finding: Finding) -> Key:
    """What makes two findings of two looks the same."""
    return (
        finding.kind,
        finding.ranks,
        finding.hosts,
        finding.first_step if finding.kind in ONCE else None,
    )


def mark_of(key: Key) -> int:
    """The same in all processes, in 32 bits."""
    return zlib.crc32(repr(key).encode())


class Settling:
    """Takes the findings of each look."""

    def __init__(self, told_before: Iterable[int] = ()) -> None:
        """``told_before``: marks of what another has told, and what need not be told again."""
        self._told_before = set(told_before)
        self._looks = 0
        self._seen: dict[Key, int] = {}
        self._missed: dict[Key, int] = {}
        self._told: dict[Key, Finding] = {}

    @property
    def told(self) -> Mapping[Key, Finding]:
        """What was told and is not over, as it was last seen."""
        return self._told

    @property
    def is_pending(self) -> bool:
        """Whether the last look had something that is not told yet."""
        return not self._seen.keys() <= self._told.keys()

    def look(self, findings: Iterable[Finding]) -> list[Change]:
        """What changed by this look."""
        self._looks += 1
        if self._looks > _HANDED_OVER:
            self._told_before.clear()
        now = {key_of(each): each for each in findings if each.kind not in _SILENT}
        self._seen = {key: self._seen.get(key, 0) + 1 for key in now}
        changes = []
        for key, finding in now.items():
            self._missed.pop(key, None)
            needed = LOOKS_PAUSES if finding.kind is Kind.PAUSES else LOOKS
            if key in self._told or mark_of(key) in self._told_before:
                self._told[key] = finding
            elif self._seen[key] >= needed:
                changes.append(Change(finding, is_over=False))
                self._told[key] = finding
        for key in [key for key in self._told if key not in now]:
            self._missed[key] = self._missed.get(key, 0) + 1
            if self._missed[key] >= GONE:
                changes.append(Change(self._told.pop(key), is_over=True))
                del self._missed[key]
        return changes
