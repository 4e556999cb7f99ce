"""Which steps are slow, the same ones on all ranks where one of them can tell the others.

A step is slow if it takes more than 1.2 times the running median. The ranks of a job take nearly the same time for
a step, but not the same, so near the limit each would choose steps of its own. Where the ranks tell one another
how they fare (``live``), the one that leads says which of its own steps were slow, and the others go by that.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from typing import Final, NamedTuple

from otel_netmon import threads

SLOW: Final = 1.2
"""Times the running median."""
MUCH: Final = 2.0
"""The same for a step that is called slow also where those that are less slow are too many."""
NEAR: Final = 1.1
"""The same for a step that others may find slow."""
WINDOW: Final = 64
"""Steps that the median is of."""
_LEAST: Final = 8
"""Steps before that are needed to call one slow."""
_SHARE: Final = 0.05
"""Of the steps that may be called slow in the long run by each of the two limits, and ..."""
_BURST: Final = 8
"""... in a row: a job that got slower for good is slow until the median follows."""
MOST: Final = 16
"""Steps that are told to the others, the last ones."""
_APART: Final = 2
"""Steps by which ranks may count apart, where one did a step more or less than others."""


class Judged(NamedTuple):
    """A rank's word: the number of its last step that it has judged (-1: none), and the last slow ones, by their
    ``tie``, see ``identity.tie_of``."""

    last: int = -1
    slow: tuple[int, ...] = ()


class SlowRule:
    """The rule for one rank's steps, in their order. Used by one thread."""

    def __init__(self, *, is_near: bool = False) -> None:
        """``is_near``: that of steps that others may find slow, of which it is asked for a few seconds only, and
        so without a limit to how many."""
        share = 1.0 if is_near else _SHARE
        self._last: deque[float] = deque(maxlen=WINDOW)
        self._limits = [(MUCH, _Some(share)), (NEAR if is_near else SLOW, _Some(share))]

    def takes(self, seconds: float) -> bool:
        """Whether a step that took so long is one; some 5 µs."""
        usual = statistics.median(self._last) if len(self._last) >= _LEAST else math.inf
        self._last.append(seconds)
        is_slow = False
        for limit, some in self._limits:
            is_slow = some.one_more(seconds > limit * usual and not is_slow) or is_slow
        return is_slow


class _Some:
    """Lets some of many pass."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._may = float(_BURST)

    def one_more(self, is_wanted: bool) -> bool:
        passes = is_wanted and self._may >= 1
        self._may = min(self._may + self._share, _BURST) - passes
        return passes


class SlowSteps:
    """One job's. Used by any thread; nothing here waits."""

    def __init__(self) -> None:
        self._lock = threads.Lock()
        self._rule, self._near_rule = SlowRule(), SlowRule(is_near=True)
        self._own: deque[int] = deque(maxlen=4 * MOST)
        self._near: deque[int] = deque(maxlen=4 * MOST)
        self._heard: deque[int] = deque(maxlen=4 * MOST)
        self._last = self._heard_last = -1
        self._leads = False
        self._is_shared: bool | None = None
        """Not any more, or (``None``) never."""

    def closed(self, number: int, tie: int, seconds: float) -> None:
        """A step of this rank's ended, the next one."""
        with self._lock:
            self._last = number
            if self._rule.takes(seconds):
                self._own.append(tie)
            if self._near_rule.takes(seconds):
                self._near.append(tie)

    def verdict(self, number: int, tie: int) -> bool | None:
        """Whether the step is slow; ``None``: whoever leads has not said it yet."""
        with self._lock:
            if self._leads or self._is_shared is None:
                return tie in self._own
            if tie in self._heard or self._heard_last >= number + _APART:
                return tie in self._heard
            return None if self._is_shared else tie in self._near

    def without_a_word(self, tie: int) -> bool:
        """The same where the leader will not say it any more: also of steps that only it may have found slow, so
        that what is whole there is whole everywhere."""
        with self._lock:
            return tie in self._near

    def share(self, is_shared: bool) -> None:
        """Whether the ranks tell one another anything from now on."""
        with self._lock:
            self._is_shared = is_shared

    def lead(self) -> Judged:
        """This rank leads: what it has to tell the others."""
        with self._lock:
            self._leads = True
            return Judged(self._last, tuple(self._own)[-MOST:])

    def hear(self, word: Judged) -> None:
        """Another leads, and says this."""
        with self._lock:
            self._leads = False
            self._heard_last = word.last
            self._heard.extend(tie for tie in word.slow if tie not in self._heard)
