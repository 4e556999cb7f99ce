"""Private names of torch: in one file, working, and where one is missing it costs what its docstring says."""

from __future__ import annotations

import ast
import inspect
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import otel_netmon
from otel_netmon.internals import torch_internals
from otel_netmon.patches import Patches

PACKAGE = Path(inspect.getfile(otel_netmon)).parent
UNDOCUMENTED = {"GroupMember", "HookOpName", "pg_group_ranks", "pg_map", "pg_names", "unbox"}
"""Names of torch without an underscore that are no more public than those with one."""
NO_TORCH_THERE = ("analysis", "cli", "delivery", "emit", "sdk")
"""Rooms with private names of OpenTelemetry: there, only those are wrong that internals reaches of torch."""
PUBLIC = {"_asdict", "_field_defaults", "_fields", "_make", "_replace", "_getframe", "_Unpickler", "_time"}
"""Names with an underscore that are not torch's: of named tuples, ``sys``, ``pickle``, and the end of a name."""


def attributes(tree: ast.AST) -> Iterator[str]:
    """Each attribute that is reached, but of ``self``; names given to ``getattr`` and the like too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if not (isinstance(node.value, ast.Name) and node.value.id == "self"):
                yield node.attr
        elif isinstance(node, ast.Call):
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value


def is_private(name: str) -> bool:
    return name.isidentifier() and name.startswith("_") and not name.startswith("__")


def wrong_in(source: str, fine: set[str]) -> list[str]:
    """Every private name of torch in ``source``; ``fine`` are those that are not torch's."""
    tree = ast.parse(source)
    found = [name for name in attributes(tree) if name in UNDOCUMENTED or (is_private(name) and name not in fine)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "torch":
            modules, names = [node.module or ""], [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            modules, names = [alias.name for alias in node.names if alias.name.startswith("torch")], []
        else:
            continue
        found += [name for name in names if is_private(name) or name in UNDOCUMENTED]
        found += [module for module in modules if any(map(is_private, module.split(".")))]
    return found


def defined_in(tree: ast.AST) -> set[str]:
    """Private names of ours: of functions and classes, and what is assigned to."""
    nodes = list(ast.walk(tree))
    found = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    found |= {n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
    return found | {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}


def test_private_names_of_torch_are_in_internals_alone() -> None:
    sources = {path: path.read_text() for path in PACKAGE.rglob("*.py") if path.parent.name != "internals"}
    of_torch = {name for name in attributes(ast.parse(inspect.getsource(torch_internals))) if is_private(name)}
    assert {"_world", "_C", "_schema", "_values", "_get_backend", "_destroy"} <= of_torch
    # Operations of torch.ops.c10d and methods of groups are data: looked up where a torch has them.
    data = {name for source in sources.values() for name in attributes(ast.parse(source)) if "_base" in name}
    ours = {name for source in sources.values() for name in defined_in(ast.parse(source))} - of_torch
    wrong = {}
    for path, source in sources.items():
        fine = ours | data | PUBLIC
        if path.relative_to(PACKAGE).parts[0] in NO_TORCH_THERE:
            fine |= set(attributes(ast.parse(source))) - of_torch
        wrong[str(path)] = wrong_in(source, fine)
    assert {path: found for path, found in wrong.items() if found} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from torch._C import _distributed_c10d",
        "from torch.utils.data.dataloader import _BaseDataLoaderIter",
        "import torch._dynamo",
        "torch._C._collect_all([])",
        "group._get_backend(device)",
        "getattr(c10d, '_world', None)",
        "c10d.GroupMember.WORLD",
        "from torch.distributed.distributed_c10d import GroupMember",
    ],
)
def test_such_a_name_elsewhere_is_found(source: str) -> None:
    assert wrong_in(source, {"_lock"})
    assert not wrong_in("self._lock.acquire(); from torch.distributed import Work", {"_lock"})


torch: Any = pytest.importorskip("torch", reason="pip install torch")
dist: Any = torch.distributed


@pytest.fixture
def group() -> Iterator[Any]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


def test_groups_and_what_torch_knows_of_them(group: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    c10d = dist.distributed_c10d
    assert list(torch_internals.registered_groups()) == [group]
    assert torch_internals.registered_groups()[group][1].check(["nothing"]) is False
    assert torch_internals.registered_name(group) == group.group_name
    assert torch_internals.registered_size(group) == 1
    assert torch_internals.backend_name(group, "cpu") == "gloo"
    assert torch_internals.can_find_groups()
    with monkeypatch.context() as patch:
        patch.delattr(c10d, "_world")
        assert torch_internals.registered_groups() == {} and torch_internals.can_find_groups()
        for ask in (torch_internals.registered_name, torch_internals.registered_size):
            with pytest.raises(AttributeError):
                ask(group)
        patch.delattr(c10d, "_register_process_group")
        assert not torch_internals.can_find_groups()


REPLACED = {
    "replace_register_group": ("distributed.distributed_c10d", "_register_process_group"),
    "replace_set_default_group": ("distributed.distributed_c10d", "_update_default_pg"),
    "replace_unregister_all_groups": ("distributed.distributed_c10d", "_unregister_all_process_groups"),
    "replace_next_batch": ("utils.data.dataloader._BaseDataLoaderIter", "__next__"),
}


@pytest.mark.parametrize("function", REPLACED)
def test_what_is_replaced_is_put_back_and_where_it_is_missing_that_is_logged(
    function: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch.utils.data.dataloader

    path, name = REPLACED[function]
    owner = torch
    for part in path.split("."):
        owner = getattr(owner, part)
    original, ours = vars(owner)[name], print
    patches = Patches()
    assert getattr(torch_internals, function)(patches, lambda _: ours)
    assert vars(owner)[name] is ours
    patches.remove()
    assert vars(owner)[name] is original and not caplog.records
    if isinstance(owner, ModuleType):
        monkeypatch.delattr(owner, name)
    else:
        monkeypatch.delattr(torch.utils.data.dataloader, owner.__name__)
    assert not getattr(torch_internals, function)(patches, lambda _: ours)
    (record,) = caplog.records
    assert "this torch has no" in record.getMessage()


def test_hooks_are_since_torch_2_14(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = torch_internals.hook_numbers()
    assert bool(numbers) == hasattr(dist.ProcessGroup, "register_pre_hook")
    if numbers:
        assert {"ALLREDUCE", "BARRIER", "SEND"} <= numbers.keys()
        monkeypatch.delattr(torch._C._distributed_c10d, "HookOpName")
        assert torch_internals.hook_numbers() == {}


def test_the_dispatcher() -> None:
    overload = torch.ops.c10d.barrier.default
    assert "process_group" in [argument.name for argument in torch_internals.schema_of(overload).arguments]
    assert not torch_internals.keys_below("BackendSelect").has(torch._C.DispatchKey.BackendSelect)
    assert len(torch_internals.unboxed()) == 2
    library, destroy = torch_internals.kernel_library("c10d")
    library.impl("barrier", lambda *_: None, "BackendSelect")
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    assert has_kernel("c10d::barrier", "BackendSelect")
    destroy()
    assert not has_kernel("c10d::barrier", "BackendSelect")


def test_futures_and_sparse_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    sparse = torch.sparse_coo_tensor([[0, 0]], [1.0, 2.0], (4,), check_invariants=True)
    assert not sparse.is_coalesced() and torch_internals.sparse_values(sparse).nbytes == 8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in beta state, says torch
        assert torch_internals.sparse_values(torch.eye(2).to_sparse_csr()).nbytes == 8
    done: Any = torch.futures.Future()
    after = torch_internals.future_after()([done])
    assert not after.done()
    done.set_result(1)
    assert after.done()
    monkeypatch.delattr(torch._C, "_collect_all")
    assert torch_internals.future_after() is torch.futures.collect_all


def test_the_flight_recorder(monkeypatch: pytest.MonkeyPatch) -> None:
    dump = torch_internals.flight_recorder_json("gloo")
    assert dump is not None and "version" in json.loads(dump)
    monkeypatch.delattr(torch._C._distributed_c10d, "_dump_fr_trace_json")
    assert torch_internals.flight_recorder_json("gloo") is None


def test_the_compiler_passes_over_marked_code(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch._dynamo.testing

    skip = torch_internals.compiler_skip()
    assert skip is not None
    skip(print_nothing.__code__)
    counter = torch._dynamo.testing.CompileCounter()
    torch.compile(print_nothing, backend=counter)(torch.ones(1))
    assert counter.frame_count == 0
    monkeypatch.delattr(torch._C._dynamo.eval_frame, "set_code_exec_strategy")
    assert torch_internals.compiler_skip() is None
    assert "torch.compile" in caplog.text


def print_nothing(tensor: Any) -> Any:
    return tensor + len(sys.argv)
