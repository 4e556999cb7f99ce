"""Every private name of torch that we use, each in a function of its own. Import torch first.

All of them are in torch 2.13.0 and 2.14.1 unless a docstring says otherwise; each docstring says what is lost
where the name is missing.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
from typing import Any, TypeAlias, cast

from otel_netmon.patches import Patches

_logger = logging.getLogger(__name__)

Make: TypeAlias = "Callable[[Any], Callable[..., Any]]"
"""Makes a replacement of the original function."""


def _c10d() -> Any:
    from torch.distributed import distributed_c10d

    return distributed_c10d


def registered_groups() -> Mapping[Any, Any]:
    """Every process group, with its backend and its store: ``_world.pg_map``. Empty without it: then groups are
    seen only when they are made, each rank has a run id of its own unless one is set, and TCP connections are not
    matched to ranks."""
    return cast("Mapping[Any, Any]", getattr(getattr(_c10d(), "_world", None), "pg_map", {}))


def registered_name(process_group: Any) -> Any:
    """The name that torch gave a group: ``_world.pg_names``. Raises without it: then groups that are written in
    Python, which need not know their own, have none."""
    return _c10d()._world.pg_names[process_group]


def registered_size(process_group: Any) -> int:
    """The number of ranks in a group: ``_world.pg_group_ranks``. Raises without it: then the size of groups that
    are written in Python and do not know theirs is absent."""
    return len(_c10d()._world.pg_group_ranks[process_group])


def can_find_groups() -> bool:
    """Whether there is any way to learn which groups there are: without one, hooks cannot be put on them."""
    return hasattr(_c10d(), "_register_process_group") or hasattr(_c10d(), "_world")


def replace_register_group(patches: Patches, make: Make) -> bool:
    """Replace what each new group is registered with; the group is its last argument. Without it they are
    polled."""
    costs = "groups are found when they are first looked for, up to half a second late"
    return patches.put(_c10d(), "_register_process_group", make, costs=costs)


def replace_set_default_group(patches: Patches, make: Make) -> bool:
    """Replace what sets the default group, and unsets it (``None``) before its store goes: without it nothing can
    be asked of the store at the last moment."""
    costs = "what a job recorded at its very end may be in a trace of its own"
    return patches.put(_c10d(), "_update_default_pg", make, costs=costs)


def replace_unregister_all_groups(patches: Patches, make: Make) -> bool:
    """Replace what ``destroy_process_group()`` ends with: without it what was captured is exported a bit later."""
    costs = "nothing is exported at once when the groups are destroyed"
    return patches.put(_c10d(), "_unregister_all_process_groups", make, costs=costs)


def backend_name(process_group: Any, device_type: str) -> Any:
    """Name of the backend that serves ``device_type`` in a group: ``ProcessGroup._get_backend``. Raises where none
    does, and without it: then the group's own name for its backend stands in."""
    import torch

    return process_group._get_backend(torch.device(device_type)).name()


def hook_numbers() -> dict[str, int]:
    """Numbers of the operations that hooks are called with, by name: ``HookOpName``. Since torch 2.14; empty
    without it: then the dispatcher's kernels see the same, at a higher cost per call."""
    from torch._C import _distributed_c10d
    from torch.distributed import ProcessGroup

    methods = ("register_pre_hook", "register_post_hook", "unregister_pre_hook", "unregister_post_hook")
    if not all(hasattr(ProcessGroup, name) for name in methods):
        return {}
    members = getattr(getattr(_distributed_c10d, "HookOpName", None), "__members__", {})
    return {name: int(member) for name, member in members.items()}


def keys_below(key: str) -> Any:
    """The dispatch keys below ``key``, with which a kernel calls on: ``_dispatch_keyset_full_after``. Raises
    without it: then there is no capture in the dispatcher."""
    import torch

    return torch._C._dispatch_keyset_full_after(getattr(torch._C.DispatchKey, key))


def unboxed() -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """What turns the dispatcher's arguments into a ``ProcessGroup`` and a ``Work``: their ``unbox``, which is not
    documented. Raises without it: then there is no capture in the dispatcher."""
    from torch.distributed import ProcessGroup, Work

    return ProcessGroup.unbox, Work.unbox


def schema_of(overload: Any) -> Any:
    """Names and defaults of an operation's arguments, and what it returns: ``OpOverload._schema``. Raises without
    it: then there is no capture in the dispatcher."""
    return overload._schema


def kernel_library(namespace: str) -> tuple[Any, Callable[[], None]]:
    """A library for kernels of ours, and what takes them all out again: ``Library._destroy``. Raises without it,
    for they could never be taken out: then there is no capture in the dispatcher."""
    import torch

    library = torch.library.Library(namespace, "IMPL")
    return library, library._destroy


def future_after() -> Callable[[list[Any]], Any]:
    """What makes a future that completes after others: ``_C._collect_all``. Without it the public
    ``torch.futures.collect_all`` does the same, a little slower."""
    import torch
    from torch.futures import collect_all

    return cast("Callable[[list[Any]], Any]", getattr(torch._C, "_collect_all", collect_all))


def sparse_values(tensor: Any) -> Any:
    """The values of a sparse tensor, coalesced or not: ``Tensor._values``. Without it tensors that are not
    coalesced raise: then their collectives are counted as not recorded."""
    values = getattr(tensor, "_values", None) if tensor.is_sparse else None
    return tensor.values() if values is None else values()


def flight_recorder_json(backend: str) -> str | bytes | None:
    """What this process's Flight Recorder holds: ``_dump_nccl_trace_json`` in a torch with NCCL, which has one of
    its own, else ``_dump_fr_trace_json``. ``None`` without it: then there are no device times, and nothing is
    captured from the recorder."""
    from torch._C import _distributed_c10d

    name = "_dump_nccl_trace_json" if backend == "nccl" else "_dump_fr_trace_json"
    dump = getattr(_distributed_c10d, name, None)
    return None if dump is None else cast("str | bytes", dump(includeCollectives=True, onlyActive=False))


def replace_next_batch(patches: Patches, make: Make) -> bool:
    """Replace ``__next__`` of the iterators of data loaders: ``_BaseDataLoaderIter``. Without it the time that
    steps wait for data is absent."""
    from torch.utils.data import dataloader

    owner = getattr(dataloader, "_BaseDataLoaderIter", dataloader)
    return patches.put(owner, "__next__", make, costs="the time in data loaders is not measured")


def compiler_skip() -> Callable[[CodeType], None] | None:
    """What has torch.compile pass over code, but not over what that calls: ``eval_frame.set_code_exec_strategy``.
    ``None`` without it: then our code is compiled where it runs in a compiled program, which costs time and is
    counted among the user's frames, but changes no result."""
    from torch._C._dynamo import eval_frame

    try:
        set_strategy, action = eval_frame.set_code_exec_strategy, eval_frame._FrameAction
        strategy = eval_frame._FrameExecStrategy(action.SKIP, action.DEFAULT)
    except AttributeError:
        _logger.warning("otel-netmon: this torch has no way to keep our code out of torch.compile: it is compiled")
        return None
    return lambda code: set_strategy(code, strategy)


def keep_compiler_out() -> None:
    """Mark all code of ours that is imported by now; some milliseconds.

    While a compiled program runs, torch._dynamo looks at every Python frame that is entered, ours too. It passes
    over marked code; the marks cost nothing per call, and need no import of the compiler.
    """
    skip = compiler_skip()
    package = __name__.partition(".")[0] + "."
    for name, module in list(sys.modules.items()):
        if name.startswith(package) and skip is not None:
            for value in list(vars(module).values()):
                if getattr(value, "__module__", None) == name:
                    _mark(value, str(module.__file__), skip)


def _mark(value: Any, file: str, skip: Callable[[CodeType], None]) -> None:
    if isinstance(value, FunctionType):
        _mark(value.__code__, file, skip)
        _mark(getattr(value, "__wrapped__", None), file, skip)
    elif isinstance(value, CodeType):
        # "<string>" is what dataclasses and named tuples generate, for each class its own; the code of a decorator
        # or an enum is shared with others.
        if value.co_filename not in (file, "<string>"):
            return
        skip(value)
        for constant in value.co_consts:
            _mark(constant, file, skip)
    elif isinstance(value, type):
        for member in list(vars(value).values()):
            _mark(getattr(member, "__func__", getattr(member, "fget", member)), file, skip)
