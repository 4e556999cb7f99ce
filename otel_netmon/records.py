"""What is known, in plain frozen values: the same wherever it is written, read or asked about."""

from __future__ import annotations

from typing import NamedTuple


class ResourceUsage(NamedTuple):
    """Running totals: times in nanoseconds, switches as counts."""

    wait: int | None = None
    """The main thread in ``Work.wait``."""
    gc: int | None = None
    """Python's garbage collector, on any thread."""
    data: int | None = None
    """In ``__next__`` of a data loader."""
    cpu: int | None = None
    """All threads on a CPU."""
    run_queue: int | None = None
    """The main thread ready to run, and waiting for a CPU."""
    voluntary: int | None = None
    """Context switches of all threads, because they waited for something."""
    involuntary: int | None = None
    """The same, because another thread got the CPU."""

    def since(self, before: ResourceUsage) -> ResourceUsage:
        """What was added since ``before``."""
        return ResourceUsage(
            *(
                None if now is None or then is None else max(0, now - then)
                for now, then in zip(self, before, strict=True)
            )
        )


class PeerTraffic(NamedTuple):
    """What moved between this rank and ``peer`` in the ``interval`` seconds before ``at``, over all connections.

    ``at`` is in nanoseconds of the monotonic clock. Times in seconds; ``rtt`` is the longest smoothed round-trip
    time of those connections that moved, ``min_rtt`` the shortest that the kernel remembers; ``delivery_rate``
    (By/s) that of the fastest. Bytes are By. ``backoff`` counts doublings of the retransmission timeout;
    ``unacked`` and ``unread`` (By) are what the peer has not acknowledged and this process has not read. ``None``
    was not measured.
    """

    at: int
    interval: float
    peer: int
    host: str | None
    connections: int
    bytes_sent: int | None
    bytes_received: int | None
    segments_sent: int | None
    retransmits: int
    rtt: float | None
    rtt_variation: float | None
    min_rtt: float | None
    busy_time: float | None
    rwnd_limited_time: float | None
    sndbuf_limited_time: float | None
    delivery_rate: int | None
    backoff: int
    unacked: int
    unread: int
