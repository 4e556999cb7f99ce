"""The backend on torch's dispatcher: one kernel per ``c10d`` operation, below autograd and above the backends.

The kernels sit at the dispatch key ``BackendSelect``, which is in every thread's default dispatch set, below
``Python`` and the autograd keys. So each call passes it exactly once, whoever makes it; calls on fake tensors are
taken by the ``Python`` key above. ``_c10d_functional`` needs no kernels: its operations end in these. Cost: the
boxing of one call, some 10 µs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from otel_netmon.capture.backends.base import CaptureBackend
from otel_netmon.capture.backends.python_groups import PythonGroups
from otel_netmon.capture.operations import OPERATIONS, Operation, tensors_in
from otel_netmon.internals import torch_internals

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.capture.recorder import Recorder
    from otel_netmon.job.groups import Groups

_KEY: Final = "BackendSelect"
_REDUCE_OPS: Final = ("sum", "avg", "product", "min", "max", "band", "bor", "bxor", "premul_sum")


class DispatcherBackend(CaptureBackend):
    """Kernels that serve every group there is and will be. No exception leaves a kernel but the call's own."""

    def __init__(
        self, recorder: Recorder, groups: Groups, operations: Mapping[str, Operation] = OPERATIONS
    ) -> None:
        super().__init__(recorder, groups)
        self._operations = operations
        self._python_groups = PythonGroups(recorder)
        self._remove_kernels: Callable[[], None] | None = None

    def install(self) -> None:
        import torch

        library, destroy = torch_internals.kernel_library("c10d")
        try:
            for name, operation in self._operations.items():
                if hasattr(torch.ops.c10d, name):
                    overload = getattr(torch.ops.c10d, name).default
                    kernel = _kernel(overload, operation, self._recorder, self._groups)
                    library.impl(name, kernel, _KEY, with_keyset=True)
        except BaseException:
            destroy()
            raise
        self._remove_kernels = destroy

    def group_created(self, process_group: Any) -> None:
        """See to a group that is written in Python: its calls do not pass the dispatcher."""
        self._python_groups.watch(process_group, self._groups.of(process_group))

    def remove(self) -> None:
        self._python_groups.remove()
        if self._remove_kernels is not None:
            self._remove_kernels()
            self._remove_kernels = None


def _reduction(reduce_op: Any) -> str | None:
    """Its name, read now: the object may hold a tensor, which must not be kept."""
    try:
        return _REDUCE_OPS[reduce_op.op()]
    except Exception:  # noqa: BLE001 - another torch may pass anything: absent, then
        return None


def _kernel(overload: Any, operation: Operation, recorder: Recorder, groups: Groups) -> Callable[..., Any]:
    below, schema = torch_internals.keys_below(_KEY), torch_internals.schema_of(overload)
    redispatch = overload.redispatch
    unbox_group, unbox_work = torch_internals.unboxed()
    places = {argument.name: place for place, argument in enumerate(schema.arguments)}
    group_at, buffer_at = places["process_group"], places[operation.buffer] if operation.buffer else None
    reduce_at, async_at = places.get("reduce_op"), places.get("async_op")
    splits_at = [places[name] for name in operation.splits]
    # torch leaves out trailing arguments that are the default
    usually_async = None if async_at is None else bool(schema.arguments[async_at].default_value)
    returns, is_p2p = len(schema.returns), operation.is_p2p

    def begin(args: Sequence[Any]) -> CollectiveEvent | None:
        try:
            process_group = unbox_group(args[group_at])
            group = groups.of(process_group)
            sequence = None if is_p2p else group.next_sequence()
            return recorder.begin(
                operation,
                group,
                process_group,
                () if buffer_at is None else tensors_in(args[buffer_at]),
                usually_async if async_at is None or async_at >= len(args) else bool(args[async_at]),
                sequence,
                all(len(set(args[place])) < 2 for place in splits_at),
                None if reduce_at is None else _reduction(args[reduce_at]),
            )
        except Exception:  # noqa: BLE001 - law 1
            recorder.failure()
            return None

    def kernel(keyset: Any, *args: Any) -> Any:
        event = begin(args)
        try:
            result = redispatch(keyset & below, *args)
        except BaseException as error:
            if event is not None:
                recorder.failed(event, error)
            raise
        if event is not None:
            if returns:
                recorder.watch(event, unbox_work(result if returns == 1 else result[-1]))
            else:
                recorder.finished(event)
        return result

    return kernel
