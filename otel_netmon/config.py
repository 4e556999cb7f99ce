"""Every ``OTEL_NETMON_*`` variable: read, checked and documented here and nowhere else.

In a running job an invalid value costs one warning and the default is used; `otel-netmon run` prints the same
sentence and refuses to start. Values are read once per process, when the first part of the package starts.
"""

from __future__ import annotations

import difflib
import functools
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, NamedTuple

from otel_netmon.values import FLAG, LIST, MONITORS, PATH, RANKS, TARGETS, TEXT, Kind, Ranks, choice, number

_logger = logging.getLogger(__name__)

PREFIX: Final = "OTEL_NETMON_"
HOST_OWNER: Final = PREFIX + "HOST_OWNER"
OUTPUT_DIR: Final = PREFIX + "OUTPUT_DIR"
BLACK_BOX_DIR: Final = PREFIX + "BLACK_BOX_DIR"


def _var(default: Any, kind: Kind, doc: str) -> Any:
    return field(default=default, metadata={"kind": kind, "doc": doc})


@dataclass(frozen=True)
class Config:
    """All settings; the defaults are those of a job with no ``OTEL_NETMON_*`` variable set."""

    interval: float = _var(
        10.0, number(0.1, 3600), "Seconds between two samples of each monitor; `tcp` samples every 2 s at least."
    )
    host_monitors: str = _var(
        "auto",
        choice("auto", "on", "off"),
        "Whether this process runs the host monitors; auto: one per host does (the launcher, else local rank 0).",
    )
    monitors: tuple[str, ...] = _var(
        (), MONITORS, "Which monitors run; unset: every monitor that has something to watch."
    )
    interfaces: tuple[str, ...] | None = _var(
        None, LIST, "NICs to watch; unset: physical and bonded NICs that are up."
    )
    latency_targets: tuple[str, ...] = _var(
        (), TARGETS, "Targets to measure the TCP connect time to; only what is named here is probed."
    )
    latency_attempts: int = _var(3, number(1, 20, int), "Connection attempts per target and sample.")
    latency_timeout: float = _var(
        1.0, number(0.01, 60), "Seconds after which a connection attempt counts as lost."
    )
    latency_peers: bool = _var(
        False,
        FLAG,
        "Whether to measure round-trip times to the job's other hosts, by ICMP echo or TCP connect to the store.",
    )
    latency_peers_max: int = _var(
        16, number(1, 1024, int), "How many of the job's hosts are probed per sample; all of them take turns."
    )
    peer_attribute: str = _var(
        "address",
        choice("address", "host", "none"),
        "What identifies the job's other hosts in TCP metrics: their address, their host name, or nothing.",
    )
    capture: str = _var(
        "auto",
        choice("auto", "native", "hooks", "dispatcher", "flight_recorder", "off"),
        "The capture backend; auto: native if it is built, else hooks if torch has them, else the dispatcher; "
        "off: no collective is captured.",
    )
    native_dir: Path | None = _var(
        None,
        PATH,
        "Where `otel-netmon build` puts the native capture, and a rank looks for it; unset: ~/.cache/otel-netmon.",
    )
    ring_size: int = _var(
        16384,
        number(16, 1 << 20, int),
        "Collectives that can wait for export; when there are more, the oldest are dropped and counted.",
    )
    emit_interval: float | None = _var(
        None,
        number(0.01, 60),
        "Seconds between two rounds of the background thread that creates spans; unset: 1 where collectives are "
        "captured natively, else 0.25.",
    )
    volume: str = _var(
        "auto",
        choice("auto", "full", "steps"),
        "What goes out. full: a span for each collective; steps: a record for each step of each rank, and "
        "collectives of every 100th and of slow and failed steps only; auto: full up to 64 ranks.",
    )
    trace_every: int | None = _var(
        None,
        number(1, 1_000_000_000, int),
        "Trace every Nth training step only, the same on all ranks; metrics and `rank_step` still cover all. "
        "Unset: every one, or with volume `steps` every 100th.",
    )
    trace_ranks: Ranks | None = _var(
        None,
        RANKS,
        "Ranks that create spans for single collectives; metrics and `rank_step` still cover all. Unset: all, "
        "or with volume `steps` as many as 5,000 spans a trace allow.",
    )
    window: float = _var(
        60.0,
        number(0, 86400),
        "If nothing marks a step for this many seconds, traces are windows of that length instead; 0: never.",
    )
    stall_after: float = _var(
        60.0,
        number(0, 86400),
        "Seconds in flight after which a collective is reported as hanging, in a log event; 0: never.",
    )
    heartbeat: float = _var(
        10.0,
        number(0, 3600),
        "Seconds between two log events that report a rank as alive, and what it has in flight; 0: none.",
    )
    black_box: str = _var(
        "on",
        choice("on", "off"),
        "Whether each rank keeps its last collectives in memory that outlives it, for the launcher to read if it "
        "is killed; needs an instrumented launcher on Linux.",
    )
    error_messages: str = _var(
        "on",
        choice("on", "off"),
        "Whether the span of a collective that failed has what the failure says: it may name hosts and ports.",
    )
    diagnosis: str = _var(
        "on",
        choice("on", "off"),
        "Whether the ranks tell one another how their steps went, and one of them says who is to blame.",
    )
    run_id: str | None = _var(
        None, TEXT, "Id of the run, the same on every rank; unset: rank 0 draws one for all."
    )
    run_id_timeout: float = _var(
        30.0, number(0, 3600), "Seconds to wait for rank 0's run id before using one of its own."
    )
    exit_timeout: float = _var(
        5.0, number(0, 60), "At most this many seconds are spent on flushing when the process ends."
    )
    spool_dir: Path | None = _var(
        None,
        PATH,
        "Where the exporter `otel_netmon_otlp` keeps what no collector accepts; unset: a private folder in /tmp.",
    )
    spool_max_bytes: int = _var(
        256 << 20,
        number(0, 1 << 40, int),
        "Bytes that each process may keep there per signal; beyond that the oldest are dropped. 0 keeps nothing.",
    )
    steps_dir: Path | None = _var(
        None,
        PATH,
        "Where, with volume `steps`, each rank keeps its last steps whole; unset: a private folder in /tmp.",
    )
    steps_max_bytes: int = _var(
        32 << 20,
        number(0, 1 << 40, int),
        "Bytes that each rank may keep there; the oldest steps go first. 0 keeps nothing.",
    )
    output_dir: Path | None = _var(
        None, PATH, "Where the exporter `otel_netmon_file` writes; `otel-netmon run` sets it."
    )
    proc_root: Path = _var(Path("/proc"), PATH, "Where procfs is mounted (in containers often /host/proc).")
    sys_root: Path = _var(Path("/sys"), PATH, "Where sysfs is mounted (in containers often /host/sys).")
    host_owner: str | None = _var(
        None, TEXT, "Set by otel-netmon for child processes: which process runs the host monitors. Do not set it."
    )
    black_box_dir: Path | None = _var(
        None, PATH, "Set by otel-netmon for child processes: where their last collectives are kept. Do not set it."
    )


class Variable(NamedTuple):
    """One variable: named as its field is, in capitals."""

    name: str
    field: str
    default: Any
    kind: Kind
    doc: str


VARIABLES: Final = tuple(
    Variable(PREFIX + one.name.upper(), one.name, one.default, **one.metadata) for one in fields(Config)
)


def load(environ: Mapping[str, str]) -> tuple[Config, tuple[str, ...]]:
    """The settings in ``environ``, and one sentence for each invalid value, which is replaced by its default.

    An empty value counts as unset, as in OpenTelemetry's specification.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for one in VARIABLES:
        text = environ.get(one.name, "").strip()
        if not text:
            continue
        try:
            values[one.field] = one.kind.parse(text)
        except (ValueError, ArithmeticError):
            default = "unset" if one.default in (None, ()) else one.default
            problems.append(f"{one.name}={text[:128]!r} is not {one.kind.accepted}; using the default ({default})")
    return Config(**values), tuple(problems)


def unknown(environ: Mapping[str, str]) -> tuple[str, ...]:
    """One sentence for each ``OTEL_NETMON_*`` name that does not exist, with the most similar one that does."""
    known = [one.name for one in VARIABLES]
    problems = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]}?" if near else "; docs/data.md lists all of them"
            problems.append(f"{name} is not a variable of otel-netmon{hint}")
    return tuple(problems)


@functools.lru_cache(maxsize=1)
def current() -> Config:
    """The process's settings, read from ``os.environ`` at the first call, which warns of each problem."""
    config, problems = load(os.environ)
    for problem in (*problems, *unknown(os.environ)):
        _logger.warning("%s", problem)
    return config
