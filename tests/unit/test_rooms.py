"""Who may import whom: no import goes up a floor, and no circle is left."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from pathlib import Path

import pytest

import otel_netmon

PACKAGE = Path(inspect.getfile(otel_netmon)).parent

BOTTOM = {
    *("semconv", "config", "records", "bandwidth", "internals", "threads", "forks", "patches", "guard", "text"),
    *("streams", "version", "schema", "endings", "values", "lazy", "covered", "locks"),
}
JOB = {"job", "flight_recorder", "black_box"} | BOTTOM
MAY_IMPORT = {
    **dict.fromkeys(BOTTOM, BOTTOM),
    "flight_recorder": BOTTOM,
    "job": JOB - {"black_box"},
    "black_box": JOB,
    "capture": JOB | {"capture"},
    "monitors": JOB | {"monitors"},
    "sdk": JOB | {"sdk"},
    "delivery": JOB | {"sdk", "delivery"},
    "emit": JOB | {"capture", "sdk", "delivery", "emit"},
    "launcher": JOB | {"emit", "launcher"},
    "termination": JOB | {"sdk"},
    "diagnosing": JOB | {"emit", "diagnosis", "live"},
    "engine": JOB | {"capture", "emit", "termination", "diagnosing"},
    "instrumentor": JOB | {"capture", "emit", "monitors", "sdk", "engine", "launcher"},
    "cli": JOB
    | {
        "capture",
        "sdk",
        "delivery",
        "monitors",
        "store",
        "analysis",
        "diagnosis",
        "report",
        "instrumentor",
        "launcher",
        "cli",
    },
    "store": BOTTOM | {"store"},
    "analysis": BOTTOM | {"store", "analysis", "diagnosis", "flight_recorder"},
    "diagnosis": BOTTOM | {"diagnosis"},
    "report": BOTTOM | {"analysis", "diagnosis", "report"},
    "live": JOB | {"diagnosis", "live"},
}
"""Each room and what it may import: nothing above its floor. The annex reads files, never a live process."""

MODULES = {
    ".".join(("otel_netmon", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if "site" not in path.parts
}


def imports(module: str, *, at_import: bool = False) -> set[str]:
    """Modules of ours that ``module`` imports; those only that are imported with it, where ``at_import``."""
    tree = ast.parse(MODULES[module].read_text())
    found: set[str] = set()
    for node in _of(tree, at_import):
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inside & MODULES.keys()) or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.partition(".")[0] == "otel_netmon"} - {module}


def _of(tree: ast.AST, at_import: bool) -> list[ast.AST]:
    if not at_import:
        return list(ast.walk(tree))
    nodes: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        is_for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not is_for_types and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            nodes += [node, *_of(node, at_import)]
    return nodes


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("room", sorted({room_of(module) for module in MODULES} - {""}))
def test_no_import_goes_up_a_floor(room: str) -> None:
    allowed = MAY_IMPORT[room]
    for module in MODULES:
        if room_of(module) == room:
            wrong = {name for name in imports(module) if room_of(name) not in allowed}
            assert not wrong, f"{module} imports {sorted(wrong)}"


def test_no_circle_is_left() -> None:
    """Not even one that only type checkers see."""

    @cache
    def reached(module: str) -> frozenset[str]:
        seen: set[str] = set()
        todo = list(imports(module))
        while todo:
            name = todo.pop()
            if name in MODULES and name not in seen:
                seen.add(name)
                todo += imports(name)
        return frozenset(seen)

    circles = [module for module in MODULES if module in reached(module)]
    assert not circles


def test_capture_knows_no_opentelemetry() -> None:
    for module, path in MODULES.items():
        if room_of(module) == "capture":
            for node in ast.walk(ast.parse(path.read_text())):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                assert not any(name.startswith("opentelemetry") for name in names), module


@pytest.mark.parametrize(
    "room", ["store", "analysis", "diagnosis", "report", "flight_recorder", "records", "semconv"]
)
def test_what_reads_files_needs_no_torch(room: str) -> None:
    """``flight_recorder`` reads its own process's too, and asks torch then."""
    for module, path in MODULES.items():
        if room_of(module) == room:
            for node in ast.parse(path.read_text()).body:
                assert not (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"))


def test_each_room_says_what_it_is_for() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path
