"""How each field of a record is called in OpenTelemetry and in SQL: the one table that writer, reader, SQL and
``docs/data.md`` are made of.

A field that is an attribute has its name, type, unit and meaning, and what its absence means, in ``semconv``; its
column is the field's name. Small tuples of records are packed into one attribute as JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeVar, get_type_hints

from otel_netmon import semconv
from otel_netmon.records import (
    Call,
    Collective,
    GroupUse,
    Heartbeat,
    InFlight,
    Pause,
    PeerTraffic,
    RankStep,
    Sequence,
    Value,
)
from otel_netmon.semconv import Attribute
from otel_netmon.text import printable

MOST_CALLS: Final = 512
"""Collectives of a step that are packed, at most: some 7 kB."""

_RANK: Final = {"rank": semconv.RANK, "local_rank": semconv.LOCAL_RANK, "world_size": semconv.WORLD_SIZE}

ATTRIBUTES: Final[Mapping[type, Mapping[str, Attribute]]] = {
    Collective: {
        "operation": semconv.COLLECTIVE_NAME,
        "group": semconv.GROUP_NAME,
        "backend": semconv.BACKEND,
        "group_size": semconv.GROUP_SIZE,
        "group_rank": semconv.GROUP_RANK,
        **_RANK,
        "clock": semconv.COLLECTIVE_CLOCK,
        "size": semconv.COLLECTIVE_SIZE,
        "sequence": semconv.COLLECTIVE_SEQUENCE,
        "dtype": semconv.COLLECTIVE_DTYPE,
        "element_count": semconv.COLLECTIVE_ELEMENT_COUNT,
        "reduce_op": semconv.COLLECTIVE_REDUCE_OP,
        "is_async": semconv.COLLECTIVE_ASYNC,
        "error": semconv.ERROR_TYPE,
        "state": semconv.COLLECTIVE_STATE,
        "device_duration": semconv.COLLECTIVE_DEVICE_DURATION,
        "device_bound": semconv.COLLECTIVE_DEVICE_BOUND,
        "algbw": semconv.COLLECTIVE_ALGBW,
        "busbw": semconv.COLLECTIVE_BUSBW,
    },
    RankStep: {
        "run_id": semconv.RUN_ID,
        "attempt": semconv.ATTEMPT,
        **_RANK,
        "step": semconv.STEP,
        "incomplete": semconv.STEP_INCOMPLETE,
        "sampled": semconv.STEP_SAMPLED,
        "first_collective": semconv.STEP_FIRST_COLLECTIVE,
        "collective_count": semconv.STEP_COLLECTIVE_COUNT,
        "collective_size": semconv.STEP_COLLECTIVE_SIZE,
        "collective_time": semconv.STEP_COLLECTIVE_TIME,
        "wait_time": semconv.STEP_WAIT_TIME,
        "gc_time": semconv.STEP_GC_TIME,
        "data_time": semconv.STEP_DATA_TIME,
        "cpu_time": semconv.STEP_CPU_TIME,
        "run_queue_time": semconv.STEP_RUN_QUEUE_TIME,
        "switches_voluntary": semconv.STEP_SWITCHES_VOLUNTARY,
        "switches_involuntary": semconv.STEP_SWITCHES_INVOLUNTARY,
        "groups": semconv.STEP_GROUPS,
        "calls": semconv.STEP_COLLECTIVES,
        "pauses": semconv.STEP_PAUSES,
    },
    PeerTraffic: {
        "peer": semconv.PEER_RANK,
        "host": semconv.PEER_HOST,
        "interval": semconv.PEER_INTERVAL,
        "connections": semconv.PEER_CONNECTIONS,
        "bytes_sent": semconv.PEER_SENT,
        "bytes_received": semconv.PEER_RECEIVED,
        "segments_sent": semconv.PEER_SEGMENTS,
        "retransmits": semconv.PEER_RETRANSMITS,
        "rtt": semconv.PEER_RTT,
        "rtt_variation": semconv.PEER_RTT_VARIATION,
        "min_rtt": semconv.PEER_RTT_MIN,
        "busy_time": semconv.PEER_BUSY_TIME,
        "rwnd_limited_time": semconv.PEER_RWND_LIMITED_TIME,
        "sndbuf_limited_time": semconv.PEER_SNDBUF_LIMITED_TIME,
        "delivery_rate": semconv.PEER_DELIVERY_RATE,
        "backoff": semconv.PEER_BACKOFF,
        "unacked": semconv.PEER_UNACKED,
        "unread": semconv.PEER_UNREAD,
        "rank": semconv.RANK,
    },
    InFlight: {
        "operation": semconv.COLLECTIVE_NAME,
        "group": semconv.GROUP_NAME,
        "sequence": semconv.COLLECTIVE_SEQUENCE,
        "size": semconv.COLLECTIVE_SIZE,
        "age": semconv.COLLECTIVE_AGE,
        "backend": semconv.BACKEND,
        "group_size": semconv.GROUP_SIZE,
        **_RANK,
    },
    Heartbeat: {
        "run_id": semconv.RUN_ID,
        **_RANK,
        "step": semconv.STEP,
        "step_age": semconv.HEARTBEAT_AGE,
        "sequences": semconv.HEARTBEAT_SEQUENCES,
        "in_flight": semconv.HEARTBEAT_IN_FLIGHT,
    },
}
"""By type of record, the fields that are attributes, in the order of the record. All else is in the span, log
record or data point itself."""


class _Packed(NamedTuple):
    """How a tuple of records becomes the JSON of one attribute, and back; ``unpack`` raises for damaged ones."""

    pack: Callable[[Any], Any]
    unpack: Callable[[Any], tuple[Any, ...]]


_MOST: Final = 1 << 63
_PERHAPS: Final = int | None


def _row(kinds: Iterable[Any], values: Any) -> list[Any]:
    """``values``, if they are of these types: ``str``, ``int``, or ``int | None``."""
    for value, kind in zip(values, kinds, strict=True):
        if isinstance(value, bool) or not isinstance(value, kind):
            raise TypeError(f"{value!r} is no {kind}")
        if isinstance(value, int) and not -_MOST <= value < _MOST:
            raise ValueError("too large")
    return [printable(value) if isinstance(value, str) else value for value in values]


def _rows(cls: Any) -> _Packed:
    kinds = tuple(get_type_hints(cls).values())
    return _Packed(lambda records: records, lambda found: tuple(cls._make(_row(kinds, each)) for each in found))


def _pack_calls(calls: tuple[Call, ...]) -> dict[str, list[Any]]:
    kinds = {kind: place for place, kind in enumerate(dict.fromkeys((call[0], call[1]) for call in calls))}
    return {
        "kinds": list(kinds),
        "kind": [kinds[call[0], call[1]] for call in calls],
        "start": [call.start for call in calls],
        "duration": [call.duration for call in calls],
    }


def _unpack_calls(found: Any) -> tuple[Call, ...]:
    kinds: list[Any] = [_row((str, str), each) for each in found["kinds"]]
    places, starts, durations = found["kind"], found["start"], found["duration"]
    for column, some in ((places, places), (starts, starts), (durations, [d for d in durations if d is not None])):
        if {*map(type, some)} - {int} or (some and not -_MOST <= min(some) <= max(some) < _MOST):
            raise TypeError(f"{column!r} are no integers")
    if places and min(places) < 0:
        raise IndexError(places)
    return tuple(
        Call(*(*kinds[place], start, duration))
        for place, start, duration in zip(places, starts, durations, strict=True)
    )


def _unpack_in_flight(found: Any) -> tuple[InFlight, ...]:
    rows: Any = (_row((str, str, _PERHAPS, _PERHAPS, int), each) for each in found)
    return tuple(InFlight(*(*row[:4], row[4] / 1e6)) for row in rows)


PACKED: Final[Mapping[Attribute, _Packed]] = {
    semconv.STEP_GROUPS: _rows(GroupUse),
    semconv.STEP_COLLECTIVES: _Packed(_pack_calls, _unpack_calls),
    semconv.STEP_PAUSES: _rows(Pause),
    semconv.HEARTBEAT_SEQUENCES: _rows(Sequence),
    semconv.HEARTBEAT_IN_FLIGHT: _Packed(
        lambda records: [[*each[:4], round(each.age * 1e6)] for each in records], _unpack_in_flight
    ),
}
"""Attributes whose text holds a tuple of small records, as JSON."""


def unpack(attribute: Attribute, text: str) -> tuple[Any, ...] | None:
    """What is packed in ``text``; ``None`` where that is damaged."""
    try:
        return PACKED[attribute].unpack(json.loads(text))
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


class _Fields(NamedTuple):
    first: int
    """Place of the first one that is an attribute."""
    names: tuple[str, ...]
    packs: tuple[tuple[int, Callable[[Any], Any]], ...]


def _fields(cls: Any) -> _Fields:
    table = ATTRIBUTES[cls]
    names = list(table)
    first = cls._fields.index(names[0])
    assert list(cls._fields[first : first + len(names)]) == names, cls
    packs = tuple((i, PACKED[each].pack) for i, each in enumerate(table.values()) if each in PACKED)
    return _Fields(first, tuple(str(each) for each in table.values()), packs)


_FIELDS: Final = {cls: _fields(cls) for cls in ATTRIBUTES}


def attributes(record: Collective | RankStep | PeerTraffic | InFlight | Heartbeat) -> dict[str, Value]:
    """``record`` as attributes of its span, span event or log record, without what is not known. Some 2 µs."""
    first, names, packs = _FIELDS[type(record)]
    values: Any = record[first:] if first else record
    if packs:
        values = list(values)
        for place, pack in packs:
            values[place] = json.dumps(pack(values[place]), separators=(",", ":")) if values[place] else None
    return {name: value for name, value in zip(names, values, strict=False) if value is not None}


Record = TypeVar("Record", Collective, RankStep, PeerTraffic, InFlight, Heartbeat)


def required(cls: type[Any]) -> list[str]:
    """The fields without which a record is none."""
    return [name for name, each in ATTRIBUTES[cls].items() if not each.absent and name not in cls._field_defaults]


# --- SQL --------------------------------------------------------------------------------------------------

_SQL_TYPES: Final = {"string": "String", "int": "Int64", "double": "Float64", "boolean": "Bool"}


class SqlColumn(NamedTuple):
    """A field as a column: ClickHouse's type, nullable but for what a record has to have."""

    name: str
    type: str
    attribute: Attribute
    is_required: bool


def columns(cls: type[Any]) -> tuple[SqlColumn, ...]:
    """The columns of those fields of a record that are attributes."""
    needed = required(cls)
    return tuple(
        SqlColumn(name, kind if name in needed else f"Nullable({kind})", each, name in needed)
        for name, each in ATTRIBUTES[cls].items()
        for kind in (_SQL_TYPES[each.type],)
    )
