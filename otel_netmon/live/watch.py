"""The thread that tells this rank's digest and, on one rank, reads all of them and diagnoses."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Final

from otel_netmon import threads
from otel_netmon.job.slow_steps import SlowSteps
from otel_netmon.live.digest import pack
from otel_netmon.live.exchange import Exchange, Leader, StoreGone
from otel_netmon.live.judge import Judge, Look
from otel_netmon.live.outbox import Outbox
from otel_netmon.live.settling import mark_of

_logger = logging.getLogger(__name__)

INTERVAL: Final = 2.0
"""Seconds between two digests of a rank."""
SOONER: Final = 0.5
"""Share of that after which there is another look, if there is something that two have to agree on."""
PATIENCE: Final = 12.0
"""Seconds without a sign of the leader after which the next rank leads, ..."""
_STAGGER: Final = 1 / 3
"""... and this share of that more for each rank before this one, so that the lowest is first."""
_MOST_STAGGERED: Final = 16
_REST: Final = 4.0
"""How many times as long as a look took there is none after it, at least."""
_RETRIES: Final = 3
"""Times that the store may fail in a row."""


class Watch:
    """One job's. ``start`` and ``stop`` once each; nothing raises into them."""

    def __init__(
        self,
        rank: int,
        world_size: int,
        outbox: Outbox,
        connect: Callable[[], Exchange | None],
        tell: Callable[[Look], None],
        *,
        slow: SlowSteps | None = None,
        interval: float = INTERVAL,
        patience: float = PATIENCE,
    ) -> None:
        """``connect`` gives the exchange once there is one; ``tell`` is told on the rank that leads, each look.
        ``slow``: this rank's slow steps, which the leader's are for all."""
        self._slow = slow or SlowSteps()
        self._rank = rank
        self._world_size = world_size
        self._outbox = outbox
        self._connect = connect
        self._tell = tell
        self._interval = interval
        self._patience = patience
        self._exchange: Exchange | None = None
        self._stop = threads.Event()
        self._thread: threads.Running | None = None
        self._judge: Judge | None = None
        self._leader: Leader | None = None
        self._leader_seen = time.monotonic()
        self._beats = 0
        self._told: tuple[int, ...] = ()
        """Marks of what stands, as who leads says."""
        self.rest = interval
        """Seconds from the last look to the next one."""

    def start(self) -> None:
        """Start the thread."""
        self._slow.share(True)
        self._thread = threads.start(self._run, "otel-netmon-live")

    def stop(self, timeout: float) -> None:
        """End it with a last word, and wait for that so many seconds at most."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            self._go_on()
        finally:
            self._slow.share(False)

    def _go_on(self) -> None:
        failed = 0
        # Not all ranks at the same moment: one server answers them.
        self._stop.wait(self._interval * (self._rank % 64) / 64)
        while not self._stop.is_set():
            try:
                self.look()
                failed = 0
            except StoreGone as error:
                failed += 1
                if failed == _RETRIES:
                    _logger.info("otel-netmon: live diagnosis ends: %s", error)
                    return
            except Exception:
                _logger.exception("otel-netmon: live diagnosis failed and ends; training goes on")
                return
            self._stop.wait(self.rest)
        with contextlib.suppress(StoreGone):
            if self._exchange is not None:
                self._exchange.publish(self._rank, pack(self._outbox.next(is_last=True)))

    def look(self) -> None:
        """Tell, and if it is this rank that leads, read, diagnose and tell what changed."""
        exchange = self._exchange = self._exchange or self._connect()
        if exchange is None:
            return
        suited = self._outbox.suited()
        exchange.publish(self._rank, pack(self._outbox.next()))
        self.rest = self._interval
        leads = self._leads(exchange, suited)
        self._outbox.tell_every(suited if self._leader is None else self._leader.stride)
        if not leads:
            self._judge = None
            return
        judge = self._judge = self._judge or Judge(threads.Pace().give_way, self._told)
        look = judge.look(time.monotonic(), exchange.read(range(self._world_size)))
        self.rest = max(self._interval * (SOONER if look.is_pending else 1.0), _REST * look.cost)
        self._told = tuple(map(mark_of, look.told))
        self._tell(look)

    def _leads(self, exchange: Exchange, stride: int) -> bool:
        now = time.monotonic()
        leader = exchange.leader()
        if leader != self._leader:
            self._leader, self._leader_seen = leader, now
        if leader is not None and leader.rank != self._rank:
            self._told = leader.told
            if now == self._leader_seen:
                self._slow.hear(leader.judged)
        is_mine = leader is not None and leader.rank == self._rank
        patience = self._patience * (1 + _STAGGER * min(self._rank, _MOST_STAGGERED))
        if leader is None and self._rank == 0:
            is_mine = True
        elif not is_mine and now - self._leader_seen > patience:
            is_mine = True
            _logger.info("otel-netmon: rank %d diagnoses from now on: the one before is silent", self._rank)
        if is_mine:
            self._beats += 1
            judged = self._slow.lead()
            self._leader, self._leader_seen = Leader(self._rank, self._beats, stride, self._told, judged), now
            exchange.lead(self._leader)
        return is_mine
