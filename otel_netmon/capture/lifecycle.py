"""What happens around the steps: groups, optimizers and DDP are made, and at the end all groups are destroyed.

After that a process may be killed at any time (Ray does that), so what was captured has to be exported by then.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from otel_netmon.guard import guarded
from otel_netmon.internals import torch_internals
from otel_netmon.patches import Patches


def install(
    patches: Patches,
    *,
    constructed: Callable[[], None],
    registered: Callable[[Any], None],
    closing: Callable[[], None],
    destroyed: Callable[[], None],
) -> bool:
    """Have these called, and what they raise logged; torch must be imported. Whether all new groups are seen.

    ``constructed`` after each construction of an optimizer, or of DDP; ``registered`` with each process group,
    once torch knows it; ``closing`` before the default group is destroyed, while it and its store still answer;
    ``destroyed`` after it was destroyed, with all others.
    """
    from torch.nn.parallel import DistributedDataParallel
    from torch.optim import Optimizer

    for cls in (DistributedDataParallel, Optimizer):
        patches.put(cls, "__init__", lambda original: _around(original, after=lambda *_: constructed()))
    torch_internals.replace_set_default_group(
        patches,
        lambda original: _around(
            original,
            before=lambda group: None if group is not None else closing(),
            after=lambda group: None if group is None else registered(group),
        ),
    )
    torch_internals.replace_unregister_all_groups(
        patches, lambda original: _around(original, after=lambda *_: destroyed())
    )
    return torch_internals.replace_register_group(
        patches, lambda original: _around(original, after=lambda *args: registered(args[-1]))
    )


def _around(
    original: Callable[..., Any], *, after: Callable[..., None], before: Callable[..., None] = lambda *_: None
) -> Callable[..., Any]:
    """``original``, with two actions around it that are called with the same arguments."""

    @functools.wraps(original)
    def ours(*args: Any, **kwargs: Any) -> Any:
        guarded(before, *args, *kwargs.values())
        result = original(*args, **kwargs)
        guarded(after, *args, *kwargs.values())
        return result

    return ours
