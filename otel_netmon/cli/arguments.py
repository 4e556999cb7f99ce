"""Values of options that more than one command takes."""

from __future__ import annotations

import argparse


def steps(text: str) -> range:
    """``A:B``, both included, either left out; for argparse."""
    first, colon, last = text.partition(":")
    try:
        found = range(int(first or 0), int(last) + 1 if last else 1 << 62)
    except ValueError:
        found = range(0)
    if not colon or not found or found[0] < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not A:B, two numbers of steps with A <= B")
    return found
