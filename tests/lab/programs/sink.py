"""Accepts connections on the port given and reads what comes, until its standard input closes."""

import os
import socket
import sys
import threading


def drain(connection: socket.socket) -> None:
    while connection.recv(1 << 20):
        pass


server = socket.create_server(("::", int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)


def serve() -> None:
    while True:
        connection, _ = server.accept()
        threading.Thread(target=drain, args=(connection,), daemon=True).start()


threading.Thread(target=serve, daemon=True).start()
sys.stdin.read()
os._exit(0)
