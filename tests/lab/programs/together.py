"""Sends to the address given for some seconds, as training would, and prints what the TCP monitor reads meanwhile
of its NIC and its connection together."""

import json
import socket
import sys
import time

from otel_netmon.job.peers import Connection, Endpoint, HostTrafficBuffer, Peer
from otel_netmon.monitors import TcpMonitor

address, port, rate, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
connection = socket.create_connection((address, port))
own = Connection(Endpoint(*connection.getsockname()[:2]), Endpoint(*connection.getpeername()[:2]))


class OnePeer:
    """A directory that knows this connection."""

    def exchange(self, _own: object) -> dict[Connection, Peer]:
        return {own: Peer(1, "far")}

    def some_hosts(self, _most: int) -> list[object]:
        return []

    def store_endpoint(self) -> None:
        return None


readings = HostTrafficBuffer()
monitor = TcpMonitor(directory=OnePeer(), nic_readings=readings)  # type: ignore[arg-type]  # no host is asked for
assert monitor.run_once()
sent, start = 0, time.monotonic()
block = bytes(1 << 16)
due = start + 1
while (now := time.monotonic()) < start + seconds:
    if sent < rate * (now - start):
        sent += connection.send(block)
    else:
        time.sleep(0.005)
    if now > due:
        due += 1
        assert monitor.run_once()
time.sleep(0.5)
assert monitor.run_once()
print(json.dumps({"sent": sent, "readings": [each._asdict() for each in readings.until(1 << 62)]}))
