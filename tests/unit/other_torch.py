"""Runs in a process of its own: a training under a torch that lacks one private name, in a forked child each.

``python -m tests.unit.other_torch`` prints, as JSON, what each child saw.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

import torch
import torch._dynamo
import torch.distributed as dist
import torch.utils.data
from torch.distributed import distributed_c10d as c10d
from torch.optim import optimizer as optimizers
from torch.utils.data import dataloader


def _renamed(code: CodeType, old: str, new: str) -> CodeType:
    consts = tuple(_renamed(one, old, new) if isinstance(one, CodeType) else one for one in code.co_consts)
    names = tuple(new if name == old else name for name in code.co_names)
    return code.replace(co_consts=consts, co_names=names)


def _functions(value: Any, seen: set[int]) -> None:
    """All functions in ``value``, wrapped ones and properties too, into ``seen`` by way of ``_found``."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, FunctionType):
        _found.append(value)
        _functions(getattr(value, "__wrapped__", None), seen)
    elif isinstance(value, property):
        for part in (value.fget, value.fset):
            _functions(part, seen)
    elif isinstance(value, type) and value.__module__ == c10d.__name__:
        for member in list(vars(value).values()):
            _functions(getattr(member, "__func__", member), seen)


_found: list[FunctionType] = []


def rename(old: str, new: str, *owners: Any) -> None:
    """As if torch had always called it ``new``: for its own code in c10d, and in ``owners``."""
    seen: set[int] = set()
    for value in list(vars(c10d).values()):
        _functions(value, seen)
    for function in _found:
        if old in function.__code__.co_names or any(isinstance(c, CodeType) for c in function.__code__.co_consts):
            function.__code__ = _renamed(function.__code__, old, new)
    for owner in owners:
        setattr(owner, new, vars(owner)[old])
        delattr(owner, old)


def without(owner: Any, name: str) -> Callable[[], None]:
    return lambda: delattr(owner, name)


CASES: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "c10d._register_process_group": lambda: rename("_register_process_group", "_r", c10d),
    "c10d._update_default_pg": lambda: rename("_update_default_pg", "_u", c10d),
    "c10d._unregister_all_process_groups": lambda: rename("_unregister_all_process_groups", "_a", c10d),
    "c10d._world": lambda: rename("_world", "_w", c10d),
    "c10d._world.pg_map": lambda: rename("pg_map", "pg_table", c10d._World),
    "c10d.GroupMember": lambda: rename("GroupMember", "Members", c10d),
    "dataloader._BaseDataLoaderIter": without(dataloader, "_BaseDataLoaderIter"),
    "optimizer.register_optimizer_step_post_hook": without(optimizers, "register_optimizer_step_post_hook"),
    "_C._dispatch_keyset_full_after": without(torch._C, "_dispatch_keyset_full_after"),
    "_C._dynamo.eval_frame.set_code_exec_strategy": without(torch._C._dynamo.eval_frame, "set_code_exec_strategy"),
    "ProcessGroup.unbox": without(dist.ProcessGroup, "unbox"),
    "ProcessGroup._get_backend": lambda: rename("_get_backend", "_backend", dist.ProcessGroup),
}
if hasattr(dist.ProcessGroup, "register_pre_hook"):
    CASES["ProcessGroup.register_pre_hook"] = without(dist.ProcessGroup, "register_pre_hook")
    CASES["_distributed_c10d.HookOpName"] = without(torch._C._distributed_c10d, "HookOpName")


def owned() -> dict[tuple[int, str], Any]:
    """Everything callable where we replace something."""
    owners = (c10d, dist.Work, dist.ProcessGroup, torch.optim.Optimizer, torch.nn.parallel.DistributedDataParallel)
    classes = [cls for cls in vars(dataloader).values() if isinstance(cls, type)]
    return {
        (id(owner), name): value
        for owner in (*owners, *classes)
        for name, value in list(vars(owner).items())
        if callable(value)
    }


def train() -> dict[str, Any]:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from otel_netmon import TorchDistributedInstrumentor

    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]  # a handler of this test's
    logging.getLogger("otel_netmon").addHandler(handler)
    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    before = owned()
    callbacks, hooks = list(gc.callbacks), dict(optimizers._global_optimizer_post_hooks)
    TorchDistributedInstrumentor().instrument(tracer_provider=provider)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    time.sleep(0.7)  # a look from the background
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for batch in torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(8, 4))):
        model(batch[0]).sum().backward()
        optimizer.step()
    dist.all_reduce(torch.ones(2))
    time.sleep(0.7)
    dist.destroy_process_group()
    TorchDistributedInstrumentor().uninstrument()
    after = owned()
    spans = kept.get_finished_spans()
    steps = [dict(span.attributes or {}) for span in spans if span.name == "rank_step"]
    return {
        "all_reduces": sum(span.name == "all_reduce" for span in spans),
        "steps": len(steps),
        "rank": sorted({str(step.get("torch.distributed.rank")) for step in steps}),
        "data": any("torch.distributed.step.data_time" in step for step in steps),
        "said": said,
        "changed": sorted(name for (_, name), value in before.items() if after.get((_, name)) is not value),
        "left": (gc.callbacks != callbacks) or (optimizers._global_optimizer_post_hooks != hooks),
    }


def main() -> None:
    found = {}
    for name, break_it in CASES.items():
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            result: dict[str, Any] = {}
            try:
                break_it()
                result = train()
            except BaseException as error:
                result = {"raised": repr(error)}
            os.write(writing, json.dumps(result).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as stream, contextlib.suppress(ValueError):
            found[name] = json.loads(stream.read())
        os.waitpid(child, 0)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
