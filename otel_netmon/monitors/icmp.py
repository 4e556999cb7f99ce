"""ICMP echo without privilege, by datagram sockets, to several addresses at once.

Linux lets a group of users do so where ``net.ipv4.ping_group_range`` has it in; IPv6 goes by the same setting.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from otel_netmon.monitors.tcp_connect import Attempts, error_word

_ECHO: Final = struct.Struct(">BBHHH8s")  # type, code, checksum and id (the kernel's), sequence, our token
_PROTOCOL: Final = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
_TYPES: Final[dict[int, tuple[int, int]]] = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}
"""Of an echo's request and reply."""


@dataclass
class _Line:
    connection: socket.socket
    found: Attempts
    sent: float | None = None
    """When the echo that is waited for was sent."""

    def fail(self, error: OSError) -> None:
        self.sent = None
        self.found.errors.append(error_word(error))


def allowed() -> bool:
    """Whether this process may send echoes. Costs a system call; sends nothing."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close()
    except OSError:
        return False
    return True


def ping(addresses: Iterable[str], attempts: int, timeout: float) -> dict[str, Attempts]:
    """Send each address ``attempts`` echoes, one after another, each with ``timeout`` seconds to come back.

    All addresses at once: it takes ``attempts * timeout`` seconds at most. Raises no OSError: what fails is a word
    in the result. An address that is not numeric is not looked up: it is ``name_not_resolved``.
    """
    results: dict[str, Attempts] = {}
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        lines: list[_Line] = []
        for address in addresses:
            found = results[address] = Attempts()
            try:
                family, _, _, _, where = socket.getaddrinfo(address, None, flags=socket.AI_NUMERICHOST)[0]
                connection = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM, _PROTOCOL[family]))
                connection.setblocking(False)
                connection.connect(where)  # so that only this address's answers, and errors, come in
            except (OSError, ValueError) as error:
                found.errors.append(error_word(error))
                continue
            lines.append(_Line(connection, found))
            selector.register(connection, selectors.EVENT_READ, lines[-1])
        for sequence in range(1, attempts + 1):
            _round(selector, lines, sequence, timeout)
    return results


def _round(selector: selectors.BaseSelector, lines: list[_Line], sequence: int, timeout: float) -> None:
    echo = (sequence, os.urandom(8))
    for line in lines:
        packet = _ECHO.pack(_TYPES[line.connection.family][0], 0, 0, 0, *echo)
        line.sent = time.perf_counter()
        try:
            line.connection.send(packet)
        except OSError as error:
            line.fail(error)
    deadline = time.perf_counter() + timeout
    while any(line.sent is not None for line in lines) and (left := deadline - time.perf_counter()) > 0:
        for key, _ in selector.select(left):
            _receive(key.data, echo)
    for line in lines:
        if line.sent is not None:
            line.fail(TimeoutError())


def _receive(line: _Line, echo: tuple[int, bytes]) -> None:
    try:
        data = line.connection.recv(256)
    except BlockingIOError:
        return
    except OSError as error:  # an ICMP error from the way
        if line.sent is not None:
            line.fail(error)
        return
    now = time.perf_counter()
    if line.sent is not None and len(data) >= _ECHO.size:
        kind, _, _, _, *answered = _ECHO.unpack_from(data)
        if kind == _TYPES[line.connection.family][1] and tuple(answered) == echo:
            line.found.times.append(now - line.sent)
            line.sent = None
