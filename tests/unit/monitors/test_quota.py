"""For how long quotas stopped this process, from files of both versions of cgroups."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_netmon.monitors.quota import ThrottledTime

from .test_kernel import write

S = 10**9


class Host:
    """The files of a process in cgroup ``/job/rank``."""

    def __init__(self, root: Path, version: int = 2) -> None:
        self._root, self._version = root, version
        self._base = "sys/fs/cgroup" + ("" if version == 2 else "/cpu")
        write(root, {"proc/self/cgroup": "0::/job/rank\n" if version == 2 else "2:cpu:/job/rank\n"})
        for group in ("/job", "/job/rank"):
            self.stopped(group, 0, periods=0)
        self.now = 0.0
        self.time = ThrottledTime(
            own=str(root / "proc/self"), mount=root / "sys/fs/cgroup", clock=lambda: self.now
        )

    def stopped(self, group: str, seconds: float, periods: int = 10) -> None:
        unit = (
            f"throttled_usec {round(seconds * 1e6)}"
            if self._version == 2
            else f"throttled_time {round(seconds * 1e9)}"
        )
        text = f"usage_usec 5\nnr_periods {periods}\nnr_throttled {periods}\n{unit}\n"
        write(self._root, {f"{self._base}{group}/cpu.stat": text})

    def after(self, seconds: float) -> int | None:
        self.now += seconds
        return self.time()


@pytest.mark.parametrize("version", [1, 2])
def test_it_counts_from_the_first_call_on(version: int, tmp_path: Path) -> None:
    host = Host(tmp_path, version)
    host.stopped("/job/rank", 100)
    assert host.after(0) == 0
    host.stopped("/job/rank", 100.25)
    assert host.after(0.1) == 0.25 * S
    assert host.after(5) == 0.25 * S


def test_without_a_quota_it_is_not_known(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert [host.after(seconds) for seconds in (0, 1, 5)] == [None] * 3
    write(tmp_path, {"proc/self/cgroup": "0::/nowhere\n"})
    assert host.after(5) is None


def test_a_quota_that_comes_later_counts_from_there(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert host.after(0) is None
    host.stopped("/job/rank", 0.5)
    assert host.after(0.1) is None  # nobody has looked yet
    assert host.after(2) == 0
    host.stopped("/job/rank", 0.75)
    assert host.after(0.1) == 0.25 * S


def test_of_two_quotas_that_counts_which_stopped_it_longer(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.stopped("/job/rank", 1)
    host.stopped("/job", 50)
    assert host.after(0) == 0
    host.stopped("/job/rank", 1.5)
    host.stopped("/job", 50.1)
    assert host.after(0.1) == 0.5 * S
    host.stopped("/job", 51.1)
    assert host.after(0.1) == 1.5 * S


def test_a_cgroup_that_is_gone_takes_nothing_back(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.stopped("/job/rank", 1)
    host.after(0)
    host.stopped("/job/rank", 2)
    assert host.after(0.1) == S
    (tmp_path / "sys/fs/cgroup/job/rank/cpu.stat").unlink()
    assert host.after(0.1) == S
    assert host.after(5) == S
