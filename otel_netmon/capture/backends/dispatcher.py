"""The backend on torch's dispatcher: one kernel per ``c10d`` operation, below autograd and above the backends.

The kernels sit at the dispatch key ``BackendSelect``. It is in every thread's default dispatch set, whatever the
device and whatever the tensors, and below ``Python`` and the autograd keys. So each call passes it exactly
once: the user's, DDP's reducer (C++), functional collectives, compiled graphs, inference mode. Calls on fake
tensors are taken by the ``Python`` key above and never arrive. ``_c10d_functional`` needs no kernels: its
operations end in these. Cost: the boxing of one call, some 10 µs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from otel_netmon.capture.backends.base import CaptureBackend
from otel_netmon.capture.backends.python_groups import PythonGroups
from otel_netmon.capture.operations import OPERATIONS, Operation
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


class _Arguments:
    """Positions of an operation's arguments in its schema. torch leaves out trailing ones that are the default."""

    def __init__(self, schema: Any, operation: Operation) -> None:
        arguments = schema.arguments
        self._defaults = {i: argument.default_value for i, argument in enumerate(arguments)}
        places = {argument.name: i for i, argument in enumerate(arguments)}
        self.group = places["process_group"]
        self._buffer = places[operation.buffer] if operation.buffer else None
        self._reduce_op = places.get("reduce_op")
        self._async = places.get("async_op")
        self._splits = tuple(places[name] for name in operation.splits)

    def tensors(self, args: Sequence[Any]) -> Sequence[Any]:
        if self._buffer is None:
            return ()
        buffer = args[self._buffer]
        if not isinstance(buffer, list):
            return (buffer,)
        if buffer and isinstance(buffer[0], list):
            return [tensor for tensors in buffer for tensor in tensors]
        return buffer

    def reduce_op(self, args: Sequence[Any]) -> str | None:
        """Its name, read now: the object may hold a tensor, which must not be kept."""
        try:
            return None if self._reduce_op is None else _REDUCE_OPS[args[self._reduce_op].op()]
        except Exception:  # noqa: BLE001 - another torch may pass anything: absent, then
            return None

    def is_async(self, args: Sequence[Any]) -> bool | None:
        if self._async is None:
            return None
        return bool(args[self._async] if self._async < len(args) else self._defaults[self._async])

    def is_even(self, args: Sequence[Any]) -> bool:
        return all(len(set(args[place])) < 2 for place in self._splits)


def _kernel(overload: Any, operation: Operation, recorder: Recorder, groups: Groups) -> Callable[..., Any]:
    below, schema = torch_internals.keys_below(_KEY), torch_internals.schema_of(overload)
    redispatch = overload.redispatch
    unbox_group, unbox_work = torch_internals.unboxed()
    arguments = _Arguments(schema, operation)
    group_at = arguments.group
    returns = len(schema.returns)
    is_p2p = operation.is_p2p

    def begin(args: Sequence[Any]) -> CollectiveEvent | None:
        try:
            process_group = unbox_group(args[group_at])
            group = groups.of(process_group)
            sequence = None if is_p2p else group.next_sequence()
            return recorder.begin(
                operation,
                group,
                process_group,
                arguments.tensors(args),
                arguments.is_async(args),
                sequence,
                arguments.is_even(args),
                arguments.reduce_op(args),
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
