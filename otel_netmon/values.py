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
    """``parse`` raises ValueError or ArithmeticError for what is not ``accepted``."""

    accepted: str
    parse: Callable[[str], Any]


def number(low: float, high: float = sys.float_info.max, cast: type = float) -> Kind:
    """A finite number from ``low`` to ``high``."""

    def parse(text: str) -> Any:
        value = cast(text)
        if not low <= value <= high:  # also refuses NaN
            raise ValueError(text)
        return value

    what = "a whole number" if cast is int else "a number"
    return Kind(f"{what} from {low:.10g}" + (f" to {high:.10g}" if high < sys.float_info.max else ""), parse)


def choice(*words: str) -> Kind:
    """One of some words, in upper or lower case."""

    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(text)
        return text.lower()

    return Kind("one of " + ", ".join(words), parse)


def text_that(accepted: str, accepts: Callable[[str], object]) -> Kind:
    """Any text that ``accepts`` says yes to."""

    def parse(text: str) -> str:
        if not accepts(text):
            raise ValueError(text)
        return text

    return Kind(accepted, parse)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(listed(text))
    if not names:
        raise ValueError(text)
    return names


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


def _targets(text: str) -> tuple[str, ...]:
    names = _names(text)
    for name in names:
        parse_target(name)
    return names


def _monitors(text: str) -> tuple[str, ...]:
    names = _names(text.lower())
    if not all(re.fullmatch(r"-?[a-z0-9][a-z0-9_.-]*", name) for name in names):
        raise ValueError(text)
    return names


class Ranks:
    """Some ranks, as ``0,8-15`` or, every Nth, ``/N``: ``in`` tells which."""

    def __init__(self, text: str) -> None:
        every = text.removeprefix("/")
        if every != text:
            self._ranges: tuple[range, ...] = (range(0, _MOST_RANKS, _rank(every)),)
        else:
            bounds = [name.partition("-") for name in _names(text)]
            self._ranges = tuple(range(_rank(low), _rank(high if dash else low) + 1) for low, dash, high in bounds)
        if not all(self._ranges):
            raise ValueError(text)

    def __contains__(self, rank: object) -> bool:
        return any(rank in ranks for ranks in self._ranges)


_MOST_RANKS: Final = 10**9


def _rank(text: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit() and len(text) < len(str(_MOST_RANKS))):
        raise ValueError(text)
    return int(text)


FLAG: Final = Kind("true or false", lambda text: choice("true", "false").parse(text) == "true")
LIST: Final = Kind("names or globs, separated by commas", _names)
MONITORS: Final = Kind("names of monitors, or all, or -name to leave one out, separated by commas", _monitors)
PATH: Final = Kind("a folder", Path)
RANKS: Final = Kind("ranks and ranges of ranks, as 0,8-15, or /N for every Nth rank", Ranks)
TARGETS: Final = Kind("host:port pairs, IPv6 in brackets, separated by commas", _targets)
TEXT: Final = text_that("any text of 1 to 128 characters", lambda text: 0 < len(text) <= 128)
