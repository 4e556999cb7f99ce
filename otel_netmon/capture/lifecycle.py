"""What happens around the steps: groups, optimizers and DDP are made, and at the end all groups are destroyed.

The last construction ahead of the first step is the end of the setup. After the groups are destroyed a process may
be killed at any time (Ray does that), so what was captured has to be exported by then.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from otel_netmon.guard import guarded
from otel_netmon.internals import torch_internals
from otel_netmon.patches import Patches


class LifecycleHooks:
    """Calls these from ``install`` to ``remove``, which puts back by identity what is replaced in torch; what they
    raise is logged, and seen by nobody:

    ``constructed`` after each construction of an optimizer, or of DDP; ``registered`` with each process group,
    once torch knows it; ``closing`` before the default group is destroyed, while it and its store still answer;
    ``destroyed`` after it was destroyed, with all others.
    """

    def __init__(
        self,
        constructed: Callable[[], None],
        registered: Callable[[Any], None],
        closing: Callable[[], None],
        destroyed: Callable[[], None],
    ) -> None:
        self._callbacks = constructed, registered, closing, destroyed
        self._patches = Patches()
        self.sees_groups = False
        """Whether ``registered`` is called for every new group."""

    def install(self) -> None:
        """Begin to watch. torch must be imported."""
        from torch.nn.parallel import DistributedDataParallel
        from torch.optim import Optimizer

        constructed, registered, closing, destroyed = self._callbacks
        for cls in (DistributedDataParallel, Optimizer):
            self._patches.put(cls, "__init__", lambda original: _around(original, after=lambda *_: constructed()))
        self.sees_groups = torch_internals.replace_register_group(
            self._patches, lambda original: _around(original, after=lambda *args: registered(args[-1]))
        )
        torch_internals.replace_set_default_group(
            self._patches,
            lambda original: _around(
                original,
                before=lambda group: None if group is not None else closing(),
                after=lambda group: None if group is None else registered(group),
            ),
        )
        torch_internals.replace_unregister_all_groups(
            self._patches, lambda original: _around(original, after=lambda *_: destroyed())
        )

    def remove(self) -> None:
        """Put the originals back, where nobody else has replaced ours."""
        self._patches.remove()
        self.sees_groups = False


def _nothing(*_: Any) -> None:
    """Where nothing is to be done."""


def _around(
    original: Callable[..., Any], before: Callable[..., None] = _nothing, after: Callable[..., None] = _nothing
) -> Callable[..., Any]:
    """``original``, with two actions around it that are called with the same arguments."""

    @functools.wraps(original)
    def ours(*args: Any, **kwargs: Any) -> Any:
        guarded(before, *args, *kwargs.values())
        result = original(*args, **kwargs)
        guarded(after, *args, *kwargs.values())
        return result

    return ours
