"""`run` stands between a command and its caller without being noticed. All with real processes."""

from __future__ import annotations

import os
import pty
import random
import select
import shlex
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.unit.cli.conftest import BARE_PYTHON, OTEL_NETMON, Cli

TIMEOUT = 60

# Tells how often each signal arrived. The wakeup fd counts what a handler would merge.
COUNTING = textwrap.dedent(
    """
    import os, select, signal, sys
    name, end = sys.argv[1], float(sys.argv[2])
    r, w = os.pipe()
    os.set_blocking(w, False)
    signal.set_wakeup_fd(w)
    signal.signal(getattr(signal, name), lambda *a: None)
    print("ready", flush=True)
    count, wait = 0, 30.0
    while select.select([r], [], [], wait)[0]:
        count += len(os.read(r, 100))
        wait = end
    print(name, count, flush=True)
    sys.exit(40 + count)
    """
)


@pytest.mark.parametrize(
    ("command", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9), ("kill -PIPE $$", -13)]
)
def test_the_end_of_the_command_is_ours(command: str, code: int, cli: Cli) -> None:
    process = cli("run", "--", "sh", "-c", command)
    process.communicate(timeout=TIMEOUT)
    assert process.returncode == code


def test_a_crash_is_not_dumped_a_second_time(tmp_path: Path, environment: dict[str, str]) -> None:
    ours = shlex.join([*OTEL_NETMON, "run", "sh", "-c", "ulimit -c 0; kill -SEGV $$"])
    script = f"cd {shlex.quote(str(tmp_path))}; ulimit -c $(ulimit -H -c); exec {ours} 2>/dev/null"
    _, status = os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", script], environment), 0)
    assert os.WTERMSIG(status) == signal.SIGSEGV
    assert not os.WCOREDUMP(status)


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [
        ("no-such-command", 127, "no-such-command: command not found"),
        ("./plain", 126, "./plain: cannot be executed: Permission denied"),
        ("./nonsense", 126, "./nonsense: cannot be executed: Exec format error"),
    ],
)
def test_a_command_that_cannot_start(command: str, code: int, sentence: str, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "plain").write_text("text")
    (tmp_path / "nonsense").write_text("text")
    (tmp_path / "nonsense").chmod(0o700)
    process = cli("run", command)
    out, err = process.communicate(timeout=TIMEOUT)
    how_to_watch, why = err.decode().splitlines()
    assert "otel-netmon live " in how_to_watch
    assert (process.returncode, out, why) == (code, b"", f"otel-netmon: {sentence}")
    assert not (tmp_path / "otel-netmon-runs").exists()


def test_streams_are_the_commands_own(cli: Cli) -> None:
    data = random.Random(1).randbytes(1 << 20)
    process = cli("run", "sh", "-c", "cat; echo to-stderr >&2")
    out, err = process.communicate(data, timeout=TIMEOUT)
    assert out == data
    how_to_watch, *rest = err.splitlines()
    assert how_to_watch.startswith(b"otel-netmon: to watch it, in another terminal: otel-netmon live /")
    assert rest[0] == b"to-stderr"


def test_arguments_after_the_command_are_its_own(cli: Cli) -> None:
    for words in (["run", "echo", "--output", "-h", "--"], ["run", "--", "echo", "--output", "-h", "--"]):
        out, _ = cli(*words).communicate(timeout=TIMEOUT)
        assert out == b"--output -h --\n"


def test_a_bad_variable_stops_it_before_the_command(tmp_path: Path, cli: Cli) -> None:
    process = cli("run", "touch", "started", OTEL_NETMON_INTERVAL="often", OTEL_NETMON_CAPTUR="off")
    _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 2
    assert "OTEL_NETMON_INTERVAL='often' is not a number from 0.1 to 3600" in err.decode()
    assert "did you mean OTEL_NETMON_CAPTURE?" in err.decode()
    assert not (tmp_path / "started").exists()


def test_an_unknown_variable_is_reported_and_no_more(cli: Cli) -> None:
    out, err = cli("run", "echo", "started", OTEL_NETMON_CAPTUR="off").communicate(timeout=TIMEOUT)
    assert out == b"started\n"
    assert "did you mean OTEL_NETMON_CAPTURE?" in err.decode()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH"])
def test_a_signal_to_us_alone_is_passed_on(name: str, cli: Cli) -> None:
    process = cli("run", *BARE_PYTHON, COUNTING, name, "0.1")
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(getattr(signal, name))
    out, _ = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, out) == (41, f"{name} 1\n".encode())


def start_on_a_terminal(
    command: list[str], folder: Path, environ: dict[str, str]
) -> tuple[subprocess.Popen[bytes], int]:
    """``command`` as the leader of a session whose terminal is a new pty; that pty's other end."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*BARE_PYTHON, _LEADER, *command],
        cwd=folder,
        env=environ,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    return process, master


_LEADER = textwrap.dedent(
    """
    import fcntl, os, sys, termios
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.execvp(sys.argv[1], sys.argv[1:])
    """
)


def read_until(master: int, text: bytes) -> bytes:
    """What the terminal shows, up to ``text``; fails when its programs end before."""
    seen = b""
    while text not in seen:
        assert select.select([master], [], [], TIMEOUT)[0], seen
        seen += os.read(master, 4096)  # OSError when the other end has closed
    return seen


def test_ctrl_c_reaches_the_command_once(tmp_path: Path, environment: dict[str, str]) -> None:
    command = [*OTEL_NETMON, "run", "--", *BARE_PYTHON, COUNTING, "SIGINT", "1.0"]
    process, master = start_on_a_terminal(command, tmp_path, environment)
    try:
        read_until(master, b"ready")
        os.write(master, b"\x03")
        read_until(master, b"SIGINT 1\r\n")
        assert process.wait(TIMEOUT) == 41
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_a_terminal_that_hangs_up_reaches_the_command(tmp_path: Path, environment: dict[str, str]) -> None:
    # We are the session's leader here, and the kernel tells only that one.
    code = COUNTING.replace("print(name, count, flush=True)", "open('hung-up', 'w').write(str(count))")
    process, master = start_on_a_terminal(
        [*OTEL_NETMON, "run", *BARE_PYTHON, code, "SIGHUP", "0.1"], tmp_path, environment
    )
    try:
        read_until(master, b"ready")
        os.close(master)
        process.wait(TIMEOUT)
        assert (tmp_path / "hung-up").read_text() == "1"
    finally:
        process.kill()
        process.wait()


_SHELL = textwrap.dedent(
    """
    # What a shell with job control does: a job of its own in the foreground; told when it stops; then `fg`.
    import os, signal, sys
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    job = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, setpgroup=0, setsigdef=[signal.SIGTTOU])
    os.tcsetpgrp(0, job)
    for turn in (1, 2):
        _, status = os.waitpid(job, os.WUNTRACED)
        print("stopped", os.WIFSTOPPED(status) and os.WSTOPSIG(status), flush=True)
        os.killpg(job, signal.SIGCONT)
    _, status = os.waitpid(job, os.WUNTRACED)
    print("ended", os.waitstatus_to_exitcode(status), flush=True)
    """
)


def test_ctrl_z_stops_the_job_and_fg_continues_it(tmp_path: Path, environment: dict[str, str]) -> None:
    command = [
        *BARE_PYTHON,
        _SHELL,
        *OTEL_NETMON,
        "run",
        "sh",
        "-c",
        "echo ready; read line; echo got $line; read code; exit $code",
    ]
    process, master = start_on_a_terminal(command, tmp_path, environment)
    try:
        read_until(master, b"ready")
        os.write(master, b"\x1a")
        read_until(master, b"stopped 20")
        os.write(master, b"going on\n")
        read_until(master, b"got going on")
        os.write(master, b"\x1a")
        read_until(master, b"stopped 20")
        os.write(master, b"9\n")
        read_until(master, b"ended 9")
        process.wait(TIMEOUT)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_the_command_stays_in_our_group_and_session(cli: Cli) -> None:
    code = "import os; print(os.getppid(), os.getpgid(0), os.getsid(0))"
    process = cli("run", *BARE_PYTHON, code)
    out, _ = process.communicate(timeout=TIMEOUT)
    assert [int(word) for word in out.split()] == [process.pid, os.getpgid(0), os.getsid(0)]


def test_python_is_found_as_before(cli: Cli, environment: dict[str, str]) -> None:
    code = "import os, sys; print(os.environ['PYTHONPATH']); print(os.getcwd() in sys.path[1:])"
    out, _ = cli("run", sys.executable, "-c", code).communicate(timeout=TIMEOUT)
    paths, cwd_added = out.decode().splitlines()
    first, _, rest = paths.partition(os.pathsep)
    assert (Path(first) / "sitecustomize.py").is_file()
    assert (rest, cwd_added) == (environment["PYTHONPATH"], "False")


@pytest.mark.row("standard streams that are closed, full, or without a reader")
@pytest.mark.parametrize(
    "closed", ["2>&-", ">&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full", ">/dev/full 2>&1"]
)
def test_whatever_its_standard_streams_are_the_command_runs(
    closed: str, tmp_path: Path, environment: dict[str, str]
) -> None:
    # The command finds them as it would without us: what is closed is closed.
    command = (
        "import os; there = [os.path.exists(f'/proc/self/fd/{n}') for n in range(3)];"
        "open('ran', 'w').write(str(there)); os._exit(7)"
    )
    found = []
    for ours in ((), (*OTEL_NETMON, "run", "--output", "out", "--")):
        script = shlex.join([*ours, *BARE_PYTHON, command])
        done = subprocess.run(
            ["sh", "-c", f"exec {script} {closed}"], cwd=tmp_path, env=environment, timeout=TIMEOUT
        )
        assert done.returncode == 7
        found.append((tmp_path / "ran").read_text())
    assert found[0] == found[1]


def test_what_is_meant_for_a_closed_stderr_is_not_on_stdout(tmp_path: Path, environment: dict[str, str]) -> None:
    script = shlex.join([*OTEL_NETMON, "run", "--output", "out", "--", "echo", "mine"])
    done = subprocess.run(
        ["sh", "-c", f"exec {script} 2>&-"], cwd=tmp_path, env=environment, timeout=TIMEOUT, capture_output=True
    )
    assert done.stdout == b"mine\n"


def test_a_reader_that_is_gone_does_not_change_the_exit_code(cli: Cli) -> None:
    with cli("run", "--", "sh", "-c", "sleep 0.3; exit 6", OTEL_NETMON_HOST_OWNE="typo") as process:
        assert process.stderr is not None
        process.stderr.close()
        assert process.wait(TIMEOUT) == 6


HELD = """
import os
from opentelemetry import trace
trace.get_tracer("t").start_span("span").end()
trace.get_tracer_provider().force_flush()
for number in (0, 1, 2):
    try:
        os.write(number, b"what a C library prints")
    except OSError:
        pass
trace.get_tracer("t").start_span("span").end()
"""


@pytest.mark.row("standard streams that are closed, full, or without a reader")
def test_what_is_printed_to_a_closed_stream_is_not_in_our_files(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    script = shlex.join([*OTEL_NETMON, "run", "--output", "out", "--", sys.executable, "-c", HELD])
    done = subprocess.run(
        ["sh", "-c", f"exec {script} <&- >&- 2>&-"],
        cwd=tmp_path,
        env={**environment, "OTEL_NETMON_HOST_MONITORS": "off"},
        timeout=TIMEOUT,
    )
    assert done.returncode == 0
    written = "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    assert written.count('"name":"span"') + written.count('"name": "span"') == 2
    assert "C library" not in written
