"""What all tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

BINARIES = "OTEL_NETMON_TEST_BIN"
"""Names a folder with `otelcol` and `jaeger`."""
_folder = os.environ.get(BINARIES)


def pytest_configure() -> None:
    """What the developer has set for OpenTelemetry must not decide a test, nor reach the programs under test."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        del os.environ[name]


@pytest.fixture(scope="session")
def binary() -> Callable[[str], str]:
    """Path of a server's program; skips the test where there is none."""

    def find(name: str) -> str:
        places = (_folder, os.environ.get("PATH"))
        found = shutil.which(name, path=os.pathsep.join(filter(None, places)))
        if found is None:
            pytest.skip(f"no {name}: put its release binary on PATH or into the folder that {BINARIES} names")
        return found

    return find
