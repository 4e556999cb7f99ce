"""Hosts that a training can run on, and the faults that come to it from outside.

Each has a name, a CPU cgroup and a link of its own besides its network; a spare one carries no rank. Nothing is
changed outside of what is made here.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab import net
from tests.lab.net import LabHost, run

PROGRAMS = Path(__file__).parent / "programs"
_CGROUPS = Path("/sys/fs/cgroup")
_ENTER = """
namespace=$1 name=$2 names=$3 cgroup=$4 scratch=$5
shift 5
if [ -n "$cgroup" ]; then echo $$ > "$cgroup/cgroup.procs"; fi
mount --rbind /sys/fs/cgroup "$scratch"
nsenter --net=/run/netns/$namespace mount -t sysfs sysfs /sys
mount --rbind "$scratch" /sys/fs/cgroup
mount --bind "$names" /etc/hosts
echo "$name" > /proc/sys/kernel/hostname
exec nsenter --net=/run/netns/$namespace -- "$@"
"""
"""For a shell in mount and UTS namespaces of its own: ``ip netns exec`` hides the cgroups."""
LINK = 400.0
"""Mbit/s of each link, either way."""


def missing() -> str | None:
    """Why the lab cannot be built here; ``None``: it can."""
    absent = [name for name in ("unshare", "nsenter", "mount") if shutil.which(name) is None]
    return net.missing() or (f"needs {', '.join(absent)}: apt install util-linux mount" if absent else None)


@dataclass
class Host:
    """One host: where its ranks run, and what can be done to it."""

    net: LabHost
    name: str
    cgroup: Path | None
    folder: Path
    pids: list[int] = field(default_factory=list)
    """Its ranks'."""

    def start(self, *command: str, env: dict[str, str], log: Path) -> subprocess.Popen[str]:
        """Start a command here; what it prints on stderr goes to ``log``."""
        scratch = self.folder / "cgroups"
        scratch.mkdir(exist_ok=True)
        about = (self.net.namespace, self.name, str(self.folder.parent / "names"), str(self.cgroup or ""))
        with log.open("w") as stderr:
            process = subprocess.Popen(
                ["unshare", "--mount", "--uts", "sh", "-ec", _ENTER, "enter", *about, str(scratch), *command],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
                text=True, env=env, start_new_session=True, cwd=net.ROOT,
            )  # fmt: skip
        self.net.processes.append(process)
        return process

    def limit(self, *, up: float | None = None, down: float | None = None) -> None:
        """Let its link carry no more, in Mbit/s: ``up`` from it, ``down`` to it."""
        ends = (up, self.net.namespace, self.net.nic), (down, self.net.switch, self.net.port)
        for rate, namespace, nic in ends:
            if rate is not None:
                shape = ("rate", f"{rate}mbit", "burst", "32kb", "latency", "20ms")
                run("tc", "-n", namespace, "qdisc", "replace", "dev", nic, "root", "tbf", *shape)

    def lose(self, percent: int, direction: str) -> None:
        """Drop that share of its TCP packets in the bridge: ``up`` those from it, ``down`` those to it."""
        side = "iifname" if direction == "up" else "oifname"
        inside = ("ip", "netns", "exec", self.net.switch, "nft")
        run(*inside, "add", "table", "bridge", "lab")
        run(*inside, "add chain bridge lab forward { type filter hook forward priority 0; }")
        rule = f"{side} {self.net.port} ip protocol tcp numgen random mod 100 < {percent} drop"
        run(*inside, f"add rule bridge lab forward {rule}")

    def cut(self) -> None:
        """Pull its cable."""
        run("ip", "-n", self.net.switch, "link", "set", self.net.port, "down")

    def join(self) -> None:
        """Put it back."""
        run("ip", "-n", self.net.switch, "link", "set", self.net.port, "up")

    def quota(self, share: float) -> None:
        """Let all that runs here have so much of one core."""
        assert self.cgroup is not None
        if (self.cgroup / "cpu.max").exists():
            (self.cgroup / "cpu.max").write_text(f"{round(share * 100_000)} 100000")
        else:
            (self.cgroup / "cpu.cfs_quota_us").write_text(f"{round(share * 100_000)}")

    def hog(self, count: int) -> None:
        """Let that many busy loops run beside its ranks."""
        for _ in range(count):
            self.start(sys.executable, "-c", "while True: pass", env={}, log=Path("/dev/null"))


@dataclass
class Lab:
    """All of it; the last host is the spare one."""

    hosts: list[Host]
    spare: Host
    folder: Path

    def delay(self, host: Host, milliseconds: float) -> None:
        """Make its cable longer, by so much each way."""
        relay = self.folder / "relay"
        build_relay(relay)
        near, far, inside = "relaynear", "relayfar", ("ip", "-n", host.net.switch)
        for each in (*self.hosts, self.spare):
            each.net.run("ethtool", "-K", each.net.nic, "tx", "off", check=False)
        run(*inside, "link", "add", near, "type", "veth", "peer", "name", far)
        for end in (near, far):
            ethtool = ("ip", "netns", "exec", host.net.switch, "ethtool", "-K", end)
            run(*ethtool, "gso", "off", "tso", "off", "gro", "off")
            run(*inside, "link", "set", end, "up")
        process = subprocess.Popen(
            ["ip", "netns", "exec", host.net.switch, str(relay), host.net.port, near, str(milliseconds)],
            stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        host.net.processes.append(process)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        run(*inside, "link", "set", host.net.port, "nomaster")
        run(*inside, "link", "set", far, "master", "br0")

    def cross(self, host: Host, direction: str, flows: int = 4) -> None:
        """Let iperf3 fill its link, with the spare host at the other end."""
        source, target = (host, self.spare) if direction == "up" else (self.spare, host)
        target.net.start("iperf3", "-s", "-p", "5201")
        net.wait_for_port(target.net, 5201)
        source.net.start("iperf3", "-c", target.net.address, "-p", "5201", "-t", "600", "-P", str(flows))


def build_relay(path: Path) -> None:
    if not path.exists():
        run("cc", "-O2", "-pthread", "-o", str(path), str(PROGRAMS / "relay.c"))


def no_compiler() -> str | None:
    return None if shutil.which("cc") else "the relay that delays packets needs a C compiler"


def no_quota() -> str | None:
    """Why no CPU quota can be set here, if so."""
    with _cgroups(["probe"]) as made:
        if made[0] is None:
            return "there is no writable CPU cgroup with quotas here"
    return None


@contextlib.contextmanager
def _cgroups(names: list[str]) -> Iterator[list[Path | None]]:
    """A CPU cgroup of each name, of version 1 or 2; ``None`` where none can be made."""
    top = _CGROUPS / "cpu"
    if not (top / "cgroup.procs").exists():
        top = _CGROUPS
        with contextlib.suppress(OSError):
            (top / "cgroup.subtree_control").write_text("+cpu")
    made: list[Path | None] = []
    try:
        for name in names:
            path = top / name
            try:
                path.mkdir()
            except OSError:
                made.append(None)
                continue
            made.append(path)
            if not any((path / control).exists() for control in ("cpu.max", "cpu.cfs_quota_us")):
                path.rmdir()
                made[-1] = None
        yield made
    finally:
        for each in filter(None, made):
            _remove(each)


def _remove(cgroup: Path) -> None:
    for _ in range(50):
        try:
            cgroup.rmdir()
            return
        except OSError:  # its processes are on their way out
            time.sleep(0.1)


@contextlib.contextmanager
def lab(count: int, folder: Path, link: float = LINK) -> Iterator[Lab]:
    """``count`` hosts ``lab-h0`` and on, and a spare one, with links of ``link`` Mbit/s."""
    names = [f"lab-h{number}" for number in range(count + 1)]
    with (
        _cgroups([f"{name}-{folder.name}" for name in names]) as cgroups,
        net.hosts(count + 1, congestion="cubic") as hosts,
    ):
        known = (f"{host.address} {name}" for host, name in zip(hosts, names, strict=True))
        (folder / "names").write_text("\n".join(("127.0.0.1 localhost", *known, "")))
        made = []
        for host, name, cgroup in zip(hosts, names, cgroups, strict=True):
            place = folder / name
            place.mkdir()
            made.append(Host(host, name, cgroup, place))
            made[-1].limit(up=link, down=link)
        yield Lab(made[:-1], made[-1], folder)
