"""`otel-netmon report`: where the page goes, that it says what `summary` says, and what hinders it."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from otel_netmon.cli import main
from tests.unit.analysis.synthetic import write_run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "run"
    write_run(path, monkeypatch, late=lambda step, rank: 50.0 * (rank == 2))
    return path


def test_the_page_is_beside_the_files_and_its_verdict_is_that_of_the_summary(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}/report.html\n"
    text = (folder / "report.html").read_text(encoding="utf-8")
    (verdict,) = re.findall(r'<p class="verdict" id="verdict">(.*)</p>', text)
    assert main(["summary", str(folder)]) == 0
    said = " ".join(capsys.readouterr().out.partition("Diagnosis\n")[2].split())
    assert "ank 2" in verdict
    assert html.unescape(verdict) == said
    assert str(folder.parent) not in text


def test_the_same_files_make_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    pages = [tmp_path / name for name in ("one.html", "other.html")]
    for page in pages:
        assert main(["report", str(folder), "-o", str(page)]) == 0
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert not (folder / "report.html").exists()


def test_a_file_that_was_cut_off_is_used_as_far_as_it_goes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_rank_0 = max(folder.iterdir(), key=lambda path: path.stat().st_size)  # it has the roots, too
    of_rank_0.write_bytes(of_rank_0.read_bytes()[:-200])
    assert main(["report", str(folder)]) == 0
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "1 x line cut off at the end of a file" in text
    assert "In 29 steps of 29 single collectives are not known on all ranks" in text
    assert "</html>" in text


def test_what_hinders_it_is_said_in_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for arguments, why in (
        ([str(tmp_path / "nowhere")], "does not exist"),
        ([str(tmp_path / "empty")], "holds no telemetry"),
        ([str(next(folder.iterdir()))], "is not a folder"),
        (
            [str(folder), "-o", str(tmp_path / "nowhere" / "page.html")],
            "page.html cannot be written: No such file",
        ),
        ([str(folder), "-o", str(tmp_path)], f"{tmp_path} cannot be written"),
    ):
        assert main(["report", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("otel-netmon: ") and err.count("\n") == 1
        assert why in err
    assert main(["report"]) == 2
