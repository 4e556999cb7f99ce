"""Standard streams that are closed, full or gone: nothing of ours ends because of them, or is taken for them."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def hold_closed() -> None:
    """Put the null device where a standard descriptor is closed.

    Else the next file or socket gets its number, a spool or a collector's connection among them, and what a C
    library prints lands there. Programs that this one starts find it closed, as before.
    """
    with suppress(OSError):
        while (fd := os.open(os.devnull, os.O_RDWR)) < 3:  # the lowest that is free; not inherited
            pass
        os.close(fd)


def replace_missing() -> None:
    """For a program of ours: streams that can be written to where there are none. Nothing printed to them is seen.

    ``print(…, file=None)`` would write to stdout what was meant for stderr.
    """
    hold_closed()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115  # for good


def say(sentence: str) -> None:
    """One line of ours on stderr. Where that cannot be, for its reader is gone or its disk is full, never mind."""
    with suppress(OSError, ValueError):
        print(f"otel-netmon: {sentence}", file=sys.stderr, flush=True)  # noqa: T201  # a command line's
