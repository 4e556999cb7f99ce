"""Texts of OTLP JSON with holes. The package's own encoders make each once, of values that are found again in what
they made; millions of spans and log events are then filled in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from otel_netmon.delivery.otlp_json import Json, attribute
from otel_netmon.delivery.packed import Attributes, Place, WholeSpan
from otel_netmon.emit.spans import SCOPE
from otel_netmon.internals.otel_internals_logs import emit_event, encode_logs_as_json
from otel_netmon.text import as_json

_FIRST: Final = 770_000_000
Fill = Callable[..., str]
"""Takes the values of the holes in the order in which they were made."""


class Holes:
    """Values that stand for those to come. A hole may occur several times."""

    def __init__(self) -> None:
        self._said: list[str] = []

    def _add(self, said: str) -> int:
        self._said.append(said)
        return len(self._said) - 1

    def integer(self) -> int:
        """A whole number."""
        number = _FIRST + len(self._said)
        self._add(str(number))
        return number

    def double(self) -> float:
        """A number that is none."""
        number = (10 * (_FIRST + len(self._said)) + 1) / 1e10  # none is the beginning of another
        self._add(repr(number))
        return number

    def text(self) -> str:
        """A name that needs no escapes."""
        said = f"<{len(self._said)}>"
        self._add(said)
        return said

    def id(self, digits: int) -> int:
        """Of a trace (32 digits) or a span (16), which is filled with its digits."""
        number = (0xABCDEF << 4 * (digits - 6)) + len(self._said)
        self._add(f"{number:0{digits}x}")
        return number

    def fill(self, text: str) -> Fill:
        """``text`` with its holes filled."""
        places = sorted((at, number) for number, said in enumerate(self._said) for at in _places(text, said))
        order = [number for _, number in places]
        assert {*order} == {*range(len(self._said))}, (text, self._said)
        pieces, behind = [], 0
        for at, number in places:
            pieces.append(text[behind:at].replace("%", "%%"))
            behind = at + len(self._said[number])
        form = "%s".join((*pieces, text[behind:].replace("%", "%%")))
        if order == [*range(len(order))]:
            return lambda *values: form % values
        return lambda *values: form % tuple([values[number] for number in order])


def _places(text: str, said: str) -> list[int]:
    found, at = [], text.find(said)
    while at >= 0:
        found.append(at)
        at = text.find(said, at + 1)
    return found


def pairs(attributes: Attributes) -> str:
    """Attributes that come behind others, each with a comma before it."""
    return "".join(f",{attribute(key, value)}" for key, value in attributes.items())


def span(name: str, place: Place, attributes: Attributes, more: str = "", events: str = "") -> str:
    """One. ``more`` is what stands for further attributes, ``events`` for the field of its events."""
    text = Json().span(WholeSpan(name, place, attributes)).decode()
    before, _, after = text.rpartition('],"status"')
    return f'{before}{more}],{events}"status"{after}'


def log(
    name: str, body: str, attributes: Attributes, time: int, ids: tuple[int, int] | None = None, more: str = ""
) -> str:
    """A log event, as the SDK makes it."""
    context: Any = None
    if ids is not None:
        context = trace.set_span_in_context(trace.NonRecordingSpan(trace.SpanContext(*ids, is_remote=False)))
    encoded = _encoded(
        Resource({}),
        name,
        timestamp=time,
        observed_timestamp=time,
        body=body,
        attributes=attributes,
        context=context,
    )
    text = as_json(encoded["scopeLogs"][0]["logRecords"][0])
    before, _, after = text.rpartition("]")
    return f"{before}{more}]{after}"


def around_logs(resource: Resource, inside: str) -> str:
    """A line of log events."""
    encoded = _encoded(resource, "x", timestamp=1)
    encoded["scopeLogs"][0]["logRecords"] = [inside]
    return as_json({"resourceLogs": [encoded]}).replace(f'"{inside}"', inside) + "\n"


def around_spans(resource: Resource, inside: str) -> str:
    """A line of spans."""
    return Json().request(resource, SCOPE, [inside.encode()]).decode()


def _encoded(resource: Resource, name: str, **about: Any) -> Any:
    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # the SDK's
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    emit_event(provider.get_logger(SCOPE.name, SCOPE.version, SCOPE.schema_url), "INFO", event_name=name, **about)
    return encode_logs_as_json(exporter.get_finished_logs()).to_dict()["resourceLogs"][0]


def event(name: str, time: int, attributes: Attributes) -> str:
    """One of a span's."""
    whole = Json().span(WholeSpan("", Place(1, 1, 1, 1, 1), {}, events=[(name, time, attributes)])).decode()
    return whole.partition('"events":[')[2].rpartition('],"status"')[0]
