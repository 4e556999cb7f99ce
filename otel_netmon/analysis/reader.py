"""OTLP JSON lines, as the local files and the collector's file exporter hold them, to plain values.

The files are not trusted: a process may have been killed in the middle of a line, and a folder can hold anything.
Nothing read raises; what could not be used is counted in :class:`Problems`. Text that ends up on a terminal is
cut and freed of control characters here.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from opentelemetry.semconv._incubating.attributes import host_attributes, process_attributes, service_attributes

from otel_netmon import semconv

MAX_LINE: Final = 64 << 20
"""Bytes of the longest line that is read; the SDK writes at most 512 spans, below 1 MB, on one."""

Value = str | int | float | bool

_SUFFIXES: Final = (".jsonl", ".json")
_TEXT_LIMIT: Final = 256
_INT: Final = re.compile(r"-?[0-9]{1,19}")
_TRACE_ID: Final = re.compile(r"[0-9a-fA-F]{32}")
_LARGEST: Final = 1e100  # sums of such values stay finite
_DELTA: Final = 1
_NO_VALUE: Final = 1


class FolderError(Exception):
    """There is nothing to read; the message is one sentence for the user."""


@dataclass
class Problems:
    """What could not be read, counted."""

    truncated: int = 0
    """Last lines cut off: their process was killed, or still writes."""
    corrupt: int = 0
    """Other lines that are not JSON objects, or longer than ``MAX_LINE``."""
    records: int = 0
    """Spans, points and attributes with a wrong type in a line that was JSON."""
    files: int = 0
    """Files not opened: symbolic links, pipes, no permission."""


@dataclass(frozen=True)
class Source:
    """The process that a record comes from; what its resource does not say is ``None``."""

    instance: str
    host: str | None
    rank: int | None
    world_size: int | None


@dataclass(frozen=True)
class Span:
    """One finished span; times in nanoseconds since the epoch."""

    source: Source
    trace_id: str
    name: str
    start: int
    end: int
    attributes: dict[str, Value]


@dataclass(frozen=True)
class Point:
    """One data point of a sum or gauge, or of a histogram, whose value is its count."""

    source: Source
    metric: str
    time: int
    value: float
    delta: bool
    attributes: dict[str, Value]


def telemetry_files(folder: Path, problems: Problems, exclude: Collection[str] = ()) -> list[Path]:
    """The ``.jsonl`` and ``.json`` files directly in ``folder``, by name, but for those in ``exclude``.

    Links are not followed. Raises :class:`FolderError` when there are none.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        raise FolderError(f"{folder} does not exist; give the folder that `otel-netmon run` named") from None
    except NotADirectoryError:
        raise FolderError(f"{folder} is not a folder; give the folder that holds the files") from None
    except (OSError, ValueError) as error:
        raise FolderError(f"{folder} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    found = []
    for entry in entries:
        if entry.name.endswith(_SUFFIXES) and entry.name not in exclude:
            if entry.is_file(follow_symlinks=False):
                found.append(Path(entry.path))
            else:
                problems.files += 1
    if not found:
        raise FolderError(f"{folder} holds no telemetry: no file in it ends in .jsonl or .json")
    return found


def read(
    path: Path, problems: Problems, progress: Callable[[int], None] = lambda _: None
) -> Iterator[Span | Point]:
    """The records of one file in its order. ``progress`` is told the bytes of each line; memory: one line."""
    try:
        # O_NONBLOCK: a pipe put in the place of the file must not hang us.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        problems.files += 1
        return
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            problems.files += 1
            return
        for line in _lines(file, problems, progress):
            message = _parse(line, problems)
            if message:
                yield from _records(message, path.name, problems)


def _lines(file: BinaryIO, problems: Problems, progress: Callable[[int], None]) -> Iterator[bytes]:
    too_long = False
    while True:
        try:
            line = file.readline(MAX_LINE)
        except OSError:
            problems.corrupt += 1
            return
        if not line:
            return
        progress(len(line))
        whole = line.endswith(b"\n")
        if too_long or (not whole and len(line) == MAX_LINE):
            problems.corrupt += not too_long
            too_long = not whole
        elif line.strip():
            yield line


def _parse(line: bytes, problems: Problems) -> dict[str, Any]:
    try:
        message = json.loads(line.decode("utf-8"), parse_constant=_no_constants)
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


def _records(message: dict[str, Any], file: str, problems: Problems) -> Iterator[Span | Point]:
    for group in _dicts(message.get("resourceSpans"), problems):
        source = _source(group.get("resource"), file, problems)
        for scope in _dicts(group.get("scopeSpans"), problems):
            for span in _dicts(scope.get("spans"), problems):
                yield from _span(span, source, problems)
    for group in _dicts(message.get("resourceMetrics"), problems):
        source = _source(group.get("resource"), file, problems)
        for scope in _dicts(group.get("scopeMetrics"), problems):
            for metric in _dicts(scope.get("metrics"), problems):
                yield from _points(metric, source, problems)


def _source(resource: Any, file: str, problems: Problems) -> Source:
    attributes = _attributes(resource.get("attributes") if isinstance(resource, dict) else None, problems)
    host = attributes.get(host_attributes.HOST_NAME)
    pid = attributes.get(process_attributes.PROCESS_PID)
    instance = attributes.get(service_attributes.SERVICE_INSTANCE_ID)
    rank = whole(attributes.get(semconv.RANK))
    if instance is None and pid is not None:
        instance = f"{host}:{pid}"
    elif instance is None:  # the same for a process's spans and its metrics, which are in two files
        instance = file if rank is None else f"{host}:rank {rank}"
    return Source(
        str(instance),
        host if isinstance(host, str) else None,
        rank,
        whole(attributes.get(semconv.WORLD_SIZE)),
    )


def _span(span: dict[str, Any], source: Source, problems: Problems) -> Iterator[Span]:
    trace_id, name = span.get("traceId"), span.get("name")
    start, end = _integer(span.get("startTimeUnixNano")), _integer(span.get("endTimeUnixNano"))
    if (
        not isinstance(trace_id, str)
        or not _TRACE_ID.fullmatch(trace_id)
        or not isinstance(name, str)
        or start is None
        or end is None
        or not 0 <= start <= end
    ):
        problems.records += 1
        return
    yield Span(source, trace_id, _clean(name), start, end, _attributes(span.get("attributes"), problems))


def _points(metric: dict[str, Any], source: Source, problems: Problems) -> Iterator[Point]:
    name = metric.get("name")
    if not isinstance(name, str):
        problems.records += 1
        return
    for kind in ("sum", "gauge", "histogram"):
        data = metric.get(kind)
        if data is None:
            continue
        if not isinstance(data, dict):
            problems.records += 1
            continue
        delta = data.get("aggregationTemporality") == _DELTA
        for point in _dicts(data.get("dataPoints"), problems):
            if point.get("flags") == _NO_VALUE:
                continue
            time = _integer(point.get("timeUnixNano"))
            value = _integer(point.get("count")) if kind == "histogram" else _number(point)
            if time is None or value is None:
                problems.records += 1
            else:
                attributes = _attributes(point.get("attributes"), problems)
                yield Point(source, _clean(name), time, value, delta, attributes)


def _number(point: dict[str, Any]) -> float | None:
    value = _integer(point.get("asInt"))
    return value if value is not None else _finite(point.get("asDouble"))


def _attributes(value: Any, problems: Problems) -> dict[str, Value]:
    attributes: dict[str, Value] = {}
    for pair in _dicts(value, problems):
        key, wrapped = pair.get("key"), pair.get("value")
        if not isinstance(key, str) or not isinstance(wrapped, dict):
            problems.records += 1
            continue
        for kind, raw in wrapped.items():  # one entry, or none: an empty value
            parsed: Value | None
            if kind == "stringValue":
                parsed = _clean(raw) if isinstance(raw, str) else None
            elif kind == "intValue":
                parsed = _integer(raw)
            elif kind == "doubleValue":
                parsed = _finite(raw)
            elif kind == "boolValue":
                parsed = raw if isinstance(raw, bool) else None
            else:
                continue  # arrays, maps and bytes: none of ours
            if parsed is None:
                problems.records += 1
            else:
                attributes[key] = parsed
    return attributes


def _dicts(value: Any, problems: Problems) -> Iterator[dict[str, Any]]:
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


def _integer(value: Any) -> int | None:
    """A 64-bit integer, written as OTLP does (a string) or as a JSON number."""
    if isinstance(value, str):
        value = int(value) if _INT.fullmatch(value) else None
    if isinstance(value, int) and not isinstance(value, bool) and -(1 << 63) <= value < 1 << 63:
        return value
    return None


def _finite(value: Any) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST:
        return float(value)
    return None


def whole(value: Value | None) -> int | None:
    """``value`` if it is a count or rank, from 0 below 2**63; else ``None``."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _clean(text: str) -> str:
    text = text[:_TEXT_LIMIT]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
