"""Process groups that are written in Python (torchft's are): torch calls their methods past hooks and dispatcher.

Each method that a class in Python defines is replaced on the object, and nowhere else, so that its calls pass
here. One that calls torch's own method is left alone: hooks and dispatcher see that call.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from otel_netmon.capture.operations import OPERATIONS, Operation, tensors_in
from otel_netmon.guard import guarded

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.capture.recorder import Recorder
    from otel_netmon.job.groups import Group

_METHODS: Final = {name.removesuffix("_"): operation for name, operation in OPERATIONS.items()} | {
    "recv_anysource": OPERATIONS["recv_any_source_"]
}

_CALLS_TORCHS_OWN: Final = {"super", "ProcessGroup"}


class PythonGroups:
    """Replaces methods of the groups given to ``watch``, until ``remove``. Keeps no group alive."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._replaced: list[tuple[weakref.ref[Any], str, Any]] = []

    def watch(self, process_group: Any, group: Group) -> None:
        """Record the calls of ``process_group``, if it is written in Python, as those of ``group``."""
        own = getattr(process_group, "__dict__", None)
        if own is None:
            return
        ref = weakref.ref(process_group)
        self._replaced = [each for each in self._replaced if each[0]() is not None]
        for name, operation in _METHODS.items():
            function = _written_in_python(type(process_group), name)
            if function is not None and name not in own:
                ours = _passing(function, operation, ref, group, self._recorder)
                setattr(process_group, name, ours)
                self._replaced.append((ref, name, ours))

    def remove(self) -> None:
        """Put everything back, but for what somebody else has replaced since."""
        replaced, self._replaced = self._replaced, []
        for ref, name, ours in replaced:
            process_group = ref()
            if process_group is not None and process_group.__dict__.get(name) is ours:
                guarded(delattr, process_group, name)


def _written_in_python(cls: type, name: str) -> FunctionType | None:
    from torch.distributed import ProcessGroup

    for each in cls.__mro__:
        if each is ProcessGroup:  # torch's own, and what we put there
            return None
        if name in each.__dict__:
            found = each.__dict__[name]
            is_seen_only_here = isinstance(found, FunctionType) and not _CALLS_TORCHS_OWN & set(
                found.__code__.co_names
            )
            return found if is_seen_only_here else None
    return None


def _passing(
    function: FunctionType, operation: Operation, ref: weakref.ref[Any], group: Group, recorder: Recorder
) -> Callable[..., Any]:
    buffer = operation.buffer

    def begin(args: Sequence[Any]) -> CollectiveEvent | None:
        try:
            sequence = None if operation.is_p2p else group.next_sequence()
            # Arguments are the output, then the input; or tensors that are both.
            tensors = () if buffer is None else tensors_in(args[1 if buffer.startswith("input") else 0])
            # Such a group waits as it likes: whether async_op was asked for says nothing about its works.
            return recorder.begin(operation, group, ref, tensors, None, sequence, not operation.has_splits)
        except Exception:  # noqa: BLE001 - law 1
            recorder.failure()
            return None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        event = begin((*args, *kwargs.values()))
        try:
            result = function(ref(), *args, **kwargs)
        except BaseException as error:
            if event is not None:
                recorder.failed(event, error)
            raise
        if event is not None:
            _end(recorder, event, result)
        return result

    return call


def _end(recorder: Recorder, event: CollectiveEvent, work: Any) -> None:
    """Follow the work's future; without one, the return of the call is a bound for the end."""
    if work is None or not event.on_host:
        recorder.finished(event)
        return
    try:
        recorder.follow(event, work)
    except Exception:  # noqa: BLE001 - a work written in Python may have none, and raise anything
        recorder.ended_by_now(event)
