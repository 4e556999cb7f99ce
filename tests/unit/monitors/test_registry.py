"""Which monitors run where, and monitors of other packages."""

from __future__ import annotations

import logging
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_netmon import config
from otel_netmon.monitors import NetworkBandwidthMonitor, NetworkInterfaceMonitor, registry
from otel_netmon.monitors.registry import BUILT_IN, choose, monitors_for

NAMES = [one.name for one in BUILT_IN]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    config.current.cache_clear()
    yield
    config.current.cache_clear()


def chosen(*selection: str) -> list[str]:
    return [one.name for one in choose(BUILT_IN, selection)[0]]


def test_names_add_and_a_minus_takes_away() -> None:
    usual = [name for name in NAMES if not name.startswith("latency")]
    assert chosen() == chosen("all") == usual
    assert chosen("-tcp") == [name for name in usual if name != "tcp"]
    assert chosen("interface", "tcp") == ["interface", "tcp"]
    assert chosen("all", "latency") == [name for name in NAMES if name != "latency_peers"]
    assert chosen("interface", "tcp", "-tcp") == ["interface"]
    assert chosen("-all") == [] and chosen("-all", "tcp") == ["tcp"]
    assert choose(BUILT_IN, ("tpc", "-bandwith", "all"))[1] == ["bandwith", "tpc"]


def test_the_variable(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("OTEL_NETMON_MONITORS", "interface, TCP,tpc")
    with caplog.at_level(logging.WARNING):
        assert [monitor.name for monitor in monitors_for(host=True, rank=True)] == ["interface", "tcp"]
        assert [monitor.name for monitor in monitors_for(host=False, rank=True)] == ["tcp"]
    assert "there is no monitor 'tpc'; there are bandwidth, distributed" in caplog.text


def test_a_bad_variable_names_what_is_accepted() -> None:
    settings, problems = config.load({"OTEL_NETMON_MONITORS": "interface;tcp"})
    assert settings.monitors == ()
    assert "names of monitors, or all, or -name" in problems[0]


def test_each_is_what_the_table_says_and_is_made_without_arguments() -> None:
    for one in BUILT_IN:
        assert pkgutil.resolve_name(one.target)().name == one.name


def test_the_bandwidth_monitor_shares_the_interface_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_NETMON_INTERFACES", "*")
    by_name = {monitor.name: monitor for monitor in monitors_for(host=True, rank=False)}
    interface, bandwidth = by_name["interface"], by_name["bandwidth"]
    assert isinstance(interface, NetworkInterfaceMonitor) and isinstance(bandwidth, NetworkBandwidthMonitor)
    bandwidth.measure_bandwidth()
    assert interface.latest


def test_a_monitor_that_cannot_be_made_costs_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = registry.MonitorSpec("broken", "host", "otel_netmon.monitors.interface:Absent")
    wrong = registry.MonitorSpec("wrong", "host", "builtins:dict")
    monkeypatch.setattr(registry, "BUILT_IN", (broken, wrong, *BUILT_IN))
    assert "interface" in [monitor.name for monitor in monitors_for(host=True, rank=False)]
    assert "monitor broken cannot be made: AttributeError" in caplog.text
    assert "monitor wrong cannot be made: TypeError: builtins:dict gave dict, not a Monitor" in caplog.text


PACKAGE = """
from otel_netmon.monitors import Monitor

class Ours(Monitor):
    name = "ours"
    scope = "rank"
    def sample(self): return ()

class Taken(Ours):
    name = "tcp"
"""
ENTRY_POINTS = """
[otel_netmon_monitors]
ours = theirs:Ours
tcp = theirs:Taken
gone = theirs:Gone
"""
PROGRAM = """
import logging
logging.basicConfig(format="%(message)s")
from otel_netmon.monitors.registry import monitors_for
print([type(m).__name__ for m in monitors_for(host=True, rank=False)])
print([type(m).__name__ for m in monitors_for(host=False, rank=True)])
"""


def test_another_package_ships_one(tmp_path: Path) -> None:
    """A real distribution on the path: a module and its entry points."""
    (tmp_path / "theirs.py").write_text(PACKAGE)
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OTEL_NETMON_MONITORS": "interface,ours,tcp"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == ["['NetworkInterfaceMonitor']", "['TcpMonitor', 'Ours']"]
    assert "monitor tcp of theirs:Taken: the name is taken" in done.stderr
    assert "monitor gone cannot be loaded: AttributeError" in done.stderr


TWO = """
from otel_netmon.monitors import Monitor

class Ours(Monitor):
    name = "ours"
    def sample(self): return ()

class Again(Ours): pass
class Loud(Ours): name = "loud"
class Nameless(Monitor):
    def sample(self): return ()
"""
TWO_POINTS = """
[otel_netmon_monitors]
ours = two:Ours
again = two:Again
Loud = two:Loud
LOUD = two:Loud
all = two:Ours
nameless = two:Nameless
"""
TWO_PROGRAM = """
import logging
logging.basicConfig(format="%(message)s")
from otel_netmon.monitors.registry import monitors_for
print([type(m).__name__ for m in monitors_for(host=True, rank=False)])
"""


@pytest.mark.parametrize(
    ("selection", "expected"), [("ours,again,loud,nameless", ["Ours", "Loud"]), ("Again", ["Again"])]
)
def test_of_two_that_are_called_the_same_one_is_made(selection: str, expected: list[str], tmp_path: Path) -> None:
    """Their series would be added up. A name may have capitals, and ``all`` is none."""
    (tmp_path / "two.py").write_text(TWO)
    for package in ("two", "too"):  # another package that registers the same
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(TWO_POINTS)
    done = subprocess.run(
        [sys.executable, "-c", TWO_PROGRAM],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OTEL_NETMON_MONITORS": selection},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == [str(expected)]
    taken = [line.split()[1] for line in done.stderr.splitlines() if "the name is taken" in line]
    twice = ["all", "LOUD"]  # in one package as well as in the other
    assert sorted(taken) == sorted(["ours", "again", "Loud", "nameless", *twice, *twice])
    if "ours" in selection:
        assert "monitor again: there is one that calls itself ours; it is left out" in done.stderr
        assert "monitor nameless cannot be made: AttributeError" in done.stderr
