"""Process groups that are written in Python: their calls are seen, and they stay what they were."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from otel_netmon.capture.backends.dispatcher import DispatcherBackend
from otel_netmon.capture.backends.hooks import HooksBackend, are_available
from otel_netmon.capture.backends.native import NativeBackend
from otel_netmon.capture.backends.python_groups import PythonGroups
from otel_netmon.capture.native import loader
from otel_netmon.capture.recorder import Recorder
from otel_netmon.capture.ring import EventRing
from otel_netmon.capture.steps import StepTracker
from otel_netmon.job.groups import Groups
from tests.unit.capture.a_backend import Captured, with_backend

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


BACKENDS = [
    DispatcherBackend,
    *([HooksBackend] if are_available() else []),
    *([NativeBackend] if loader.load() is not None else []),
]


@pytest.mark.parametrize("backend_of", BACKENDS)
def test_every_backend_sees_to_them(backend_of: Any) -> None:
    """One that torch registers, without a name; and one that was there before."""
    from torch.distributed import distributed_c10d as c10d

    ring = EventRing(100)
    recorder = Recorder(ring, StepTracker())
    backend = backend_of(recorder, Groups())
    made, before = Written(0, 2), Written(0, 3)
    c10d._world.pg_map[before] = ("mine", None)
    try:
        backend.install()
        backend.group_created(made)
        backend.poll()
        for written in (made, before):
            written.allreduce([torch.ones(4)])
        events = ring.drain()
        assert [event.group.size for event in events] == [2, 3]
        assert {event.group.name for event in events} == {"unnamed-1", "unnamed-2"}
    finally:
        del c10d._world.pg_map[before]
        backend.remove()
    assert vars(made) == vars(before) == {}


class Around(dist.ProcessGroup):  # type: ignore[misc, name-defined]  # torch is not typed here
    """Makes its calls of those of another group, as torchft's do."""

    def __init__(self, inner: Any) -> None:
        super().__init__(0, 1)
        self.inner = inner

    def allreduce(self, tensors: Any, opts: Any = None) -> Any:
        return self.inner.allreduce(tensors)


needs_backends_in_python = pytest.mark.skipif(not are_available(), reason="torch 2.14 is the first that has them")


def over(inner: Any) -> Any:
    """The same by torch's own group, with a backend in Python."""

    class Beneath(torch._C._distributed_c10d.Backend):  # type: ignore[misc, name-defined]  # torch is not typed here
        def __init__(self) -> None:
            super().__init__(0, 1)

        def allreduce(self, tensors: Any, opts: Any = None) -> Any:
            return inner.allreduce(tensors)

    return with_backend(Beneath())


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
