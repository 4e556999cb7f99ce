"""The trace of a run, opened in a real Perfetto UI: nothing is wrong with it there."""

from __future__ import annotations

from pathlib import Path

import pytest

from otel_netmon.cli import main
from tests.e2e import perfetto_ui
from tests.unit.analysis.synthetic import write_run

pytest.importorskip("perfetto", reason="pip install perfetto, or otel-netmon[perfetto]")
pytestmark = pytest.mark.skipif(bool(perfetto_ui.missing()), reason=perfetto_ui.missing() or "all is there")


def test_a_real_perfetto_opens_it_without_an_error_or_data_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(
        tmp_path / "run",
        monkeypatch,
        steps=200,
        every=3,
        traces=lambda _: True,
        late=lambda step, rank: 40.0 if rank == 2 and step > 20 else (7 * rank + step) % 4,
    )
    trace = tmp_path / "run.pftrace"
    assert main(["export", "perfetto", str(tmp_path / "run"), "-o", str(trace)]) == 0
    with perfetto_ui.opened(trace) as ui:
        wrong = "select name, value from stats where value != 0 and severity in ('error', 'data_loss')"
        assert ui.query(wrong) == []
        assert ui.query("select count(*) from slice where dur = -1") == [[0]]
        ((waiting,),) = ui.query("select count(*) from slice where name glob 'waiting for rank *'")
        assert ui.query("select count(*) from flow") == [[waiting]] and waiting >= 3 * 180
        both = "flow join slice s on slice_out = s.id join slice d on slice_in = d.id"
        ends = f"select distinct s.name glob 'waiting*', d.name from {both}"
        assert ui.query(ends) == [[1, "all_reduce"]]
        rows = "select p.name, t.name from track t join track p on t.parent_id = p.id order by 1, 2"
        assert ui.query(rows) == [["diagnosis", "findings"], *(["host h", f"rank {rank}"] for rank in range(4))]
        assert ui.query("select count(*) from slice where name glob 'step *'") == [[4 * 200]]
        depths = "select max(depth) from slice"
        assert ui.query(depths) == [[2]]
