"""Which rank is at the other end of a connection: what the ranks tell one another through the job's store.

Each rank writes one small key per connection of its own, named by both ends, once. Its peer looks for the key that
names the same two ends the other way round. So several ranks may share a host, and a connection that neither end
published is nobody's. Everything here runs in the thread of the monitor that asks, and waits for no other rank.
"""

from __future__ import annotations

import functools
import ipaddress
import json
import logging
import random
import socket
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

from otel_netmon import config
from otel_netmon.job.peers import Connection, Host, Peer
from otel_netmon.job.store import JobStore
from otel_netmon.text import bounded

_logger = logging.getLogger(__name__)

_KEY: Final = "otel_netmon/tcp/"
_HOST_KEY: Final = "otel_netmon/host/"
MAX_CONNECTIONS: Final = 1024
"""Connections that a rank publishes and asks for; a rank of an all-to-all among more ranks has more."""
_NEAR: Final = 17
"""Ranks up and down that are looked at for the hosts next to this one: 16 have their own GPU on one host."""
_PATIENCE: Final = 9
"""How often a peer that has not published is asked for: after 1, 2, 4, … rounds."""


class StoreDirectory:
    """The ``Directory`` of a job with a default group, through what ``store`` gives, as long as it gives one.

    Its methods may be called by different threads, each method by one at a time. ``exchange`` costs one write to
    the store per new connection, and one or two reads per connection whose peer is not known yet; ``some_hosts``
    at most four reads per host that it gives, and 32 more until the neighbours are known.
    """

    def __init__(self, store: Callable[[], JobStore | None], rank: int, size: int) -> None:
        self._store, self._rank, self._size = store, rank, size
        self._hosts: dict[int, Host] = {}
        self._neighbours: dict[int, int] = {}
        """Upwards (1) and downwards (-1), the next rank of another host, once it is known."""
        self._next = random.SystemRandom().randrange(size)  # so that not all hosts begin with the same one
        self._host = bounded(socket.gethostname())
        self._published: set[Connection] = set()
        self._peers: dict[Connection, Peer] = {}
        self._asked: dict[Connection, tuple[int, int]] = {}
        self._round = 0
        self._address: str | None = None
        self._crowded = False
        self._store_addresses: frozenset[str] | None = None

    def exchange(self, own: Collection[Connection]) -> dict[Connection, Peer]:
        """A store that does not answer costs what is new, not what is known."""
        store = self._store()
        if store is None:
            return {}
        now = set(own)
        self._published &= now
        self._peers = {one: peer for one, peer in self._peers.items() if one in now}
        self._asked = {one: asked for one, asked in self._asked.items() if one in now}
        self._publish(store, [one for one in own if one not in self._published])
        self._round += 1
        for one in own:
            if not store.answers:
                break
            if one in self._published and one not in self._peers and self._is_due(one):
                peer = self._ask(store, one)
                if peer is not None:
                    self._peers[one] = peer
                    self._asked.pop(one, None)
        return dict(self._peers)

    def _publish(self, store: JobStore, new: list[Connection]) -> None:
        room = MAX_CONNECTIONS - len(self._published)
        if len(new) > room and not self._crowded:
            self._crowded = True
            _logger.warning(
                "otel-netmon: this rank has over %d TCP connections; the rest is not watched", MAX_CONNECTIONS
            )
        value = json.dumps({"rank": self._rank, "host": self._host})
        for one in new[:room]:
            if not store.write(_KEY + _name(one), value):
                return
            self._published.add(one)
        if new:
            self._publish_address(store)

    def _publish_address(self, store: JobStore) -> None:
        """The address that most connections start from, for those who want to reach this host."""
        starts = Counter(one.local.address for one in self._published if not _is_loopback(one.local.address))
        address = starts.most_common(1)[0][0] if starts else None
        if address is not None and address != self._address:
            value = json.dumps({"host": self._host, "address": address})
            if store.write(f"{_HOST_KEY}{self._rank}", value):
                self._address = address

    def _is_due(self, one: Connection) -> bool:
        tries, when = self._asked.get(one, (0, 0))
        if tries >= _PATIENCE or self._round < when:
            return False
        self._asked[one] = (tries + 1, self._round + (1 << tries))
        return True

    def _ask(self, store: JobStore, one: Connection) -> Peer | None:
        is_store = self._is_store(store, one)
        value = store.read(_KEY + _name(Connection(one.remote, one.local)))
        if value is None:
            return Peer(None, None, True) if is_store and store.answers else None
        entry = _parsed(value)
        rank, host = entry.get("rank"), entry.get("host")
        if not isinstance(rank, int) or not isinstance(host, str):
            return None
        return Peer(rank, bounded(host), is_store)

    def _is_store(self, store: JobStore, one: Connection) -> bool:
        if store.address is None:
            return False
        host, port = store.address
        return any(end.port == port and end.address in self._addresses_of(host) for end in one)

    def _addresses_of(self, host: str) -> frozenset[str]:
        if self._store_addresses is None:
            try:
                found = {str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
            except OSError:
                found = {host}
            mapped = (ipaddress.ip_address(one.partition("%")[0]) for one in found if _is_address(one))
            self._store_addresses = frozenset(str(getattr(one, "ipv4_mapped", None) or one) for one in mapped)
        return self._store_addresses

    def store_endpoint(self) -> tuple[str, int] | None:
        store = self._store()
        return None if store is None else store.address

    def some_hosts(self, most: int) -> list[Host]:
        store = self._store()
        if store is None:
            return []
        own = self._host_of(store, self._rank)
        hosts = dict(self._next_to(store, own)[: most // 2])
        for _ in range(min(2 * most, self._size)):
            if len(hosts) >= most:
                break
            asked, self._next = self._next, (self._next + 1) % self._size
            host = None if asked == self._rank else self._host_of(store, asked)
            if host is not None and (own is None or host.address != own.address):
                hosts[host.address] = host
        return list(hosts.values())

    def _next_to(self, store: JobStore, own: Host | None) -> list[tuple[str, Host]]:
        """The hosts of the next ranks up and down that are not on this one: collectives in a ring join them."""
        found: dict[str, Host] = {}
        for way in (1, -1):
            steps = (self._rank + way * step for step in range(1, min(_NEAR, self._size)))
            known = self._neighbours.get(way)
            for rank in [one % self._size for one in steps] if known is None else [known]:
                host = self._host_of(store, rank)
                if host is None or own is None:
                    break  # it has not said yet: ask again the next time
                if host.address != own.address:
                    self._neighbours[way] = rank
                    found[host.address] = host
                    break
        return list(found.items())

    def _host_of(self, store: JobStore, rank: int) -> Host | None:
        known = self._hosts.get(rank)
        value = store.read(f"{_HOST_KEY}{rank}") if known is None else None
        if value is not None:
            entry = _parsed(value)
            name, address = entry.get("host"), entry.get("address")
            if isinstance(name, str) and isinstance(address, str) and _is_address(address):
                known = Host(bounded(name), address)
                if len(self._hosts) < MAX_CONNECTIONS:
                    self._hosts[rank] = known
        return known


def _name(one: Connection) -> str:
    """The key of a connection. Loopback addresses mean another host elsewhere, so it names that as well."""
    name = f"{one.local.address}|{one.local.port}|{one.remote.address}|{one.remote.port}"
    return f"{name}|{_this_host()}" if _is_loopback(one.local.address) else name


def _parsed(value: str) -> dict[str, Any]:
    """What is in a value of ours; nothing where others wrote it."""
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


@functools.lru_cache(maxsize=4096)
def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@functools.cache
def _this_host() -> str:
    """Identifies this network namespace: the boot, and the number of the namespace."""
    boot = config.current().proc_root / "sys" / "kernel" / "random" / "boot_id"
    try:
        namespace = str(Path("/proc/self/ns/net").readlink())
        return bounded(boot.read_text(encoding="ascii", errors="replace").strip()[:64] + namespace)
    except OSError:
        return bounded(socket.gethostname())
