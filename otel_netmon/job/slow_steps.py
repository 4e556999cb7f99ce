"""Which steps are slow, the same ones on all ranks where one of them can tell the others.

A step is slow if it takes more than 1.2 times the running median. The ranks of a job take nearly the same time for
a step, but not the same, so near the limit each would choose steps of its own. Where the ranks tell one another
how they fare (``live``), the one that leads says which of its own steps were slow, and the others go by that.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable
from typing import Final

from otel_netmon import threads

SLOW: Final = 1.2
"""Times the running median."""
WINDOW: Final = 64
"""Steps that the median is of."""
_LEAST: Final = 8
"""Steps before that are needed to call one slow."""
_SHARE: Final = 0.05
"""Of the steps that may be called slow in the long run, and ..."""
_BURST: Final = 8
"""... in a row: a job that got slower for good is slow until the median follows."""
MOST: Final = 16
"""Steps that are told to the others, the last ones."""
WORDS: Final = 2
"""Times that the leader has to speak after a step, before what it does not call slow is not: the first word may be
older than the step."""


class SlowRule:
    """The rule for one rank's steps, in their order. Used by one thread."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=WINDOW)
        self._may = float(_BURST)

    def takes(self, seconds: float) -> bool:
        """Whether a step that took so long is one; some 3 µs."""
        known = len(self._last) >= _LEAST
        is_slow = known and seconds > SLOW * statistics.median(self._last) and self._may >= 1
        self._last.append(seconds)
        self._may = min(self._may + _SHARE, _BURST) - is_slow
        return is_slow


class SlowSteps:
    """One job's. Steps go by their ``tie``, see ``identity.tie_of``. Used by any thread; nothing here waits."""

    def __init__(self) -> None:
        self._lock = threads.Lock()
        self._rule = SlowRule()
        self._own: deque[int] = deque(maxlen=MOST)
        self._heard: deque[int] = deque(maxlen=4 * MOST)
        self._words = 0
        self._is_shared = self._leads = False

    def closed(self, tie: int, seconds: float) -> int:
        """A step of this rank's ended, the next one; what to give as ``since`` when asking for it."""
        with self._lock:
            if self._rule.takes(seconds):
                self._own.append(tie)
            return self._words

    def verdict(self, tie: int, since: int) -> bool | None:
        """Whether the step is slow; ``None``: whoever leads has not said it yet."""
        with self._lock:
            if self._leads or not self._is_shared:
                return tie in self._own
            if tie in self._heard:
                return True
            return False if self._words >= since + WORDS else None

    def own_verdict(self, tie: int) -> bool:
        """The same by this rank alone, where the leader is silent."""
        with self._lock:
            return tie in self._own

    def share(self, is_shared: bool) -> None:
        """Whether the ranks tell one another anything from now on."""
        with self._lock:
            self._is_shared = is_shared

    def lead(self) -> tuple[int, ...]:
        """This rank leads: what it has to tell the others."""
        with self._lock:
            self._leads = True
            return tuple(self._own)

    def hear(self, ties: Iterable[int]) -> None:
        """Another leads, and says that these are slow."""
        with self._lock:
            self._leads = False
            self._words += 1
            self._heard.extend(tie for tie in ties if tie not in self._heard)
