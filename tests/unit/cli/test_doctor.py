"""`otel-netmon doctor` says what is so, gives a remedy, and shows no secret."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_netmon.cli import doctor as module
from otel_netmon.cli import probe
from otel_netmon.cli.doctor import findings
from otel_netmon.cli.probe import Finding
from tests.e2e.faulty import Faulty, Protocol, free_port, serving
from tests.unit.cli.conftest import Cli


def look(environ: Mapping[str, str]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings(environ)}


def test_as_a_command(cli: Cli) -> None:
    process = cli("doctor")
    out, err = process.communicate(timeout=60)
    lines = out.decode().splitlines()
    assert (process.returncode, err) == (0, b""), out
    assert all(line[:6] in ("ok    ", "note  ") for line in lines)
    subjects = [line[6:].partition(":")[0] for line in lines]
    assert {"versions", "opentelemetry-instrumentation", "entry points", "torch", "files", "NICs", "RDMA"} < {
        *subjects
    }

    process = cli("doctor", OTEL_NETMON_RING_SIZE="lots")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"FAIL  variable: OTEL_NETMON_RING_SIZE='lots' is not a whole number" in out


ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"


@contextmanager
def collector(protocol: Protocol) -> Iterator[tuple[str, Faulty]]:
    """One that listens: ``host:port``, and what it was asked."""
    port, asked = free_port(), Faulty(protocol)
    with serving(asked, port):
        yield f"127.0.0.1:{port}", asked


def ask(environ: Mapping[str, str], what: str = ENDPOINT) -> list[str]:
    """What is said of an endpoint."""
    return [str(finding) for finding in module._destination(environ) if finding.what == what]


@pytest.mark.parametrize(
    ("spoken", "environ", "level", "remedy"),
    [
        ("grpc", {ENDPOINT: "http://{}"}, "ok", ""),
        ("http/protobuf", {ENDPOINT: "http://{}", PROTOCOL: "http/protobuf"}, "ok", ""),
        ("http/protobuf", {ENDPOINT: "http://{}", PROTOCOL: "http/json"}, "note", f"set {PROTOCOL}=http/protobuf"),
        ("http/protobuf", {ENDPOINT: "http://{}"}, "FAIL", f"set {PROTOCOL}=http/protobuf"),
        ("grpc", {ENDPOINT: "http://{}", PROTOCOL: "http/protobuf"}, "FAIL", f"set {PROTOCOL}=grpc"),
        ("grpc", {ENDPOINT: "{}"}, "FAIL", f"let {ENDPOINT} begin with http://"),
        ("grpc", {ENDPOINT: "https://{}"}, "FAIL", f"let {ENDPOINT} begin with http://"),
        ("http/protobuf", {ENDPOINT: "https://{}", PROTOCOL: "http/protobuf"}, "FAIL", "begin with http://"),
        ("http/protobuf", {ENDPOINT: "{}", PROTOCOL: "http/protobuf"}, "FAIL", "write http://{}"),
    ],
)
def test_one_empty_export_says_what_works(
    spoken: Protocol, environ: dict[str, str], level: str, remedy: str
) -> None:
    with collector(spoken) as (address, asked):
        lines = ask({name: value.format(address) for name, value in environ.items()})
        assert lines[0].startswith(level) and remedy.format(address) in lines[0], lines
        assert not asked.spans and not asked.points


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(404, f"{ENDPOINT} is a base"), (401, "check OTEL_EXPORTER_OTLP_HEADERS"), (500, "log")],
)
def test_a_refusal_is_explained(status: int, remedy: str) -> None:
    with collector("http/protobuf") as (address, asked):
        asked.status = status
        first, *logs = ask({ENDPOINT: f"http://{address}", PROTOCOL: "http/protobuf"})
    assert first.startswith("FAIL") and f"(HTTP {status})" in first and remedy in first
    assert len(logs) == (status == 404)  # no pipeline for logs costs one event alone
    assert all(line.startswith("note") and "OTEL_LOGS_EXPORTER=none" in line for line in logs)


def test_an_endpoint_of_one_signal_is_named() -> None:
    with collector("http/protobuf") as (address, _):
        name = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
        (line,) = ask({name: f"http://{address}"}, name)
    assert "set OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf" in line


def test_an_endpoint_that_is_not_there_or_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SECONDS", 0.5)
    for protocol in ("grpc", "http/protobuf"):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            environ = {ENDPOINT: f"http://127.0.0.1:{port}", PROTOCOL: protocol}
            (line,) = ask(environ)
            assert line.startswith("FAIL") and "no answer in time" in line
        environ[ENDPOINT] = f"http://127.0.0.1:{free_port()}"
        (line,) = ask(environ)
        assert line.startswith("FAIL") and "nothing listens there" in line
        for wrong in ("http://", "http://host:port", "http://[::1", "http://h:99999999"):
            (line,) = ask({**environ, ENDPOINT: wrong})
            assert line.startswith("FAIL") and "it is not an address" in line


def test_secrets_are_not_shown() -> None:
    environ = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://me:hunter2@127.0.0.1:1/?key=hunter2",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=hunter2",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x=hunter2",
        "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/hunter2",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": "/hunter2",
        "OTEL_RESOURCE_ATTRIBUTES": "a=b,api_token=hunter2",
        "OTEL_SERVICE_NAME": "shown",
    }
    text = "\n".join(map(str, findings(environ)))
    assert "hunter2" not in text
    assert all(name in text for name in environ)
    assert "OTEL_SERVICE_NAME: shown" in text


def test_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_torch(version: str | None, environ: Mapping[str, str]) -> list[str]:
        monkeypatch.setattr(module, "_version", lambda _: version)
        return [str(finding) for finding in module._torch(environ)]

    (line,) = with_torch(None, {})
    assert line.startswith("note") and "pip install torch" in line
    assert "CAPTURE is off" in with_torch("2.13.0", {"OTEL_NETMON_CAPTURE": "off"})[0]
    old, _ = with_torch("1.9.0", {"OTEL_NETMON_CAPTURE": "off"})
    assert old.startswith("note") and "use torch >=" in old


@pytest.mark.parametrize(
    ("there", "built", "capture", "words"),
    [
        (True, True, "auto", "by native hooks on its process groups"),
        (True, True, "native", "by native hooks on its process groups"),
        (True, True, "hooks", "by hooks on its process groups"),
        (True, False, "auto", "by hooks on its process groups"),
        (True, False, "native", "by hooks on its process groups"),
        (False, False, "auto", "in its dispatcher"),
        (True, True, "dispatcher", "in its dispatcher"),
        (True, True, "flight_recorder", "by reading its Flight Recorder"),
    ],
)
def test_what_captures_is_what_a_rank_would_choose(
    monkeypatch: pytest.MonkeyPatch, there: bool, built: bool, capture: str, words: str
) -> None:
    pytest.importorskip("torch")
    from otel_netmon.capture.backends import hooks
    from otel_netmon.capture.capture import choose
    from otel_netmon.capture.native import loader

    monkeypatch.setattr(hooks, "are_available", lambda: there)
    monkeypatch.setattr(loader, "load", lambda: object() if built else None)
    finding, *rest = module._torch({"OTEL_NETMON_CAPTURE": capture})
    assert finding.level == "ok" and words in finding.found
    expected = there and not built
    assert ["RUN otel-netmon build" in str(one) for one in rest] == ([True] if expected else [])
    assert module._BACKENDS[choose(capture)[0].__name__] == words


def test_what_keeps_the_main_job_from_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Mapping[str, str]) -> list[Finding]:
        raise RuntimeError("no\nluck")

    (tmp_path / "file").write_text("")
    environ = {"OTEL_NETMON_OUTPUT_DIR": str(tmp_path / "file" / "below")}
    assert look(environ)["files"].level == "FAIL"
    assert look({"OTEL_SDK_DISABLED": "True"})["OTEL_SDK_DISABLED"].level == "FAIL"
    monkeypatch.setattr(module, "can_instrument", lambda: False)
    assert look({})["opentelemetry-instrumentation"].level == "FAIL"
    monkeypatch.setattr(module, "can_instrument", lambda: True)
    assert look({})["opentelemetry-instrumentation"].level == "ok"
    monkeypatch.setattr(module, "_version", lambda _: None)
    assert look({})["opentelemetry-instrumentation"].level == "FAIL"
    monkeypatch.setattr(module, "_CHECKS", (broken, module._monitors))
    first, *_, last = findings({})
    assert str(first) == "FAIL  broken: the check broke: RuntimeError: no?luck"
    assert last.what == "latency targets"


def test_nics_and_rdma_by_roots(tmp_path: Path) -> None:
    port = tmp_path / "class" / "infiniband" / "mlx5_0" / "ports" / "1"
    port.mkdir(parents=True)
    (port / "state").write_text("4: ACTIVE\n")
    roots = {"OTEL_NETMON_SYS_ROOT": str(tmp_path), "OTEL_NETMON_PROC_ROOT": str(tmp_path)}
    found = look(roots)
    assert str(found["RDMA"]) == "ok    RDMA: the monitor rdma watches mlx5_0:1 (ACTIVE)"
    assert found["NICs"].level == "note" and "cannot be read" in found["NICs"].found
    for left_out in ({"OTEL_NETMON_MONITORS": "-rdma"}, {"OTEL_NETMON_HOST_MONITORS": "off"}):
        unwatched = look({**roots, **left_out})["RDMA"]
        assert unwatched.level == "note" and "nothing watches mlx5_0:1" in unwatched.found
    unmatched = look({"OTEL_NETMON_INTERFACES": "nothing*"})["NICs"]
    assert unmatched.level == "note" and "none matches OTEL_NETMON_INTERFACES" in unmatched.found


def test_the_monitors_are_those_that_would_run(caplog: pytest.LogCaptureFixture) -> None:
    lines = [str(finding) for finding in module._monitors({"OTEL_NETMON_MONITORS": "tcp,rmda"})]
    assert "ok    monitors: tcp" in lines
    assert any(line.startswith("note  monitors:") and "no monitor 'rmda'" in line for line in lines)
    assert not caplog.records
