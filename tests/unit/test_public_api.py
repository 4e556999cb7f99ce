"""What users import, and what importing costs them."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import otel_netmon

PACKAGE = Path(inspect.getfile(otel_netmon)).parent


def test_all_names_exist_and_are_documented() -> None:
    assert otel_netmon.__all__ == sorted(otel_netmon.__all__)
    for name in otel_netmon.__all__:
        value = getattr(otel_netmon, name)
        assert name == "__version__" or inspect.getdoc(value), name


def test_the_promised_names_are_there() -> None:
    promised = {
        "NetworkInterfaceMonitor",
        "NetworkLatencyMonitor",
        "NetworkBandwidthMonitor",
        "DistributedNetworkMonitor",
        "RealNetworkMonitor",
        "NetworkMetrics",
        "NetmonInstrumentor",
        "TorchDistributedInstrumentor",
        "step",
    }
    assert promised <= set(otel_netmon.__all__)


def test_init_only_re_exports() -> None:
    body = ast.parse((PACKAGE / "__init__.py").read_text()).body
    docstring, *rest = body
    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(node, ast.ImportFrom | ast.Assign | ast.If) for node in rest)
    (for_types,) = (node for node in rest if isinstance(node, ast.If))
    assert ast.unparse(for_types.test) == "TYPE_CHECKING"
    imported = {alias.name for node in for_types.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported | {"__version__"} == set(otel_netmon.__all__)


@pytest.mark.parametrize("package", ["otel_netmon", "otel_netmon.monitors"])
def test_names_are_what_type_checkers_see(package: str) -> None:
    module = import_module(package)
    tree = ast.parse(Path(inspect.getfile(module)).read_text())
    (for_types,) = (node for node in tree.body if isinstance(node, ast.If))
    homes = {
        alias.name: node.module
        for node in for_types.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert homes.keys() == set(module.__all__) - {"__version__"}
    for name, home in homes.items():
        assert getattr(module, name) is getattr(import_module(str(home)), name)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        module.Nothing  # noqa: B018  # it is looked up


def test_importing_costs_no_opentelemetry() -> None:
    """Each Python below ``otel-netmon run`` imports the package: launchers, workers, helpers."""
    code = "import sys, otel_netmon; print([one for one in sys.modules if one.startswith('opentelemetry.')])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert output.stdout.strip() == "[]", output.stderr


def test_no_import_brings_torch_or_rich() -> None:
    code = "import sys, otel_netmon; print(sorted({'torch', 'rich', 'psutil'} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert output.stdout.strip() == "[]", output.stderr


def test_names_of_signals_stand_in_one_place() -> None:
    """No literal that looks like one of our metric or attribute names outside semconv."""
    from otel_netmon import semconv

    names = {metric.name for metric in semconv.METRICS} | {str(a) for a in semconv.ATTRIBUTES}
    names -= {semconv.SERVICE_NAME}  # what `otel-netmon run` imports has to be little
    for file in PACKAGE.rglob("*.py"):
        if file.parent.name == "semconv":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in names, f"{file.name}:{node.lineno}: {node.value!r}"
