from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from otel_netmon import config
from otel_netmon.monitors import NetworkInterfaceMonitor, choose_interfaces
from otel_netmon.monitors.nics import PsutilSource, nic_source

from .helpers import Tree, unpack


def chosen(tree: Tree, *patterns: str) -> dict[str, str]:
    return dict(choose_interfaces(patterns or None, proc_root=tree.proc, sys_root=tree.sys))


def test_a_host_is_watched_by_its_physical_and_bonded_nics(tmp_path: Path) -> None:
    """Not: loopback, a bond's members, VLANs, bridges, container veths, representors, ports that are down."""
    tree = unpack("host", tmp_path)
    assert chosen(tree) == {"eth0": "physical NIC, up", "bond0": "bonded NIC, up"}
    tree.set("bond0", "operstate", "down")
    assert list(chosen(tree)) == ["eth0", "eth1", "eth2"]  # nothing stands for the members now


@pytest.mark.parametrize(
    ("name", "nics", "word"),
    [("container", ["eth0"], "has the default route"), ("isolated", ["vethA", "wg0"], "nor a default route")],
)
def test_where_no_nic_qualifies_the_next_best_is_taken_and_the_reason_given(
    tmp_path: Path, name: str, nics: list[str], word: str
) -> None:
    found = chosen(unpack(name, tmp_path))
    assert list(found) == nics
    assert all(word in reason for reason in found.values())


def test_a_sysfs_of_another_network_namespace_hides_no_nic(tmp_path: Path) -> None:
    tree = unpack("isolated", tmp_path)
    shutil.rmtree(tree.sys / "class" / "net")
    found = chosen(tree)
    assert list(found) == ["vethA", "wg0", "gone0"]
    assert all(reason.startswith("not in sysfs") for reason in found.values())


def test_names_and_globs_select_whatever_matches(tmp_path: Path) -> None:
    tree = unpack("host", tmp_path)
    assert chosen(tree, "eth3", "bond*") == {"bond0": "matches bond*", "bond0.7": "matches bond*", "eth3": "named"}
    assert chosen(tree, "nothing*") == {}
    assert dict(choose_interfaces("lo", proc_root=tree.proc, sys_root=tree.sys)) == {"lo": "named"}


def test_named_nics_that_count_the_same_traffic_say_so(tmp_path: Path) -> None:
    tree = unpack("host", tmp_path)
    stats = NetworkInterfaceMonitor("*", proc_root=tree.proc, sys_root=tree.sys).get_interface_stats()
    assert {name: s.part_of for name, s in stats.items() if s.part_of} == {
        "eth1": "bond0",
        "eth2": "bond0",
        "bond0.7": "bond0",
        "docker0": "veth1a2",
    }
    without_bond = NetworkInterfaceMonitor(["eth1", "bond0.7"], proc_root=tree.proc, sys_root=tree.sys)
    assert without_bond.get_interface_stats()["bond0.7"].part_of == "eth1"
    assert {name for name, s in stats.items() if s.physical} == {"eth0", "eth1", "eth2", "eth3"}


def test_a_configured_proc_root_means_the_hosts_namespace_not_ours(tmp_path: Path) -> None:
    tree = unpack("host", tmp_path)
    ours = tree.proc / "net"
    ours.mkdir()
    (ours / "dev").write_text("eth9: " + "1 " * 16)
    assert "eth9" not in chosen(tree, "*")
    tree.dev.unlink()
    with pytest.raises(OSError, match="dev"):  # rather than the wrong namespace's counters
        chosen(tree, "*")


def test_elsewhere_than_on_linux_psutil_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("sys.platform", "darwin")
        source = nic_source(Path("/proc"), Path("/sys"))
        assert not isinstance(nic_source(tmp_path, tmp_path), PsutilSource)  # roots that were configured are read
    assert isinstance(source, PsutilSource)
    everything = source.read(("*",), frozenset())
    default = {nic.name for nic in source.read(None, frozenset())}
    assert "lo" in {nic.name for nic in everything}
    assert "lo" not in default
    assert not any(nic.physical for nic in everything)


def test_a_name_that_exists_is_that_name_before_it_is_a_glob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel allows brackets, asterisks and question marks in a NIC's name."""
    names = ("lan[0]", "lan0", "lan1", "a*", "ab", "a?")
    dev = tmp_path / "1" / "net" / "dev"
    dev.parent.mkdir(parents=True)
    dev.write_text("head\nhead\n" + "".join(f"{name}: {'1 ' * 16}\n" for name in names))

    def chosen(*patterns: str) -> list[tuple[str, str]]:
        return choose_interfaces(patterns, proc_root=tmp_path, sys_root=tmp_path)

    assert chosen("lan[0]") == [("lan[0]", "named")]
    assert chosen("lan[01]") == [("lan0", "matches lan[01]"), ("lan1", "matches lan[01]")]
    assert chosen("a*") == [("a*", "named")] and chosen("a?") == [("a?", "named")]
    assert chosen("lan*", "lan[0]") == [
        ("lan[0]", "named"), ("lan0", "matches lan*"), ("lan1", "matches lan*"),
    ]  # fmt: skip
    monkeypatch.setenv("OTEL_NETMON_INTERFACES", "lan[0]")
    config.current.cache_clear()
    try:
        monitor = NetworkInterfaceMonitor(proc_root=tmp_path, sys_root=tmp_path)
        assert list(monitor.get_interface_stats()) == ["lan[0]"]
    finally:
        config.current.cache_clear()
    assert [nic.name for nic in PsutilSource().read(("nothing[0]",), frozenset())] == []
