"""What happens around the steps: groups, optimizers and DDP are made, and at the end all groups are destroyed.

The last construction ahead of the first step is the end of the setup. After the groups are gone a process may be
killed at any time (Ray does that), so what was captured has to be out by then.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from otel_netmon.guard import guarded
from otel_netmon.patches import Patches


class LifecycleCallbacks(NamedTuple):
    """What is called when. What they raise is logged, and seen by nobody."""

    made: Callable[[], None]
    """After each construction of an optimizer, or of DDP."""
    registered: Callable[[Any], None]
    """With each process group, once torch knows it."""
    going: Callable[[], None]
    """Before the default group goes: it and its store still answer."""
    destroyed: Callable[[], None]
    """After it is gone, with all others."""


class LifecycleHooks:
    """Has them called from ``install`` to ``remove``, which puts back by identity what is replaced in torch."""

    def __init__(self, happenings: LifecycleCallbacks) -> None:
        self._happenings = happenings
        self._patches = Patches()
        self.tell_of_groups = False
        """Whether every new group is heard of."""

    def install(self) -> None:
        """Begin to watch. torch must be imported."""
        from torch.distributed import distributed_c10d as c10d
        from torch.nn.parallel import DistributedDataParallel
        from torch.optim import Optimizer

        made, registered, going, destroyed = self._happenings
        for cls in (DistributedDataParallel, Optimizer):
            self._patches.put(cls, "__init__", lambda original: _around(original, _nothing, lambda *_: made()))
        self.tell_of_groups = self._patches.put(
            c10d,
            "_register_process_group",
            lambda original: _around(original, _nothing, lambda *args: registered(args[-1])),
            costs="groups are found when they are first looked for, up to half a second late",
        )
        self._patches.put(
            c10d,
            "_update_default_pg",
            lambda original: _around(
                original,
                lambda group: None if group is not None else going(),
                lambda group: None if group is None else registered(group),
            ),
            costs="what a job recorded at its very end may be in a trace of its own",
        )
        self._patches.put(
            c10d,
            "_unregister_all_process_groups",
            lambda original: _around(original, _nothing, lambda *_: destroyed()),
            costs="nothing is exported at once when the groups are destroyed",
        )

    def remove(self) -> None:
        """Put the originals back, where nobody else has replaced ours."""
        self._patches.remove()


def _nothing(*_: Any) -> None:
    """Where nothing is to be done."""


def _around(
    original: Callable[..., Any], before: Callable[..., None], after: Callable[..., None]
) -> Callable[..., Any]:
    """``original``, with two actions around it that are called with the same arguments."""

    @functools.wraps(original)
    def ours(*args: Any, **kwargs: Any) -> Any:
        guarded(before, *args, *kwargs.values())
        result = original(*args, **kwargs)
        guarded(after, *args, *kwargs.values())
        return result

    return ours
