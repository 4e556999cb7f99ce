"""`otel-netmon doctor` says what is so, gives a remedy, and shows no secret."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from otel_netmon.cli import doctor as module
from otel_netmon.cli.doctor import Finding, findings
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


def test_an_endpoint_that_answers_and_one_that_does_not() -> None:
    name = "OTEL_EXPORTER_OTLP_ENDPOINT"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = look({name: f"http://127.0.0.1:{port}"})
        assert str(found[name]).startswith("ok")
        assert "files" not in found
    reached = module._reachable(name, f"127.0.0.1:{port}")
    assert reached.level == "FAIL" and "refused" in reached.found and reached.remedy
    for wrong in ("http://", "http://host:port", "http://[::1", "http://h:99999999"):
        assert module._reachable(name, wrong).level == "FAIL"


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
    (line,) = with_torch("2.13.0+cpu", {})
    assert line.startswith("ok") and "dispatcher" in line
    (line,) = with_torch("2.14.1", {})
    assert "not yet by its process-group hooks" in line
    assert "CAPTURE is off" in with_torch("2.13.0", {"OTEL_NETMON_CAPTURE": "off"})[0]
    old, _ = with_torch("1.9.0", {})
    assert old.startswith("note") and "use torch >=" in old


def test_what_keeps_the_main_job_from_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Mapping[str, str]) -> list[Finding]:
        raise RuntimeError("no\nluck")

    (tmp_path / "file").write_text("")
    environ = {"OTEL_NETMON_OUTPUT_DIR": str(tmp_path / "file" / "below")}
    assert look(environ)["files"].level == "FAIL"
    assert look({"OTEL_SDK_DISABLED": "True"})["destination"].level == "FAIL"
    monkeypatch.setattr(module, "auto_instrumentation_folder", lambda: None)
    assert look({})["opentelemetry-instrumentation"].level == "FAIL"
    monkeypatch.setattr(module, "_version", lambda _: "0.62b1")
    monkeypatch.setattr(module, "auto_instrumentation_folder", lambda: "/auto")
    assert "do not inherit" in look({})["opentelemetry-instrumentation"].found
    monkeypatch.setattr(module, "_CHECKS", (broken, module._rdma))
    first, last = findings({})
    assert str(first) == "FAIL  broken: the check broke: RuntimeError: no?luck"
    assert last.what == "RDMA"


def test_nics_and_rdma_by_roots(tmp_path: Path) -> None:
    (tmp_path / "class" / "infiniband" / "mlx5_0").mkdir(parents=True)
    found = look({"OTEL_NETMON_SYS_ROOT": str(tmp_path), "OTEL_NETMON_PROC_ROOT": str(tmp_path)})
    assert "mlx5_0" in found["RDMA"].found
    assert found["NICs"].level == "note" and "cannot be read" in found["NICs"].found
    unmatched = look({"OTEL_NETMON_INTERFACES": "nothing*"})["NICs"]
    assert unmatched.level == "note" and "none matches OTEL_NETMON_INTERFACES" in unmatched.found
