"""A network of hosts on one machine: a namespace each, joined by veth pairs to a bridge in one of its own.

Nothing is changed outside the namespaces that are made here, and nothing leaves them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
NEEDS = {
    "ip": "iproute2",
    "tc": "iproute2",
    "ss": "iproute2",
    "nft": "nftables",
    "iperf3": "iperf3",
    "ping": "iputils-ping",
    "ethtool": "ethtool",
    "sysctl": "procps",
}
MTU = 1500


def missing() -> str | None:
    """Why the lab cannot be built here, and how that is changed; ``None``: it can."""
    if sys.platform != "linux":
        return "network namespaces are Linux'"
    if os.geteuid() != 0:
        return "making network namespaces needs root: sudo make lab"
    absent = sorted({package for name, package in NEEDS.items() if shutil.which(name) is None})
    if absent:
        return f"needs {', '.join(absent)}: apt install {' '.join(absent)}"
    probe = subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False, timeout=30)
    return None if probe.returncode == 0 else "this container may not make network namespaces"


def run(*command: str, timeout: float = 60, check: bool = True, **kwargs: Any) -> str:
    """A command's standard output."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **kwargs)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
    out: str = done.stdout
    return out


@dataclass
class LabHost:
    """One host: its namespace, its address, and the name of its NIC."""

    namespace: str
    address: str
    address6: str
    nic: str = "nic0"
    switch: str = ""
    """The namespace of the bridge."""
    port: str = ""
    """The other end of its cable, there."""
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, *command: str, timeout: float = 60, check: bool = True) -> str:
        """Run a command here, to its end."""
        return run("ip", "netns", "exec", self.namespace, *command, timeout=timeout, check=check)

    def start(self, *command: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a command here; it is ended with the lab at the latest."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env={**os.environ, **(env or {})}, start_new_session=True, cwd=ROOT,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def program(self, name: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start one of ``programs/`` here."""
        return self.start(sys.executable, str(PROGRAMS / name), *arguments, env=env)

    def shape(self, megabits: float) -> None:
        """Let its NIC send no faster."""
        limits = ("rate", f"{megabits}mbit", "burst", "32kbit", "latency", "50ms")
        run("tc", "-n", self.namespace, "qdisc", "replace", "dev", self.nic, "root", "tbf", *limits)

    def shaped(self) -> dict[str, Any]:
        """What the shaper counted."""
        found: list[dict[str, Any]] = json.loads(
            run("tc", "-n", self.namespace, "-s", "-j", "qdisc", "show", "dev", self.nic)
        )
        return next(one for one in found if one["kind"] == "tbf")

    def link(self) -> dict[str, dict[str, int]]:
        """What ``ip -s link`` counted."""
        shown = run("ip", "-n", self.namespace, "-s", "-j", "link", "show", "dev", self.nic)
        found: dict[str, dict[str, int]] = json.loads(shown)[0]["stats64"]
        return found

    def lose(self, percent: int, source: str) -> None:
        """Drop that share of the TCP packets that come from ``source``; ``lost`` counts them."""
        self.run("nft", "add", "table", "inet", "lab")
        hook = "{ type filter hook input priority 0; }"
        self.run("nft", f"add chain inet lab in {hook}")
        self.run("nft", "add", "counter", "inet", "lab", "seen")
        self.run("nft", "add", "counter", "inet", "lab", "dropped")
        match = f"add rule inet lab in ip saddr {source} tcp flags & (syn|fin) == 0"
        self.run("nft", f"{match} counter name seen")
        self.run("nft", f"{match} numgen random mod 100 < {percent} counter name dropped drop")

    def lost(self) -> tuple[int, int]:
        """Packets seen and dropped by ``lose``."""
        found = json.loads(self.run("nft", "-j", "list", "counters", "table", "inet", "lab"))
        counters = {
            one["counter"]["name"]: one["counter"]["packets"] for one in found["nftables"] if "counter" in one
        }
        return counters["seen"], counters["dropped"]


@contextlib.contextmanager
def hosts(count: int, congestion: str = "reno") -> Iterator[list[LabHost]]:
    """``count`` hosts at 10.77.0.1 and on, each with an IPv6 address as well; they reach one another directly.
    ``congestion``: the congestion control of their connections."""
    mark = f"onm{os.getpid() % 100000}"
    switch = f"{mark}sw"
    made: list[LabHost] = []
    namespaces: list[str] = []
    try:
        run("ip", "netns", "add", switch)
        namespaces.append(switch)
        run("ip", "-n", switch, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        run("ip", "-n", switch, "link", "set", "br0", "up")
        for number in range(1, count + 1):
            port = f"port{number}"
            host = LabHost(f"{mark}h{number}", f"10.77.0.{number}", f"fd77::{number}", switch=switch, port=port)
            run("ip", "netns", "add", host.namespace)
            namespaces.append(host.namespace)
            run(
                "ip",
                "-n",
                switch,
                "link",
                "add",
                port,
                "type",
                "veth",
                "peer",
                "name",
                host.nic,
                "netns",
                host.namespace,
            )
            run("ip", "-n", switch, "link", "set", port, "master", "br0", "up")
            run("ip", "-n", host.namespace, "link", "set", "lo", "up")
            run("ip", "-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", host.nic)
            run("ip", "-n", host.namespace, "addr", "add", f"{host.address6}/64", "dev", host.nic, "nodad")
            run("ip", "-n", host.namespace, "link", "set", host.nic, "up", "mtu", str(MTU))
            # one packet on the wire for each that is counted: no super-packets, neither sent nor put together
            for end, where in ((host.nic, host.namespace), (port, switch)):
                run(
                    "ip",
                    "netns",
                    "exec",
                    where,
                    "ethtool",
                    "-K",
                    end,
                    "gso",
                    "off",
                    "tso",
                    "off",
                    "gro",
                    "off",
                    check=False,
                )
            route = ("route", "replace", "10.77.0.0/24", "dev", host.nic, "src", host.address)
            run("ip", "-n", host.namespace, *route, "congctl", congestion, check=False)
            host.run("sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")
            host.run("sysctl", "-qw", f"net.ipv6.conf.{host.nic}.router_solicitations=0")
            made.append(host)
        _introduce(made)
        yield made
    finally:
        for host in made:
            for process in host.processes:
                _end(process)
        for namespace in reversed(namespaces):
            run("ip", "netns", "del", namespace, check=False)


def _introduce(made: list[LabHost]) -> None:
    """Let every host know every other's hardware address for good: a silent link is then silent."""
    hardware = {}
    for host in made:
        shown = json.loads(run("ip", "-n", host.namespace, "-j", "link", "show", "dev", host.nic))
        hardware[host.namespace] = shown[0]["address"]
    for host in made:
        for other in made:
            if other is not host:
                for address in (other.address, other.address6):
                    known = ("lladdr", hardware[other.namespace], "dev", host.nic, "nud", "permanent")
                    run("ip", "-n", host.namespace, "neigh", "replace", address, *known)
                host.run("ping", "-c", "1", "-W", "2", other.address)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    process.wait(timeout=10)


def finished(process: subprocess.Popen[str], timeout: float = 60) -> str:
    """A process's output, once it has ended well."""
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err[-4000:]
    return out


def wait_for_port(host: LabHost, port: int, timeout: float = 10) -> None:
    """Until something listens there."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if f":{port} " in host.run("ss", "-ltnH"):
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port}")
