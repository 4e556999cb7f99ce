"""When optimizers and DDP are made: the last of that ahead of the first step is the end of the setup."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


class Construction:
    """Calls ``made`` after each construction, from ``install`` to ``remove``. It must not raise.

    The classes' own ``__init__`` is replaced, and put back by identity.
    """

    def __init__(self, made: Callable[[], None]) -> None:
        self._made = made
        self._replaced: list[tuple[type, Any, Any]] = []

    def install(self) -> None:
        """Begin to watch. torch must be imported."""
        from torch.nn.parallel import DistributedDataParallel
        from torch.optim import Optimizer

        for cls in (DistributedDataParallel, Optimizer):
            original = cls.__init__
            ours = _after(original, self._made)
            cls.__init__ = ours
            self._replaced.append((cls, original, ours))

    def remove(self) -> None:
        """Put the originals back, where nobody else has replaced ours."""
        for cls, original, ours in self._replaced:
            if cls.__dict__.get("__init__") is ours:
                cls.__init__ = original  # type: ignore[misc]
        self._replaced.clear()


def _after(original: Callable[..., None], made: Callable[[], None]) -> Callable[..., None]:
    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        made()

    return init
