"""The attributes of a span, an event or a log record to a record, by the table in ``schema``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Generic

from otel_netmon import schema
from otel_netmon.schema import Record
from otel_netmon.semconv import FORMER, Attribute
from otel_netmon.store.problems import Problems
from otel_netmon.store.values import boolean, finite, integer, text, whole

_MOST_PACKED: Final = 1 << 18
"""Characters of the longest attribute of packed records that is read; the usual ones have 7,000."""
_SHORT, _MOST_KNOWN = 32, 1024
"""Texts up to this length, and so many for each attribute, are read once: most say the same on every span."""

_KINDS: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "string": ("stringValue", text),
    "int": ("intValue", whole),
    "double": ("doubleValue", finite),
    "boolean": ("boolValue", boolean),
}


def _packed(attribute: Attribute) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        return schema.unpack(attribute, value) if type(value) is str and len(value) <= _MOST_PACKED else None

    return read


class Decoder(Generic[Record]):
    """Makes records of one type. What is looked up for each attribute is worked out once, since there are some
    twenty for each collective."""

    def __init__(self, cls: type[Record], **own: Attribute) -> None:
        """``own``: fields of the span or log record itself that are attributes here."""
        fields: tuple[str, ...] = cls._fields
        table = schema.ATTRIBUTES[cls]
        self._make: Callable[[list[Any]], Record] = cls._make
        self._blank = [cls._field_defaults.get(name) for name in table]
        self._required = [fields.index(name) for name in schema.required(cls)]
        self._slots: dict[str, tuple[int, str, Callable[[Any], Any], dict[str, Any]]] = {}
        for name, attribute in {**table, **own}.items():
            kind, read = _KINDS[attribute.type]
            read = _packed(attribute) if attribute in schema.PACKED else read
            self._slots[str(attribute)] = fields.index(name), kind, read, {}
        for former, attribute in FORMER.items():
            if str(attribute) in self._slots:
                self._slots[former] = self._slots[str(attribute)]

    def __call__(
        self, pairs: Any, problems: Problems, tail: tuple[Any, ...], head: tuple[Any, ...] = ()
    ) -> Record | None:
        """The record of OTLP JSON's ``pairs``, with the fields before and behind those that are attributes.

        Attributes of others are passed over; those of a wrong type count as absent, and in ``problems``. ``None``
        where one is absent that has to be there.
        """
        values = [*head, *self._blank, *tail]
        slots = self._slots
        if type(pairs) is not list:
            problems.records += pairs is not None
            pairs = ()
        for pair in pairs:
            try:
                slot = slots.get(pair["key"])
                if slot is None:
                    continue
                place, kind, read, known = slot
                try:
                    raw = pair["value"][kind]
                except KeyError:  # a double may be written as an integer
                    raw = integer(pair["value"]["intValue"]) if kind == "doubleValue" else None
                value = known.get(raw)
                if value is None:
                    value = read(raw)
                    if type(raw) is str and len(raw) < _SHORT and len(known) < _MOST_KNOWN:
                        known[raw] = value
            except (TypeError, LookupError):
                value = None
            if value is None:
                problems.records += 1
            else:
                values[place] = value
        for place in self._required:
            if values[place] is None:
                return None
        return self._make(values)
