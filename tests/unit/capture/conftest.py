"""Groups of one process, and the native backend on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from otel_netmon.capture.backends.native import NativeBackend
from tests.unit.capture.a_backend import Captured, Pair


@pytest.fixture
def group() -> Iterator[Any]:
    import torch.distributed as dist

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


@pytest.fixture
def native(group: Any) -> Iterator[Captured]:
    captured = Captured(NativeBackend)
    yield captured
    captured.close()


@pytest.fixture
def pair(native: Captured) -> Iterator[Pair]:
    made = Pair()
    native.backend.group_created(made.first)
    yield made
    while made.begun:  # or the group waits for them when it is destroyed
        made.end()
