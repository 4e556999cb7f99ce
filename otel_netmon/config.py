"""Every ``OTEL_NETMON_*`` variable: read, checked and documented here and nowhere else.

In a live job a bad value costs one warning and the default is used; the command line refuses to start with the
same sentence. Values are read once per process, when something of ours first starts.
"""

from __future__ import annotations

import difflib
import functools
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

_logger = logging.getLogger(__name__)

PREFIX: Final = "OTEL_NETMON_"
HOST_OWNER: Final = PREFIX + "HOST_OWNER"
OUTPUT_DIR: Final = PREFIX + "OUTPUT_DIR"


@dataclass(frozen=True)
class _Kind:
    accepted: str
    parse: Callable[[str], Any]


def _number(low: float, high: float, cast: type = float) -> _Kind:
    def parse(text: str) -> Any:
        value = cast(text)
        if not low <= value <= high:  # also refuses NaN
            raise ValueError(text)
        return value

    what = "a whole number" if cast is int else "a number"
    return _Kind(f"{what} from {low:.10g} to {high:.10g}", parse)


def _choice(*names: str) -> _Kind:
    def parse(text: str) -> str:
        if text.lower() not in names:
            raise ValueError(text)
        return text.lower()

    return _Kind("one of " + ", ".join(names), parse)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise ValueError(text)
    return names


def parse_target(text: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port`` as ``(host, port)``; ValueError when it is neither."""
    host, colon, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address needs brackets: [::1]:29500")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not host:port")
    return host, int(port)


def _targets(text: str) -> tuple[str, ...]:
    names = _names(text)
    for name in names:
        parse_target(name)
    return names


def _monitors(text: str) -> tuple[str, ...]:
    names = _names(text.lower())
    if not all(re.fullmatch(r"-?[a-z0-9][a-z0-9_.-]*", name) for name in names):
        raise ValueError(text)
    return names


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


_FLAG = _Kind("true or false", _flag)
_LIST = _Kind("names or globs, separated by commas", _names)
_TEXT = _Kind("any text of 1 to 128 characters", lambda text: text if 0 < len(text) <= 128 else 1 / 0)
_PATH = _Kind("a folder", Path)


def _var(name: str, default: Any, kind: _Kind, doc: str) -> Any:
    return field(default=default, metadata={"var": PREFIX + name, "kind": kind, "doc": doc})


@dataclass(frozen=True)
class Config:
    """All settings; the defaults are those of a job with no ``OTEL_NETMON_*`` variable set."""

    interval: float = _var("INTERVAL", 10.0, _number(0.1, 3600), "Seconds between two samples of a monitor.")
    host_monitors: str = _var(
        "HOST_MONITORS",
        "auto",
        _choice("auto", "on", "off"),
        "Host monitors in this process: auto is once per host (the launcher, else local rank 0).",
    )
    monitors: tuple[str, ...] = _var(
        "MONITORS",
        (),
        _Kind("names of monitors, or all, or -name to leave one out, separated by commas", _monitors),
        "Which monitors run; unset: all that have something to do.",
    )
    interfaces: tuple[str, ...] | None = _var(
        "INTERFACES",
        None,
        _LIST,
        "NICs to watch, as names or globs; unset: physical and bonded NICs that are up.",
    )
    latency_targets: tuple[str, ...] = _var(
        "LATENCY_TARGETS",
        (),
        _Kind("host:port pairs, IPv6 in brackets, separated by commas", _targets),
        "Where TCP connect time is measured; nothing is probed unless it is named here.",
    )
    latency_attempts: int = _var(
        "LATENCY_ATTEMPTS", 3, _number(1, 20, int), "Connection attempts per target and round."
    )
    latency_timeout: float = _var(
        "LATENCY_TIMEOUT", 1.0, _number(0.01, 60), "Seconds after which an attempt counts as lost."
    )
    latency_peers: bool = _var(
        "LATENCY_PEERS",
        False,
        _FLAG,
        "Measure the round-trip time to the job's other hosts too, by ICMP echo or a TCP connect to the store.",
    )
    latency_peers_max: int = _var(
        "LATENCY_PEERS_MAX", 16, _number(1, 1024, int), "Hosts of the job that are probed per round, in turn."
    )
    peer_attribute: str = _var(
        "PEER_ATTRIBUTE",
        "address",
        _choice("address", "host", "none"),
        "What tells the job's hosts apart in metrics of TCP: their address, their host name, or nothing.",
    )
    capture: str = _var(
        "CAPTURE",
        "auto",
        _choice("auto", "hooks", "dispatcher", "flight_recorder", "off"),
        "How collectives are captured; auto takes hooks where torch has them; off captures none.",
    )
    ring_size: int = _var(
        "RING_SIZE",
        16384,
        _number(16, 1 << 20, int),
        "Collectives held until they are emitted; then the oldest go.",
    )
    emit_interval: float = _var(
        "EMIT_INTERVAL", 0.25, _number(0.01, 60), "Seconds between two rounds of the thread that makes spans."
    )
    trace_every: int = _var(
        "TRACE_EVERY",
        1,
        _number(1, 1_000_000_000, int),
        "Spans of every Nth training step only, the same on all ranks; metrics are of all.",
    )
    window: float = _var(
        "WINDOW",
        60.0,
        _number(0, 86400),
        "Seconds after which collectives that no step claims go into traces of that length; 0: never.",
    )
    stall_after: float = _var(
        "STALL_AFTER",
        60.0,
        _number(0, 86400),
        "Seconds in flight after which a collective is said to hang, as a log event; 0: never.",
    )
    run_id: str | None = _var(
        "RUN_ID", None, _TEXT, "The run's id, the same on every rank; unset: rank 0 draws one for all."
    )
    run_id_timeout: float = _var(
        "RUN_ID_TIMEOUT", 30.0, _number(0, 3600), "Seconds to wait for rank 0's run id before going on alone."
    )
    exit_timeout: float = _var(
        "EXIT_TIMEOUT", 5.0, _number(0, 60), "Seconds at most that our flush may take when the process ends."
    )
    spool_dir: Path | None = _var(
        "SPOOL_DIR",
        None,
        _PATH,
        "Where the exporter `otel_netmon_otlp` keeps what no collector takes; unset: the user's own below /tmp.",
    )
    spool_max_bytes: int = _var(
        "SPOOL_MAX_BYTES",
        256 << 20,
        _number(0, 1 << 40, int),
        "Bytes that each process and signal may keep there; then the oldest go. 0 keeps nothing.",
    )
    output_dir: Path | None = _var(
        "OUTPUT_DIR", None, _PATH, "Folder of the exporter `otel_netmon_file`; `otel-netmon run` sets it."
    )
    proc_root: Path = _var("PROC_ROOT", Path("/proc"), _PATH, "Where proc is mounted (containers: /host/proc).")
    sys_root: Path = _var("SYS_ROOT", Path("/sys"), _PATH, "Where sysfs is mounted (containers: /host/sys).")
    host_owner: str | None = _var(
        "HOST_OWNER",
        None,
        _TEXT,
        "Set by us for child processes: who runs the host monitors here. Not to be set.",
    )


@dataclass(frozen=True)
class Variable:
    """One variable, for `docs/` and `otel-netmon doctor`."""

    name: str
    default: Any
    accepted: str
    doc: str


VARIABLES: Final = tuple(
    Variable(f.metadata["var"], f.default, f.metadata["kind"].accepted, f.metadata["doc"]) for f in fields(Config)
)


def load(environ: Mapping[str, str]) -> tuple[Config, tuple[str, ...]]:
    """The settings in ``environ``, and one sentence for each value that is wrong.

    A wrong value is replaced by its default. An empty value counts as unset, as OpenTelemetry has it.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for f in fields(Config):
        text = environ.get(f.metadata["var"], "").strip()
        if not text:
            continue
        kind: _Kind = f.metadata["kind"]
        try:
            values[f.name] = kind.parse(text)
        except (ValueError, ArithmeticError):
            problems.append(
                f"{f.metadata['var']}={text[:128]!r} is not {kind.accepted}; "
                f"using the default ({_shown(f.default)})"
            )
    return Config(**values), tuple(problems)


def unknown(environ: Mapping[str, str]) -> tuple[str, ...]:
    """One sentence for each ``OTEL_NETMON_*`` name that is none of ours, with the nearest one that is."""
    known = {f.metadata["var"] for f in fields(Config)}
    problems = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]}?" if near else "; docs/data.md lists those that are"
            problems.append(f"{name} is not a variable of otel-netmon{hint}")
    return tuple(problems)


def _shown(default: Any) -> str:
    return "unset" if default in (None, ()) else str(default)


@functools.lru_cache(maxsize=1)
def current() -> Config:
    """The process's settings, read from ``os.environ`` at the first call; warns once of each problem."""
    config, problems = load(os.environ)
    for problem in (*problems, *unknown(os.environ)):
        _logger.warning("%s", problem)
    return config
