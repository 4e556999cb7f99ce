"""How records become attributes: the one table that writer, reader, SQL and ``docs/data.md`` are made of.

A field that is an attribute is annotated with it; its type, unit and meaning, and what its absence means, are in
``semconv``. Small tuples of records are packed into one attribute as JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from functools import cache
from itertools import accumulate, product
from typing import Any, Final, NamedTuple, TypeVar, get_args, get_type_hints

from otel_netmon import semconv
from otel_netmon.endings import LastCall, LastCalls, RankExit
from otel_netmon.records import (
    Call,
    Collective,
    GroupUse,
    Heartbeat,
    HostTraffic,
    InFlight,
    Pause,
    PeerTraffic,
    RankStep,
    Sequence,
    Source,
    Value,
    Verdict,
)
from otel_netmon.semconv import Attribute
from otel_netmon.text import as_json, printable

MOST_CALLS: Final = 512
"""Collectives of a step that are packed, at most: some 7 kB."""


def _table(cls: Any) -> dict[str, Attribute]:
    hints = get_type_hints(cls, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")}


ATTRIBUTES: Final[Mapping[type, Mapping[str, Attribute]]] = {
    cls: _table(cls)
    for cls in (
        *(Source, Collective, RankStep, PeerTraffic, HostTraffic, InFlight, Heartbeat, RankExit, LastCalls),
        Verdict,
    )
}
"""By type of record, the fields that are attributes, in the order of the record. All else is in the span, log
record or data point itself; those of a source are its resource's."""


class _Packed(NamedTuple):
    """How a tuple of records becomes the JSON of one attribute, and back; ``unpack`` raises for damaged ones."""

    pack: Callable[[Any], Any]
    unpack: Callable[[Any], tuple[Any, ...]]


_MOST: Final = 1 << 63
_PERHAPS: Final = int | None


@cache
def _types(kinds: tuple[Any, ...]) -> frozenset[tuple[type, ...]]:
    """What the types of values of these kinds may be: ``str``, ``int``, or ``int | None``."""
    return frozenset(product(*(get_args(kind) or (kind,) for kind in kinds)))


def _row(kinds: tuple[Any, ...], values: Any) -> list[Any]:
    """``values``, if they are of these kinds. Written for speed: there are several for each step of each rank."""
    if (*map(type, values),) not in _types(kinds):
        raise TypeError(f"{values!r} are no {kinds}")
    found = [printable(value) if type(value) is str else value for value in values]
    numbers = [value for value in found if type(value) is int]
    if numbers and not -_MOST <= min(numbers) <= max(numbers) < _MOST:
        raise ValueError("too large")
    return found


def _rows(cls: Any) -> _Packed:
    kinds = tuple(get_type_hints(cls).values())
    return _Packed(lambda records: records, lambda found: tuple(cls._make(_row(kinds, each)) for each in found))


def _pack_calls(calls: tuple[Call, ...]) -> dict[str, list[Any]]:
    operations, groups, starts, durations = zip(*calls, strict=True)
    before = (0, *starts[:-1])
    kinds = [*zip(operations, groups, strict=True)]
    places = {kind: place for place, kind in enumerate(dict.fromkeys(kinds))}
    return {
        "kinds": [*places],
        "kind": [*map(places.__getitem__, kinds)],
        "after": [start - last for start, last in zip(starts, before, strict=True)],
        "duration": [*durations],
    }


def packed_calls(kinds: Collection[tuple[str, str]], places: str, afters: str, durations: str) -> str:
    """Calls in the text of their attribute, without one by one: operation and group by place, and columns whose
    values are separated by commas."""
    return f'{{"kinds":{as_json(kinds)},"kind":[{places}],"after":[{afters}],"duration":[{durations}]}}'


def _unpack_calls(found: Any) -> tuple[Call, ...]:
    kinds: list[Any] = [_row((str, str), each) for each in found["kinds"]]
    places, durations = found["kind"], found["duration"]
    # Older files have starts, all from that of the step.
    starts = [*accumulate(found["after"])] if "after" in found else found["start"]
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
    semconv.LAST_CALLS: _rows(LastCall),
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


def _fields(cls: Any) -> tuple[int, tuple[str, ...], list[tuple[int, Callable[[Any], Any]]]]:
    """The place of the first field that is an attribute, the attributes, and those of them that are packed."""
    table = ATTRIBUTES[cls]
    first = cls._fields.index(next(iter(table)))
    assert cls._fields[first : first + len(table)] == tuple(table), cls
    packs = [(place, PACKED[each].pack) for place, each in enumerate(table.values()) if each in PACKED]
    return first, tuple(map(str, table.values())), packs


_FIELDS: Final = {cls: _fields(cls) for cls in ATTRIBUTES}


Told = Collective | RankStep | PeerTraffic | HostTraffic | InFlight | Heartbeat | RankExit | LastCalls | Verdict


def attributes(record: Told) -> dict[str, Value]:
    """``record`` as attributes of its span, span event or log record, without what is not known. Some 2 µs."""
    first, names, packs = _FIELDS[type(record)]
    values: Any = record[first:] if first else record
    if packs:
        values = list(values)
        for place, pack in packs:
            found = values[place]
            if not isinstance(found, str):  # it is not packed yet
                values[place] = as_json(pack(found)) if found else None
    return {name: value for name, value in zip(names, values, strict=False) if value is not None}


Record = TypeVar(
    "Record",
    Source,
    Collective,
    RankStep,
    PeerTraffic,
    HostTraffic,
    InFlight,
    Heartbeat,
    RankExit,
    LastCalls,
    Verdict,
)


def required(cls: type[Any]) -> list[str]:
    """The fields without which a record is none."""
    return [name for name, each in ATTRIBUTES[cls].items() if not each.absent and name not in cls._field_defaults]
