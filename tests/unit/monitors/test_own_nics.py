"""Which NIC an address is of, and the bytes of NICs, against the kernel's other accounts of the same."""

from __future__ import annotations

import socket
import sys

import psutil
import pytest

from otel_netmon.monitors import files, own_nics, procfs
from otel_netmon.monitors.own_nics import OwnNics, parse_bytes, parse_if_inet6, parse_ifconf

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the calls are Linux'")


def test_every_address_of_this_host_has_its_nic() -> None:
    addresses = {
        one.address.partition("%")[0]: name
        for name, those in psutil.net_if_addrs().items()
        for one in those
        if one.family in (socket.AF_INET, socket.AF_INET6)
    }
    expected = {address: name for address, name in addresses.items() if name != "lo"}
    nics = OwnNics()
    assert nics.names({*addresses, "192.0.2.1"}) == expected
    assert nics.names({"127.0.0.1", "::1"}) == {}


def test_an_address_that_nobody_has_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(own_nics, "_ipv4_names", lambda: {"10.0.0.1": str(asked.append(1))})  # type: ignore[func-returns-value]  # counts
    nics = OwnNics()
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        assert nics.names({address}) == {}
    assert len(asked) == 2


def test_the_bytes_are_those_of_the_interface_monitor() -> None:
    before = procfs.parse_net_dev(files.read("/proc/self/net/dev"))
    found = OwnNics().read(before)
    after = procfs.parse_net_dev(files.read("/proc/self/net/dev"))
    assert found.keys() == before.keys()
    for name, (received, sent) in found.items():
        assert before[name].bytes_received <= received <= after[name].bytes_received
        assert before[name].bytes_sent <= sent <= after[name].bytes_sent


def test_what_the_kernel_writes() -> None:
    text = b"Inter-|   Receive\n face |bytes\n"
    text += b"  eth0: 11 2 3 4 5 6 7 8 12 9 9 9 9 9 9 9\neth10:13 1 1 1 1 1 1 1 14 0 0 0 0 0 0 0\n"
    assert parse_bytes(text, {"eth10", "eth7"}) == {"eth10": (13, 14)}
    assert parse_bytes(text, {"eth0"}) == {"eth0": (11, 12)}
    inet6 = b"fd770000000000000000000000000001 02 40 00 80     eth0\nnonsense\n"
    assert parse_if_inet6(inet6) == {"fd77::1": "eth0"}
    entry = b"eth0:1".ljust(16, b"\0") + bytes([2, 0, 0, 0, 10, 77, 0, 1])
    size = 40 if sys.maxsize > 1 << 32 else 32
    assert parse_ifconf(entry.ljust(size, b"\0") + b"cut") == {"10.77.0.1": "eth0"}
