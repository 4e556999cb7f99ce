"""What holds for the package as a whole."""

from __future__ import annotations

import ast
import inspect
import ipaddress
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import otel_netmon
from otel_netmon import monitors, semconv

PACKAGE = Path(otel_netmon.__file__).parent
# a name under a public suffix, alone, with a port, or in a URL
_HOST = re.compile(r"^(\w+://)?([a-z0-9-]+\.)+(com|org|net|edu|gov|cn|dev|google|cloud)(:\d+)?(/\S*)?$", re.I)


def strings(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every string of the code, docstrings aside."""
    for file in sorted(folder.rglob("*.py")):
        tree = ast.parse(file.read_text())
        docs = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                yield file, node.value


def public(text: str) -> bool:
    host = text.strip("[]").rpartition("://")[2]
    for candidate in (host, host.rpartition(":")[0]):
        try:
            return ipaddress.ip_address(candidate.strip("[]")).is_global
        except ValueError:
            continue
    return bool(_HOST.match(text))


def test_no_public_host_is_written_anywhere() -> None:
    assert public("8.8.8.8") and public("1.1.1.1:53") and public("dns.example.com") and public("https://a.org/x")
    assert not public("127.0.0.1:4317") and not public("[::1]:29500") and not public("hw.network.io")
    assert [(file.name, text) for file, text in strings(PACKAGE) if public(text)] == []


def test_names_stand_in_semconv_only() -> None:
    names = {metric.name for metric in semconv.METRICS} | {a for m in semconv.METRICS for a in m.attributes}
    assert [(file.name, text) for file, text in strings(PACKAGE / "monitors") if text in names] == []


def test_importing_the_monitors_imports_neither_torch_nor_psutil_nor_rich() -> None:
    program = (
        "import sys, otel_netmon.monitors as m\n"
        "m.RealNetworkMonitor().get_current_metrics()\n"
        "m.DistributedNetworkMonitor(True).measure_distributed_metrics()\n"
        "print([name for name in ('torch', 'psutil', 'rich') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_all_is_what_the_package_gives() -> None:
    assert all(inspect.getdoc(getattr(monitors, name)) for name in monitors.__all__)  # imported by now
    given = {
        name for name, value in vars(monitors).items() if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert given - {"TYPE_CHECKING"} == set(monitors.__all__)


def test_every_monitor_can_be_made_without_arguments() -> None:
    for kind in (
        monitors.NetworkInterfaceMonitor,
        monitors.NetworkLatencyMonitor,
        monitors.NetworkBandwidthMonitor,
        monitors.DistributedNetworkMonitor,
        monitors.RealNetworkMonitor,
    ):
        assert isinstance(kind(), monitors.Monitor)
