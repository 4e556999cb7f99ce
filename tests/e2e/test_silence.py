"""Without an endpoint nothing is sent and nothing listened on: every call on a socket is written down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.installed import python_path

pytest.importorskip("torch")

PROGRAMS = Path(__file__).parent / "programs"
WATCH = """
import atexit, json, os, sys, traceback

def hook(event, arguments):
    if event in ("started", "socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"):
        stack = [f.filename for f in traceback.extract_stack()]
        ours = any("otel_netmon" in name for name in stack)
        about = str(arguments[0] if event == "socket.getaddrinfo" else arguments[-1])
        line = json.dumps([event, about, ours, stack[-8:]])
        fd = os.open(os.environ["SOCKET_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, (line + "\\n").encode())
        os.close(fd)

def start():
    sys.addaudithook(hook)
    hook("started", ("", ""))

atexit.register(lambda: "grpc" not in sys.modules or hook("socket.connect", ("", "grpc is imported")))
"""


def test_nothing_is_sent_and_nothing_listened_on(tmp_path: Path) -> None:
    """gRPC's own sockets are of C and unseen: so it must not even be imported."""
    site = tmp_path / "site"
    (site / "watch-0.dist-info").mkdir(parents=True)
    (site / "watch.py").write_text(WATCH)
    (site / "watch-0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: watch\nVersion: 0\n")
    points = "[opentelemetry_pre_instrument]\nawatch = watch:start\n"  # loaded before anything of ours
    (site / "watch-0.dist-info" / "entry_points.txt").write_text(points)
    log = tmp_path / "sockets.jsonl"
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
        "PYTHONPATH": f"{python_path(tmp_path / 'ours')}{os.pathsep}{site}",
        "SOCKET_LOG": str(log),
        "OMP_NUM_THREADS": "1",
        "OTEL_NETMON_INTERVAL": "0.2",
    }
    scripts = Path(sys.executable).parent
    command = [
        *(str(scripts / "otel-netmon"), "run", "--output", str(tmp_path / "out"), "--"),
        *(str(scripts / "torchrun"), "--standalone", "--nproc-per-node=2", str(PROGRAMS / "train.py"), "3"),
    ]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    assert sum(call[0] == "started" for call in calls) >= 3  # the launcher and its ranks
    assert not [call for call in calls if "grpc is imported" in call[1]]
    ours = [call for call in calls if call[2] and call[0] != "started"]
    for event, about, _, stack in ours:
        # netlink, the kernel's own: (pid, groups); and the address of the job's store, which the launcher named
        kernel = event == "socket.sendto" and about in ("(0, 0)", "[0, 0]")
        assert kernel or (event == "socket.getaddrinfo" and about == "localhost"), (event, about, stack)
