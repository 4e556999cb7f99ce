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
from dataclasses import dataclass, field
from typing import Final

from otel_netmon.monitors.tcp_connect import TIMEOUT, error_word

_ECHO: Final = struct.Struct(">BBHHH8s")  # type, code, checksum and id (the kernel's), sequence, our token
_PROTOCOL: Final = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
_REQUEST: Final = {socket.AF_INET: 8, socket.AF_INET6: 128}
_REPLY: Final = {socket.AF_INET: 0, socket.AF_INET6: 129}


@dataclass
class Echoes:
    """Round-trip times (s) to one address, in order, and one word for each echo that did not come back."""

    times: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass
class _Line:
    connection: socket.socket
    family: int
    result: Echoes
    token: bytes = b""
    sequence: int = 0
    sent: float | None = None


def allowed(family: socket.AddressFamily = socket.AF_INET) -> bool:
    """Whether this process may send echoes. Costs a system call; sends nothing."""
    try:
        socket.socket(family, socket.SOCK_DGRAM, _PROTOCOL[family]).close()
    except OSError:
        return False
    return True


def ping(addresses: Iterable[str], attempts: int, timeout: float) -> dict[str, Echoes]:
    """Send each address ``attempts`` echoes, one after another, each with ``timeout`` seconds to come back.

    All addresses at once: it takes ``attempts * timeout`` seconds at most. Raises no OSError: what fails is a word
    in the result. An address that is not numeric is not looked up: it is ``name_not_resolved``.
    """
    results: dict[str, Echoes] = {}
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        lines: list[_Line] = []
        for address in addresses:
            result = results[address] = Echoes()
            try:
                line = _open(address, result)
            except (OSError, ValueError) as error:
                result.errors.append(error_word(error))
                continue
            stack.callback(line.connection.close)
            selector.register(line.connection, selectors.EVENT_READ, line)
            lines.append(line)
        for sequence in range(1, attempts + 1):
            _round(selector, lines, sequence, timeout)
    return results


def _open(address: str, result: Echoes) -> _Line:
    family, _, _, _, where = socket.getaddrinfo(address, None, flags=socket.AI_NUMERICHOST)[0]
    connection = socket.socket(family, socket.SOCK_DGRAM, _PROTOCOL[family])
    try:
        connection.setblocking(False)
        connection.connect(where)  # so that only this address's answers, and errors, come in
    except OSError:
        connection.close()
        raise
    return _Line(connection, family, result)


def _round(selector: selectors.BaseSelector, lines: list[_Line], sequence: int, timeout: float) -> None:
    for line in lines:
        line.token, line.sequence = os.urandom(8), sequence
        packet = _ECHO.pack(_REQUEST[socket.AddressFamily(line.family)], 0, 0, 0, sequence, line.token)
        line.sent = time.perf_counter()
        try:
            line.connection.send(packet)
        except OSError as error:
            line.sent = None
            line.result.errors.append(error_word(error))
    deadline = time.perf_counter() + timeout
    while any(line.sent is not None for line in lines):
        left = deadline - time.perf_counter()
        if left <= 0:
            break
        for key, _ in selector.select(left):
            _receive(key.data)
    for line in lines:
        if line.sent is not None:
            line.sent = None
            line.result.errors.append(TIMEOUT)


def _receive(line: _Line) -> None:
    try:
        data = line.connection.recv(256)
    except BlockingIOError:
        return
    except OSError as error:  # an ICMP error from the way
        if line.sent is not None:
            line.sent = None
            line.result.errors.append(error_word(error))
        return
    now = time.perf_counter()
    if len(data) < _ECHO.size or line.sent is None:
        return
    kind, _, _, _, sequence, token = _ECHO.unpack_from(data)
    if kind == _REPLY[socket.AddressFamily(line.family)] and sequence == line.sequence and token == line.token:
        line.result.times.append(now - line.sent)
        line.sent = None
