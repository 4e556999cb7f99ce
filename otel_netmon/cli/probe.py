"""One real, empty OTLP export to each endpoint, by the code that delivers: what came back, and what to change."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Literal, NamedTuple

from otel_netmon import config
from otel_netmon.delivery.connect import connect, protocol
from otel_netmon.delivery.transport import naming
from otel_netmon.sdk import otlp
from otel_netmon.sdk.values import SIGNALS, Signal
from otel_netmon.text import without_secrets

SECONDS: Final = 3.0
_LOGS: Final = "OTEL_LOGS_EXPORTER=none leaves out the log event of a hanging collective"


class Finding(NamedTuple):
    """One line: a level, what was looked at, what was found, and what to do about it."""

    level: Literal["ok", "note", "FAIL"]
    what: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.level:<4}  {self.what}: {self.found}" + (f"; {self.remedy}" if self.remedy else "")
        return "".join(c if c.isprintable() else "?" for c in line)


def answers(
    environ: Mapping[str, str], exporters: Mapping[str, str], replaced: Collection[str]
) -> Iterator[Finding]:
    """What each endpoint of ``environ`` answers, for the signals whose ``exporters`` send by OTLP.

    ``replaced``: variables whose values were replaced.
    """
    answered: dict[Finding, list[Signal]] = {}
    away: set[str] = set()
    with as_environment(environ):
        for signal in SIGNALS:
            address, variable = otlp.endpoint(environ, signal)
            if variable in away or not otlp.is_used(exporters, signal):
                continue
            word, named = otlp.protocol(environ, signal)
            answer, there = _ask(signal, address, variable)
            if answer.level == "ok" and named in replaced:
                answer = answer._replace(level="note", remedy=f"set {named}={word}")
            answer = answer._replace(remedy=naming(answer.remedy, variable, named))
            answered.setdefault(answer, []).append(signal)
            if not there:
                away.add(variable)
    for answer, signals in answered.items():
        yield answer._replace(found=answer.found.replace("{signals}", " and ".join(signals)))


def _ask(signal: Signal, address: str, variable: str) -> tuple[Finding, bool]:
    """The answer, and whether the endpoint gave it."""
    try:
        transport = connect(signal)
    except Exception as error:  # noqa: BLE001  # the settings', of whatever kind
        refused = f"the exporter refuses this setting: {error}"
        return Finding("FAIL", variable, refused, "correct the variable"), False
    shown, by = without_secrets(address or transport.endpoint), protocol(signal)
    outcome = transport.send(b"", min(SECONDS, transport.timeout))
    transport.close()
    if outcome.kind == "delivered" and not outcome.hint:
        return Finding("ok", variable, f"{shown} accepted an empty export of {{signals}} by {by}"), True
    came = outcome.reason.partition(":")[0] or "HTTP 200"
    what = f"{shown} did not accept an empty export of {{signals}} by {by} ({came})"
    if signal == "logs" and came in ("HTTP 404", "UNIMPLEMENTED"):
        return Finding("note", variable, what, f"add a pipeline for logs to it, or note that {_LOGS}"), True
    return Finding("FAIL", variable, what, outcome.hint or "check the collector's log"), outcome.kind != "retry"


@contextmanager
def as_environment(environ: Mapping[str, str]) -> Iterator[None]:
    """Exporters and monitors read the process's own. gRPC's C library logs nothing meanwhile."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update({"GRPC_VERBOSITY": "NONE", **environ})
    config.current.cache_clear()
    try:
        yield
    finally:
        config.current.cache_clear()
        os.environ.clear()
        os.environ.update(before)
