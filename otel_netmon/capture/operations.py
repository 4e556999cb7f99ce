"""The operations of ``c10d``: their PyTorch names, and which tensors are the buffer that bandwidth goes by.

The buffer is the one that nccl-tests counts (see ``bandwidth``): the total output of an all_gather, the total
input of a reduce_scatter. A rank of a gather or scatter sees only its share of it: that is taken times the size of
the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation as torch's dispatcher knows it. Each exists once: compared by identity."""

    name: str
    """As PyTorch's function is called."""
    buffer: str | None = None
    """Argument with the tensors of the buffer; ``None`` when there is none."""
    formula: str | None = None
    """The operation whose bus bandwidth formula applies; ``None`` when there is none."""
    is_share: bool = False
    """The buffer is one rank's share of what is counted."""
    has_splits: bool = False
    """Its parts may be of unequal size, and then there is no formula."""
    splits: tuple[str, ...] = ()
    """Arguments with the sizes of the parts."""
    is_p2p: bool = False
    """Between two ranks: not counted among the group's collectives."""

    @property
    def is_output(self) -> bool:
        """Whether the buffer is what the operation gives, not what it takes."""
        return self.name == "recv" or (self.buffer or "").startswith("output")


_LISTS: Final = (list, tuple)


def tensors_in(argument: Any) -> Sequence[Any]:
    """The tensors in the argument of a buffer: one, a list, or a list of lists."""
    if not isinstance(argument, _LISTS):
        return (argument,)
    if argument and isinstance(argument[0], _LISTS):
        return [tensor for tensors in argument for tensor in tensors]
    return argument


OPERATIONS: Final = {
    "allreduce_": Operation("all_reduce", "tensors", "all_reduce"),
    "allreduce_coalesced_": Operation("all_reduce_coalesced", "tensors", "all_reduce"),
    "broadcast_": Operation("broadcast", "tensors", "broadcast"),
    "reduce_": Operation("reduce", "tensors", "reduce"),
    "allgather_": Operation("all_gather", "output_tensors", "all_gather"),
    "_allgather_base_": Operation("all_gather_into_tensor", "output_tensor", "all_gather"),
    "allgather_coalesced_": Operation("all_gather_coalesced", "output_lists", "all_gather"),
    "allgather_into_tensor_coalesced_": Operation("all_gather_into_tensor_coalesced", "outputs", "all_gather"),
    "reduce_scatter_": Operation("reduce_scatter", "input_tensors", "reduce_scatter"),
    "_reduce_scatter_base_": Operation("reduce_scatter_tensor", "input_tensor", "reduce_scatter"),
    "reduce_scatter_tensor_coalesced_": Operation("reduce_scatter_tensor_coalesced", "inputs", "reduce_scatter"),
    "alltoall_": Operation("all_to_all", "input_tensors", "all_to_all", has_splits=True),
    "alltoall_base_": Operation(
        "all_to_all_single",
        "input",
        "all_to_all",
        has_splits=True,
        splits=("output_split_sizes", "input_split_sizes"),
    ),
    "gather_": Operation("gather", "input_tensors", "gather", is_share=True),
    "scatter_": Operation("scatter", "output_tensors", "scatter", is_share=True),
    "barrier": Operation("barrier"),
    "monitored_barrier_": Operation("monitored_barrier"),
    "send": Operation("send", "tensors", "send", is_p2p=True),
    "recv_": Operation("recv", "tensors", "recv", is_p2p=True),
    "recv_any_source_": Operation("recv", "tensors", "recv", is_p2p=True),
}
"""By the name in ``torch.ops.c10d``. What a torch does not have is left out."""

OPERATION_NUMBERS: Final = {operation: number for number, operation in enumerate(OPERATIONS.values())}
"""What stands for them in records."""
