"""``otel-netmon flush DIR``: deliver what earlier runs could not."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from otel_netmon import config
from otel_netmon.delivery import connect
from otel_netmon.delivery.patient import Patient
from otel_netmon.delivery.segment import Segment
from otel_netmon.delivery.spool import SpoolError, open_folder, orphans
from otel_netmon.delivery.transport import Transport
from otel_netmon.sdk.check import apply, check
from otel_netmon.sdk.values import SIGNALS

ITEMS: Final = {"traces": "spans", "metrics": "data points", "logs": "log records"}


def flush(folder: Path) -> int:
    """Send every request in ``folder`` that no living process owns; 0 when nothing is left, 1 otherwise."""
    if not folder.is_dir():
        _say(f"{folder} is not a folder", is_error=True)
        return 2
    try:
        open_folder(folder)
    except SpoolError as error:
        _say(str(error.strerror), is_error=True)
        return 2
    works, wrong = check(os.environ)
    apply(works, wrong)
    if any(problem.lost for problem in wrong):
        return 2
    left = 0
    for signal in SIGNALS:
        transport: Transport | None = None
        delivered = rejected = 0
        damaged: list[int] = []
        for path in orphans(folder, signal):
            segment = Segment.adopt(path, damaged.append)
            if segment is None:
                _say(f"{path.name} is left alone: a running process owns it, or it is not a spool file")
                continue
            transport = transport or connect.connect(signal)
            taken, refused, rest = _deliver(segment, transport)
            delivered, rejected, left = delivered + taken, rejected + refused, left + rest
            segment.close(remove=not rest)
        if damaged:
            _say(f"{sum(damaged)} {ITEMS[signal]} are lost: the file is damaged", is_error=True)
        if transport is not None:
            too = f", {rejected} refused" if rejected else ""
            _say(f"{delivered} {ITEMS[signal]} delivered to {transport.endpoint}{too}")
            transport.close()
    if left:
        _say(f"{left} items could not be delivered and are kept; is the collector running?", is_error=True)
    return 1 if left else 0


def _say(sentence: str, *, is_error: bool = False) -> None:
    print(f"otel-netmon flush: {sentence}", file=sys.stderr if is_error else sys.stdout)


def _deliver(segment: Segment, transport: Transport) -> tuple[int, int, int]:
    """Items delivered, refused, and left."""
    patient = Patient(transport, config.current().exit_timeout)
    taken = refused = 0
    while (record := segment.first()) is not None:
        outcome = patient.send(record.data)
        if outcome.kind == "retry":
            return taken, refused, segment.left
        segment.delivered(record)
        gone = record.items if outcome.kind == "rejected" else min(outcome.rejected, record.items)
        taken, refused = taken + record.items - gone, refused + gone
    return taken, refused, 0
