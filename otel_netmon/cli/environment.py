"""What `otel-netmon run` puts into a command's environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Final

from otel_netmon import config
from otel_netmon.sdk import otlp
from otel_netmon.sdk.values import SIGNALS, is_installed
from otel_netmon.text import bounded, listed

FILE_EXPORTER: Final = "otel_netmon_file"
OTLP_EXPORTER: Final = "otel_netmon_otlp"
"""The official OTLP exporter with a spool; used where the user set an endpoint and no exporter."""
SITE: Final = str(Path(__file__).with_name("site"))
"""The folder whose ``sitecustomize`` instruments a Python that finds it first."""

# A burst of collectives is emitted at once; the SDK's 2,048 would drop its oldest spans. Twice our own ring.
_QUEUE_SIZE: Final = "32768"
_SPAN_INTERVAL: Final = "500"
"""Milliseconds between two batches of spans: a process that is killed loses no more than about a second."""
_SPAN_INTERVAL_OF_FILES: Final = "1000"
"""Ours are written as soon as they are made; this is for the user's own."""
_METRIC_INTERVAL: Final = "5000"


def can_instrument() -> bool:
    """Whether OpenTelemetry's auto-instrumentation is installed, which ``sitecustomize`` starts."""
    return is_installed("opentelemetry.instrumentation.auto_instrumentation")


def choose_exporters(environ: Mapping[str, str], *, to_files: bool) -> dict[str, str]:
    """The values of ``OTEL_*_EXPORTER``: what the user chose, or an OTLP endpoint's; files where there is neither,
    or besides."""
    variables: dict[str, str] = {}
    for signal in SIGNALS:
        variable = f"OTEL_{signal.upper()}_EXPORTER"
        chosen = [*listed(environ.get(variable, ""))]
        if not chosen and otlp.endpoint(environ, signal)[0]:
            chosen = [OTLP_EXPORTER]
        if chosen == ["none"] and to_files:
            chosen = []
        if signal == "logs" and not chosen and not write_files(variables):
            chosen = ["none"]  # a few events alone are no reason for a folder
        if not chosen or (to_files and FILE_EXPORTER not in chosen):
            chosen.append(FILE_EXPORTER)
        variables[variable] = ",".join(chosen)
    return variables


def write_files(exporters: Mapping[str, str]) -> bool:
    """Whether any of them does."""
    return any(FILE_EXPORTER in value.split(",") for value in exporters.values())


def child_environment(
    environ: Mapping[str, str], command: Sequence[str], exporters: Mapping[str, str], folder: Path | None
) -> dict[str, str]:
    """``environ`` with what makes Python instrument itself; a variable that the user set is kept."""
    child = {**environ, **exporters}
    paths = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path != SITE]
    child["PYTHONPATH"] = os.pathsep.join([SITE, *paths]) if any(paths) else SITE
    defaults = {
        "OTEL_BSP_MAX_QUEUE_SIZE": _QUEUE_SIZE,
        "OTEL_BSP_SCHEDULE_DELAY": _SPAN_INTERVAL,
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "otel,otel_netmon",
    }
    if exporters["OTEL_TRACES_EXPORTER"] == FILE_EXPORTER:
        defaults["OTEL_BSP_SCHEDULE_DELAY"] = _SPAN_INTERVAL_OF_FILES
    if exporters["OTEL_METRICS_EXPORTER"] == FILE_EXPORTER:
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
