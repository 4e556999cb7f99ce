"""Makes entry points visible to child processes when the package is run from its checkout."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]

_GROUP = re.compile(r'^\[project\.entry-points\.(\w+)\]\n((?:\w+ = "[^"\n]+"\n)+)', re.MULTILINE)


def python_path(folder: Path) -> str:
    """What PYTHONPATH must be for a child to find the package *and* its entry points.

    Empty when the package is installed; otherwise its metadata is written to ``folder`` from ``pyproject.toml``.
    """
    try:
        metadata.version("otel-netmon")
    except metadata.PackageNotFoundError:
        pass
    else:
        return ""
    groups = _GROUP.findall((ROOT / "pyproject.toml").read_text())
    assert len(groups) == 6
    info = folder / "otel_netmon-0.0.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: otel-netmon\nVersion: 0.0.0\n")
    (info / "entry_points.txt").write_text(
        "\n".join(f"[{name}]\n" + points.replace('"', "") for name, points in groups)
    )
    return f"{ROOT}:{folder}"
