"""What a backend calls for each collective, on the training thread: from the call to an event in the ring.

Nothing here raises or takes a lock. A failure of ours costs that one event; it is counted, the first is logged.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import time
from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

from otel_netmon.capture.event import CollectiveEvent, CollectiveKind, Failure, Kinds, failure_of
from otel_netmon.guard import guarded
from otel_netmon.internals.torch_internals import future_after, sparse_values
from otel_netmon.job.groups import backend_of

if TYPE_CHECKING:
    from otel_netmon.capture.last_calls import Cells
    from otel_netmon.capture.operations import Operation
    from otel_netmon.capture.ring import EventRing
    from otel_netmon.capture.steps import StepTracker
    from otel_netmon.job.groups import Group

_logger = logging.getLogger(__name__)

_CALLBACK_TRIES: Final = 500


class Recorder:
    """``begin`` for each call, then ``watch``, ``finished`` or ``failed``. torch must be imported.

    ``expect`` takes a work and its event, and returns whether it will finish the event when the caller waits.
    """

    def __init__(
        self,
        ring: EventRing,
        steps: StepTracker,
        expect: Callable[[Any, CollectiveEvent], bool] = lambda _work, _event: False,
    ) -> None:
        import torch

        self.ring = ring
        self.steps = steps
        self.expect = expect
        self.on_first: Callable[[CollectiveEvent], None] | None = None
        """Called with the next event, and perhaps with that of another thread."""
        self.kinds = Kinds()
        self._future_after, self.strided = future_after(), torch.strided
        self.cells: Cells | None = None
        """Where the last ones stand as well, should this process be killed."""
        self.errors = 0
        """Events lost to failures of ours."""

    def begin(  # noqa: PLR0917 - by position: this runs for every collective
        self,
        operation: Operation,
        group: Group,
        process_group: Any,
        tensors: Sequence[Any],
        is_async: bool | None,
        sequence: int | None,
        is_even: bool = True,
        reduce_op: str | None = None,
    ) -> CollectiveEvent | None:
        """Record that a collective starts now; ``None`` when it could not be.

        ``tensors`` are those of the buffer; ``is_async`` is ``None`` where the backend does not know. ``sequence``
        is ``group.next_sequence()``, drawn before anything that can fail: one that is skipped on one rank would
        shift all that follow against the other ranks.
        """
        try:
            start = monotonic_ns()
            kind = self.kind_of(operation, group, process_group, tensors, is_async, is_even, reduce_op)
            return self.started(kind, start, sequence)
        except Exception:  # noqa: BLE001 - law 1
            self.failure()
            return None

    def kind_of(  # noqa: PLR0917 - as ``begin``
        self,
        operation: Operation,
        group: Group,
        process_group: Any,
        tensors: Sequence[Any],
        is_async: bool | None,
        is_even: bool,
        reduce_op: str | None = None,
    ) -> CollectiveKind:
        """What a collective with these arguments has in common with others; see ``begin``."""
        size, dtype, on_host = 0, None, True
        if tensors:
            first = tensors[0]
            size = first.nbytes if first.layout is self.strided else sparse_values(first).nbytes
            dtype, on_host = first.dtype, first.is_cpu
            if len(tensors) > 1:
                for tensor in tensors[1:]:
                    size += tensor.nbytes if tensor.layout is self.strided else sparse_values(tensor).nbytes
                    if tensor.dtype is not dtype:
                        dtype = None
                if operation.has_splits:
                    is_even = is_even and len({tensor.numel() for tensor in tensors}) == 1
            if operation.is_share:
                size *= group.size
            if not on_host and group.device_backend is None:
                group.device_backend = backend_of(process_group, first.device.type)
        return self.kinds[operation, group, size, dtype, is_async, is_even, on_host, reduce_op]

    def started(self, kind: CollectiveKind, start: int, sequence: int | None) -> CollectiveEvent | None:
        """The event of a collective that began at ``start``; ``None`` where too many are in flight."""
        event = CollectiveEvent(kind, start, self.steps.boundaries, sequence)
        ring = self.ring
        if len(ring.flying) < ring.capacity:  # as ``begin``, which is one call more
            ring.flying[event] = None
        elif not ring.begin(event):
            return None
        cells = self.cells
        if cells is not None:
            event.at = at = cells.following()
            cells.pack(at, start, sequence or 0, kind.packed or cells.packed(kind))
        announce = self.on_first
        if announce is not None:
            self.on_first = None
            guarded(announce, event)
        return event

    def watch(self, event: CollectiveEvent, work: Any) -> None:
        """The call returned ``work``: finish the event when it completes.

        Where the caller is to wait at once, the return of that wait is the completion: no callback, for which the
        backend's thread would need the interpreter lock. On a device the event ends now: there torch completes a
        future when the work is enqueued, and the times are of the host's call alone.
        """
        try:
            kind = event.kind
            if not kind.on_host or work is None:
                self.finished(event)
            elif not (
                (kind.is_async is False or (kind.operation.is_p2p and not kind.group.p2p_has_futures))
                and self.expect(work, event)
            ):
                self.follow(event, work)
        except Exception:  # noqa: BLE001 - law 1
            self._failed_to_follow(event)

    def follow(self, event: CollectiveEvent, work: Any) -> None:
        """Finish the event by a callback of ``work``'s future."""
        # Not on the work's own future: a callback cannot be taken back from a future, and one that runs
        # while the interpreter is being finalised aborts the process. This one between is ours to complete.
        try:
            future = work.get_future()
        except RuntimeError:  # gloo's sends and receives have none: the caller's wait is the end
            if event.operation.is_p2p:
                event.group.p2p_has_futures = False
            if not self.expect(work, event):  # of a class with a wait of its own: the call is a bound
                self.ended_by_now(event)
            return
        if future.done():
            self._completed(event, future, None)
            return
        event.future = after = self._future_after([future])
        after.add_done_callback(functools.partial(self._completed, event, future))

    def follow_unwaited(self, event: CollectiveEvent, work: Any) -> None:
        """The caller did not wait after all: follow the future. When a work completed that has by now is not
        known."""
        try:
            event.is_late = work.is_completed()
            self.follow(event, work)
        except Exception:  # noqa: BLE001 - law 1
            self._failed_to_follow(event)

    def _failed_to_follow(self, event: CollectiveEvent) -> None:
        self.failure()
        self.ended_by_now(event)

    def ended_by_now(self, event: CollectiveEvent) -> None:
        """It ended, when is not known: now is a bound."""
        event.is_late = True
        self.finished(event)

    def finished(self, event: CollectiveEvent) -> None:
        """The call or the wait returned, and that was all."""
        self.ring.finish(event, monotonic_ns())

    def failed(self, event: CollectiveEvent, error: BaseException) -> None:
        """The call or the wait raised."""
        self.ring.finish(event, monotonic_ns(), failure_of(error))

    def abandoned(self, event: CollectiveEvent, error: str) -> None:
        """The call raised some time ago; when is not known."""
        event.is_late = True
        self.ring.finish(event, event.start, Failure(error))

    def _completed(self, event: CollectiveEvent, future: Any, _after: Any) -> None:
        try:
            end = monotonic_ns()
            failure = None
            try:
                future.value()
            except Exception as error:  # noqa: BLE001 - the collective's own, which its caller gets from wait()
                failure = failure_of(error)
            self.ring.finish(event, end, failure)
            event.future = None
        except Exception:  # noqa: BLE001 - law 1
            self.failure()

    def release_futures(self, events: Sequence[CollectiveEvent]) -> None:
        """Have nothing of ours run when these complete: the process ends, or capture is switched off."""
        for event in events:
            future = event.future
            if future is None:
                continue
            try:
                future.set_result(None)
            except RuntimeError:  # it completed just now; its callback waits for the interpreter lock
                for _ in range(_CALLBACK_TRIES):
                    if event.future is None:
                        break
                    time.sleep(0.001)
            # The backend's thread may be the last to drop it, with an interpreter that is no more: leak it.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(future))

    def failure(self) -> None:
        """An exception of ours is being handled: count it, log the first."""
        self.errors += 1
        if self.errors == 1:
            _logger.exception("otel-netmon: a collective was not recorded; further failures are only counted")
