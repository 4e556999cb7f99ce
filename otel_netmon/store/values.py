"""OTLP JSON to plain values. Each reader takes whatever JSON may hold, and gives ``None`` for what it is not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from otel_netmon.records import Value
from otel_netmon.store.problems import Problems
from otel_netmon.text import printable

_LARGEST: Final = 1e100  # sums of such values stay finite
_TRACE_ID: Final = re.compile(r"[0-9a-fA-F]{32}")
_SPAN_ID: Final = re.compile(r"[0-9a-fA-F]{16}")


def text(value: Any) -> str | None:
    """Of at most 256 characters, fit for a terminal."""
    return printable(value) if type(value) is str else None


def integer(value: Any) -> int | None:
    """A 64-bit integer, written as OTLP does (a string) or as a JSON number."""
    if type(value) is str:
        if len(value) > 20 or not value.isascii() or not value.removeprefix("-").isdigit():
            return None
        value = int(value)
    return value if type(value) is int and -(1 << 63) <= value < 1 << 63 else None


def whole(value: Any) -> int | None:
    """An integer from 0: a count, a rank, a time. Written for speed: every span has many."""
    if type(value) is str:
        if len(value) > 19 or not value.isdigit() or not value.isascii():
            return None
        value = int(value)
    return value if type(value) is int and 0 <= value < 1 << 63 else None


def finite(value: Any) -> float | None:
    """A number that can be reckoned with."""
    if (type(value) is float or type(value) is int) and -_LARGEST < value < _LARGEST:
        return float(value)
    return None


def boolean(value: Any) -> bool | None:
    """True or false."""
    return value if type(value) is bool else None


_KINDS: Final[dict[str, Callable[[Any], Value | None]]] = {
    "stringValue": text,
    "intValue": integer,
    "doubleValue": finite,
    "boolValue": boolean,
}


def attributes(pairs: Any, problems: Problems) -> dict[str, Value]:
    """All attributes with a plain value; arrays, maps and bytes are none of ours."""
    found: dict[str, Value] = {}
    for pair in dicts(pairs, problems):
        key, wrapped = pair.get("key"), pair.get("value")
        if not isinstance(key, str) or not isinstance(wrapped, dict):
            problems.records += 1
            continue
        for kind, raw in wrapped.items():  # one entry, or none: an empty value
            if (parse := _KINDS.get(kind)) is not None:
                if (value := parse(raw)) is None:
                    problems.records += 1
                else:
                    found[key] = value
    return found


def trace_id(value: Any) -> str | None:
    """32 hexadecimal digits."""
    return value if type(value) is str and _TRACE_ID.fullmatch(value) else None


def span_id(value: Any, problems: Problems) -> str:
    """16 hexadecimal digits, or nothing."""
    if type(value) is str and _SPAN_ID.fullmatch(value):
        return value
    if value:
        problems.records += 1
    return ""


def dicts(value: Any, problems: Problems) -> Iterator[dict[str, Any]]:
    """The objects of a list of objects, which need not be there."""
    if value is None:
        return
    if not isinstance(value, list):
        problems.records += 1
        return
    for item in value:
        if isinstance(item, dict):
            yield item
        else:
            problems.records += 1


def parse(line: bytes, problems: Problems) -> dict[str, Any]:
    """A line's message; empty where it is none."""
    try:
        message = _decoder.decode(line.decode("utf-8"))
    except (ValueError, RecursionError):  # ValueError: not UTF-8, not JSON, or a number of too many digits
        message = None
    if isinstance(message, dict):
        return message
    if line.endswith(b"\n"):
        problems.corrupt += 1
    else:
        problems.truncated += 1
    return {}


def _no_constants(name: str) -> float:
    raise ValueError(name)  # NaN and Infinity are no JSON


_decoder: Final = json.JSONDecoder(parse_constant=_no_constants)
