"""What `otel-netmon run` puts into a command's environment."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Final

from otel_netmon import config
from otel_netmon.sdk import otlp
from otel_netmon.sdk.values import SIGNALS
from otel_netmon.text import bounded

FILE_EXPORTER: Final = "otel_netmon_file"
OTLP_EXPORTER: Final = "otel_netmon_otlp"
"""The official OTLP exporter with a spool; used where the user set an endpoint and no exporter."""
SITE: Final = str(Path(__file__).with_name("site"))
"""The folder whose ``sitecustomize`` instruments a Python that finds it first."""

# A burst of collectives is emitted at once; the SDK's 2,048 would drop its oldest spans. Twice our own ring.
_QUEUE_SIZE: Final = "32768"
_SPAN_INTERVAL: Final = "500"
"""Milliseconds between two batches of spans: a process that is killed loses no more than about a second."""
_SPAN_INTERVAL_OF_FILES: Final = "250"
"""A file costs nothing per batch, and fewer spans that wait are fewer objects for Python's garbage collector."""
_METRIC_INTERVAL: Final = "5000"


@dataclass(frozen=True)
class Exporters:
    """Which exporters each signal has, as values of ``OTEL_*_EXPORTER``, and whether any writes files."""

    variables: dict[str, str]
    files: bool


def can_instrument() -> bool:
    """Whether OpenTelemetry's auto-instrumentation is installed, which ``sitecustomize`` starts."""
    try:
        return importlib.util.find_spec("opentelemetry.instrumentation.auto_instrumentation") is not None
    except ModuleNotFoundError:
        return False


def choose_exporters(environ: Mapping[str, str], *, to_files: bool) -> Exporters:
    """The user's exporter for each signal, or an OTLP endpoint's; files where there is neither, or besides."""
    variables: dict[str, str] = {}
    for signal in SIGNALS:
        variable = f"OTEL_{signal.upper()}_EXPORTER"
        chosen = [part.strip() for part in environ.get(variable, "").split(",") if part.strip()]
        if not chosen and otlp.endpoint(environ, signal)[0]:
            chosen = [OTLP_EXPORTER]
        if chosen == ["none"] and to_files:
            chosen = []
        if signal == "logs" and not chosen and not any(FILE_EXPORTER in each for each in variables.values()):
            chosen = ["none"]  # a few events alone are no reason for a folder
        if not chosen or (to_files and FILE_EXPORTER not in chosen):
            chosen.append(FILE_EXPORTER)
        variables[variable] = ",".join(chosen)
    files = any(FILE_EXPORTER in value.split(",") for value in variables.values())
    return Exporters(variables, files)


def child_environment(
    environ: Mapping[str, str],
    command: Sequence[str],
    exporters: Exporters,
    folder: Path | None,
) -> dict[str, str]:
    """``environ`` with what makes Python instrument itself; a variable that the user set is kept."""
    child = {**environ, **exporters.variables}
    paths = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path != SITE]
    child["PYTHONPATH"] = os.pathsep.join([SITE, *paths]) if any(paths) else SITE
    defaults = {
        "OTEL_BSP_MAX_QUEUE_SIZE": _QUEUE_SIZE,
        "OTEL_BSP_SCHEDULE_DELAY": _SPAN_INTERVAL,
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "otel,otel_netmon",
    }
    if exporters.variables["OTEL_TRACES_EXPORTER"] == FILE_EXPORTER:
        defaults["OTEL_BSP_SCHEDULE_DELAY"] = _SPAN_INTERVAL_OF_FILES
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
