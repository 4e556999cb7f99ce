"""``otel-netmon run``: a command's environment, its run, its summary."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_netmon import config
from otel_netmon.cli.endings import Endings
from otel_netmon.cli.environment import (
    FILE_EXPORTER,
    can_instrument,
    child_environment,
    choose_exporters,
    write_files,
)
from otel_netmon.cli.port import at_odds
from otel_netmon.cli.process import end_like, run_and_wait
from otel_netmon.guard import guarded
from otel_netmon.sdk.check import check, silenced
from otel_netmon.store.problems import FolderError
from otel_netmon.streams import say

if TYPE_CHECKING:
    from otel_netmon.analysis.details import Details
    from otel_netmon.analysis.results import Summary

RUNS: Final = Path("otel-netmon-runs")
_NOTHING: Final = (
    "it ran no Python that has otel-netmon and reads PYTHONPATH (not with -I, -E or -S), or all were killed early"
)


def run(command: Sequence[str], output: Path | None) -> int:
    """Run ``command`` instrumented and sum it up on stderr; the exit code (see ``process.end_like``)."""
    if not _can_start():
        return 2
    if output is None and os.environ.get(config.OUTPUT_DIR, "").strip():
        output = Path(os.environ[config.OUTPUT_DIR].strip())
    environ, wrong = check(os.environ, instead=FILE_EXPORTER)
    exporters = choose_exporters(environ, to_files=output is not None)
    folder = None
    if write_files(exporters):
        try:
            folder = _make_folder(output)
        except OSError as error:
            say(f"the folder for telemetry cannot be created: {error}; choose another with --output DIR")
            return 2
    before = frozenset(path.name for path in folder.iterdir() if path.suffix != ".html") if folder else frozenset()
    child = child_environment(environ, command, exporters, folder)
    reasons = [*(problem.sentence for problem in silenced(child)), *at_odds(child, exporters)]
    for sentence in (*(problem.sentence for problem in wrong), *reasons):
        say(sentence)
    if folder is not None and any(problem.lost for problem in wrong):
        say(f"telemetry that cannot be exported is written to {folder} instead")
    endings = Endings(child, folder if FILE_EXPORTER in exporters["OTEL_LOGS_EXPORTER"] else None)
    try:
        pid, code = run_and_wait(command, child)
    except (OSError, ValueError) as error:  # ValueError: a null character in an argument
        endings.close()
        if folder is not None and output is None:
            _remove_empty(folder)
        return _not_started(command[0], error)
    guarded(endings.write, command, pid, code)
    if folder is not None:
        _summarise(folder, before, reasons, fresh=output is None)
    elif reasons:
        say(f"some or all telemetry was not exported: {'; '.join(reasons)}")
    else:
        say("telemetry was exported as the OTEL_* variables say; add --output DIR to get a summary here")
    return end_like(code)


def _can_start() -> bool:
    _, problems = config.load(os.environ)
    if not can_instrument():
        problems += ("opentelemetry-instrumentation is not installed: pip install otel-netmon",)
    for sentence in (*problems, *config.unknown(os.environ)):
        say(sentence)
    return not problems


def _make_folder(output: Path | None) -> Path:
    if output is None:
        RUNS.mkdir(mode=0o700, exist_ok=True)
        output = RUNS / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}"
    folder = output.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _remove_empty(folder: Path) -> None:
    for path in (folder, folder.parent):
        with suppress(OSError):  # not empty
            path.rmdir()


def _not_started(program: str, error: OSError | ValueError) -> int:
    if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR):
        say(f"{program}: command not found")
        return 127
    say(f"{program}: cannot be executed: {getattr(error, 'strerror', None) or error}")
    return 126


def _summarise(folder: Path, before: frozenset[str], reasons: Sequence[str], *, fresh: bool) -> None:
    """Sum up ``folder``, whatever comes of it: the command's exit code stands."""
    try:
        from otel_netmon.analysis.summary import examine
        from otel_netmon.cli.summary import print_summary, reading

        with reading() as progress:
            summary, details = examine(folder, exclude=before, progress=progress)
        print_summary(summary, sys.stderr)
        if before:
            say(f"{folder} already held {len(before)} files; they are not in this summary")
        _report(summary, details, folder)
    except FolderError:
        if fresh:
            _remove_empty(folder)
        say(f"the command left no telemetry: {'; '.join(reasons) or _NOTHING}")
    except KeyboardInterrupt:
        say(f"summary interrupted; `otel-netmon summary {folder}` prints it")
    except Exception as error:  # noqa: BLE001 - see above
        say(f"no summary: {type(error).__name__}: {error}")


def _report(summary: Summary, details: Details, folder: Path) -> None:
    """Write the page beside the files; what hinders it is said in one line."""
    try:
        from otel_netmon.cli.report import write

        say(f"report: {write(summary, details, folder)}")
    except Exception as error:  # noqa: BLE001 - the summary and the exit code stand
        say(f"no report: {type(error).__name__}: {error}")
