"""``otel-netmon run``: a command's environment, its run, its summary."""

from __future__ import annotations

import errno
import importlib.util
import os
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Final

from otel_netmon import config
from otel_netmon.cli.process import end_like, run_and_wait
from otel_netmon.text import bounded

FILE_EXPORTER: Final = "otel_netmon_file"
OTLP_EXPORTER: Final = "otel_netmon_otlp"
"""The official OTLP exporter with a spool; it stands where the user named an endpoint and no exporter."""
RUNS: Final = Path("otel-netmon-runs")
SIGNALS: Final = ("TRACES", "METRICS", "LOGS")

_AUTO_INSTRUMENTATION: Final = "opentelemetry.instrumentation.auto_instrumentation"
# A burst of collectives is emitted at once; the SDK's 2,048 would drop its oldest spans. Twice our own ring.
_QUEUE_SIZE: Final = "32768"
_SPAN_INTERVAL: Final = "500"
"""Milliseconds between two batches of spans: a process that is killed loses no more than about a second."""
_METRIC_INTERVAL: Final = "5000"


@dataclass(frozen=True)
class Exporters:
    """Which exporters each signal has, as ``OTEL_*_EXPORTER`` says it, and whether any writes files."""

    variables: dict[str, str]
    files: bool


def run(command: Sequence[str], output: Path | None) -> int:
    """Run ``command`` instrumented and sum it up on stderr; the exit code (see ``process.end_like``)."""
    _, problems = config.load(os.environ)
    instrumentation = auto_instrumentation_folder()
    if instrumentation is None:
        problems = (*problems, "opentelemetry-instrumentation is not installed; pip install otel-netmon brings it")
    for sentence in (*problems, *config.unknown(os.environ)):
        _say(sentence)
    if problems or instrumentation is None:
        return 2
    if output is None and os.environ.get(config.OUTPUT_DIR, "").strip():
        output = Path(os.environ[config.OUTPUT_DIR].strip())
    exporters = choose_exporters(os.environ, to_files=output is not None)
    folder = None
    if exporters.files:
        try:
            folder = _make_folder(output)
        except OSError as error:
            _say(f"the folder for the telemetry cannot be made: {error}; name another with --output DIR")
            return 2
    before = frozenset(path.name for path in folder.iterdir()) if folder else frozenset()
    environ = child_environment(os.environ, command, instrumentation, exporters, folder)
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        code = run_and_wait(command, environ)
    except (OSError, ValueError) as error:  # ValueError: a null character in an argument
        if folder is not None and output is None:
            _remove_empty(folder)
        return _not_started(command[0], error)
    if folder is None:
        _say("telemetry went where the OTEL_* variables say; with --output DIR it is summed up here as well")
    else:
        try:
            _sum_up(folder, before, fresh=output is None)
        except KeyboardInterrupt:
            _say(f"summary interrupted; `otel-netmon summary {folder}` prints it")
        except Exception as error:  # noqa: BLE001 - whatever fails here, the command's exit code stands
            with suppress(Exception):
                _say(f"no summary: {type(error).__name__}: {error}")
    return end_like(code)


def auto_instrumentation_folder() -> str | None:
    """The folder whose ``sitecustomize`` instruments a Python that finds it first; ``None`` if not installed."""
    try:
        spec = importlib.util.find_spec(_AUTO_INSTRUMENTATION)
    except ModuleNotFoundError:
        return None
    return str(Path(spec.origin).parent) if spec is not None and spec.origin else None


def choose_exporters(environ: Mapping[str, str], *, to_files: bool) -> Exporters:
    """The user's exporter for each signal, or an OTLP endpoint's; files where there is neither, or besides."""
    variables: dict[str, str] = {}
    for name in SIGNALS:
        variable = f"OTEL_{name}_EXPORTER"
        chosen = [part.strip() for part in environ.get(variable, "").split(",") if part.strip()]
        endpoints = (f"OTEL_EXPORTER_OTLP_{name}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
        if not chosen and any(environ.get(endpoint, "").strip() for endpoint in endpoints):
            chosen = [OTLP_EXPORTER]
        if chosen == ["none"] and to_files:
            chosen = []
        if name == "LOGS" and not chosen and not any(FILE_EXPORTER in each for each in variables.values()):
            chosen = ["none"]  # a few events alone are no reason for a folder
        if not chosen or (to_files and FILE_EXPORTER not in chosen):
            chosen.append(FILE_EXPORTER)
        variables[variable] = ",".join(chosen)
    files = any(FILE_EXPORTER in value.split(",") for value in variables.values())
    return Exporters(variables, files)


def child_environment(
    environ: Mapping[str, str],
    command: Sequence[str],
    instrumentation: str,
    exporters: Exporters,
    folder: Path | None,
) -> dict[str, str]:
    """``environ`` with what makes Python instrument itself; a variable that the user set is kept."""
    child = {**environ, **exporters.variables}
    paths = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path != instrumentation]
    child["PYTHONPATH"] = os.pathsep.join([instrumentation, *paths]) if any(paths) else instrumentation
    defaults = {
        "OTEL_BSP_MAX_QUEUE_SIZE": _QUEUE_SIZE,
        "OTEL_BSP_SCHEDULE_DELAY": _SPAN_INTERVAL,
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "otel,otel_netmon",
    }
    if exporters.variables["OTEL_METRICS_EXPORTER"] == FILE_EXPORTER:
        defaults["OTEL_METRIC_EXPORT_INTERVAL"] = _METRIC_INTERVAL
    resource = environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")
    if not any(pair.partition("=")[0].strip() == "service.name" for pair in resource):
        defaults["OTEL_SERVICE_NAME"] = bounded(service_name(command))
    child.update({name: value for name, value in defaults.items() if not environ.get(name, "").strip()})
    if folder is not None:
        child[config.OUTPUT_DIR] = str(folder)
    return child


def service_name(command: Sequence[str]) -> str:
    """What the command runs: its first Python script, else its first ``-m`` module, else the program.

    A launcher is itself started with ``-m``, so its script goes first.
    """
    for word in command:
        if word.endswith(".py") and not word.startswith("-"):
            return PurePath(word).stem
    for flag, module in pairwise(command):
        if flag in ("-m", "--module") and not module.startswith("torch.distributed."):
            return module
    return PurePath(command[0]).name or "unknown"


def _make_folder(output: Path | None) -> Path:
    if output is not None:
        folder = output.absolute()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder
    runs = RUNS.absolute()
    runs.mkdir(mode=0o700, exist_ok=True)
    folder = runs / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    folder.mkdir(mode=0o700)
    return folder


def _remove_empty(folder: Path) -> None:
    for path in (folder, folder.parent):
        with suppress(OSError):  # not empty
            path.rmdir()


def _not_started(program: str, error: OSError | ValueError) -> int:
    if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR):
        _say(f"{program}: command not found")
        return 127
    _say(f"{program}: cannot be executed: {getattr(error, 'strerror', None) or error}")
    return 126


def _sum_up(folder: Path, before: frozenset[str], *, fresh: bool) -> None:
    from otel_netmon.analysis.reader import FolderError
    from otel_netmon.cli.summary import print_summary

    try:
        print_summary(folder, sys.stderr, exclude=before)
    except FolderError:
        if fresh:
            _remove_empty(folder)
        _say("the command left no telemetry: no Python in it had otel-netmon installed, or none got to write")
        return
    if before:
        _say(f"{folder} held {len(before)} files before; they are not in this summary")


def _say(sentence: str) -> None:
    print(f"otel-netmon: {sentence}", file=sys.stderr)
