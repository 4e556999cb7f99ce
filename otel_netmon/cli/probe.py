"""One real, empty OTLP export to each endpoint, by the code that delivers: what came back, and what to change."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Literal

from otel_netmon import config
from otel_netmon.delivery.connect import connect, protocol
from otel_netmon.delivery.transport import naming
from otel_netmon.sdk import otlp
from otel_netmon.sdk.values import SIGNALS, Signal
from otel_netmon.text import without_secrets

Answer = tuple[Literal["ok", "note", "FAIL"], str, str, str]
"""Level, variable, what came back, and the remedy."""

SECONDS: Final = 3.0
_LOGS: Final = "OTEL_LOGS_EXPORTER=none leaves out the log event of a hanging collective"


def answers(
    environ: Mapping[str, str], exporters: Mapping[str, str], replaced: Collection[str]
) -> Iterator[Answer]:
    """What each endpoint of ``environ`` answers, for the signals whose ``exporters`` send by OTLP.

    ``replaced``: variables whose values were replaced.
    """
    asked = [signal for signal in SIGNALS if otlp.is_used(exporters, signal)]
    found: dict[Answer, list[Signal]] = {}
    away: set[str] = set()
    with as_environment(environ):
        for signal in asked:
            address, variable = otlp.endpoint(environ, signal)
            if variable in away:
                continue
            word, named = otlp.protocol(environ, signal)
            (level, _, what, remedy), there = _ask(signal, address, variable)
            answer = (level, variable, what, naming(remedy, variable, named))
            if answer[0] == "ok" and named in replaced:
                answer = ("note", *answer[1:3], f"set {named}={word}")
            found.setdefault(answer, []).append(signal)
            if not there:
                away.add(variable)
    for (level, variable, what, remedy), signals in found.items():
        yield level, variable, what.replace("{signals}", " and ".join(signals)), remedy


def _ask(signal: Signal, address: str, variable: str) -> tuple[Answer, bool]:
    """The answer, and whether the endpoint gave it."""
    try:
        transport = connect(signal)
    except Exception as error:  # noqa: BLE001  # the settings', of whatever kind
        return ("FAIL", variable, f"the exporter refuses this setting: {error}", "correct the variable"), False
    shown, by = without_secrets(address or transport.endpoint), protocol(signal)
    outcome = transport.send(b"", min(SECONDS, transport.timeout))
    transport.close()
    if outcome.kind == "delivered" and not outcome.hint:
        return ("ok", variable, f"{shown} accepted an empty export of {{signals}} by {by}", ""), True
    came = outcome.reason.partition(":")[0] or "HTTP 200"
    what = f"{shown} did not accept an empty export of {{signals}} by {by} ({came})"
    if signal == "logs" and came in ("HTTP 404", "UNIMPLEMENTED"):
        return ("note", variable, what, f"add a pipeline for logs to it, or note that {_LOGS}"), True
    return ("FAIL", variable, what, outcome.hint or "check the collector's log"), outcome.kind != "retry"


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
