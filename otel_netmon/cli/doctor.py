"""``otel-netmon doctor``: what this machine and this environment can see, one line each."""

from __future__ import annotations

import os
import platform
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from otel_netmon import config
from otel_netmon.cli.run import (
    FILE_EXPORTER,
    OTLP_EXPORTER,
    RUNS,
    SIGNALS,
    auto_instrumentation_folder,
    choose_exporters,
)
from otel_netmon.version import __version__

CONNECT_SECONDS: Final = 1.0

_Check = Callable[[Mapping[str, str]], "Iterator[Finding]"]

_SECRET: Final = re.compile(r"HEADER|CERT|KEY|SECRET|TOKEN|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)
_URL_USER: Final = re.compile(r"(?<=//)[^/@\s]*@")
_URL_QUERY: Final = re.compile(r"[?#]\S*")
_OLDEST_INHERITING: Final = (0, 63)
_OLDEST_TORCH: Final = (2, 13)
_FIRST_HOOKS: Final = (2, 14)
_ENTRY_POINTS: Final = (
    ("opentelemetry_instrumentor", "netmon"),
    ("opentelemetry_instrumentor", "torch_distributed"),
    ("opentelemetry_pre_instrument", "otel_netmon"),
    ("opentelemetry_traces_exporter", FILE_EXPORTER),
    ("opentelemetry_metrics_exporter", FILE_EXPORTER),
    ("opentelemetry_traces_exporter", OTLP_EXPORTER),
    ("opentelemetry_metrics_exporter", OTLP_EXPORTER),
    ("opentelemetry_resource_detector", "otel_netmon"),
)


@dataclass(frozen=True)
class Finding:
    """One line: a level, what was looked at, what was found, and what to do about it."""

    level: Literal["ok", "note", "FAIL"]
    what: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        line = f"{self.level:<4}  {self.what}: {self.found}" + (f"; {self.remedy}" if self.remedy else "")
        return "".join(c if c.isprintable() else "?" for c in line)


def doctor() -> int:
    """Print the findings to stdout; 0 unless one is a FAIL. Takes 1 s for each endpoint that does not answer."""
    failed = False
    for finding in findings(os.environ):
        failed = failed or finding.level == "FAIL"
        encoding = sys.stdout.encoding or "ascii"
        print(str(finding).encode(encoding, "replace").decode(encoding), flush=True)
    return 1 if failed else 0


def findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """All of them, in order. A check that breaks is a finding of its own and stops no other."""
    for check in _CHECKS:
        yield from _guarded(check, environ)


def _guarded(check: _Check, environ: Mapping[str, str]) -> Iterator[Finding]:
    try:
        yield from check(environ)
    except Exception as error:  # noqa: BLE001 - a diagnosis must not die of what it looks at
        yield Finding("FAIL", check.__name__.strip("_"), f"the check broke: {type(error).__name__}: {error}")


def _versions(_: Mapping[str, str]) -> Iterator[Finding]:
    yield Finding("ok", "versions", f"otel-netmon {__version__}, Python {platform.python_version()}")
    for name in ("opentelemetry-sdk", "opentelemetry-exporter-otlp"):
        found = _version(name)
        if found is None:
            yield Finding("FAIL", name, "not installed", "pip install otel-netmon brings it")
        else:
            yield Finding("ok", name, found)


def _instrumentation(_: Mapping[str, str]) -> Iterator[Finding]:
    what = "opentelemetry-instrumentation"
    found = _version(what)
    if found is None or auto_instrumentation_folder() is None:
        yield Finding("FAIL", what, "not installed", "pip install otel-netmon brings it")
    elif _numbers(found) < _OLDEST_INHERITING:
        yield Finding("FAIL", what, f"{found}: ranks do not inherit it", "pip install -U " + what)
    else:
        yield Finding("ok", what, f"{found}: torchrun's ranks inherit it")
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
    found = _version("torch")  # its metadata: an import would take seconds
    if found is None:
        yield Finding("note", "torch", "not installed: only the host monitors run", "pip install torch")
        return
    if _numbers(found) < _OLDEST_TORCH:
        yield Finding("note", "torch", f"{found}: older than any that was tested", "use torch >= 2.13")
    seam = "collectives are captured in torch's dispatcher"
    if _numbers(found) >= _FIRST_HOOKS:
        seam += ", not yet by its process-group hooks"
    if config.load(environ)[0].capture == "off":
        seam = f"collectives are not captured: {config.PREFIX}CAPTURE is off"
    yield Finding("ok", "torch", f"{found}: {seam}")


def _destination(environ: Mapping[str, str]) -> Iterator[Finding]:
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        yield Finding("FAIL", "destination", "OTEL_SDK_DISABLED is true: nothing is recorded", "unset it")
        return
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", *(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT" for signal in SIGNALS)):
        if endpoint := environ.get(name, "").strip():
            yield _reachable(name, endpoint)
    if choose_exporters(environ, to_files=False).files:
        yield _writable(environ)


def _reachable(name: str, endpoint: str) -> Finding:
    shown = _without_secrets(endpoint)
    try:
        parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
        host = parts.hostname
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 4317)
    except ValueError:
        host, port = None, 0
    if not host:
        return Finding("FAIL", name, f"{shown} is not an address", "give http://HOST:4317 or http://HOST:4318")
    try:
        with socket.create_connection((host, port), CONNECT_SECONDS):
            return Finding("ok", name, f"{shown} accepts connections")
    except OSError as error:
        found = f"{shown} cannot be reached: {error.strerror or error}"
        return Finding("FAIL", name, found, "start the collector, or unset it to write files")


def _writable(environ: Mapping[str, str]) -> Finding:
    folder = Path(environ.get(config.OUTPUT_DIR, "").strip() or RUNS).absolute()
    place = next(path for path in (folder, *folder.parents) if path.exists())
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        return Finding("ok", "files", f"without an OTLP endpoint, `otel-netmon run` writes to {folder}")
    return Finding(
        "FAIL", "files", f"{place} is not writable", "use --output DIR, or set OTEL_EXPORTER_OTLP_ENDPOINT"
    )


def _nics(environ: Mapping[str, str]) -> Iterator[Finding]:
    from otel_netmon.monitors.nics import choose_interfaces

    settings = config.load(environ)[0]
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


def _rdma(environ: Mapping[str, str]) -> Iterator[Finding]:
    folder = config.load(environ)[0].sys_root / "class" / "infiniband"
    try:
        devices = sorted(path.name for path in folder.iterdir())
    except OSError:
        devices = []
    if devices:
        yield Finding("note", "RDMA", f"{', '.join(devices)}: their ports are not watched yet")
    else:
        yield Finding("ok", "RDMA", f"no device in {folder}")


def _variables(environ: Mapping[str, str]) -> Iterator[Finding]:
    _, problems = config.load(environ)
    for problem in problems:
        yield Finding("FAIL", "variable", problem, "correct or unset it")
    for stranger in config.unknown(environ):
        yield Finding("note", "variable", stranger, "it is ignored")
    targets = config.load(environ)[0].latency_targets
    if targets:
        yield Finding("ok", "latency targets", ", ".join(targets))
    else:
        yield Finding(
            "ok", "latency targets", f"none: {config.PREFIX}LATENCY_TARGETS is not set, nothing is probed"
        )
    for name in sorted(environ):
        if name.startswith("OTEL_") and environ[name].strip():
            value = "(set, not shown)" if _SECRET.search(name + environ[name]) else _without_secrets(environ[name])
            yield Finding("ok", name, value[:200])


def _without_secrets(text: str) -> str:
    """A URL's user and query hidden; the rest of ``text`` as it is."""
    text = _URL_USER.sub("***@", text)
    return _URL_QUERY.sub("?***", text) if "://" in text else text


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", version)[:2])


_CHECKS: Final[tuple[_Check, ...]] = (
    _versions,
    _instrumentation,
    _torch,
    _destination,
    _nics,
    _rdma,
    _variables,
)
