"""``otel-netmon doctor``: what this machine and this environment can see, one line each."""

from __future__ import annotations

import logging
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Final

from otel_netmon import config
from otel_netmon.cli.environment import FILE_EXPORTER, OTLP_EXPORTER, can_instrument, choose_exporters, write_files
from otel_netmon.cli.probe import Finding, answers, as_environment
from otel_netmon.cli.run import RUNS
from otel_netmon.monitors import registry
from otel_netmon.monitors.nics import choose_interfaces
from otel_netmon.monitors.rdma import RdmaMonitor
from otel_netmon.monitors.registry import monitors_for
from otel_netmon.sdk.check import check, silenced
from otel_netmon.sdk.values import SIGNALS
from otel_netmon.text import is_secret, without_secrets
from otel_netmon.version import __version__

_OLDEST_TORCH: Final = (2, 13)
_NEEDED: Final = ("opentelemetry-sdk", "opentelemetry-exporter-otlp", "opentelemetry-instrumentation")
_ENTRY_POINTS: Final = (
    ("opentelemetry_instrumentor", "netmon"),
    ("opentelemetry_instrumentor", "torch_distributed"),
    ("opentelemetry_pre_instrument", "otel_netmon"),
    *((f"opentelemetry_{signal}_exporter", name) for signal in SIGNALS for name in (FILE_EXPORTER, OTLP_EXPORTER)),
    ("opentelemetry_resource_detector", "otel_netmon"),
)


def doctor() -> int:
    """Print the findings to stdout; 0 unless one is a FAIL. Takes 3 s for each endpoint that does not answer."""
    failed = False
    for finding in findings(os.environ):
        failed = failed or finding.level == "FAIL"
        encoding = sys.stdout.encoding or "ascii"
        print(str(finding).encode(encoding, "replace").decode(encoding), flush=True)
    return 1 if failed else 0


def findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """All of them, in order. A check that breaks is a finding of its own and stops no other."""
    seen = set()
    for look in _CHECKS:
        for finding in _guarded(look, environ):
            seen.add(finding.what)
            yield finding
    for name in sorted(environ):
        if name.startswith("OTEL_") and environ[name].strip() and name not in seen:
            hidden = is_secret(name) or is_secret(environ[name])
            yield Finding("ok", name, "(set, not shown)" if hidden else without_secrets(environ[name])[:200])


def _guarded(
    look: Callable[[Mapping[str, str]], Iterator[Finding]], environ: Mapping[str, str]
) -> Iterator[Finding]:
    try:
        yield from look(environ)
    except Exception as error:  # noqa: BLE001 - a diagnosis must not die of what it looks at
        yield Finding("FAIL", look.__name__.strip("_"), f"the check broke: {type(error).__name__}: {error}")


def _versions(_: Mapping[str, str]) -> Iterator[Finding]:
    yield Finding("ok", "versions", f"otel-netmon {__version__}, Python {platform.python_version()}")
    for name in _NEEDED:
        found = _version(name)
        if found is None or (name == "opentelemetry-instrumentation" and not can_instrument()):
            yield Finding("FAIL", name, "not installed", "pip install otel-netmon installs it")
        else:
            yield Finding("ok", name, found)
    missing = [
        f"{group}: {name}"
        for group, name in _ENTRY_POINTS
        if not tuple(metadata.entry_points(group=group, name=name))
    ]
    if missing:
        yield Finding("FAIL", "entry points", "not found: " + ", ".join(missing), "pip install otel-netmon")
    else:
        yield Finding("ok", "entry points", f"all {len(_ENTRY_POINTS)} are installed")


def _torch(environ: Mapping[str, str]) -> Iterator[Finding]:
    found = _version("torch")
    if found is None:
        yield Finding("note", "torch", "not installed: only the host monitors run", "pip install torch")
        return
    if tuple(int(part) for part in re.findall(r"[0-9]+", found)[:2]) < _OLDEST_TORCH:
        yield Finding("note", "torch", f"{found}: older than any that was tested", "use torch >= 2.13")
    capture = config.load(environ)[0].capture
    if capture == "off":
        yield Finding("ok", "torch", f"{found}: collectives are not captured: {config.PREFIX}CAPTURE is off")
        return
    try:
        backend = _backend(capture)
    except (ImportError, OSError) as error:  # OSError: a library of CUDA is missing
        yield Finding(
            "note", "torch", f"{found}: it cannot be imported: {error}", "repair the installation of torch"
        )
        return
    yield Finding("ok", "torch", f"{found}: collectives are captured {_BACKENDS.get(backend, f'by {backend}')}")
    if backend == "HooksBackend" and capture != "hooks":
        yield Finding(
            "note",
            "native capture",
            "not built: collectives are recorded in Python, at ten times the cost per call",
            "run `otel-netmon build`; in a Dockerfile: RUN otel-netmon build",
        )


def _backend(capture: str) -> str:
    """The class of what captures here, chosen as in a rank. Imports torch, which takes seconds."""
    import torch.distributed

    from otel_netmon.capture.capture import choose

    if not torch.distributed.is_available():
        raise ImportError("it was built without torch.distributed")
    return choose(capture)[0].__name__


_BACKENDS: Final = {
    "NativeBackend": "by native hooks on its process groups",
    "HooksBackend": "by hooks on its process groups",
    "DispatcherBackend": "in its dispatcher",
    "FlightRecorderBackend": "by reading its Flight Recorder",
}


def _destination(environ: Mapping[str, str]) -> Iterator[Finding]:
    _, problems = config.load(environ)
    for sentence in problems:
        yield Finding("FAIL", "variable", sentence, "correct or unset it")
    for stranger in config.unknown(environ):
        yield Finding("note", "variable", stranger, "it is ignored")
    checked, wrong = check(environ, instead=FILE_EXPORTER)
    exporters = choose_exporters(checked, to_files=False)
    silent = silenced({**checked, **exporters})
    for problem in (*wrong, *silent):
        yield Finding("FAIL" if problem.lost else "note", problem.variable, problem.what.removeprefix("="))
    if write_files(exporters):
        yield _writable(environ)
    if not any(problem.lost for problem in silent):
        replaced = {problem.variable for problem in wrong}
        yield from answers(checked, exporters, replaced)


def _writable(environ: Mapping[str, str]) -> Finding:
    folder = Path(environ.get(config.OUTPUT_DIR, "").strip() or RUNS).absolute()
    place = next(path for path in (folder, *folder.parents) if path.exists())
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return Finding("ok", "files", f"without an OTLP endpoint, `otel-netmon run` writes to {folder}")
    return Finding(
        "FAIL", "files", f"{place} is not writable", "use --output DIR, or set OTEL_EXPORTER_OTLP_ENDPOINT"
    )


def _monitors(environ: Mapping[str, str]) -> Iterator[Finding]:
    settings = config.load(environ)[0]
    warnings: list[str] = []
    with as_environment(environ), _heard(warnings):
        chosen = monitors_for(host=settings.host_monitors != "off", rank=True)
    for warning in warnings:
        yield Finding("note", "monitors", warning)
    names = ", ".join(monitor.name for monitor in chosen)
    yield Finding("ok", "monitors", names or f"none: {config.PREFIX}MONITORS leaves all out")
    yield from _nics(settings)
    yield from _rdma(settings, watched=any(isinstance(monitor, RdmaMonitor) for monitor in chosen))
    if settings.latency_targets:
        yield Finding("ok", "latency targets", ", ".join(settings.latency_targets))
    else:
        targets = config.PREFIX + "LATENCY_TARGETS"
        yield Finding("ok", "latency targets", f"none: {targets} is not set, nothing is probed")


@contextmanager
def _heard(lines: list[str]) -> Iterator[None]:
    """What the registry logs meanwhile, instead of on stderr."""
    logger = logging.getLogger(registry.__name__)
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]  # one of ours
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.propagate = propagate
        logger.removeHandler(handler)


def _nics(settings: config.Config) -> Iterator[Finding]:
    variable = config.PREFIX + "INTERFACES"
    try:
        chosen = choose_interfaces(settings.interfaces, proc_root=settings.proc_root, sys_root=settings.sys_root)
    except OSError as error:
        yield Finding("note", "NICs", f"their counters cannot be read: {error}", "set the roots of /proc and /sys")
        return
    if chosen:
        yield Finding("ok", "NICs", ", ".join(f"{name} ({reason})" for name, reason in chosen))
    else:
        why = f"none matches {variable}" if settings.interfaces else "no physical or bonded NIC is up"
        yield Finding("note", "NICs", f"none chosen: {why}", f"name some in {variable}")


def _rdma(settings: config.Config, *, watched: bool) -> Iterator[Finding]:
    monitor = RdmaMonitor(sys_root=settings.sys_root)
    monitor.sample()
    ports = ", ".join(f"{port} ({stats.state or 'state unknown'})" for port, stats in monitor.latest.items())
    if not ports:
        yield Finding("ok", "RDMA", f"no device in {settings.sys_root / 'class' / 'infiniband'}")
    elif watched:
        yield Finding("ok", "RDMA", f"the monitor rdma watches {ports}")
    else:
        yield Finding("note", "RDMA", f"the monitor rdma is left out, so nothing watches {ports}")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


_CHECKS: Final = (_versions, _torch, _destination, _monitors)
