"""Whose cgroup it is: one that is out of sight is absent, and never somebody else's of the same name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_netmon.monitors import ProcessPressureMonitor, protocols

from .test_kernel import values, write

STAT = "nr_periods 9\nnr_throttled 9\nthrottled_usec 9000000\n"
STAT1 = "nr_periods 9\nnr_throttled 9\nthrottled_time 9000000000\n"
PSI = "some avg10=0.00 total=5000000\n"
OTHERS = {"cpu.stat": STAT, "cpu.max": "50000 100000\n", "cpu.pressure": PSI}
OTHERS1 = {"cpu.stat": STAT1, "cpu.cfs_quota_us": "50000\n", "cpu.cfs_period_us": "100000\n"}


def told(
    root: Path, own: str, files: dict[str, dict[str, str]], mounts: dict[str, tuple[str, str]] | None = None
) -> tuple[float | None, ...]:
    """Limit, throttled seconds, stalled seconds: of a process that says ``own``, where ``files`` are by cgroup.

    ``mounts``: by mount point below ``sys/fs/cgroup`` the file system, and which cgroup is at its top.
    """
    write(root, {"proc/self/cgroup": own})
    base = "sys/fs/cgroup"
    for folder, content in files.items():
        write(root, {f"{base}{folder}/{name}": text for name, text in content.items()})
    if mounts is not None:
        escaped = str(root / base).replace(" ", r"\040")
        lines = [
            f"3{n} 2{n} 0:{n} {top} {escaped}{place} rw shared:1 - {kind} x rw\n"
            for n, (place, (kind, top)) in enumerate(mounts.items())
        ]
        write(root, {"proc/self/mountinfo": "1 1 8:1 / / rw - ext4 /dev/sda rw\n" + "".join(lines)})
    monitor = ProcessPressureMonitor(proc_root=root / "proc", sys_root=root / "sys")
    assert monitor.run_once()
    found = values(monitor)
    names = ("cgroup.cpu.limit", "cgroup.throttled.time", "cgroup.stall.time")
    return tuple(next(iter(found.get(name, {}).values()), None) for name in names)


NOTHING = (None, None, None)


@pytest.mark.parametrize("path", ["/../other", "/..", "/../../a/other", "/job/../other", "/other (deleted)"])
@pytest.mark.parametrize("mounted", [None, {"": ("cgroup2", "/")}], ids=["no mounts known", "mounts known"])
def test_a_cgroup_out_of_the_namespace_is_absent(
    path: str, mounted: dict[str, tuple[str, str]] | None, tmp_path: Path
) -> None:
    files = {"": {"cpu.max": "max 100000\n"}, "/other": OTHERS, "/a/other": OTHERS}
    assert told(tmp_path, f"0::{path}\n", files, mounted) == NOTHING


def test_the_same_of_version_1(tmp_path: Path) -> None:
    files = {"/cpu/other": OTHERS1, "/cpu": OTHERS1}
    for path in ("/../other", "/other (deleted)", "/gone (deleted)"):
        assert told(tmp_path, f"2:cpu,cpuacct:{path}\n", files) == NOTHING
    # the whole tree of the host is mounted, and ours is not in it
    assert told(tmp_path, "2:cpu:/gone\n", files, {"/cpu": ("cgroup", "/")}) == NOTHING


def test_a_cgroup_whose_name_looks_deleted_is_that_name(tmp_path: Path) -> None:
    assert told(tmp_path, "0::/job (deleted)\n", {"/job (deleted)": OTHERS}) == (0.5, 9.0, 5.0)


def test_a_container_of_version_1_has_its_own_at_the_top(tmp_path: Path) -> None:
    """Its path is the host's; a container in it has one of the same parent, which is no parent of ours."""
    quotas = {"/cpu": "150000\n", "/cpu/docker": "100\n"}
    files = {place: {**OTHERS1, "cpu.cfs_quota_us": quota} for place, quota in quotas.items()}
    own = "2:cpu:/docker/abc\n"
    assert told(tmp_path / "a", own, files)[:2] == (1.5, 9.0)
    assert told(tmp_path / "b", own, files, {"/cpu": ("cgroup", "/docker/abc")})[:2] == (1.5, 9.0)
    # the cgroup of another container is mounted there
    assert told(tmp_path / "c", own, files, {"/cpu": ("cgroup", "/docker/xyz")}) == NOTHING


def test_the_hosts_tree_seen_from_a_namespace_is_not_ours(tmp_path: Path) -> None:
    """In a container with the host's /sys: its top lies above our namespace, where our path says nothing."""
    above = {"": ("cgroup2", "/../..")}
    assert told(tmp_path / "a", "0::/\n", {"": OTHERS}, above) == NOTHING
    assert told(tmp_path / "b", "0::/job\n", {"/job": OTHERS}, above) == NOTHING
    # what is reached over the same way up can be told
    assert told(tmp_path / "c d", "0::/../other\n", {"/other": OTHERS}, {"": ("cgroup2", "/..")}) == (
        0.5,
        9.0,
        5.0,
    )


def test_version_2_beside_version_1_has_a_mount_of_its_own(tmp_path: Path) -> None:
    own = "1:cpu:/job\n0::/cpu\n"
    wrong = {"cpu.pressure": "some avg10=0.00 total=77000000\n"}
    files = {"/cpu/job": OTHERS1, "/cpu": wrong, "/unified/cpu": OTHERS}
    mounts = {"/cpu": ("cgroup", "/"), "/unified": ("cgroup2", "/")}
    assert told(tmp_path / "a", own, files) == (0.5, 9.0, 5.0)
    assert told(tmp_path / "b", own, files, mounts) == (0.5, 9.0, 5.0)
    # and a cgroup of version 2 may be called so
    whole = {"/unified": OTHERS, "": {"cgroup.controllers": "cpu\n"}}
    assert told(tmp_path / "c", "0::/unified\n", whole) == (0.5, 9.0, 5.0)
    assert told(tmp_path / "d", "0::/unified\n", {"/unified": OTHERS}, {"": ("cgroup2", "/")}) == (0.5, 9.0, 5.0)


@given(st.binary(max_size=500) | st.text(alphabet="0123 /\\04-cgroup2\n", max_size=500).map(str.encode))
def test_no_mounts_make_the_parser_raise(data: bytes) -> None:
    assert len(protocols.parse_cgroup_mounts(data)) <= len(data)
    assert all(0 <= cpu < 4096 for cpu in protocols.parse_cpu_list(data))


def test_cpu_lists() -> None:
    assert protocols.parse_cpu_list(b"0-2,5,7-8\n") == [0, 1, 2, 5, 7, 8]
    assert (
        protocols.parse_cpu_list(b"") == protocols.parse_cpu_list(b"3-1") == protocols.parse_cpu_list(b"0,x") == []
    )
