"""The monitor that CONTRIBUTING.md walks through, run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text()

PROGRAM = """
import json, logging, os
from otel_netmon import config
logging.basicConfig(format="%(message)s")
from otel_netmon.monitors.registry import monitors_for
(monitor,) = monitors_for(host=True, rank=False)
assert monitor.run_once()
from your_package import SockstatMonitor, parse_sockstat
assert type(monitor) is SockstatMonitor
seen = [[metric.name, value, attributes] for metric, value, attributes in monitor.points()]
os.environ["OTEL_NETMON_PROC_ROOT"] = "/absent"
config.current.cache_clear()
empty = SockstatMonitor()
assert empty.run_once() and empty.points() == ()
for noise in (b"", b"TCP:", b"TCP: inuse", b"TCP: inuse x tw 2\\xff", b"\\xff" * 99):
    parse_sockstat(noise)
print(json.dumps([seen, parse_sockstat(b"sockets: used 9\\nTCP: inuse 5 orphan 0 tw 2 alloc 7 mem 1\\n")]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/net/sockstat")
def test_it_runs_and_says_what_the_kernel_says(tmp_path: Path) -> None:
    import json

    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (toml,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (point,) = re.findall(r'(\w+) = "(.*)"', toml)
    (tmp_path / "your_package.py").write_text(code)
    info = tmp_path / "your_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: your-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[otel_netmon_monitors]\n{point[0]} = {point[1]}\n")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OTEL_NETMON_MONITORS": point[0]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen, parsed = json.loads(done.stdout)
    assert parsed == {"inuse": 5, "orphan": 0, "tw": 2, "alloc": 7, "mem": 1}
    assert [one[2]["state"] for one in seen] == ["inuse", "orphan", "tw"]
    assert {one[0] for one in seen} == {"otel_netmon.host.tcp.sockets"}
    assert done.stderr == ""


def test_it_passes_the_checks_that_it_asks_for(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    file = tmp_path / "sockstat.py"
    file.write_text(code)
    root = Path(__file__).parents[3]
    for check in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]):
        settings = ["--config", str(root / "pyproject.toml")] if check[0] == "ruff" else ["--strict"]
        done = subprocess.run(
            [sys.executable, "-m", *check, *settings, str(file)],
            capture_output=True,
            text=True,
            timeout=120,
            cwd=root,
        )
        assert done.returncode == 0, done.stdout + done.stderr
