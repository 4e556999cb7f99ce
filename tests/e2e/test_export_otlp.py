"""`otel-netmon export otlp`: everything in a folder arrives, once, whatever happens on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_netmon import config
from otel_netmon.cli import export_otlp, main
from tests.e2e.faulty import Faulty, Protocol, free_port, serving, until
from tests.e2e.servers import attributes, free_ports, server, spans_in, wait_for
from tests.unit.analysis.synthetic import write_metrics, write_run

PROTOCOLS: tuple[Protocol, ...] = ("grpc", "http/protobuf")
RANKS, STEPS = 4, 150


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """The command puts its destination into the environment, as its own process may."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10")  # many lines
    write_run(tmp_path / "run", monkeypatch, ranks=RANKS, steps=STEPS, every=2, traces=lambda _: True)
    write_metrics(tmp_path / "run", ranks=RANKS)
    monkeypatch.setattr(export_otlp, "_REQUEST", 10_000)  # many requests
    yield tmp_path / "run"
    config.current.cache_clear()


@pytest.fixture(params=PROTOCOLS)
def faulty(request: pytest.FixtureRequest) -> Faulty:
    return Faulty(request.param)


def export(folder: Path, faulty: Faulty, port: int, *more: str) -> int:
    return main(["export", "otlp", str(folder), f"http://127.0.0.1:{port}", "--protocol", faulty.protocol, *more])


def span_ids(folder: Path) -> Counter[bytes]:
    return Counter(bytes.fromhex(span["spanId"]) for span in spans_in(folder.glob("traces-*")))


def test_all_arrives_and_is_not_sent_a_second_time(
    folder: Path, faulty: Faulty, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    port = free_port()
    with serving(faulty, port):
        assert export(folder, faulty, port) == 0
        spans = span_ids(folder)
        assert faulty.spans == spans and set(spans.values()) == {1}
        assert len(faulty.events) == RANKS * STEPS // 2
        said = capsys.readouterr().out
        assert f"{len(spans)} spans delivered to" in said and f"{len(faulty.events)} log records" in said
        requests = len(faulty.requests)
        assert requests > 20

        assert export(folder, faulty, port) == 0
        assert len(faulty.requests) == requests
        assert "--again sends it again" in capsys.readouterr().out

        assert export(folder, faulty, port, "--again") == 0
        assert set(faulty.spans.values()) == {2}
    left = {path.name: path.read_bytes() for path in folder.iterdir()}
    del left[".otel-netmon-sent"]
    assert left == before


def test_another_collector_gets_all_of_it_too(folder: Path, faulty: Faulty) -> None:
    other = Faulty(faulty.protocol)
    for each in (faulty, other):
        port = free_port()
        with serving(each, port):
            assert export(folder, each, port) == 0
    assert other.spans == faulty.spans == span_ids(folder)


def test_what_a_run_adds_later_is_sent_later(folder: Path, faulty: Faulty) -> None:
    file = next(folder.glob("traces-*"))
    data = file.read_bytes()
    spans = span_ids(folder)
    file.write_bytes(data[: len(data) - 40])  # it still writes the last line
    port = free_port()
    with serving(faulty, port):
        assert export(folder, faulty, port) == 0
        assert len(faulty.spans) < len(spans)
        file.write_bytes(data)
        assert export(folder, faulty, port) == 0
    assert faulty.spans == spans


@pytest.mark.row("`export otlp` is killed, or its collector fails, in the middle")
def test_a_collector_that_fails_in_the_middle_gets_the_rest_at_the_next_start(
    folder: Path, faulty: Faulty, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export_otlp, "_PATIENCE", 0.5)
    real, port = faulty.pause, free_port()

    def fail_later() -> None:
        real()
        faulty.status = 503 if len(faulty.spans) > 100 else None

    monkeypatch.setattr(faulty, "pause", fail_later)
    with serving(faulty, port):
        assert export(folder, faulty, port) == 1
        said = capsys.readouterr().err
        assert "started again, it goes on from there" in said and "trying for" in said
        assert 0 < len(faulty.spans) < len(span_ids(folder))
        monkeypatch.setattr(faulty, "pause", real)
        faulty.status = None
        assert export(folder, faulty, port) == 0
    assert faulty.spans == span_ids(folder)


def test_it_waits_as_long_as_the_collector_asks(folder: Path, faulty: Faulty) -> None:
    port = free_port()
    faulty.status, faulty.retry_after = 429, 1.0

    def recover() -> None:
        until(lambda: len(faulty.requests) >= 1, 20)
        faulty.status = None

    thread = threading.Thread(target=recover)
    thread.start()
    with serving(faulty, port):
        assert export(folder, faulty, port) == 0
    thread.join()
    assert faulty.requests[1] - faulty.requests[0] > 0.9
    assert faulty.spans == span_ids(folder)


@pytest.mark.row("`export otlp` is killed, or its collector fails, in the middle")
def test_killed_in_the_middle_it_goes_on_and_at_most_one_request_comes_twice(folder: Path, faulty: Faulty) -> None:
    port = free_port()
    faulty.delay = 0.1
    program = (
        "import sys; from otel_netmon.cli import export_otlp, main\n"
        "export_otlp._REQUEST = 10_000; sys.exit(main(sys.argv[1:]))"
    )
    options = [str(folder), f"http://127.0.0.1:{port}", "--protocol", faulty.protocol]
    command = [sys.executable, "-c", program, "export", "otlp", *options]
    with serving(faulty, port):
        process = subprocess.Popen(command)
        until(lambda: len(faulty.requests) > 9, 60)
        process.send_signal(signal.SIGKILL)
        process.wait()
        time.sleep(0.3)  # what it had sent is counted
        first = sum(faulty.spans.values())
        faulty.delay = 0.0
        assert export(folder, faulty, port) == 0
    assert faulty.spans.keys() == span_ids(folder).keys()
    twice = [span for span, count in faulty.spans.items() if count > 1]
    assert 0 < first < len(faulty.spans) and len(twice) <= max(map(len, faulty.batches))


def test_what_is_refused_is_counted_and_hinders_nothing(
    folder: Path, faulty: Faulty, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    with serving(faulty, port):
        faulty.partial = 1
        assert export(folder, faulty, port) == 0
        batches = len(faulty.batches)
        said = capsys.readouterr()
        assert f"{len(span_ids(folder)) - batches} spans delivered" in said.out
        assert f", {batches} refused" in said.out and "partial success" in said.err
        faulty.partial, faulty.status = 0, 400
        assert export(folder, faulty, port, "--again") == 0
        said = capsys.readouterr()
        assert "0 spans delivered" in said.out and f", {len(span_ids(folder))} refused" in said.out


def test_lines_that_are_no_otlp_are_counted_and_left_out(
    folder: Path, faulty: Faulty, capsys: pytest.CaptureFixture[str]
) -> None:
    spans = span_ids(folder)
    file = next(folder.glob("traces-*"))
    bad = b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "no hex"}]}]}]}\n'
    file.write_bytes(b'nonsense\n\n[]\n{"hello": 1}\n' + bad + file.read_bytes() + b'{"resourceSp')
    port = free_port()
    with serving(faulty, port):
        assert export(folder, faulty, port) == 0
    assert faulty.spans == spans
    said = capsys.readouterr().err
    assert "4 lines are no OTLP" in said and "1 lines have no end" in said


def test_secrets_of_the_endpoint_are_neither_printed_nor_noted(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export_otlp, "_PATIENCE", 0.2)
    assert main(["export", "otlp", str(folder), f"http://me:hunter2@127.0.0.1:{free_port()}"]) == 1
    said = capsys.readouterr()
    noted = (folder / ".otel-netmon-sent").read_text()
    assert "hunter2" not in said.out + said.err + noted and "nothing listens there" in said.err


@pytest.mark.parametrize("endpoint", ["localhost:4318", "ftp://x", "http://", "http://a b"])
def test_an_endpoint_that_can_never_work_is_said_at_once(folder: Path, endpoint: str) -> None:
    assert main(["export", "otlp", str(folder), endpoint]) == 2


def test_a_folder_that_cannot_be_written_needs_a_state_file(
    folder: Path, faulty: Faulty, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    (folder / ".otel-netmon-sent").mkdir()  # as root every folder can be written
    with serving(faulty, port):
        assert export(folder, faulty, port) == 2
        assert "see --state" in capsys.readouterr().err and not faulty.requests
        for _ in range(2):
            assert export(folder, faulty, port, "--state", str(tmp_path / "state")) == 0
    assert faulty.spans == span_ids(folder)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_real_collector_writes_what_the_files_say(
    protocol: Protocol, folder: Path, tmp_path: Path, binary: Callable[[str], str]
) -> None:
    (grpc, http), kept = free_ports(2), tmp_path / "kept.jsonl"
    settings = {
        "receivers": {
            "otlp": {
                "protocols": {
                    "grpc": {"endpoint": f"127.0.0.1:{grpc}"},
                    "http": {"endpoint": f"127.0.0.1:{http}"},
                }
            }
        },
        "exporters": {"file": {"path": str(kept), "flush_interval": "100ms"}},
        "service": {
            "pipelines": {
                signal: {"receivers": ["otlp"], "exporters": ["file"]} for signal in ("traces", "metrics", "logs")
            },
            "telemetry": {"metrics": {"level": "none"}},
        },
    }
    (tmp_path / "config.json").write_text(json.dumps(settings))
    command = [binary("otelcol"), "--config", str(tmp_path / "config.json")]
    port = grpc if protocol == "grpc" else http
    with server(command, (grpc, http), tmp_path / "log", {}):
        assert export(folder, Faulty(protocol), port) == 0
        sources = [*folder.glob("*.jsonl")]
        expected = everything(sources)
        wait_for(
            lambda: sum(map(len, everything([kept]).values())), lambda n: n >= sum(map(len, expected.values()))
        )
    got = everything([kept])
    for kind in expected:
        for a, b in zip(got[kind], expected[kind], strict=True):
            assert a == b


def everything(files: list[Path]) -> dict[str, list[Any]]:
    """Spans, log records and data points with all they say, in some order."""
    found: dict[str, list[Any]] = {"spans": [], "logRecords": [], "metrics": []}
    for file in files:
        for line in file.read_text().splitlines():
            for group in (each for groups in json.loads(line).values() for each in groups):
                about = attributes(group.get("resource", {}))
                scopes = [scope for key, some in group.items() if key.startswith("scope") for scope in some]
                for scope in scopes:
                    for kind, items in found.items():
                        items += [_plain(about, item) for item in scope.get(kind, ())]
    return {kind: sorted(items, key=str) for kind, items in found.items()}


def _plain(about: dict[str, Any], item: dict[str, Any]) -> Any:
    """Without what is left out where it is empty, and numbers as text: each writer has its own way."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            cleaned = {key: clean(each) for key, each in value.items()}
            return {key: each for key, each in cleaned.items() if each not in ({}, [], "", "0")}
        if isinstance(value, list):
            return [clean(each) for each in value]
        return f"{value:.17g}" if type(value) in (int, float) else value

    return [sorted(about.items()), clean(item)]
