"""Private names of OpenTelemetry are in ``internals`` alone."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import otel_netmon

PACKAGE = Path(inspect.getfile(otel_netmon)).parent
INTERNALS = sorted((PACKAGE / "internals").glob("otel_internals*.py"))
PUBLIC = re.compile(r"opentelemetry\.semconv\._incubating\b")
PRIVATE = re.compile(r"opentelemetry(\.\w+)*?\.(_\w+)")
ONCE_USED = {"_preferred_temporality", "_preferred_aggregation", "_extract_retry_after", "_submit"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def uses(tree: ast.AST) -> Iterator[str]:
    """Underscored names that are reached in objects of others: ``x._name``, ``getattr(x, "_name")``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")):
                yield node.attr
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and re.fullmatch(r"_[A-Za-z]\w*", node.value)
        ):
            yield node.value


def defined(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.attr if isinstance(node, ast.Attribute) else node.id


@cache
def known() -> frozenset[str]:
    """Private names that ``internals`` uses, and nothing of ours has."""
    others = [path for path in PACKAGE.rglob("*.py") if path not in INTERNALS]
    ours = {name for path in others for name in defined(ast.parse(path.read_text()))}
    return frozenset({name for path in INTERNALS for name in uses(ast.parse(path.read_text()))} - ours | ONCE_USED)


def private_names(source: str) -> set[str]:
    """Of OpenTelemetry, in ``source``."""
    tree = ast.parse(source)
    found = set(uses(tree)) & known()
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value]
        found |= {name for name in names if PRIVATE.match(name) and not PUBLIC.match(name)}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_private_names_are_in_internals_alone(path: Path) -> None:
    assert path in INTERNALS or not private_names(path.read_text())


@pytest.mark.parametrize(
    "source",
    [
        "import opentelemetry._logs",
        "from opentelemetry import _logs as logs",
        "from opentelemetry.util._importlib_metadata import entry_points",
        "from opentelemetry.sdk.trace import _Span",
        'import_module("opentelemetry.sdk._configuration")',
        "provider._active_span_processor._span_processors",
        'getattr(provider, "_span_limits", None)',
        'hasattr(instrument, "_real_instrument")',
        "instrument._measurement_consumer._reader_storages",
        "provider._update_resource(found)",
        "exporter._channel",
        "made._preferred_temporality",
    ],
)
def test_a_private_name_elsewhere_is_found(source: str) -> None:
    assert private_names(source)


def test_what_is_public_is_not_found() -> None:
    assert not private_names("from opentelemetry.semconv._incubating.attributes import host_attributes")
    assert not private_names("self._span_limits = other._lock")
