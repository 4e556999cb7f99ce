"""Algorithm and bus bandwidth, as nccl-tests defines them (doc/PERFORMANCE.md there).

``algbw = S / t`` and ``busbw = algbw * factor``, in By/s, where S is the size in bytes named below, t the
duration in seconds and n the number of ranks in the *group*:

=========================================================  ==================  ==============
operation                                                  S                   factor
=========================================================  ==================  ==============
all_reduce                                                 the buffer          2 (n - 1) / n
all_gather                                                 the total output    (n - 1) / n
reduce_scatter                                             the total input     (n - 1) / n
all_to_all, gather, scatter                                a rank's buffer     (n - 1) / n
broadcast, reduce, send, recv                              the buffer          1
=========================================================  ==================  ==============

There is no standard formula for unequal splits: no factor.
"""

from __future__ import annotations

from typing import Final

_ONE: Final = frozenset({"broadcast", "reduce", "send", "recv"})
_SHARE: Final = frozenset({"all_gather", "reduce_scatter", "all_to_all", "gather", "scatter"})


def bus_factor(operation: str, group_size: int) -> float | None:
    """busbw / algbw of ``operation`` (its PyTorch name) in a group of ``group_size`` ranks.

    ``None`` where there is no such number: an operation without a formula, or a group of one, which moves
    nothing.
    """
    if group_size < 2:
        return None
    if operation == "all_reduce":
        return 2.0 * (group_size - 1) / group_size
    if operation in _SHARE:
        return (group_size - 1) / group_size
    return 1.0 if operation in _ONE else None


def rates(size: int, nanoseconds: int, factor: float | None) -> tuple[float, float | None]:
    """algbw and busbw of a collective. From 1 MB/s on in whole bytes per second: the digits behind them, of which
    no clock knows anything, would be a tenth of what its span takes when it is compressed."""
    algbw = size * 1e9 / nanoseconds
    busbw = None if factor is None else algbw * factor
    if busbw is not None and busbw > 1e6:
        busbw = busbw + _ROUND - _ROUND
    return algbw + _ROUND - _ROUND if algbw > 1e6 else algbw, busbw


_ROUND: Final = 2.0**52
"""A float of this size has no digits behind the point: adding it rounds, in a tenth of the time of ``round``."""
