"""What is told of a rank that ended, as log events."""

from __future__ import annotations

from typing import NamedTuple

from otel_netmon import schema, semconv
from otel_netmon.endings import LastCalls, RankExit
from otel_netmon.records import Value


class Event(NamedTuple):
    """A log event; the time is in nanoseconds since the epoch."""

    name: str
    body: str
    attributes: dict[str, Value]
    time: int
    severity: str


def of_exit(rank: RankExit) -> Event:
    """How it ended."""
    body = f"{_name(rank)} ended"
    if rank.signal is not None:
        body = f"{_name(rank)} was ended by signal {rank.signal}"
    elif rank.code is not None:
        body += f" with exit code {rank.code}"
    severity = "WARN" if rank.signal or rank.code else "INFO"
    return Event(semconv.EVENT_EXITED, body, schema.attributes(rank), rank.time, severity)


def of_calls(calls: LastCalls) -> Event:
    """What one that could not say it was at."""
    body = f"the last {len(calls.calls)} collectives of {_name(calls)}, which ended before it exported them"
    return Event(semconv.EVENT_LAST_CALLS, body, schema.attributes(calls), calls.time, "WARN")


def _name(record: RankExit | LastCalls) -> str:
    return f"process {record.pid}" if record.rank is None else f"rank {record.rank} (process {record.pid})"
