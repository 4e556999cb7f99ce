"""Who is at the other end of a connection: asked by the monitors, answered by the training side. Needs no torch.

The training side puts a ``Directory`` here while a process group stands; the monitors put what they saw of each
pair of ranks here, and the training side shows it on its spans. Neither needs to know the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from otel_netmon import forks, threads
from otel_netmon.records import HostTraffic, PeerTraffic

MAX_READINGS: Final = 4096


class Endpoint(NamedTuple):
    """An address as text, IPv4 where it is mapped into IPv6, and a port."""

    address: str
    port: int


class Connection(NamedTuple):
    """A TCP connection, seen from one of its ends."""

    local: Endpoint
    remote: Endpoint


class Peer(NamedTuple):
    """Whom a connection leads to. ``is_store`` marks those of the rendezvous store, perhaps of unknown rank."""

    rank: int | None
    host: str | None
    is_store: bool = False


class Host(NamedTuple):
    """A host of the job: its name, and the address that its ranks use for training."""

    name: str
    address: str


class Directory(Protocol):
    """What the ranks of a job told one another. Its methods do I/O and may raise."""

    def exchange(self, own: Collection[Connection]) -> dict[Connection, Peer]:
        """Tell the others of ``own``, this process's connections; give the peer of each that is the training's."""
        ...

    def some_hosts(self, most: int) -> list[Host]:
        """At most ``most`` other hosts of the job: up to half of them those next to this one, by rank, others in
        turn: each call goes on where the one before ended."""
        ...

    def store_endpoint(self) -> tuple[str, int] | None:
        """Host and port of the job's TCP store; ``None`` where it has another kind."""
        ...


_Reading = TypeVar("_Reading", PeerTraffic, HostTraffic)


class ReadingBuffer(Generic[_Reading]):
    """The last readings that no span has shown yet; the oldest go first when nobody takes them."""

    def __init__(self) -> None:
        self._lock = threads.Lock()
        self._kept: deque[_Reading] = deque(maxlen=MAX_READINGS)
        self.dropped = 0
        """Readings that no span shows: of steps that are not sampled, from between two periods, or too many."""
        self.listener: Callable[[Collection[_Reading]], None] | None = None
        """Who is told of each as it is read."""

    def after_fork_in_child(self) -> None:
        """A child has no part in its parent's training."""
        self._lock = threads.Lock()
        self._kept.clear()
        self.dropped = 0
        self.listener = None

    def extend(self, readings: Collection[_Reading]) -> None:
        """Add what was read now."""
        with self._lock:
            self.dropped += max(0, len(self._kept) + len(readings) - MAX_READINGS)
            self._kept.extend(readings)
        listener = self.listener
        if listener is not None:
            listener(readings)

    def unseen(self, count: int) -> None:
        """Count readings that were taken out, and are shown by no span."""
        with self._lock:
            self.dropped += count

    def since(self, at: int) -> list[_Reading]:
        """Take out those made after ``at`` (ns of the monotonic clock), oldest first."""
        found: list[_Reading] = []
        with self._lock:
            while self._kept and self._kept[-1].at > at:
                found.append(self._kept.pop())
        return found[::-1]

    def until(self, at: int) -> list[_Reading]:
        """Take out those made up to ``at`` (ns of the monotonic clock), oldest first."""
        found: list[_Reading] = []
        with self._lock:
            while self._kept and self._kept[0].at <= at:
                found.append(self._kept.popleft())
        return found


PeerTrafficBuffer: TypeAlias = ReadingBuffer[PeerTraffic]
HostTrafficBuffer: TypeAlias = ReadingBuffer[HostTraffic]

directory: Directory | None = None
"""The process's own, while there is one."""

readings: Final = forks.register(PeerTrafficBuffer())
"""The process's own."""

nic_readings: Final = forks.register(HostTrafficBuffer())
"""The same, of NICs."""


@forks.register_function
def _leave() -> None:
    global directory  # noqa: PLW0603  # the process's own
    directory = None
