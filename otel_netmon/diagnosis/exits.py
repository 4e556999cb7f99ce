"""Which end of a process was its own, and not what others did to it after something had gone wrong elsewhere.

When one rank fails, the others fail in their next collective, and their launcher ends the rest: by SIGTERM, and by
SIGKILL if that does not help. So the end that tells something is the first on its host, by that host's clock.
"""

from __future__ import annotations

import signal
from typing import Final

from otel_netmon.diagnosis import thresholds as limit
from otel_netmon.diagnosis.evidence import Evidence, Exit

_LAUNCHERS: Final = signal.SIGTERM
_ABORTED: Final = signal.SIGABRT
"""What a library ends a process with that it finds in a state that cannot be: the fault may be another rank's."""


def own_end(evidence: Evidence, rank: int) -> Exit | None:
    """How a rank's process ended, where nothing speaks for that being another's doing; ``None`` elsewhere, and
    where it is not known."""
    how = evidence.exits.get(rank)
    if how is None or how.signal == _LAUNCHERS or (how.code is None and how.signal is None):
        return None
    return None if _came_later(evidence, rank, how) or was_still(evidence, rank) is not None else how


def is_killed(how: Exit) -> bool:
    """Whether somebody else ended it, or the system did: that explains itself."""
    return how.signal is not None and how.signal != _ABORTED


def described(how: Exit) -> str:
    """In words, as what a rank did."""
    if how.signal is None:
        return f"ended with exit code {how.code}"
    name = signal.Signals(how.signal).name if how.signal in {*signal.Signals} else ""
    return f"was ended by signal {how.signal}" + (f" ({name})" if name else "")


def _came_later(evidence: Evidence, rank: int, how: Exit) -> bool:
    """Whether a rank of its host had ended badly before."""
    host = evidence.hosts.get(rank)
    others = (end for other, end in evidence.exits.items() if evidence.hosts.get(other) == host and other != rank)
    return how.time is not None and any(
        end.time is not None and end.time < how.time and bool(end.signal or end.code) for end in others
    )


def was_still(evidence: Evidence, rank: int) -> float | None:
    """Seconds from its last sign of life until its process ended, if that is long: it was stopped, and its
    launcher lost patience. ``None`` elsewhere, and where it is not known."""
    how, last = evidence.exits.get(rank), evidence.last_sign.get(rank)
    if how is None or how.time is None or not last:
        return None
    seconds = (how.time - last) / 1e9
    return seconds if seconds > limit.SILENT_SECONDS else None
