"""``otel-netmon flush DIR``: deliver what earlier runs could not."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_netmon import config

if TYPE_CHECKING:
    from otel_netmon.delivery.segment import Segment
    from otel_netmon.delivery.wire import Wire
    from otel_netmon.sdk.values import Signal


_logger = logging.getLogger(__name__)

_ITEMS: Final = {"traces": "spans", "metrics": "data points", "logs": "log records"}


def flush(folder: Path) -> int:
    """Send every request in ``folder`` that no living process owns; 0 when nothing is left, 1 otherwise."""
    from otel_netmon.delivery.segment import Segment
    from otel_netmon.delivery.spool import SpoolError, open_folder, orphans
    from otel_netmon.sdk.check import apply, check
    from otel_netmon.sdk.values import SIGNALS

    if not folder.is_dir():
        print(f"otel-netmon flush: {folder} is not a folder", file=sys.stderr)
        return 2
    try:
        open_folder(folder)
    except SpoolError as error:
        print(f"otel-netmon flush: {error.strerror}", file=sys.stderr)
        return 2
    works, wrong = check(os.environ)
    apply(works, wrong, os.environ, _logger)
    if any(problem.lost for problem in wrong):
        return 2
    left = 0
    for signal in SIGNALS:
        wire: Wire | None = None
        delivered = rejected = 0
        damaged: list[int] = []
        for path in orphans(folder, signal):
            segment = Segment.adopt(path, damaged.append)
            if segment is None:
                print(f"otel-netmon flush: {path.name} belongs to a running process, or is not ours; left alone")
                continue
            wire = wire or _wire(signal)
            taken, refused, rest = _deliver(segment, wire)
            delivered, rejected, left = delivered + taken, rejected + refused, left + rest
            segment.close(remove=not rest)
        if damaged:
            print(f"otel-netmon flush: {sum(damaged)} {_ITEMS[signal]} are damaged, and lost", file=sys.stderr)
        if wire is not None:
            refused_too = f", {rejected} refused" if rejected else ""
            print(f"otel-netmon flush: {delivered} {_ITEMS[signal]} delivered to {wire.endpoint}{refused_too}")
            wire.close()
    if left:
        print(f"otel-netmon flush: {left} items are left; is the collector there?", file=sys.stderr)
    return 1 if left else 0


def _wire(signal: Signal) -> Wire:
    from otel_netmon.delivery import wire

    return wire.Wire(wire.official(signal), signal)


def _deliver(segment: Segment, wire: Wire) -> tuple[int, int, int]:
    """Items delivered, refused, and left."""
    deadline = time.monotonic() + config.current().exit_timeout
    taken = refused = 0
    while (record := segment.first()) is not None:
        outcome = wire.send(record.data, wire.timeout)
        if outcome.kind == "retry":
            if time.monotonic() > deadline:
                return taken, refused, segment.left
            time.sleep(min(1.0, outcome.after or 0.2))
            continue
        deadline = time.monotonic() + config.current().exit_timeout
        segment.delivered(record)
        gone = record.items if outcome.kind == "rejected" else min(outcome.rejected, record.items)
        taken, refused = taken + record.items - gone, refused + gone
    return taken, refused, 0
