"""The backend on torch ≥ 2.14: a pre- and a post-hook on every process group.

Hooks belong to one group. New groups are hooked when torch registers them, whoever made them (the default group,
``new_group``, ``split_group``, a dimension of a ``DeviceMesh``); those that exist already, when the backend is
installed; and those that get into torch's table another way, by polling. Hooks go with their group.
``monitored_barrier`` has no hooks: a kernel in the dispatcher stands in.

Hooks do not get the reduction, nor whether the splits of an ``all_to_all`` are equal.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from otel_netmon import forks, threads
from otel_netmon.capture.backends.base import CaptureBackend
from otel_netmon.capture.backends.dispatcher import DispatcherBackend
from otel_netmon.capture.operations import OPERATIONS, Operation
from otel_netmon.guard import guarded, log_once
from otel_netmon.internals import torch_internals

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.capture.recorder import Recorder
    from otel_netmon.job.groups import Group, Groups

_logger = logging.getLogger(__name__)

_Pending: TypeAlias = "dict[int, CollectiveEvent]"
"""By thread, the call that it is inside of on one group: between its pre-hook and its post-hook."""

_HOOK_ID: Final = 0x6F74656C  # "otel"; torch knows a hook by its number
_UNKNOWN_ERROR: Final = "_OTHER"
"""OpenTelemetry's ``error.type`` for a failure of which the class is not known."""

_WITHOUT_HOOKS: Final = {name: OPERATIONS[name] for name in ("monitored_barrier_",)}


class _Hook(NamedTuple):
    """What a ``HookOpName`` stands for."""

    operations: tuple[Operation, ...]
    """One; or three, chosen by the numbers of tensors: with one input and one output, with one on one
    side and a list on the other, with lists on both."""
    by_output: bool
    """The buffer is the output."""
    one: Operation | None
    """The operation, if there is only one."""
    is_p2p: bool


def _hook(*names: str, by_output: bool = False) -> _Hook:
    operations = tuple(OPERATIONS[name] for name in names)
    one = operations[0] if len(operations) == 1 else None
    return _Hook(operations, by_output, one, operations[0].is_p2p)


_HOOKS: Final = {
    "SEND": _hook("send"),
    "RECV": _hook("recv_", by_output=True),
    "BROADCAST": _hook("broadcast_"),
    "REDUCE": _hook("reduce_"),
    "BARRIER": _hook("barrier"),
    "SCATTER": _hook("scatter_", by_output=True),
    "GATHER": _hook("gather_"),
    "ALLREDUCE": _hook("allreduce_", "allreduce_", "allreduce_coalesced_"),
    "ALLGATHER": _hook("_allgather_base_", "allgather_", "allgather_into_tensor_coalesced_", by_output=True),
    "REDUCE_SCATTER": _hook("_reduce_scatter_base_", "reduce_scatter_", "reduce_scatter_tensor_coalesced_"),
    "ALLTOALL": _hook("alltoall_base_", "alltoall_", "alltoall_"),
}
"""By torch's ``HookOpName``. Those that are no collective (a split, a window) are left out."""


def are_available() -> bool:
    """Whether this torch has the hooks. It must be imported."""
    return bool(torch_internals.hook_numbers())


class HooksBackend(CaptureBackend):
    """Hooks on every group. No exception leaves a hook."""

    def __init__(self, recorder: Recorder, groups: Groups) -> None:
        super().__init__(recorder, groups)
        self._rest = DispatcherBackend(recorder, groups, _WITHOUT_HOOKS)
        self._lock = threads.RLock()
        self._hooked: dict[int, weakref.ref[Any]] = {}
        self._pending: dict[int, _Pending] = {}
        self._installed = False
        forks.register(self)

    def install(self) -> None:
        """Hook the groups there are; new ones are hooked by ``group_created``."""
        if not torch_internals.can_find_groups():
            raise AttributeError("torch.distributed.distributed_c10d has no table of its groups")
        self._installed = True
        try:
            self._rest.install()
        except Exception as error:  # noqa: BLE001  # another torch: law 1
            log_once(
                _logger,
                error,
                "otel-netmon: this torch differs from those supported: monitored_barrier is not captured",
            )
        self.poll()

    def after_fork_in_child(self) -> None:
        """No call of the parent's is under way here."""
        self._lock = threads.RLock()
        for pending in self._pending.values():
            pending.clear()

    def remove(self) -> None:
        if not self._installed:
            return
        self._installed = False
        guarded(self._rest.remove)
        with self._lock:
            hooked, self._hooked = self._hooked, {}
        for ref in hooked.values():
            group = ref()
            if group is not None:
                group.unregister_pre_hook(_HOOK_ID)
                group.unregister_post_hook(_HOOK_ID)

    def close_failed_calls(self, this_thread: int) -> None:
        """A call that raises has no post-hook."""
        for pending in list(self._pending.values()):
            event = pending.pop(this_thread, None)
            if event is not None:
                self._recorder.abandoned(event, _UNKNOWN_ERROR)

    def group_created(self, process_group: Any) -> None:
        """Hook a group, unless it is hooked."""
        with self._lock:
            if not self._installed:
                return
            ref = self._hooked.get(id(process_group))
            if ref is not None and ref() is process_group:
                return
            for key in [key for key, ref in self._hooked.items() if ref() is None]:
                del self._hooked[key]
                self._pending.pop(key, None)
            group = self._groups.of(process_group)
            pending: _Pending = {}
            self._pending[id(process_group)] = pending
            self._hooked[id(process_group)] = weakref.ref(process_group)
        pre, post = _hooks(group, weakref.ref(process_group), self._recorder, pending)
        process_group.register_pre_hook(_HOOK_ID, pre)
        process_group.register_post_hook(_HOOK_ID, post)
        self._rest.group_created(process_group)


def _which(hook: _Hook, inputs: Sequence[Any], outputs: Sequence[Any]) -> Operation:
    """Which of the hook's operations it is. An all_reduce has no outputs; lists of lists arrive flattened."""
    if len(inputs) == 1 and len(outputs) <= 1:
        return hook.operations[0]
    return hook.operations[1 if len(inputs) == 1 or len(outputs) == 1 else 2]


def _hooks(
    group: Group, process_group: weakref.ref[Any], recorder: Recorder, pending: _Pending
) -> tuple[Callable[[Any], None], Callable[[Any], None]]:
    begin, watch, get_ident = recorder.begin, recorder.watch, threading.get_ident
    next_sequence = group.next_sequence
    # By number: hashing and comparing torch's enum members costs more than the rest of a look-up.
    hooks = {number: _HOOKS[name] for name, number in torch_internals.hook_numbers().items() if name in _HOOKS}

    def pre(args: Any) -> None:
        try:
            hook = hooks.get(int(args.name))
            if hook is None:
                return
            sequence = None if hook.is_p2p else next_sequence()
            operation, by_output = hook.one, hook.by_output
            tensors = args.output_tensors if by_output else args.input_tensors
            is_even = True
            if operation is None:
                other = args.input_tensors if by_output else args.output_tensors
                operation = _which(hook, other, tensors) if by_output else _which(hook, tensors, other)
                is_even = not operation.splits
            event = begin(operation, group, process_group, tensors, args.async_op, sequence, is_even)
            thread = get_ident()
            if thread in pending:  # the call before had no post-hook: it raised
                recorder.abandoned(pending.pop(thread), _UNKNOWN_ERROR)
            if event is not None:
                pending[thread] = event
        except Exception:  # noqa: BLE001 - law 1
            recorder.failure()

    def post(args: Any) -> None:
        try:
            event = pending.pop(get_ident(), None)
            if event is not None:
                watch(event, args.work)
        except Exception:  # noqa: BLE001 - law 1
            recorder.failure()

    return pre, post
