"""Rows of the tables of ``sql`` to records: the same ones that the files of a run are read as."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from otel_netmon import schema
from otel_netmon.records import HostSample, Source
from otel_netmon.store.engine import Answer
from otel_netmon.text import printable

_SOURCE: Final = "source_"


def records(cls: type[Any], answer: Answer) -> Iterator[Any]:
    """A record for each row; what is packed and damaged is absent."""
    fields = {name: place for place, name in enumerate(answer.columns) if not name.startswith(_SOURCE)}
    of_source = [answer.columns.index(f"{_SOURCE}{name}") for name in Source._fields]
    readers = [(name, place, _reader(cls, name)) for name, place in fields.items()]
    sources: dict[tuple[Any, ...], Source] = {}
    for row in answer.rows:
        about = tuple(row[place] for place in of_source)
        source = sources.get(about)
        if source is None:
            instance, *rest = map(_clean, about)
            source = sources[about] = Source(instance or "", *rest)
        values = {}
        for name, place, read in readers:
            value = read(row[place])
            if value is not None:
                values[name] = value
        yield cls(**_absent(cls, values), source=source)


def _absent(cls: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """With those that have no default."""
    needed = (name for name in cls._fields if name not in cls._field_defaults)
    return {**dict.fromkeys(needed), **values}


def _reader(cls: type[Any], name: str) -> Callable[[Any], Any]:
    attribute = schema.ATTRIBUTES.get(cls, {}).get(name)
    if attribute is not None and attribute in schema.PACKED:
        return lambda value: None if value is None else schema.unpack(attribute, value)
    if cls is HostSample and name in ("bounds", "counts"):
        return tuple
    if cls is HostSample and name == "attributes":
        return lambda value: {_clean(key): _clean(each) for key, each in value.items()}
    return _clean


def _clean(value: Any) -> Any:
    """Names end up on terminals."""
    return printable(value) if isinstance(value, str) else value
