"""The backend on torch ≥ 2.14 where ``otel-netmon build`` was run: the hooks of ``HooksBackend``, in C++.

Calls are recorded without the interpreter lock, and so are their ends, by a callback of the work's future on the
thread that completes it. ``Work.wait`` is replaced by one in C++ that does the same and counts how long the main
thread was blocked. What has no hooks is captured as by ``HooksBackend``.
"""

from __future__ import annotations

import itertools
import os
import threading
from types import BuiltinFunctionType
from typing import TYPE_CHECKING, Any, Final

from otel_netmon import semconv
from otel_netmon.black_box import layout
from otel_netmon.capture.backends.hooks import HOOK_ID, HOOKS, HooksBackend
from otel_netmon.capture.native import loader
from otel_netmon.capture.native.source import NativeSource
from otel_netmon.capture.operations import OPERATION_NUMBERS, OPERATIONS, Operation
from otel_netmon.internals import torch_internals
from otel_netmon.patches import Patches

if TYPE_CHECKING:
    from weakref import ref

    from otel_netmon.black_box.box import Box
    from otel_netmon.capture.recorder import Recorder
    from otel_netmon.job.groups import Group, Groups

_IS_P2P, _IS_SHARE, _HAS_SPLITS, _SPLITS_UNKNOWN = 1, 2, 4, 8
_numbers: Final = itertools.count(1)
"""Of groups. None is given twice in a process: records of an earlier backend may still be on their way."""
_MOST_GONE: Final = 4096
"""Groups that are remembered after torch let go of them: their last calls may still be on their way."""


class NativeBackend(HooksBackend):
    """Hooks in C++ on every group. Raises in ``install`` where the module is not built."""

    def __init__(self, recorder: Recorder, groups: Groups) -> None:
        super().__init__(recorder, groups)
        self._module = loader.load()
        self._numbered: dict[int, tuple[ref[Any], Group]] = {}
        self._source = NativeSource(self._module, recorder, self._group_of)
        self._patches = Patches()
        self._box: Box | None = None

    def install(self) -> None:
        module, recorder = self._module, self._recorder
        module.start(
            recorder.ring.capacity,
            list(semconv.SECONDS_BUCKETS),
            list(map(float, semconv.BYTES_BUCKETS)),
            _table(),
            self._first_call,
            threading.main_thread().ident,
        )
        recorder.ring.source = self._source
        recorder.steps.listen(module.set_boundary)
        super().install()
        self._replace_wait()

    def _replace_wait(self) -> None:
        from torch.distributed import Work

        # Somebody else's would not be called by ours: then the waits are seen by another in Python around it.
        if isinstance(getattr(vars(Work).get("wait"), "__func__", None), BuiltinFunctionType):
            self.sees_waits = self._patches.put(
                Work, "wait", lambda original: self._module.make_wait(Work, original)
            )

    def remove(self) -> None:
        if not self._installed:
            return
        self._module.stop()
        self._patches.remove()
        if not threading.main_thread().is_alive():
            # At the end of the process other threads may be inside torch's loop over the hooks: those stay, and do
            # nothing any more.
            self._installed = False
            self._rest.remove()
            return
        super().remove()
        for _, group in self._numbered.values():
            group.count_with(itertools.count)
            if group.begun is not None:
                group.begun.count_with(itertools.count)
        self._recorder.steps.listen(None)

    def keep_last_calls(self, box: Box) -> None:
        for number, (_, group) in list(self._numbered.items()):
            if group.job is not None:  # others are named at their first call
                box.name_group(number, group.name)
        file = box.file()
        try:
            self._module.keep_last_calls(file, layout.NATIVE_CALLS_AT)
        finally:
            os.close(file)
        self._box = box

    def after_fork_in_child(self) -> None:
        self._box = None
        super().after_fork_in_child()
        self._source.after_fork_in_child()

    def _forget_calls(self) -> None:
        if self._installed:
            self._module.forget_parent(threading.main_thread().ident)

    @property
    def blocked(self) -> int:
        return int(self._module.blocked())

    def poll(self) -> None:
        super().poll()
        self._source.count_errors()

    def close_failed_calls(self) -> None:
        self._module.close_calls()

    def _hook(self, process_group: Any, group: Group, torchs: ref[Any]) -> None:
        number = next(_numbers)
        self._numbered[number] = torchs, group
        self._module.hook(process_group, HOOK_ID, number, group.size, group.count_with(self._module.Counter))
        if len(self._numbered) > _MOST_GONE:
            gone = [number for number, (one, _) in self._numbered.items() if one() is None]
            for number in gone[: len(self._numbered) - _MOST_GONE]:
                del self._numbered[number]

    def _group_of(self, number: int) -> tuple[Group, Any] | None:
        found = self._numbered.get(number)
        return None if found is None else (found[1], found[0]())

    def _first_call(self, number: int, is_first: bool) -> Any:
        """Called by a hook, on the training thread, at a group's first call and at the first of all. The counter
        of the collectives that all ranks of the job have begun, if those of this group are among them."""
        _, group = self._numbered[number]
        if is_first:
            announce, self._recorder.on_first = self._recorder.on_first, None
            if announce is not None:
                for event in self._source.in_flight()[:1]:
                    announce(event)
            return None
        group.placed()
        if self._box is not None:
            self._box.name_group(number, group.name)
        if group.begun is None:
            return None
        if not isinstance(group.begun.count, self._module.Counter):
            group.begun.count_with(self._module.Counter)
        return group.begun.count


def _table() -> list[tuple[int, bool, list[tuple[int, int]]]]:
    """``HOOKS`` by number: whether the buffer is the output, and the operations with what matters of them."""
    numbers = torch_internals.hook_numbers()
    return [
        (
            numbers[name],
            OPERATIONS[chosen[0]].is_output,
            [(OPERATION_NUMBERS[OPERATIONS[one]], _flags(OPERATIONS[one])) for one in chosen],
        )
        for name, chosen in HOOKS.items()
        if name in numbers
    ]


def _flags(operation: Operation) -> int:
    return (
        _IS_P2P * operation.is_p2p
        | _IS_SHARE * operation.is_share
        | _HAS_SPLITS * operation.has_splits
        | _SPLITS_UNKNOWN * bool(operation.splits)
    )
