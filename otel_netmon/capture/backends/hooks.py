"""The backend on torch ≥ 2.14: a pre- and a post-hook on every process group, which go with their group.

Groups are hooked when torch registers them, whoever made them; those that exist already, when the backend is
installed; and those that get into torch's table another way, by polling. ``monitored_barrier`` has no hooks: a
kernel in the dispatcher stands in. Hooks do not get the reduction, nor whether the splits of an ``all_to_all``
are equal.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from otel_netmon import forks, threads
from otel_netmon.capture.backends.base import CaptureBackend, installed
from otel_netmon.capture.backends.dispatcher import DispatcherBackend
from otel_netmon.capture.event import KindTable
from otel_netmon.capture.operations import OPERATIONS
from otel_netmon.guard import guarded
from otel_netmon.internals import torch_internals

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent, CollectiveKind
    from otel_netmon.capture.operations import Operation
    from otel_netmon.capture.recorder import Recorder
    from otel_netmon.job.groups import Group, Groups

_Pending: TypeAlias = "dict[int, CollectiveEvent]"
"""By thread, the call that it is inside of on one group: between its pre-hook and its post-hook."""

HOOK_ID: Final = 0x6F74656C  # "otel"; torch knows a hook by its number
_UNKNOWN_ERROR: Final = "_OTHER"
"""OpenTelemetry's ``error.type`` for a failure of which the class is not known."""

_WITHOUT_HOOKS: Final = {"monitored_barrier_": OPERATIONS["monitored_barrier_"]}

HOOKS: Final = {
    "SEND": ("send",),
    "RECV": ("recv_",),
    "BROADCAST": ("broadcast_",),
    "REDUCE": ("reduce_",),
    "BARRIER": ("barrier",),
    "SCATTER": ("scatter_",),
    "GATHER": ("gather_",),
    "ALLREDUCE": ("allreduce_", "allreduce_", "allreduce_coalesced_"),
    "ALLGATHER": ("_allgather_base_", "allgather_", "allgather_into_tensor_coalesced_"),
    "REDUCE_SCATTER": ("_reduce_scatter_base_", "reduce_scatter_", "reduce_scatter_tensor_coalesced_"),
    "ALLTOALL": ("alltoall_base_", "alltoall_", "alltoall_"),
}
"""By torch's ``HookOpName``: one operation; or three, chosen by the numbers of tensors: with one in the buffer,
with a list there and one on the other side, with lists on both. What is no collective is left out."""


def are_available() -> bool:
    """Whether this torch has the hooks. It must be imported."""
    return bool(torch_internals.hook_numbers())


class HooksBackend(CaptureBackend):
    """Hooks on every group. No exception leaves a hook."""

    def __init__(self, recorder: Recorder, groups: Groups) -> None:
        super().__init__(recorder, groups)
        self._rest = DispatcherBackend(recorder, groups, _WITHOUT_HOOKS)
        self._lock = threads.RLock()
        self._hooked: dict[int, tuple[weakref.ref[Any], Any]] = {}
        """By id, torch's groups and what ``_hook`` gave."""
        self._installed = False
        forks.register(self)

    def install(self) -> None:
        """Hook the groups there are; new ones are hooked by ``group_created``."""
        if not torch_internals.can_find_groups():
            raise AttributeError("torch.distributed.distributed_c10d has no table of its groups")
        self._installed = True
        installed("monitored_barrier is not captured", self._rest.install, self._rest.remove)
        self.poll()

    def after_fork_in_child(self) -> None:
        """No call of the parent's is under way here."""
        self._lock = threads.RLock()
        self._forget_calls()

    def _forget_calls(self) -> None:
        for _, pending in self._hooked.values():
            pending.clear()

    def remove(self) -> None:
        if not self._installed:
            return
        self._installed = False
        guarded(self._rest.remove)
        with self._lock:
            hooked, self._hooked = self._hooked, {}
        for ref, _ in hooked.values():
            process_group = ref()
            if process_group is not None:
                process_group.unregister_pre_hook(HOOK_ID)
                process_group.unregister_post_hook(HOOK_ID)

    def close_failed_calls(self) -> None:
        """A call that raises has no post-hook."""
        for _, pending in list(self._hooked.values()):
            event = pending.pop(threading.get_ident(), None)
            if event is not None:
                self._recorder.abandoned(event, _UNKNOWN_ERROR)

    def group_created(self, process_group: Any) -> None:
        """Hook a group, unless it is hooked."""
        with self._lock:
            if not self._installed:
                return
            known = self._hooked.get(id(process_group))
            if known is not None and known[0]() is process_group:
                return
            self._hooked = {key: one for key, one in self._hooked.items() if one[0]() is not None}
            ref = weakref.ref(process_group)
            self._hooked[id(process_group)] = ref, self._hook(process_group, self._groups.of(process_group), ref)
        self._rest.group_created(process_group)

    def _hook(self, process_group: Any, group: Group, ref: weakref.ref[Any]) -> Any:
        """Put the hooks on a group."""
        pending: _Pending = {}
        pre, post = _hooks(group, ref, self._recorder, pending)
        process_group.register_pre_hook(HOOK_ID, pre)
        process_group.register_post_hook(HOOK_ID, post)
        return pending


def _hooks(
    group: Group, process_group: weakref.ref[Any], recorder: Recorder, pending: _Pending
) -> tuple[Callable[[Any], None], Callable[[Any], None]]:
    started, watch, expect, get_ident, strided = (
        recorder.started,
        recorder.watch,
        recorder.expect,
        threading.get_ident,
        recorder.strided,
    )
    next_sequence = group.next_sequence
    usual = KindTable["tuple[Any, ...]"]()
    """Of calls with one strided tensor, by what differs between them."""
    # By number: hashing and comparing torch's enum members costs more than the rest of a look-up; so does int().
    known = {}
    for name, number in torch_internals.hook_numbers().items():
        if name in HOOKS:
            chosen = tuple(OPERATIONS[one] for one in HOOKS[name])
            known[number] = chosen, chosen[0].is_output, chosen[0].is_p2p

    def kind_of(operation: Operation, args: Any, tensors: Sequence[Any]) -> CollectiveKind:
        return recorder.kind_of(
            operation, group, process_group(), tensors, args.async_op, is_even=not operation.splits
        )

    def pre(args: Any) -> None:
        try:
            number = args.name.value
            found = known.get(number)
            if found is None:
                return
            operations, is_output, is_p2p = found
            start = monotonic_ns()
            sequence = None if is_p2p else next_sequence()
            tensors = args.output_tensors if is_output else args.input_tensors
            if len(tensors) == 1 and (tensor := tensors[0]).layout is strided:
                key = number, tensor.nbytes, tensor.dtype, args.async_op, tensor.is_cpu
                kind = usual.get(key)
                if kind is None:
                    kind = usual.add(key, kind_of(operations[0], args, tensors))
            else:
                operation = operations[0]
                if len(operations) > 1 and len(tensors) != 1:
                    # An all_reduce has no outputs; lists of lists arrive flattened.
                    others = args.input_tensors if is_output else args.output_tensors
                    operation = operations[1 if len(others) == 1 else 2]
                kind = kind_of(operation, args, tensors)
            event = started(kind, start, sequence)
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
            if event is not None and not (event.kind.is_waited_for and expect(args.work, event)):
                watch(event, args.work)
        except Exception:  # noqa: BLE001 - law 1
            recorder.failure()

    return pre, post
