"""Roles, ranks, who owns the host, and setting up the SDK where no distribution does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from otel_netmon import config
from otel_netmon.guard import guarded
from otel_netmon.job import roles
from otel_netmon.job.roles import RankIdentity, Role, claim_host, environment_rank, role

TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}


@pytest.fixture(autouse=True)
def in_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process group said of this process in another file's tests is not known here."""
    monkeypatch.setattr(roles, "_joined", [])


@pytest.fixture(autouse=True)
def fresh_settings() -> Iterator[None]:
    config.current.cache_clear()
    yield
    config.current.cache_clear()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        (TORCHRUN, RankIdentity(3, 1, 8)),
        ({"RANK": "3"}, RankIdentity(3, None, None)),
        ({"RANK": "x"}, None),
        (
            {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4"},
            RankIdentity(2, 0, 4),
        ),
        (
            {"SLURM_STEP_ID": "0", "SLURM_PROCID": "5", "SLURM_LOCALID": "1", "SLURM_NTASKS": "16"},
            RankIdentity(5, 1, 16),
        ),
        # The batch script itself: Slurm sets these there too, but it is no task.
        ({"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "16"}, None),
        # torchrun inside a Slurm step: the nearer launcher speaks.
        ({**TORCHRUN, "SLURM_STEP_ID": "0", "SLURM_PROCID": "1"}, RankIdentity(3, 1, 8)),
    ],
)
def test_rank_by_environment(environ: dict[str, str], expected: RankIdentity | None) -> None:
    assert environment_rank(environ) == expected


@pytest.mark.parametrize(
    ("argv", "environ", "expected"),
    [
        (["python", "/venv/bin/torchrun", "--nproc-per-node", "2", "train.py"], {}, Role.LAUNCHER),
        (["python", "-m", "torch.distributed.run", "train.py"], {}, Role.LAUNCHER),
        (["python", "-W", "ignore", "-m", "torch.distributed.run"], {}, Role.LAUNCHER),
        (["python", "-u", "/x/torch/distributed/run.py"], {}, Role.LAUNCHER),
        # A pod's own RANK does not make its launcher a rank.
        (["python", "/venv/bin/torchrun", "train.py"], TORCHRUN, Role.LAUNCHER),
        (["python", "-u", "train.py", "torchrun"], TORCHRUN, Role.RANK),
        (["python", "train.py"], {}, Role.PLAIN),
        (["python"], {}, Role.PLAIN),
        (["python", "-c", "from multiprocessing.resource_tracker import main;main(5)"], TORCHRUN, Role.HELPER),
        (
            [
                "python",
                "-c",
                "from multiprocessing.spawn import spawn_main; spawn_main()",
                "--multiprocessing-fork",
            ],
            TORCHRUN,
            Role.WORKER,
        ),
    ],
)
def test_role_by_command_line(argv: list[str], environ: dict[str, str], expected: Role) -> None:
    assert role(argv, environ) is expected


def test_the_real_resource_tracker_is_a_helper() -> None:
    if not os.path.exists("/proc/self/cmdline"):
        pytest.skip("needs /proc to read another process's command line")
    code = """
import multiprocessing.resource_tracker as tracker, pathlib, time
tracker.ensure_running()
file = pathlib.Path(f"/proc/{tracker._resource_tracker._pid}/cmdline")
for _ in range(500):  # at first it is a fork of this process
    if b"resource_tracker" in file.read_bytes():
        break
    time.sleep(0.01)
print(file.read_text().replace(chr(0), chr(10)))
"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60).stdout
    assert role(output.splitlines(), {}) is Role.HELPER


def test_the_host_is_claimed_once_in_a_tree() -> None:
    environ: dict[str, str] = {}
    assert claim_host(environ)
    assert environ[config.HOST_OWNER] == f"{socket.gethostname()}:{os.getpid()}"
    code = "from otel_netmon.job.roles import claim_host; print(claim_host())"
    child = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert child.stdout.strip() == "False", child.stderr


def test_without_a_launcher_of_ours_local_rank_0_claims_it() -> None:
    assert claim_host({"RANK": "4", "LOCAL_RANK": "0"}) or role() is not Role.PLAIN
    assert not claim_host({"RANK": "5", "LOCAL_RANK": "1"})


@pytest.mark.parametrize("owner", ["elsewhere:1", f"{socket.gethostname()}:999999999", "nonsense", ""])
def test_an_owner_that_is_not_here_does_not_count(owner: str) -> None:
    assert claim_host({config.HOST_OWNER: owner})


@pytest.mark.parametrize(("choice", "expected"), [("on", True), ("off", False)])
def test_the_user_decides(monkeypatch: pytest.MonkeyPatch, choice: str, expected: bool) -> None:
    monkeypatch.setenv("OTEL_NETMON_HOST_MONITORS", choice)
    assert claim_host({"RANK": "5", "LOCAL_RANK": "1"}) is expected


def test_release_gives_the_host_back() -> None:
    environ: dict[str, str] = {}
    claim_host(environ)
    roles.release_host(environ)
    assert environ == {}


def test_guarded_logs_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def breaks() -> None:
        raise ValueError("broken")

    assert guarded(breaks) is None
    assert "breaks failed" in caplog.text


SDK_STATE = """
import os
from opentelemetry import trace, metrics
from otel_netmon.sdk.setup import configure_sdk_if_nobody_did
{before}
configure_sdk_if_nobody_did()
exporters = [os.environ.get("OTEL_" + signal + "_EXPORTER") for signal in ("METRICS", "LOGS")]
print(type(trace.get_tracer_provider()).__module__, *exporters)
"""


@pytest.mark.parametrize(
    ("environ", "before", "expected"),
    [
        ({}, "", "opentelemetry.trace None None"),
        ({"OTEL_TRACES_EXPORTER": "none"}, "", "opentelemetry.trace None None"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "", "opentelemetry.sdk.trace None None"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}, "", "opentelemetry.sdk.trace otlp otlp"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_LOGS_EXPORTER": "none"},
            "",
            "opentelemetry.sdk.trace otlp none",
        ),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
            "",
            "opentelemetry.trace None None",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "console"},
            "trace.set_tracer_provider(trace.NoOpTracerProvider())",
            "opentelemetry.trace None None",
        ),
    ],
)
def test_the_sdk_is_set_up_only_where_asked_and_nobody_did(
    environ: dict[str, str], before: str, expected: str
) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    code = (
        SDK_STATE.format(before=before) + "\nos._exit(0)"
        if "otlp" in expected
        else SDK_STATE.format(before=before)
    )
    code = code.replace("os._exit(0)", "import sys; sys.stdout.flush(); os._exit(0)")
    output = subprocess.run(
        [sys.executable, "-c", code], env={**clean, **environ}, capture_output=True, text=True, timeout=60
    )
    assert output.stdout.strip() == expected, output.stderr


def test_a_launcher_has_no_rank_whatever_its_variables_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """`RANK` of a pod, SLURM_PROCID of `srun torchrun`: they number nodes."""
    from otel_netmon.delivery import local_files
    from otel_netmon.job.roles import own_rank
    from otel_netmon.sdk.resource import RankResourceDetector

    for name in (*TORCHRUN, "SLURM_STEP_ID", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for variables in ({"RANK": "1", "WORLD_SIZE": "2"}, {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1"}):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            for argv, rank in (
                (["python", "/bin/torchrun", "train.py"], None),
                (["python", "-m", "torch.distributed.run", "train.py"], None),
                (["python", "-c", "from multiprocessing.spawn import spawn_main; spawn_main()"], None),
                (["python", "train.py"], 1),
            ):
                patch.setattr(sys, "orig_argv", argv)
                found = own_rank()
                assert (None if found is None else found.rank) == rank
                attributes = RankResourceDetector().detect().attributes
                assert attributes.get("torch.distributed.rank") == rank
                is_launcher = "spawn" not in argv[-1]
                assert local_files.process_label() == ("rank1" if rank else "launcher" if is_launcher else "proc")


def test_the_groups_word_goes_before_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    from otel_netmon.job import roles

    monkeypatch.setattr(sys, "orig_argv", ["python", "train.py"])
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(roles, "_joined", [])
    roles.joined(RankIdentity(5, None, 8))
    assert roles.own_rank() == RankIdentity(5, None, 8)
    roles.joined(RankIdentity(None))  # in a group, and of no rank
    assert roles.own_rank() is None
