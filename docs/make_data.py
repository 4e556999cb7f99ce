"""Writes ``docs/data.md`` from the names and settings in the code. `make docs` runs it; a test compares."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from otel_netmon import config, schema, semconv
from otel_netmon.endings import LastCalls, RankExit
from otel_netmon.records import Collective, Heartbeat, HostTraffic, InFlight, PeerTraffic, RankStep, Verdict

PAGE: Final = Path(__file__).with_name("data.md")

_INTRO: Final = f"""\
<!-- Written by `make docs` from otel_netmon/semconv/ and otel_netmon/config.py; a test compares them. -->

# The data

Everything that otel-netmon emits, and every variable that it reads. Units are UCUM: seconds (`s`) and bytes
(`By`). What was not measured is absent, never 0. Scopes: `{semconv.SCOPE_MONITORS}` for the host,
`{semconv.SCOPE_COLLECTIVES}` for the training. Borrowed names follow OpenTelemetry's semantic conventions,
schema <{semconv.SCHEMA_URL}>, whose status for these is Development.
"""

_SPANS: Final = """
## Spans

All are of kind INTERNAL. A step is one trace, with the same trace id on every rank. The status is unset on
success; on failure it is ERROR and `error.type` says what it was. When the launcher was started in a trace
(`TRACEPARENT`), step spans carry a link to it.
"""

_RECORDS: Final = """
What spans and log events say is the same wherever it is written, read or stored: a record
(`otel_netmon/records.py`), of which each field has an attribute in OpenTelemetry and a column in SQL.
"""

_COLLECTIVE: Final = """
### Of a collective

Rank within the host and size of the job, the same in all spans of a process, are on its resource (see below) and
on the span above. Bandwidths of 1 MB/s and more are whole numbers, and ids of spans made together follow one
another: what varies from span to span is what they cost when they are compressed. In a DDP job with 25 collectives
a step, a collective and its share of the step's span take 800 bytes as protobuf, 56 with gzip, and 1,480 as JSON,
72 with gzip.
"""

_LOGS: Final = f"""
## Log events

What a rank did in a step is told for *every* step. Where it has no span (by a sampler, `OTEL_NETMON_TRACE_EVERY`,
or in a large job: [volume.md](volume.md)), it is a log event with the attributes of the span, the ids that the
span would have, and `{semconv.STEP_START}`; its time stamp is the end. So is the traffic with each peer, as
`{semconv.EVENT_TCP_PEER}`; also that of a step that has been open for 2 s, which does not wait for its end.
"""

_EVENTS: Final = (
    *(
        (f"`{name}`", "INFO", "what a rank did in one, where it is not traced")
        for name in semconv.EVENT_OF_PERIOD.values()
    ),
    (f"`{semconv.EVENT_TCP_PEER}`", "INFO", "traffic with a peer meanwhile"),
    (
        f"`{semconv.EVENT_NIC_TRAFFIC}`",
        "INFO",
        "traffic of a NIC, and this process's part of it, each time both are read",
    ),
    (
        f"`{semconv.EVENT_HEARTBEAT}`",
        "INFO",
        "every `OTEL_NETMON_HEARTBEAT` seconds: this rank lives, and what is in flight",
    ),
    (
        f"`{semconv.EVENT_STALLED}`",
        "WARN",
        "a collective has been in flight for longer than `OTEL_NETMON_STALL_AFTER`; once each, with the ids that "
        "its span will have",
    ),
    (
        f"`{semconv.EVENT_EXITED}`",
        "INFO, WARN",
        "the launcher's: the process of a rank ended, and how; WARN if it was by a signal or with an exit code "
        "other than 0",
    ),
    (
        f"`{semconv.EVENT_LAST_CALLS}`",
        "WARN",
        "the launcher's: the last collectives of a rank that ended before it could export them, from the memory "
        "that it shared (`OTEL_NETMON_BLACK_BOX`); the time stamp is the rank's last sign of life",
    ),
    (
        f"`{semconv.EVENT_DIAGNOSIS}`",
        "WARN",
        "the live diagnosis found a culprit, or (INFO) that one is over; the body is the sentence, the trace that "
        "of a step that shows it",
    ),
)

_METRICS: Final = """
## Metrics

Attributes of low cardinality only; rank and host are on the resource. `error.type` is there only on failure.
Prometheus writes dots in attribute names as underscores too; histograms have `_bucket`, `_sum` and `_count`.
"""

_RESOURCE: Final = """
## Resource attributes

From the resource detector `otel_netmon`. `otel-netmon run` switches it on; elsewhere
`OTEL_EXPERIMENTAL_RESOURCE_DETECTORS=otel,otel_netmon` does. `otel-netmon run` also sets `service.name` to the
name of the script, unless the user has. What the user sets in `OTEL_RESOURCE_ATTRIBUTES` wins.
"""

_VARIABLES: Final = """
## Variables

In a running job a bad value costs one warning and the default is used; `otel-netmon run` refuses to start.
Everything else is OpenTelemetry's own: `OTEL_EXPORTER_OTLP_ENDPOINT` and the rest of `OTEL_*`.
"""


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["", _row(header), _row("---" for _ in header)]
    return "\n".join([*lines, *map(_row, rows)]) + "\n"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _metric(metric: semconv.Metric) -> tuple[str, ...]:
    kind = metric.kind.replace("_", " ")
    return (
        f"`{metric.name}`",
        kind,
        f"`{metric.unit}`",
        f"`{metric.prometheus_name}`",
        _code(metric.attributes),
        metric.description,
    )


def _default(value: Any) -> str:
    return "unset" if value in (None, ()) else f"`{value}`"


def _attributes(cls: type[Any]) -> str:
    """The table of one type of record."""
    return _table(
        ("attribute", "type", "unit", "column", "what it says", "absent means"),
        (
            (f"`{a}`", a.type, a.unit and f"`{a.unit}`", f"`{column}`", a.description, a.absent or "never absent")
            for column, a in schema.ATTRIBUTES[cls].items()
        ),
    )


def render() -> str:
    """The whole page."""
    buckets = "".join(
        f"\nBuckets of the histograms in `{unit}`: {', '.join(f'{bound:.10g}' for bound in bounds)}.\n"
        for unit, bounds in (("s", semconv.SECONDS_BUCKETS), ("By", semconv.BYTES_BUCKETS))
    )
    return "".join(
        (
            _INTRO,
            _SPANS,
            _table(
                ("span", "child of", "what it says"),
                (
                    (f"`{span.name}`", f"`{span.parent}`" if span.parent else "none: a root", span.description)
                    for span in semconv.SPANS
                ),
            ),
            _RECORDS,
            _COLLECTIVE,
            _attributes(Collective),
            "\n### Of a step on a rank\n\nThe root of a trace has the first seven of these alone.\n",
            _attributes(RankStep),
            "\n### Of the traffic with a peer\n\n",
            f"On the event `{semconv.EVENT_TCP_PEER}` of a rank's step, or the log event of that name: "
            "what moved to and from another.\n",
            _attributes(PeerTraffic),
            "\n### Of the traffic of a NIC\n",
            _attributes(HostTraffic),
            _LOGS,
            _table(("event", "severity", "what it says"), _EVENTS),
            "\n### Of a collective that hangs\n",
            _attributes(InFlight),
            "\n### Of a heartbeat\n",
            _attributes(Heartbeat),
            "\n### Of a rank that ended\n\nHost and process on the resource are the launcher's.\n",
            _attributes(RankExit),
            "\n### Of its last collectives\n",
            _attributes(LastCalls),
            "\n### Of a verdict\n",
            _attributes(Verdict),
            _METRICS,
            _table(
                ("metric", "instrument", "unit", "in Prometheus", "attributes", "what it says"),
                map(_metric, semconv.METRICS),
            ),
            buckets,
            _RESOURCE,
            _table(
                ("attribute", "type", "what it says"),
                ((f"`{a}`", a.type, a.description) for a in semconv.RESOURCE_ATTRIBUTES),
            ),
            _VARIABLES,
            _table(
                ("variable", "default", "accepted", "what it does"),
                ((f"`{v.name}`", _default(v.default), v.kind.accepted, v.doc) for v in config.VARIABLES),
            ),
        )
    )


if __name__ == "__main__":
    PAGE.write_text(render())
