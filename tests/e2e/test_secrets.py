"""A secret in the environment shows up nowhere: not in a line, not in a file, not in a span."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .faulty import free_port

CANARY = "canary-4711-xyzzy"
PROGRAM = Path(__file__).parent / "programs" / "send_spans.py"
SECRETS = {
    "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer%20{CANARY},x-key={CANARY}",
    "DATABASE_PASSWORD": CANARY,
    "OTEL_NETMON_INTERVAL": f"bad {'x' * 10}",  # a bad value is quoted; others' are not
}


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_headers_and_environment_stay_inside(tmp_path: Path, protocol: str) -> None:
    environ = {
        **os.environ,
        **SECRETS,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_NETMON_SPOOL_DIR": str(tmp_path / "spool"),
        "OTEL_LOG_LEVEL": "debug",
    }
    ours = str(Path(sys.executable).with_name("otel-netmon"))
    good = {name: value for name, value in environ.items() if name != "OTEL_NETMON_INTERVAL"}
    commands = (
        ([ours, "doctor"], environ),
        ([ours, "run", "--", sys.executable, str(PROGRAM), "end", "10"], environ),
        ([ours, "run", "--output", str(tmp_path / "out"), "--", sys.executable, str(PROGRAM), "end", "100"], good),
        ([ours, "flush", str(tmp_path / "spool")], {**good, "OTEL_NETMON_EXIT_TIMEOUT": "1"}),
    )
    said = []
    for command, env in commands:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, cwd=tmp_path)
        said.append(done.stdout + done.stderr)
    assert "cannot be exported" in said[2] and "are kept" in said[3], said  # it did get that far
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any(file.suffix == ".spool" for file in files) and any(file.suffix == ".jsonl" for file in files)
    for text in (*said, *(file.read_bytes().decode("latin-1") for file in files)):
        assert CANARY not in text
