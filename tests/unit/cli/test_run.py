"""Where telemetry goes under `run`, and the summary at the end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from otel_netmon.cli.environment import SITE, child_environment, choose_exporters, service_name, write_files
from tests.unit.cli.conftest import Cli

FILES = "otel_netmon_file"
OTLP = "otel_netmon_otlp"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("environ", "to_files", "traces", "metrics"),
    [
        ({}, False, FILES, FILES),
        ({ENDPOINT: " "}, False, FILES, FILES),
        ({ENDPOINT: "http://c:4317"}, False, OTLP, OTLP),
        ({ENDPOINT: "http://c:4317"}, True, f"{OTLP},{FILES}", f"{OTLP},{FILES}"),
        ({ENDPOINT: "http://c", "OTEL_TRACES_EXPORTER": "otlp"}, False, "otlp", OTLP),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4317"}, False, OTLP, FILES),
        ({"OTEL_TRACES_EXPORTER": "console", ENDPOINT: "http://c"}, False, "console", OTLP),
        ({"OTEL_METRICS_EXPORTER": "none"}, False, FILES, "none"),
        ({"OTEL_METRICS_EXPORTER": "none"}, True, FILES, FILES),
        ({"OTEL_TRACES_EXPORTER": f"{FILES}, console"}, True, f"{FILES},console", FILES),
    ],
)
def test_exporters(environ: dict[str, str], to_files: bool, traces: str, metrics: str) -> None:
    chosen = choose_exporters(environ, to_files=to_files)
    chosen.pop("OTEL_LOGS_EXPORTER")
    assert chosen == {"OTEL_TRACES_EXPORTER": traces, "OTEL_METRICS_EXPORTER": metrics}
    assert write_files(chosen) == (FILES in traces or FILES in metrics)


@pytest.mark.parametrize(
    ("environ", "to_files", "logs"),
    [
        ({}, False, FILES),
        ({ENDPOINT: "http://c:4317"}, False, OTLP),
        ({ENDPOINT: "http://c:4317"}, True, f"{OTLP},{FILES}"),
        ({"OTEL_LOGS_EXPORTER": "none"}, False, "none"),
        (
            {
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c",
                "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c",
            },
            False,
            "none",  # no folder for events alone
        ),
    ],
)
def test_the_exporter_of_log_events(environ: dict[str, str], to_files: bool, logs: str) -> None:
    assert choose_exporters(environ, to_files=to_files)["OTEL_LOGS_EXPORTER"] == logs


def environment_for(environ: dict[str, str]) -> dict[str, str]:
    chosen = choose_exporters(environ, to_files=False)
    return child_environment(environ, ["train.py"], chosen, Path("/out") if write_files(chosen) else None)


def test_defaults_give_way_to_the_user() -> None:
    assert environment_for({}) == {
        "PYTHONPATH": SITE,
        "OTEL_TRACES_EXPORTER": FILES,
        "OTEL_METRICS_EXPORTER": FILES,
        "OTEL_LOGS_EXPORTER": FILES,
        "OTEL_BSP_MAX_QUEUE_SIZE": "32768",
        "OTEL_BSP_SCHEDULE_DELAY": "1000",
        "OTEL_METRIC_EXPORT_INTERVAL": "5000",
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "otel,otel_netmon",
        "OTEL_SERVICE_NAME": "train",
        "OTEL_NETMON_OUTPUT_DIR": "/out",
    }
    users = {
        "OTEL_LOGS_EXPORTER": "console",
        "OTEL_BSP_MAX_QUEUE_SIZE": "7",
        "OTEL_METRIC_EXPORT_INTERVAL": "8",
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "host",
        "OTEL_SERVICE_NAME": "mine",
        "UNRELATED": "x",
    }
    assert users.items() <= environment_for(users).items()
    assert "OTEL_SERVICE_NAME" not in environment_for({"OTEL_RESOURCE_ATTRIBUTES": "a=b, service.name=mine"})
    assert "OTEL_SERVICE_NAME" in environment_for({"OTEL_RESOURCE_ATTRIBUTES": "my.service.name=x"})
    over_otlp = environment_for({ENDPOINT: "http://c:4317"})
    assert not {"OTEL_METRIC_EXPORT_INTERVAL", "OTEL_NETMON_OUTPUT_DIR"} & over_otlp.keys()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", SITE),
        ("/a:/b", f"{SITE}:/a:/b"),
        (f"/a:{SITE}:/b", f"{SITE}:/a:/b"),
        (SITE, SITE),
        ("/a:", f"{SITE}:/a:"),
    ],
)
def test_python_path(given: str, expected: str) -> None:
    assert environment_for({"PYTHONPATH": given})["PYTHONPATH"] == expected


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("torchrun --nproc-per-node 4 examples/train_digits.py --lr 1.py", "train_digits"),
        ("python -m torch.distributed.run --nnodes 2 -m pkg.train", "pkg.train"),
        ("python -m torch.distributed.run sub/t.py -m x", "t"),
        ("/opt/bin/train --fast", "train"),
        ("/", "unknown"),
    ],
)
def test_service_name(command: str, name: str) -> None:
    assert service_name(command.split()) == name


TRACED = """
import os
from opentelemetry import metrics, trace
attributes = {"torch.distributed.rank": 0, "torch.distributed.world_size": 2, "torch.distributed.step": 3}
trace.get_tracer("t").start_span("train_step", attributes=attributes).end()
metrics.get_meter("t").create_counter("c").add(1)
print("output of the command")
"""


def test_without_a_collector_files_and_a_summary(tmp_path: Path, cli: Cli) -> None:
    process = cli(
        "run", "--", sys.executable, "-c", TRACED, RANK="0", WORLD_SIZE="2", OTEL_NETMON_HOST_MONITORS="off"
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out == b"output of the command\n"
    (folder,) = (tmp_path / "otel-netmon-runs").iterdir()
    names = sorted(path.name.partition("-")[0] for path in folder.iterdir())
    assert names == ["metrics", "report.html", "traces"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in folder.iterdir())
    assert folder.stat().st_mode & 0o777 == folder.parent.stat().st_mode & 0o777 == 0o700
    text, _, last = err.decode().rstrip("\n").rpartition("\n")
    assert last == f"otel-netmon: report: {folder}/report.html"
    assert "1 seen (0) of 2; NOT SEEN: 1" in text
    assert str(folder) in text

    again = cli("summary", str(folder))
    out, _ = again.communicate(timeout=60)
    assert again.returncode == 0
    assert out.decode().split() == text[text.index("otel-netmon summary") :].split()


def test_a_named_folder_is_kept_and_the_summary_is_of_this_run(tmp_path: Path, cli: Cli) -> None:
    for run in (1, 2):
        command = ("run", "--output", "here", sys.executable, "-c", TRACED)
        process = cli(*command, OTEL_NETMON_HOST_MONITORS="off")
        _, err = process.communicate(timeout=60)
        assert len(list((tmp_path / "here").iterdir())) == 2 * run + 1
        assert "(2 files" in err.decode()
        assert (f"{tmp_path}/here already held 2 files" in err.decode()) == (run == 2)
    assert not (tmp_path / "otel-netmon-runs").exists()


def test_a_report_that_cannot_be_written_changes_nothing(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "here" / "report.html").mkdir(parents=True)
    script = TRACED + "raise SystemExit(3)"
    process = cli("run", "--output", "here", sys.executable, "-c", script, OTEL_NETMON_HOST_MONITORS="off")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "otel-netmon summary" in err.decode()
    assert err.decode().splitlines()[-1].startswith("otel-netmon: no report: ")
    assert "Traceback" not in err.decode()
    assert not list((tmp_path / "here").glob(".report*"))


def test_no_telemetry_is_said_and_changes_nothing(tmp_path: Path, cli: Cli) -> None:
    process = cli("run", "sh", "-c", "exit 5")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "left no telemetry: it ran no Python that has otel-netmon" in err.decode()
    assert not (tmp_path / "otel-netmon-runs").exists()


@pytest.mark.row("settings that OpenTelemetry refuses: a queue below the batch, an unknown exporter, …")
@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "100"}, "OTEL_BSP_MAX_QUEUE_SIZE='100' is below the size of a batch (512)"),
        ({"OTEL_METRIC_EXPORT_INTERVAL": "0"}, "OTEL_METRIC_EXPORT_INTERVAL='0' is not a number above 0"),
        ({"OTEL_TRACES_EXPORTER": "oltp"}, "OTEL_TRACES_EXPORTER='oltp' names oltp, an exporter that is not"),
        (
            {"OTEL_PROPAGATORS": "tracecontext,b3"},
            "OTEL_PROPAGATORS='tracecontext,b3' names b3, a propagator that",
        ),
        (
            {ENDPOINT: "127.0.0.1:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            f"{ENDPOINT}='127.0.0.1:4318' cannot work with http/protobuf (OTEL_EXPORTER_OTLP_PROTOCOL): it has no "
            "scheme; write http://127.0.0.1:4318",
        ),
    ],
)
def test_what_cannot_work_is_said_before_and_telemetry_is_there(
    environ: dict[str, str], says: str, tmp_path: Path, cli: Cli
) -> None:
    script = "import sys; sys.stderr.write('training'); " + TRACED
    process = cli("run", "--output", "out", "--", sys.executable, "-c", script, **environ)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0
    before, _, after = err.decode().partition("training")
    assert says in before and before.count("otel-netmon: OTEL_") == 1, before
    assert "Traceback" not in err.decode() and "otel-netmon summary" in after
    assert list((tmp_path / "out").glob("metrics-*"))


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"OTEL_SDK_DISABLED": "true"}, "OTEL_SDK_DISABLED is true, so OpenTelemetry records nothing"),
        (
            {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "*"},
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS switches off the mon",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
            "OTEL_TRACES_EXPORTER is none, and so is",
        ),
    ],
)
def test_the_end_names_the_true_reason(environ: dict[str, str], reason: str, cli: Cli) -> None:
    process = cli("run", "--", sys.executable, "-c", "import sys; sys.stderr.write('training')", **environ)
    _, err = process.communicate(timeout=60)
    before, _, after = err.decode().partition("training")
    assert process.returncode == 0
    assert f"otel-netmon: {reason}" in before and reason in after
    assert "Traceback" not in err.decode() and "no Python" not in after


@pytest.mark.parametrize("words", [["--output", "otel-netmon-runs"], []])
def test_a_folder_that_cannot_be_made(words: list[str], tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "otel-netmon-runs").write_text("a file")
    process = cli("run", *words, "touch", "started")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "cannot be created" in err.decode() and "--output DIR" in err.decode()
    assert not (tmp_path / "started").exists()
