"""The command line as a real process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.installed import ROOT, python_path

Cli = Callable[..., "subprocess.Popen[bytes]"]

OTEL_NETMON = (sys.executable, "-m", "otel_netmon.cli")
BARE_PYTHON = (sys.executable, "-I", "-S", "-c")
"""A Python that finds no sitecustomize: not instrumented, and quick."""


def clean_environment() -> dict[str, str]:
    """The test's own environment without anything that changes what is tested."""
    unwanted = ("OTEL_", "PYTHONPATH", "RANK", "LOCAL_RANK", "WORLD_SIZE", "SLURM_", "OMPI_", "PMI_")
    return {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """For a child that shall find the package and its entry points."""
    return {**clean_environment(), "PYTHONPATH": python_path(tmp_path / "site") or str(ROOT)}


@pytest.fixture
def cli(tmp_path: Path, environment: dict[str, str]) -> Cli:
    """Start ``otel-netmon`` with arguments in ``tmp_path``; keywords are environment variables."""

    def start(*arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*OTEL_NETMON, *arguments],
            cwd=tmp_path,
            env={**environment, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return start
