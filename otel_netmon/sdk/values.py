"""Values of OpenTelemetry's variables: which are accepted, and what is used in place of the others."""

from __future__ import annotations

import functools
import importlib.util
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from otel_netmon.text import is_secret, listed, without_secrets
from otel_netmon.values import Kind, choice, number

Signal = Literal["traces", "metrics", "logs"]
SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics", "logs")
OTLP: Final = "OTEL_EXPORTER_OTLP_"
PLACES: Final[Mapping[str, tuple[Signal, ...]]] = {"": SIGNALS, **{f"{s.upper()}_": (s,) for s in SIGNALS}}
"""What may stand behind it, and whose variable that is."""


@dataclass(frozen=True)
class Problem:
    """One variable that keeps telemetry from where one would look. ``lost``: all of it, or all of a signal."""

    variable: str
    what: str
    """What is wrong with it, and what is done, with its value where that is no secret."""
    lost: bool = False

    @property
    def sentence(self) -> str:
        """The whole of it."""
        return f"{self.variable}{'' if self.what.startswith('=') else ' '}{self.what}"


class Checked:
    """An environment on its way to one that works."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        # The SDK takes a blank for a value that is wrong. For a limit it is none, which works.
        self.environ = {
            name: value
            for name, value in environ.items()
            if value.strip() or not name.startswith("OTEL_") or name.endswith("_LIMIT")
        }
        self.problems: list[Problem] = []

    def refuse(self, name: str, why: str, instead: str | None, *, lost: bool = False) -> None:
        """Note the problem ``NAME=value why``, and use ``instead``."""
        value = self.environ.get(name, "")
        shown = "" if is_secret(name) or is_secret(value) else f"={without_secrets(value)[:128]!r}"
        self.problems.append(Problem(name, f"{shown} {why}".strip(), lost))
        self.put(name, instead)

    def put(self, name: str, value: str | None) -> None:
        """Use ``value``; ``None`` unsets it."""
        if value is None:
            self.environ.pop(name, None)
        else:
            self.environ[name] = value


def installed(group: str) -> list[str]:
    """The names of what is installed in a group of entry points. Some 3 ms for 100 packages, once."""
    return sorted({point.name for point in _entry_points().select(group=group)})


@functools.cache
def _entry_points() -> Any:
    """Those of all groups: to read one group, all packages are read as well."""
    from importlib.metadata import entry_points

    return entry_points()


def is_installed(module: str) -> bool:
    """Whether a module is there; the packages above it are imported."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


def is_readable(path: str) -> bool:
    """Whether it is a file that can be read."""
    return os.access(path, os.R_OK) and Path(path).is_file()


def is_pem(path: str) -> bool:
    """Whether it is a file of certificates or keys as the exporters read them."""
    if not is_readable(path):
        return False
    with Path(path).open("rb") as file:
        return b"-----BEGIN " in file.read(1 << 20)


_COUNT: Final = number(1, cast=int)
_LIMIT: Final = number(0, cast=int)
_TIME: Final = Kind("a number above 0", lambda value: 0 < value < math.inf, float)
_FLAG: Final = choice("true", "false")
_STATUS: Final = {
    *("CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "ABORTED"),
    *("PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "OUT_OF_RANGE"),
    *("UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"),
}

_KINDS: Final[Mapping[str, Kind]] = {
    **{f"OTEL_{p}_{n}": _COUNT for p in ("BSP", "BLRP") for n in ("MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE")},
    **{f"OTEL_{p}_{n}": _COUNT for p in ("BSP", "BLRP") for n in ("SCHEDULE_DELAY", "EXPORT_TIMEOUT")},
    **{f"OTEL_{p}ATTRIBUTE_COUNT_LIMIT": _LIMIT for p in ("", "SPAN_", "EVENT_", "LINK_", "LOGRECORD_")},
    **{f"OTEL_{p}ATTRIBUTE_VALUE_LENGTH_LIMIT": _LIMIT for p in ("", "SPAN_", "LOGRECORD_")},
    **{f"OTEL_SPAN_{n}_COUNT_LIMIT": _LIMIT for n in ("EVENT", "LINK")},
    **{f"OTEL_METRIC_EXPORT_{n}": _TIME for n in ("INTERVAL", "TIMEOUT")},
    **{f"{OTLP}{p}TIMEOUT": _TIME for p in PLACES},
    **{f"{OTLP}{p}INSECURE": _FLAG for p in PLACES},
    **{f"OTEL_{n}": _FLAG for n in ("SDK_DISABLED", "PYTHON_SDK_INTERNAL_METRICS_ENABLED")},
    "OTEL_METRICS_EXEMPLAR_FILTER": choice("trace_based", "always_on", "always_off"),
    f"{OTLP}METRICS_TEMPORALITY_PREFERENCE": choice("cumulative", "delta", "lowmemory"),
    f"{OTLP}METRICS_DEFAULT_HISTOGRAM_AGGREGATION": choice(
        "explicit_bucket_histogram", "base2_exponential_bucket_histogram"
    ),
    "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES": Kind(
        "names of gRPC status codes, separated by commas", lambda text: _STATUS.issuperset(listed(text.upper()))
    ),
    "OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH": Kind(
        "patch_all where gevent is installed", lambda text: text == "patch_all" and is_installed("gevent")
    ),
}


def plain_values(checked: Checked) -> None:
    """Numbers and words."""
    for name in sorted(_KINDS.keys() & checked.environ.keys()):
        kind, value = _KINDS[name], checked.environ[name].strip()
        try:
            meant = kind.parse(value) if value else None
        except (ValueError, ArithmeticError):
            instead = "false" if kind is _FLAG else None  # unset, it would be what holds for all signals
            checked.refuse(name, f"is not {kind.accepted}; using {instead or 'the default'}", instead)
        else:
            if isinstance(meant, str):
                checked.put(name, meant)
