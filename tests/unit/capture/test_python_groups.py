"""Process groups that are written in Python: their calls are seen, and they stay what they were."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from otel_netmon.capture.backends.dispatcher import DispatcherBackend
from otel_netmon.capture.backends.hooks import HooksBackend, are_available
from otel_netmon.capture.backends.native import NativeBackend
from otel_netmon.capture.backends.python_groups import PythonGroups
from otel_netmon.capture.capture import Capture
from otel_netmon.capture.native import loader
from otel_netmon.capture.recorder import Recorder
from otel_netmon.capture.ring import EventRing
from otel_netmon.capture.steps import StepTracker
from otel_netmon.job.groups import Groups
from tests.unit.capture.a_backend import Captured, Pair, built, with_backend

torch = pytest.importorskip("torch")
dist = torch.distributed


class DoneWork(dist.Work):  # type: ignore[misc, name-defined]  # torch is not typed here
    def __init__(self, result: Any) -> None:
        super().__init__()
        self.future: Any = torch.futures.Future()
        self.future.set_result(result)

    def get_future(self) -> Any:
        return self.future


class Mute(dist.Work):  # type: ignore[misc, name-defined]  # torch is not typed here
    """A work that has no future, and says so in its own way."""

    def wait(self, *_: Any) -> bool:
        return True

    def get_future(self) -> Any:
        raise NotImplementedError


class Written(dist.ProcessGroup):  # type: ignore[misc, name-defined]  # torch is not typed here
    def allreduce(self, tensors: Any, opts: Any = None) -> Any:
        return DoneWork(tensors)

    def allgather(self, outputs: Any, inputs: Any, opts: Any = None) -> Any:
        return Mute()

    def barrier(self, opts: Any = None) -> Any:
        return None

    def send(self, tensors: Any, to: int, tag: int) -> Any:
        raise ConnectionError("gone")

    def broadcast(self, tensors: Any, opts: Any = None) -> Any:
        return super().broadcast(tensors, opts)  # torch's own: hooks and dispatcher see it


class Watched:
    def __init__(self) -> None:
        self.ring = EventRing(100)
        recorder = Recorder(self.ring, StepTracker())
        self.recorder, self.groups = recorder, PythonGroups(recorder)
        self.written = Written(1, 4)
        self.groups.watch(self.written, Groups().of(self.written))

    def seen(self) -> list[tuple[str, int, bool, str | None]]:
        return [(e.operation.name, e.size, e.is_late, e.error) for e in self.ring.drain()]


def test_each_call_is_an_event_with_its_buffer() -> None:
    watched = Watched()
    tensor = torch.ones(4)
    work = watched.written.allreduce([tensor])
    assert work.get_future().value() == [tensor]
    watched.written.allgather([[tensor, tensor, tensor, tensor]], [tensor])
    watched.written.barrier()
    with pytest.raises(ConnectionError, match="gone"):
        watched.written.send([tensor], 0, tag=3)
    assert watched.seen() == [
        ("all_reduce", 16, False, None),
        ("all_gather", 64, True, None),  # when it ended nobody tells
        ("barrier", 0, False, None),
        ("send", 16, False, "ConnectionError"),
    ]
    assert watched.ring.in_flight() == [] and watched.recorder.errors == 0


def test_what_hands_on_to_torchs_own_is_left_to_the_other_backends() -> None:
    assert "broadcast" not in vars(Watched().written)


def test_removing_leaves_the_object_as_it_was() -> None:
    watched = Watched()
    mine = watched.written.barrier
    name, other = "allgather", print
    setattr(watched.written, name, other)
    watched.groups.remove()
    assert vars(watched.written) == {"allgather": other}
    assert watched.written.barrier != mine
    watched.written.allreduce([torch.ones(1)])
    assert watched.seen() == []


def test_a_group_that_is_let_go_goes() -> None:
    watched = Watched()
    ref = weakref.ref(watched.written)
    gc.collect()
    gc.disable()  # by its count of references alone
    try:
        del watched.written
        assert ref() is None
    finally:
        gc.enable()


def test_torchs_own_groups_are_not_touched() -> None:
    groups = PythonGroups(Watched().recorder)
    groups.watch(object(), Groups().of(object.__new__(type("Plain", (), {}))))
    assert groups._replaced == []


@contextlib.contextmanager
def known_to_torch(group: Any) -> Iterator[Any]:
    from torch.distributed import distributed_c10d as c10d

    c10d._world.pg_map[group] = ("mine", None)
    try:
        yield group
    finally:
        del c10d._world.pg_map[group]


BACKENDS = [
    DispatcherBackend,
    *([HooksBackend] if are_available() else []),
    *([NativeBackend] if loader.load() is not None else []),
]


@pytest.mark.parametrize("backend_of", BACKENDS)
def test_every_backend_sees_to_them(backend_of: Any) -> None:
    """One that torch registers, without a name; and one that was there before."""
    ring = EventRing(100)
    recorder = Recorder(ring, StepTracker())
    backend = backend_of(recorder, Groups())
    made, before = Written(0, 2), Written(0, 3)
    with known_to_torch(before):
        backend.install()
        backend.group_created(made)
        backend.poll()
    try:
        for written in (made, before):
            written.allreduce([torch.ones(4)])
        events = ring.drain()
        assert [event.group.size for event in events] == [2, 3]
        assert {event.group.name for event in events} == {"unnamed-1", "unnamed-2"}
    finally:
        backend.remove()
    assert vars(made) == vars(before) == {}


class Around(dist.ProcessGroup):  # type: ignore[misc, name-defined]  # torch is not typed here
    """Makes its calls of those of another group, as torchft's do."""

    def __init__(self, inner: Any) -> None:
        super().__init__(0, 1)
        self.inner = inner

    def allreduce(self, tensors: Any, opts: Any = None) -> Any:
        return self.inner.allreduce(tensors)

    def recv(self, tensors: Any, source: int, tag: int) -> Any:
        return self.inner.recv(tensors, source, tag)


needs_backends_in_python = pytest.mark.skipif(not are_available(), reason="torch 2.14 is the first that has them")


def calling(allreduce: Callable[[Any], Any]) -> Any:
    """torch's own group, with a backend in Python."""

    class Beneath(torch._C._distributed_c10d.Backend):  # type: ignore[misc, name-defined]  # torch is not typed here
        def __init__(self) -> None:
            super().__init__(0, 1)

        def allreduce(self, tensors: Any, opts: Any = None) -> Any:
            return allreduce(tensors)

    return with_backend(Beneath())


def over(inner: Any) -> Any:
    return calling(inner.allreduce)


@pytest.mark.parametrize("backend_of", BACKENDS)
@pytest.mark.parametrize("around", [Around, pytest.param(over, marks=needs_backends_in_python)])
def test_a_call_made_of_another_groups_is_one_of_each(backend_of: Any, around: Any, group: Any) -> None:
    captured = Captured(backend_of)
    middle = around(group)
    outer = around(middle)
    for each in (outer, middle):
        captured.backend.group_created(each)
    for _ in range(2):
        assert outer.allreduce([torch.ones(4)]).wait()
    events = sorted(captured.ended(6), key=lambda event: event.start)
    names = ["unnamed-1", "unnamed-2", group.group_name]
    assert [event.group.name for event in events] == [*names, *names]
    assert [event.sequence for event in events] == [1, 1, 1, 2, 2, 2]
    assert all(event.end is not None and event.size == 16 and not event.error for event in events)
    assert not captured.recorder.errors
    captured.close()


@pytest.fixture(
    params=["dispatcher", *(["hooks"] if are_available() else []), *(["native"] if loader.find() else [])]
)
def capture(request: pytest.FixtureRequest) -> Iterator[Capture]:
    theirs = vars(dist.Work)["wait"]
    made = Capture(100, Groups())
    assert made.install(request.param)
    yield made
    made.remove()
    made.close(made.ring.abandon())
    assert vars(dist.Work)["wait"] is theirs


def test_a_work_without_a_future_ends_when_its_caller_has_waited(capture: Capture) -> None:
    """gloo's receives have none. And the main thread's waits are counted once."""
    pair = Pair()
    with known_to_torch(Around(pair.first)) as outer:
        capture.poll()
        waited, so_far = 0, capture._blocked()
        for _ in range(2):
            work = outer.recv([torch.empty(4)], 1, 7)
            sender = threading.Timer(0.1, lambda: pair.second.send([torch.ones(4)], 0, 7).wait())
            sender.start()
            before = time.monotonic_ns()
            work.wait()
            after = time.monotonic_ns()
            waited += after - before
            sender.join()
            (event,) = (event for event in capture.ring.drain() if event.group.size == 1)
            assert event.end is not None and event.start + 80e6 < event.end <= after
            assert not event.is_late and not event.is_unseen
        assert 160e6 < capture._blocked() - so_far <= waited
        outer.recv([torch.empty(4)], 1, 7)  # which nobody waits for
        assert [event.is_unseen for event in capture.ring.in_flight() if event.group.size == 1] == [True]
        pair.second.send([torch.ones(4)], 0, 7).wait()
        capture.poll()
        gc.collect()
        assert [event.is_late for event in capture.ring.drain() if event.group.size == 1] == [True]


class Slow(dist.Work):  # type: ignore[misc, name-defined]  # torch is not typed here
    """Without a future, and with a wait of its own, which makes calls."""

    def wait(self, *_: Any) -> bool:
        dist.barrier()
        time.sleep(0.02)
        return True


@needs_backends_in_python
def test_a_work_in_python_ends_when_its_caller_has_waited(capture: Capture, group: Any) -> None:
    blocking = dist.AllreduceOptions()
    blocking.asyncOp = False
    with known_to_torch(calling(lambda _: Slow())) as outer:
        capture.poll()
        outer.allreduce([torch.ones(4)], blocking).wait()
        after = time.monotonic_ns()
    (event,) = (event for event in capture.ring.drain() if event.operation.name == "all_reduce")
    assert event.end is not None and event.start + 20e6 < event.end <= after
    assert not event.is_late and not event.is_unseen


@built()
def test_a_work_in_python_that_nobody_waits_for_ends_with_the_next_call(native: Captured) -> None:
    blocking = dist.AllreduceOptions()
    blocking.asyncOp = False
    outer = calling(lambda _: Slow())
    native.backend.group_created(outer)
    outer.allreduce([torch.ones(4)], blocking)
    (event,) = native.ring.in_flight()
    assert event.is_unseen
    dist.barrier()
    assert [(event.operation.name, event.is_late) for event in native.ended(2)] == [
        ("all_reduce", True),
        ("barrier", False),
    ]
    outer.allreduce([torch.ones(4)], blocking)
    native.backend.close_failed_calls()
    assert native.ended(1)[0].is_late
