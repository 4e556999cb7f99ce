"""TCP connects, timed. Name resolution is not part of the time."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from dataclasses import dataclass, field
from typing import Final

Address = tuple[socket.AddressFamily, tuple[object, ...]]
"""Family and socket address, as ``getaddrinfo`` gives them."""

NOT_RESOLVED: Final = "name_not_resolved"
NOT_MEASURED: Final = "not_measured"
REFUSED: Final = "refused"
TIMEOUT: Final = "timeout"
UNREACHABLE: Final = "unreachable"

_UNREACHABLE: Final = frozenset((errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN))


@dataclass
class Attempts:
    """Connects or echoes to one target: seconds of each that worked, in order, and a word for each other one."""

    times: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def resolve(host: str, port: int) -> list[Address]:
    """The addresses of a name, in the system's order. May block for as long as the resolver likes.

    Raises OSError (``socket.gaierror``) or, for a name that cannot exist, UnicodeError.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(info[0], info[4]) for info in found]


def connect(addresses: list[Address], timeout: float) -> float:
    """Seconds that a TCP connect took, to the first of ``addresses`` that answers; it is closed at once.

    ``timeout`` (s) is for all addresses together. The one that answered is moved to the front, so that the next
    attempt does not wait for a dead one again. Raises OSError, the last address's, when none answers.
    """
    deadline = time.monotonic() + timeout
    last: OSError = TimeoutError()
    for position, (family, address) in enumerate(list(addresses)):
        left = (deadline - time.monotonic()) / (len(addresses) - position)
        if left <= 0:
            break
        try:
            with contextlib.closing(socket.socket(family, socket.SOCK_STREAM)) as connection:
                connection.settimeout(left)
                start = time.perf_counter()
                connection.connect(address)
                taken = time.perf_counter() - start
                if connection.getsockname() == connection.getpeername():
                    # a free local port in the ephemeral range can be connected to itself
                    raise ConnectionRefusedError(errno.ECONNREFUSED, "connected to itself")
        except OSError as error:
            last = error
            continue
        addresses.insert(0, addresses.pop(position))
        return taken
    raise last


def attempt(host: str, port: int, attempts: int, timeout: float, found: Attempts) -> None:
    """Resolve once and connect ``attempts`` times in a row; what comes of each is in ``found`` at once.

    A name that does not resolve ends it: asking again at once would only load the resolver.
    """
    try:
        addresses = resolve(host, port)
    except (OSError, UnicodeError):
        found.errors.append(NOT_RESOLVED)
        return
    for _ in range(attempts):
        try:
            found.times.append(connect(addresses, timeout))
        except OSError as error:  # noqa: PERF203  # each attempt stands alone
            found.errors.append(error_word(error))


def error_word(error: Exception) -> str:
    """One word of low cardinality for why an attempt failed."""
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return NOT_RESOLVED
    if isinstance(error, TimeoutError):  # also ETIMEDOUT, the kernel's own verdict
        return TIMEOUT
    if isinstance(error, ConnectionRefusedError):
        return REFUSED
    number = getattr(error, "errno", None)
    if number in _UNREACHABLE:
        return UNREACHABLE
    return errno.errorcode.get(number or 0, type(error).__name__)
