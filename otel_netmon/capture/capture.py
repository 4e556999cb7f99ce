"""The training side of a process, put together: what is installed in torch, and what is recorded."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from otel_netmon.black_box.box import Box, open_own
from otel_netmon.capture import lifecycle
from otel_netmon.capture.backends import hooks
from otel_netmon.capture.backends.base import CaptureBackend, installed
from otel_netmon.capture.backends.dispatcher import DispatcherBackend
from otel_netmon.capture.backends.flight_recorder import FlightRecorderBackend
from otel_netmon.capture.backends.native import NativeBackend
from otel_netmon.capture.last_calls import Cells
from otel_netmon.capture.native import loader
from otel_netmon.capture.operations import OPERATIONS
from otel_netmon.capture.recorder import Recorder
from otel_netmon.capture.ring import EventRing
from otel_netmon.capture.steps import StepTracker
from otel_netmon.capture.usage import UsageSampler
from otel_netmon.capture.work_waits import WorkWaitHook
from otel_netmon.guard import guarded
from otel_netmon.internals.torch_internals import keep_compiler_out, registered_groups
from otel_netmon.patches import Patches

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.job.groups import Groups

_logger = logging.getLogger(__name__)


class Capture:
    """Records collectives into ``ring``, and what separates steps into ``steps``, from ``install`` to ``remove``.

    ``on_activity`` is called, on the training thread, at the first event and with every new group: it may start
    what drains the ring. ``on_closing`` and ``on_destroyed`` are called around the destruction of all groups;
    ``begun`` gives how many collectives all ranks of the job have begun together, and ``throttled`` for how many
    nanoseconds a CPU quota has stopped the process. torch must be imported.
    """

    def __init__(
        self,
        capacity: int,
        groups: Groups,
        *,
        keeps_messages: bool = True,
        begun: Callable[[], int] = lambda: 0,
        throttled: Callable[[], int | None] = lambda: None,
        on_activity: Callable[[], None] = lambda: None,
        on_closing: Callable[[], None] = lambda: None,
        on_destroyed: Callable[[], None] = lambda: None,
    ) -> None:
        self._groups = groups
        self._on_activity, self._on_closing, self._on_destroyed = on_activity, on_closing, on_destroyed
        self.ring = EventRing(capacity, keeps_messages=keeps_messages)
        self._waits = WorkWaitHook(self.ring)
        self._usage = UsageSampler(self._blocked, throttled)
        self.steps = StepTracker(read=self._usage.read, begun=begun, pauses=self._usage.pauses_before)
        self.recorder = Recorder(self.ring, self.steps, self._waits.expect)
        self._patches = Patches()
        self.sees_groups = False
        """Whether each new group is seen when it is made, and need not be looked for."""
        self._backend: CaptureBackend | None = None
        self._optimizer_hook: Any = None
        self.box: Box | None = None
        """Where the last collectives stand as well, should this process be killed."""

    def install(self, kind: str, *, from_the_start: bool = False) -> bool:
        """Begin to capture with the backend that ``OTEL_NETMON_CAPTURE`` calls ``kind``; whether that is done.

        Where no backend can be installed, nothing is. What else this torch lacks costs only what it gives.
        ``from_the_start``: torch was imported just now, so that no optimizer exists yet.
        """
        guarded(keep_compiler_out)
        self.recorder.on_first = self._first_event
        self._backend = self._install_backend(kind)
        if self._backend is None:
            return False
        self.steps.from_the_start = from_the_start
        if self._backend.sees_waits:  # but for works of process groups that are written in Python
            self._waits.install_when_needed(self.recorder.follow_unwaited)
        elif self._backend.records_calls:
            installed(
                "the ends of blocking calls are seen late",
                lambda: self._waits.install(self.recorder.follow_unwaited),
                self._waits.remove,
            )
        installed("what a step used is not measured", self._usage.install, self._usage.remove)
        installed("setup is taken for a part of the first step", self._watch_lifecycle, self._patches.remove)
        installed("steps do not end with optimizers: mark them with otel_netmon.step()", self._hook_optimizers)
        return True

    def _install_backend(self, kind: str) -> CaptureBackend | None:
        classes = choose(kind)
        for cls, instead in zip(classes, (*classes[1:], None), strict=True):
            backend = cls(self.recorder, self._groups)
            costs = "no collective is captured" if instead is None else f"capturing by {instead.__name__} instead"
            if installed(f"{cls.__name__} cannot be installed: {costs}", backend.install, backend.remove):
                return backend
        return None

    def _blocked(self) -> int:
        backend = self._backend
        return backend.blocked if backend is not None and backend.sees_waits else self._waits.blocked

    def _watch_lifecycle(self) -> None:
        self.sees_groups = lifecycle.install(
            self._patches,
            constructed=self.steps.constructed,
            registered=self._group_registered,
            closing=self._groups_closing,
            destroyed=self._on_destroyed,
        )

    def _hook_optimizers(self) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        self._optimizer_hook = register_optimizer_step_post_hook(self._optimizer_stepped)

    def keep_last_calls(self) -> None:
        """From now on, write each collective to a box of this process's, where a launcher waits for one."""
        if self.box is not None or self._backend is None:
            return
        self.box = open_own([operation.name for operation in OPERATIONS.values()])
        if self.box is not None:
            self.recorder.kinds.clear()  # they may be packed for an earlier one
            self._backend.keep_last_calls(self.box)
            self.recorder.cells = Cells(self.box)

    def noted(self, events: list[CollectiveEvent]) -> None:
        """These were taken out of the ring: their ends are known."""
        if self.recorder.cells is not None:
            self.recorder.cells.ended(events)

    def exported(self) -> None:
        """All that was recorded is: nobody need read the box. For when the process ends, or capture is over."""
        box, self.box, self.recorder.cells = self.box, None, None
        if box is not None:
            box.close()

    def remove(self) -> None:
        """Take everything out of torch but the usage sampler: the last step is still to be closed. Called by a
        thread that is inside no collective."""
        guarded(self._waits.remove)  # its `Work.wait` may stand around the backend's
        if self._backend is not None:
            guarded(self._backend.close_failed_calls)
            guarded(self._backend.remove)
        guarded(self._patches.remove)
        if self._optimizer_hook is not None:
            guarded(self._optimizer_hook.remove)
            self._optimizer_hook = None

    def close(self, in_flight: Sequence[CollectiveEvent]) -> None:
        """After ``remove`` and the last round: have nothing of ours run when those in flight complete."""
        guarded(self.recorder.release_futures, in_flight)
        guarded(self._usage.remove)

    def after_fork_in_child(self) -> None:
        """What was recorded is the parent's, and the first event is yet to come."""
        self.recorder.on_first = self._first_event
        self.recorder.errors = 0
        self.box = self.recorder.cells = None

    @property
    def announces_activity(self) -> bool:
        """Whether ``on_activity`` will be called before there is anything to poll for."""
        return self.records_calls and self.sees_groups and not registered_groups()

    @property
    def records_calls(self) -> bool:
        """Whether collectives are recorded as they are called, rather than found by polling."""
        return self._backend is not None and self._backend.records_calls

    @property
    def known_until(self) -> int:
        """Until when, in ns of the monotonic clock, it is known which collectives ended."""
        return time.monotonic_ns() if self._backend is None else self._backend.known_until

    def poll(self) -> None:
        """Take in what the training thread does not bring; from the background, every second at least."""
        if self._backend is not None:
            guarded(self._backend.poll)
        guarded(self._waits.poll)

    def _first_event(self, event: CollectiveEvent) -> None:
        self.steps.begin(event.start)
        self._on_activity()

    def _group_registered(self, process_group: Any) -> None:
        if self._backend is not None:
            guarded(self._backend.group_created, process_group)
        self._on_activity()

    def _groups_closing(self) -> None:
        if self._backend is not None:
            guarded(self._backend.groups_closing)
        self._on_closing()

    def _optimizer_stepped(self, optimizer: object, _args: object, _kwargs: object) -> None:
        guarded(self.steps.optimizer_stepped, optimizer)


def choose(kind: str) -> tuple[type[CaptureBackend], ...]:
    """The backend that ``kind`` names, or for ``auto`` the cheapest that this torch has, whatever its version; and
    after it the one that stands in where it cannot be installed."""
    if kind == "flight_recorder":
        return FlightRecorderBackend, DispatcherBackend
    if kind in ("auto", "native", "hooks"):
        if hooks.are_available():
            in_python = hooks.HooksBackend, DispatcherBackend
            if kind != "hooks" and loader.load() is not None:
                return NativeBackend, *in_python
            if kind == "native" and loader.find() is None:
                _logger.warning(
                    "otel-netmon: OTEL_NETMON_CAPTURE=native, but the native capture is not built for this torch "
                    "and Python: run `otel-netmon build`; capturing by hooks in Python, which see the same at a "
                    "higher cost per call"
                )
            return in_python
        if kind != "auto":
            _logger.warning(
                "otel-netmon: OTEL_NETMON_CAPTURE=%s, but this torch has no process-group hooks (2.14 is the "
                "first that has); capturing in the dispatcher, which sees the same at a higher cost per call",
                kind,
            )
    return (DispatcherBackend,)
