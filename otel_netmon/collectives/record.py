"""From a seam's call to an event in the ring. The only code of ours on a training thread.

Nothing here raises, blocks on anything but the ring's short lock, or makes a span or a metric. A failure of
ours costs that one event; it is counted, and logged the first time.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from otel_netmon.collectives.event import CollectiveEvent, EventRing
from otel_netmon.collectives.groups import Groups, backend_of
from otel_netmon.runtime import guarded

if TYPE_CHECKING:
    from otel_netmon.collectives.operations import Operation
    from otel_netmon.collectives.steps import StepTracker

_logger = logging.getLogger(__name__)

_LET_GO_TRIES: Final = 500


class Arguments(Protocol):
    """How a seam reads a call's arguments, in whatever form it has them."""

    def tensors(self, args: Sequence[Any]) -> Sequence[Any]:
        """The tensors of the buffer."""

    def reduce_op(self, args: Sequence[Any]) -> Any:
        """What reduces, as torch has it; ``None`` where nothing does or it is not said."""

    def is_async(self, args: Sequence[Any]) -> bool | None:
        """Whether the caller asked not to block; ``None`` where it is not said."""

    def is_even(self, args: Sequence[Any]) -> bool:
        """Whether all ranks' splits are alike, as far as the arguments tell."""


class Recorder:
    """What both seams call: ``begin``, then ``watch`` or ``failed``."""

    def __init__(
        self,
        ring: EventRing,
        steps: StepTracker,
        *,
        on_first: Callable[[CollectiveEvent], None],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._ring = ring
        self._steps = steps
        self._groups = Groups()
        self._clock = clock
        self._on_first: Callable[[CollectiveEvent], None] | None = on_first
        self._first_lock = threading.RLock()
        self._dtypes: dict[Any, str] = {}
        self._collect, self._strided = _from_torch()
        self.errors = 0
        """Events lost to failures of ours."""

    def rearm(self, on_first: Callable[[CollectiveEvent], None]) -> None:
        """Call ``on_first`` at the next event again (after a fork)."""
        self._on_first = on_first

    def begin(
        self, operation: Operation, process_group: Any, arguments: Arguments, args: Sequence[Any]
    ) -> CollectiveEvent | None:
        """Record that a collective starts now; ``None`` when it could not be."""
        try:
            group = self._groups.of(process_group)
            event = CollectiveEvent(operation, group, self._clock(), self._steps.tick)
            tensors = arguments.tensors(args)
            for tensor in tensors:
                event.size += tensor.nbytes if tensor.layout is self._strided else _sparse_bytes(tensor)
                event.elements += tensor.numel()
            if tensors:
                self._describe(event, process_group, tensors)
            event.is_even = event.is_even and arguments.is_even(args)
            event.reduce_op = arguments.reduce_op(args)
            event.is_async = arguments.is_async(args)
            if not operation.is_p2p:
                event.sequence = group.next_sequence()
            if not self._ring.begin(event):
                return None
            if self._on_first is not None:
                guarded(self._announce, event)
        except Exception:  # noqa: BLE001 - law 1
            self._failure()
            return None
        return event

    def _describe(self, event: CollectiveEvent, process_group: Any, tensors: Sequence[Any]) -> None:
        first, group = tensors[0], event.group
        if event.operation.is_share:
            event.size *= group.size
            event.elements *= group.size
        event.on_host = first.is_cpu
        event.dtype = self._dtypes.get(first.dtype) or self._name_dtype(first.dtype)
        if len(tensors) > 1:
            if any(tensor.dtype != first.dtype for tensor in tensors):
                event.dtype = None
            event.is_even = event.operation.name != "all_to_all" or len({t.numel() for t in tensors}) == 1
        if not event.on_host and group.device_backend is None:
            group.device_backend = backend_of(process_group, first.device.type)

    def watch(self, event: CollectiveEvent, work: Any) -> None:
        """The call returned ``work``: finish the event when it completes.

        On a device that is at once: there torch completes a future when the work is enqueued, and the end is of
        the host's call alone.
        """
        try:
            if not event.on_host:
                self.finished(event)
                return
            # Not on the work's own future: a callback cannot be taken back from a future, and one that runs
            # while the interpreter is being finalised aborts the process. This one between is ours to complete.
            event.future = self._collect([work.get_future()])
            event.future.add_done_callback(functools.partial(self._completed, event))
        except Exception:  # noqa: BLE001 - law 1
            self._failure()
            self.finished(event)

    def finished(self, event: CollectiveEvent) -> None:
        """The call returned, and that was all."""
        self._ring.finish(event, self._clock(), None)

    def _completed(self, event: CollectiveEvent, future: Any) -> None:
        try:
            end = self._clock()
            error = None
            try:
                future.value()
            except Exception as failure:  # noqa: BLE001 - the collective's own, which its caller gets from wait()
                error = error_type(failure)
            self._ring.finish(event, end, error)
            event.future = None
        except Exception:  # noqa: BLE001 - law 1
            self._failure()

    def let_go(self, events: Sequence[CollectiveEvent]) -> None:
        """Nothing of ours will run when these complete: the process ends, or we are switched off."""
        for event in events:
            future = event.future
            if future is None:
                continue
            try:
                future.set_result(None)
            except RuntimeError:  # it completed just now; its callback waits for the interpreter lock
                for _ in range(_LET_GO_TRIES):
                    if event.future is None:
                        break
                    time.sleep(0.001)
            # The backend's thread may be the last to drop it, with an interpreter that is no more: leak it.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(future))

    def failed(self, event: CollectiveEvent, error: BaseException) -> None:
        """The call raised."""
        self._ring.finish(event, self._clock(), error_type(error))

    def _name_dtype(self, dtype: Any) -> str:
        name = self._dtypes[dtype] = str(dtype).removeprefix("torch.")
        return name

    def _announce(self, event: CollectiveEvent) -> None:
        with self._first_lock:
            announce, self._on_first = self._on_first, None
        if announce is not None:
            announce(event)

    def _failure(self) -> None:
        self.errors += 1
        if self.errors == 1:
            _logger.exception("otel-netmon: a collective was not recorded; further failures are only counted")


def _from_torch() -> tuple[Any, Any]:
    import torch
    from torch.futures import collect_all

    return collect_all, torch.strided


def _sparse_bytes(tensor: Any) -> int:
    """Bytes of the values of a sparse tensor; the indices travel too, but no formula counts them."""
    return int((tensor._values() if tensor.is_sparse else tensor.values()).nbytes)


def error_type(error: BaseException) -> str:
    """The class of ``error`` as ``error.type`` has it: qualified, unless it is a builtin."""
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
