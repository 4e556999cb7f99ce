"""`otel-netmon flush` says of every item what became of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_netmon.cli.flush import flush
from otel_netmon.delivery import connect
from otel_netmon.delivery.spool import Spool
from otel_netmon.delivery.transport import Outcome


class Taking:
    """In the place of a transport: takes everything."""

    endpoint, timeout = "http://somewhere", 1.0

    def send(self, _data: bytes, _timeout: float) -> Outcome:
        return Outcome("delivered")

    def close(self) -> None: ...


def test_what_is_damaged_is_said_and_what_lies_behind_it_is_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "spool"
    spool = Spool(folder, "traces", 1 << 20, lambda *_: None)
    for data, items in ((b"a" * 50, 3), (b"b" * 50, 4), (b"c" * 50, 5)):
        spool.append(data, items)
    spool.close()
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes().replace(b"b" * 50, b"x" * 50))
    monkeypatch.setattr(connect, "connect", lambda _: Taking())
    assert flush(folder) == 0
    said = capsys.readouterr()
    assert "8 spans delivered to http://somewhere" in said.out
    assert "4 spans are lost: the file is damaged" in said.err
    assert not list(folder.iterdir())
