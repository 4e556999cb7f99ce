"""Spans and log events: their names, and what stands above them."""

from __future__ import annotations

from typing import Final

from otel_netmon.semconv.diagnosis import EVENT_DIAGNOSIS
from otel_netmon.semconv.model import Span

SPAN_TRAIN_STEP: Final = "train_step"
SPAN_RANK_STEP: Final = "rank_step"
SPAN_SETUP: Final = "setup"
SPAN_RANK_SETUP: Final = "rank_setup"
SPAN_WINDOW: Final = "window"
SPAN_RANK_WINDOW: Final = "rank_window"
SPAN_PERIODS: Final = (
    *(SPAN_TRAIN_STEP, SPAN_RANK_STEP, SPAN_SETUP, SPAN_RANK_SETUP, SPAN_WINDOW, SPAN_RANK_WINDOW),
)
"""All that stand above collectives."""

SPAN_COLLECTIVES: Final = (
    *("all_reduce", "all_reduce_coalesced", "broadcast", "reduce", "gather", "scatter"),
    *("all_gather", "all_gather_into_tensor", "all_gather_coalesced", "all_gather_into_tensor_coalesced"),
    *("reduce_scatter", "reduce_scatter_tensor", "reduce_scatter_tensor_coalesced"),
    *("all_to_all", "all_to_all_single", "barrier", "monitored_barrier", "send", "recv"),
)
"""A collective's span is named by its operation, as PyTorch calls it."""

SYNCHRONISING: Final = frozenset(SPAN_COLLECTIVES) - {"broadcast", "reduce", "gather", "scatter", "send", "recv"}
"""Those that no rank leaves before all have entered."""

# --- log events -------------------------------------------------------------------------------------------

EVENT_STALLED: Final = "torch.distributed.collective.stalled"
"""Name of the log event of a collective that hangs."""
EVENT_HEARTBEAT: Final = "torch.distributed.heartbeat"
"""Name of the log event by which a rank says that it lives, and what it is at."""
EVENT_EXITED: Final = "torch.distributed.rank.exited"
"""Of the log event by which a launcher says how a rank's process ended."""
EVENT_LAST_CALLS: Final = "torch.distributed.rank.last_calls"
"""Of the log event with the last collectives of a rank that could not export them itself."""
EVENT_TCP_PEER: Final = "tcp.peer"
"""Of a reading of the connections to one peer: an event of the span of a rank's step, or a log event."""
EVENT_NIC_TRAFFIC: Final = "otel_netmon.nic.traffic"
"""Of the log event with what a NIC and the training moved in the same time."""
EVENT_OF_PERIOD: Final = {
    SPAN_RANK_STEP: "torch.distributed.rank_step",
    SPAN_RANK_SETUP: "torch.distributed.rank_setup",
    SPAN_RANK_WINDOW: "torch.distributed.rank_window",
}
"""Of the log event that stands in for a rank's span in a trace that is not sampled, by that span's name."""
EVENTS: Final = (
    *EVENT_OF_PERIOD.values(),
    *(EVENT_TCP_PEER, EVENT_NIC_TRAFFIC, EVENT_HEARTBEAT, EVENT_STALLED, EVENT_DIAGNOSIS),
    *(EVENT_EXITED, EVENT_LAST_CALLS),
)

SPANS: Final = (
    Span(SPAN_TRAIN_STEP, None, "One training step, from rank 0 only: the root of the step's trace."),
    Span(SPAN_RANK_STEP, SPAN_TRAIN_STEP, "One training step on one rank."),
    Span(SPAN_SETUP, None, "What was communicated before the first step, from rank 0 only: a root."),
    Span(SPAN_RANK_SETUP, SPAN_SETUP, "The same on one rank."),
    Span(
        SPAN_WINDOW,
        None,
        "A slice of the clock where nothing marks steps (inference, say), from rank 0 only: a root.",
    ),
    Span(SPAN_RANK_WINDOW, SPAN_WINDOW, "The same on one rank."),
    Span(
        SPAN_COLLECTIVES[0],
        SPAN_RANK_STEP,
        "One collective on one rank, from the call to its completion; below `rank_setup` or `rank_window` where "
        "it is in no step. Named by its operation; likewise "
        + ", ".join(f"`{name}`" for name in SPAN_COLLECTIVES[1:])
        + ".",
    ),
)
