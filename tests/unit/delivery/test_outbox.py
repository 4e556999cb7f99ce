"""What waits in memory is bounded, when there is neither a collector nor a disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_netmon import semconv
from otel_netmon.delivery.outbox import _MEMORY
from tests.unit.delivery.refusing import outbox


def test_without_collector_and_disk_the_oldest_go_beyond_eight_mebibytes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "spool").write_text("a file stands where the folder should be")
    box = outbox("traces", tmp_path / "spool", 1 << 30)
    request, count = b"x" * (1 << 20), 40
    for _ in range(count):
        box.put(request, 100)
        assert box._bytes <= _MEMORY + len(request)
    lost = box.account.lost[semconv.REASON_NO_SPOOL]
    waiting = len(box._queue) + (box._sending is not None)
    assert lost + 100 * waiting == 100 * count and waiting * len(request) <= _MEMORY + 2 * len(request)
    box.close(0.1)
    text = caplog.text
    assert text.count("cannot be kept on disk") == 1 and text.count("are lost") == 1
