"""RDMA ports of five kinds of device, from trees with the names that their drivers write."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_netmon.monitors import RdmaMonitor, infiniband

from .helpers import FIXTURES, Clock, Tree, unpack

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
GOLDEN = FIXTURES / "rdma_series.json"
TREES = ("mlx5_infiniband", "mlx5_roce", "bnxt_re", "efa", "irdma")


def observed(monitor: RdmaMonitor) -> dict[str, list[Any]]:
    """Values and attributes by metric; units and attributes' names are held to the declaration."""
    found: dict[str, list[Any]] = {}
    for metric, value, attributes in monitor.points():
        assert set(attributes) <= set(metric.attributes), metric.name
        found.setdefault(metric.name, []).append([value, *map(str, attributes.values())])
    return found


@pytest.fixture
def tree(tmp_path: Path, request: pytest.FixtureRequest) -> Tree:
    return unpack(f"rdma_{request.param}", tmp_path)


def test_every_series_of_every_driver(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Held to ``fixtures/rdma_series.json``. To renew that: delete it, run, and read the difference."""
    found = {}
    for name in TREES:
        clock = Clock()
        monitor = RdmaMonitor(sys_root=unpack(f"rdma_{name}", tmp_path).sys, clock=clock)
        for _ in range(2):
            assert monitor.run_once()
            clock.now += 10
        found[name] = observed(monitor)
    if not GOLDEN.exists():
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
        pytest.fail(f"{GOLDEN} was missing and is written anew")
    assert found == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("tree", ["mlx5_infiniband"], indirect=True)
def test_words_are_bytes_and_a_full_counter_is_absent(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    monitor = RdmaMonitor(sys_root=tree.sys)
    with caplog.at_level(logging.WARNING):
        assert monitor.run_once()
        assert monitor.run_once()
    wide, narrow = monitor.latest["mlx5_0:1"], monitor.latest["mlx5_1:1"]
    assert wide.counters["bytes_sent"] == 4 * 5_000_000_000
    assert wide.counters["bytes_received"] == 4 * 0xFFFFFFFF  # 64 bits wide, and by chance as full as 32
    assert (wide.speed, wide.numa_node, wide.pci_address, wide.interface) == (50e9, 0, "0000:3b:00.0", "ibs1")
    assert narrow.counters["bytes_received"] == 4 * 77
    assert not {"bytes_sent", "packets_received", "symbol_errors"} & set(narrow.counters)
    assert narrow.saturated == ("port_xmit_data", "port_rcv_packets")
    assert (narrow.up, narrow.physical_state, narrow.numa_node) == (False, "Disabled", None)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 and "mlx5_1:1: the 32-bit counter port_rcv_packets is full" in said[0]
    assert "saturated" in narrow.to_dict() and "numa_node" not in narrow.to_dict()


@pytest.mark.parametrize("tree", ["mlx5_roce"], indirect=True)
def test_the_nic_of_a_bond_is_the_one_that_the_port_names(tree: Tree) -> None:
    monitor = RdmaMonitor(sys_root=tree.sys)
    assert monitor.run_once()
    assert monitor.latest["mlx5_bond_0:1"].interface == "bond0"


@pytest.mark.parametrize("tree", ["irdma"], indirect=True)
def test_sums_over_protocols_and_the_old_extended_counters(tree: Tree) -> None:
    monitor = RdmaMonitor(sys_root=tree.sys)
    assert monitor.run_once()
    port = tree.sys / "class/infiniband/rocep24s0f0/ports/1/hw_counters"
    octets = [int((port / f"ip{version}OutOctets").read_text()) for version in (4, 6)]
    assert monitor.latest["rocep24s0f0:1"].counters["bytes_sent"] == sum(octets)
    old = monitor.latest["i40iw0:1"]
    ext = tree.sys / "class/infiniband/i40iw0/ports/1/counters_ext/port_xmit_data_64"
    assert old.counters["bytes_sent"] == 4 * int(ext.read_text()) and old.saturated == ()


@pytest.mark.parametrize("tree", ["efa"], indirect=True)
def test_rates_over_resets_and_devices_that_come_and_go(tree: Tree) -> None:
    clock = Clock()
    monitor = RdmaMonitor(sys_root=tree.sys, clock=clock)
    counter = tree.sys / "class/infiniband/rdmap0s31/ports/1/hw_counters/tx_bytes"
    for value, rate in ((1000, None), (5000, 400.0), (10, None), (110, 10.0)):
        counter.write_text(f"{value}\n")
        clock.now += 10
        assert monitor.run_once()
        stats = monitor.latest["rdmap0s31:1"]
        assert (stats.counters["bytes_sent"], stats.transmit_rate) == (value, rate)
    assert stats.transmit_utilization == pytest.approx(10 / 12.5e9)
    away = tree.sys / "class/infiniband/rdmap0s31"
    away.rename(tree.sys / "gone")
    clock.now += 10
    assert monitor.run_once() and monitor.latest == {} and observed(monitor) == {}
    (tree.sys / "gone").rename(away)
    clock.now += 10
    assert monitor.run_once()
    assert monitor.latest["rdmap0s31:1"].transmit_rate is None


def test_no_device_is_no_failure(tmp_path: Path) -> None:
    monitor = RdmaMonitor(sys_root=tmp_path)
    assert monitor.run_once() and observed(monitor) == {}


names = st.sampled_from(sorted(infiniband.NAMES)) | st.text(max_size=20)
contents = st.none() | st.binary(max_size=40) | st.integers(-5, 1 << 70).map(lambda value: str(value).encode())


@given(
    st.dictionaries(st.sampled_from(infiniband.FOLDERS), st.dictionaries(names, contents, max_size=30)),
    st.binary(max_size=60),
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_no_file_makes_a_parser_raise(tree: dict[str, dict[str, bytes | None]], data: bytes) -> None:
    found, full = infiniband.parts(tree)
    assert all(value >= 0 for read in found.values() for value in read.values())
    assert not {name for read in found.values() for name in read} & set(full)
    speed = infiniband.parse_rate(data)
    assert speed is None or speed > 0
    infiniband.parse_state(data)
    assert (infiniband.parse_numa_node(data) or 0) >= 0
    infiniband.parse_pci_address(data.decode("latin-1"))
