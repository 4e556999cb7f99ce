"""The last steps of a process in two files that take turns."""

from __future__ import annotations

import json
import logging
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_netmon import semconv
from otel_netmon.delivery import step_files
from otel_netmon.delivery.packed import Place, WholeSpan
from otel_netmon.delivery.step_files import StepFiles
from otel_netmon.locks import locked
from otel_netmon.records import RankStep
from otel_netmon.store.problems import Problems
from otel_netmon.store.reader import read

ABOUT = Resource({"service.instance.id": "one"}), InstrumentationScope(semconv.SCOPE_COLLECTIVES, "1")


def files_in(folder: Path, most: int = 20_000) -> StepFiles:
    return StepFiles(folder, most, lambda: ABOUT)


def step(number: int) -> WholeSpan:
    return WholeSpan("rank_step", Place(1, 2, 3 + number, 10, 20), {semconv.STEP: number, semconv.RUN_ID: "r"})


def steps_in(folder: Path) -> list[int]:
    records = (each for file in folder.iterdir() for each in read(file, Problems()))
    return sorted(each.step for each in records if isinstance(each, RankStep) and each.step is not None)


def test_the_last_ones_are_kept_within_the_limit(tmp_path: Path) -> None:
    folder = tmp_path / "steps"
    files = files_in(folder)
    for number in range(500):
        files.add(step(number))
        files.flush()
        assert sum(file.stat().st_size for file in folder.iterdir()) <= 20_000
    kept = steps_in(folder)
    assert kept == list(range(kept[0], 500)) and len(kept) > 15
    assert len(list(folder.iterdir())) == 2
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in folder.iterdir())


def test_who_reads_goes_on_when_a_file_begins_anew(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    files.add(step(0))
    files.flush()
    (path,) = tmp_path.iterdir()
    with path.open() as reader:
        for number in range(1, 200):
            files.add(step(number))
            files.flush()
        assert not path.exists()
        assert all(json.loads(line) for line in reader)


def test_steps_of_a_round_are_one_line(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    for number in range(5):
        files.add(step(number))
    assert not list(tmp_path.iterdir())
    files.flush()
    files.flush()
    (path,) = tmp_path.iterdir()
    assert len(path.read_text().splitlines()) == 1 and steps_in(tmp_path) == [0, 1, 2, 3, 4]


def test_what_ended_processes_left_is_bounded_and_of_living_ones_untouched(tmp_path: Path) -> None:
    for number in range(20):
        left = tmp_path / f"traces-old-{number}.steps.jsonl"
        left.write_bytes(b"x" * 19_999)
        os.utime(left, (number, number))
    (tmp_path / "notes.txt").write_text("mine")
    living = files_in(tmp_path)
    living.add(step(1))
    living.flush()
    assert {path.name for path in tmp_path.glob("traces-old-*")} == {
        f"traces-old-{number}.steps.jsonl" for number in range(12, 20)
    }
    another = files_in(tmp_path, 2)  # all of what is left is too much for this one
    another.add(step(2))
    another.flush()
    assert steps_in(tmp_path) == [1]
    assert (tmp_path / "notes.txt").exists()


def test_another_that_looks_whether_a_file_is_in_use_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def open_and_be_looked_at(path: Path, flags: int, mode: int = 0o777) -> int:
        fd = os.open(path, flags, mode)
        other = locked(Path(path))
        threading.Timer(0.1, os.close, (other,)).start()
        return fd

    monkeypatch.setattr(step_files, "os", SimpleNamespace(**{**vars(os), "open": open_and_be_looked_at}))
    files = files_in(tmp_path)
    files.add(step(0))
    files.flush()
    assert steps_in(tmp_path) == [0] and not caplog.records


def test_where_nothing_can_be_kept_that_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a file").write_text("")
    files = files_in(tmp_path / "a file")
    with caplog.at_level(logging.WARNING):
        for number in range(3):
            files.add(step(number))
            files.flush()
    (record,) = caplog.records
    assert "OTEL_NETMON_STEPS_DIR" in record.message and "logged once" in record.message


def test_a_forked_child_has_files_of_its_own(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    files.add(step(0))
    files.flush()
    files.add(step(1))
    pid = os.fork()
    if pid == 0:
        try:
            files.after_fork_in_child()
            files.add(step(2))
            files.flush()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    files.flush()
    assert len(list(tmp_path.iterdir())) == 2 and steps_in(tmp_path) == [0, 1, 2]
