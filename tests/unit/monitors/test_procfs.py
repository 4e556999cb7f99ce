from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_netmon.monitors import procfs

ROW = b"eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0"


def test_net_dev_columns() -> None:
    assert procfs.parse_net_dev(ROW) == {"eth0": procfs.NicCounters(1, 2, 3, 4, 5, 6, 7, 8)}


@pytest.mark.parametrize(
    "line", [b"eth0: 1 2 3", b"eth0: x " + b"1 " * 15, b"\xff: " + b"1 " * 16, b": " + b"1 " * 16]
)
def test_a_line_that_is_not_understood_costs_only_itself(line: bytes) -> None:
    assert list(procfs.parse_net_dev(line + b"\n" + ROW + b"\n")) == ["eth0"]


@pytest.mark.parametrize(
    ("text", "speed"),
    [(b"10000\n", 1.25e9), (b"-1\n", None), (b"0\n", None), (b"4294967295\n", None), (b"", None), (None, None)],
)
def test_an_unknown_speed_is_none(text: bytes | None, speed: float | None) -> None:
    assert procfs.parse_speed(text) == speed


@pytest.mark.parametrize(
    ("flags", "state", "up"),
    [
        (b"0x1003", b"up\n", True),
        (b"0x1003", b"down\n", False),
        (b"0x1002", b"up\n", False),
        (b"0xd1", b"unknown\n", True),
    ],
)
def test_up(flags: bytes, state: bytes, up: bool) -> None:
    assert procfs.parse_up(flags, state) is up
    assert procfs.parse_up(None, state) is procfs.parse_up(flags, None) is None


def test_default_routes() -> None:
    ipv4 = b"""Iface Destination ...
eth0 00000000 01 0003 0 0 0 00000000 0 0 0
eth1 000200C0 00 0001 0 0 0 00FFFFFF 0 0 0
"""
    zero = b"0" * 32
    ipv6 = b"%b 00 %b 00 %b 00000400 1 0 00000003 eth2\n%b 00 %b 00 %b ffffffff 1 0 00200200 lo\n" % ((zero,) * 6)
    assert procfs.parse_default_routes(ipv4, ipv6) == {"eth0", "eth2"}
    assert procfs.parse_default_routes(None, None) == frozenset()


@given(st.binary(max_size=400))
def test_no_input_raises(data: bytes) -> None:
    for columns in (data, b"eth0:" + data, b"h\n" + data):
        found = procfs.parse_net_dev(columns)
        assert all(value >= 0 for nic in found.values() for value in vars(nic).values())
        procfs.parse_default_routes(columns, columns)
    for parse in (procfs.parse_int, procfs.parse_speed, procfs.is_loopback):
        parse(data)
    procfs.parse_up(data, data)
