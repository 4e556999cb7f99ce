"""Sends bytes to each address given, waits until all are acknowledged, and prints what we and ``ss`` say of it."""

import json
import socket
import subprocess
import sys
import time

from otel_netmon.monitors.own_sockets import OwnSockets

port, size, addresses = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
connections = []
for address in addresses:
    connection = socket.create_connection((address, port))
    connections.append(connection)
    block = bytes(1 << 16)
    left = size
    while left > 0:
        left -= connection.send(block[:left])
own = OwnSockets()
deadline = time.monotonic() + 60
while True:
    found = own.read(own.connections())
    if all(one.send_queue == 0 for one in found.values()) or time.monotonic() > deadline:
        break
    time.sleep(0.05)
time.sleep(0.3)  # the last timers: from now on nothing changes
ours = own.read(own.connections())
shown = subprocess.run(["ss", "-tinHO"], capture_output=True, text=True, check=True).stdout
print(
    json.dumps(
        {
            "ours": [
                {
                    "local": f"{c.local.address}:{c.local.port}",
                    "remote": f"{c.remote.address}:{c.remote.port}",
                    "unread": one.receive_queue,
                    "unacked": one.send_queue,
                    **one.info._asdict(),
                }
                for c, one in ours.items()
            ],
            "ss": shown,
        }
    )
)
