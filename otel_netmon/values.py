"""What a variable may be set to: each kind of value, with what is accepted in words, and how it is read."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from otel_netmon.text import listed


@dataclass(frozen=True)
class Kind:
    """What is ``accepted``, in words; ``means`` reads a text, and ``accepts`` says whether that will do."""

    accepted: str
    accepts: Callable[[Any], object]
    means: Callable[[str], Any] = str

    def parse(self, text: str) -> Any:
        """What ``text`` means. Raises ValueError or ArithmeticError for what is not accepted."""
        value = self.means(text)
        if not self.accepts(value):
            raise ValueError(text)
        return value


def number(low: float, high: float = sys.float_info.max, cast: type = float) -> Kind:
    """A finite number from ``low`` to ``high``."""
    what = "a whole number" if cast is int else "a number"
    to = f" to {high:.10g}" if high < sys.float_info.max else ""
    return Kind(f"{what} from {low:.10g}{to}", lambda value: low <= value <= high, cast)


def choice(*words: str) -> Kind:
    """One of some words, in upper or lower case."""
    return Kind("one of " + ", ".join(words), words.__contains__, str.lower)


def parse_target(text: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port`` as ``(host, port)``; ValueError when it is neither."""
    host, colon, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address needs brackets: [::1]:29500")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not host:port")
    return host, int(port)


class Ranks:
    """Some ranks, as ``0,8-15`` or, every Nth, ``/N``: ``in`` tells which."""

    def __init__(self, text: str) -> None:
        every = text.removeprefix("/")
        if every != text:
            self._ranges: tuple[range, ...] = (range(0, _MOST_RANKS, _rank(every)),)
        else:
            bounds = [name.partition("-") for name in listed(text)]
            self._ranges = tuple(range(_rank(low), _rank(high if dash else low) + 1) for low, dash, high in bounds)
        if not self._ranges or not all(self._ranges):
            raise ValueError(text)

    def __contains__(self, rank: object) -> bool:
        return any(rank in ranks for ranks in self._ranges)


_MOST_RANKS: Final = 10**9


def _rank(text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) < len(str(_MOST_RANKS))):
        raise ValueError(text)
    return int(text)


_FLAGS: Final = {"true": True, "false": False}
_is_monitor: Final = re.compile(r"-?[a-z0-9][a-z0-9_.-]*").fullmatch

FLAG: Final = Kind("true or false", lambda value: value is not None, lambda text: _FLAGS.get(text.lower()))
LIST: Final = Kind("names or globs, separated by commas", bool, listed)
MONITORS: Final = Kind(
    "names of monitors, or all, or -name to leave one out, separated by commas",
    lambda names: names and all(map(_is_monitor, names)),
    lambda text: listed(text.lower()),
)
PATH: Final = Kind("a folder", bool, Path)
RANKS: Final = Kind("ranks and ranges of ranks, as 0,8-15, or /N for every Nth rank", bool, Ranks)
TARGETS: Final = Kind(
    "host:port pairs, IPv6 in brackets, separated by commas",
    lambda names: names and all(map(parse_target, names)),
    listed,
)
TEXT: Final = Kind("any text of 1 to 128 characters", lambda text: 0 < len(text) <= 128)
