"""What a name comes with: how an attribute, a span and a metric are described, and how an instrument is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from opentelemetry.semconv.schemas import Schemas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.metrics import CallbackT, Meter
    from opentelemetry.metrics import Instrument as OTelInstrument

SCHEMA_URL: Final = Schemas.V1_44_0.value
"""Schema of the borrowed names; passed to every meter and tracer."""

SCOPE_MONITORS: Final = "otel_netmon.monitors"
SCOPE_COLLECTIVES: Final = "otel_netmon.collectives"

AttributeType = Literal["string", "int", "double", "boolean"]


class Attribute(str):
    """The name of an attribute of ours, a string wherever one is wanted, with what there is to know of it."""

    __slots__ = ("absent", "description", "type", "unit")
    type: AttributeType
    description: str
    absent: str
    """What it means when it is not there; empty where it always is."""
    unit: str
    """UCUM; empty where it is no quantity."""

    def __new__(
        cls, name: str, description: str, absent: str = "", unit: str = "", *, type: AttributeType
    ) -> Attribute:
        self = super().__new__(cls, name)
        self.type, self.description, self.absent, self.unit = type, description, absent, unit
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and pickled as the plain string: exporters do that with what they are given."""
        return str, (str(self),)


@dataclass(frozen=True)
class Span:
    """One span: its parent's name, and what it says."""

    name: str
    parent: str | None
    description: str


Kind = Literal["counter", "histogram", "observable_counter", "observable_up_down_counter", "observable_gauge"]

SECONDS_BUCKETS: Final = (*(float(f"{m}e{e}") for e in range(-5, 2) for m in ("1", "2.5", "5")), 100.0)
"""10 µs … 100 s in 1 / 2.5 / 5 decades: the SDK's defaults are made for milliseconds."""

BYTES_BUCKETS: Final = tuple(float(4**e) for e in range(4, 17))
"""256 B … 4 GiB in powers of four."""


@dataclass(frozen=True)
class Metric:
    """One metric: what `docs/data.md` says of it, and all that is needed to create its instrument."""

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] | None = None

    @property
    def prometheus_name(self) -> str:
        """What Prometheus calls it, without ``_bucket``, ``_sum`` and ``_count``. Units in braces are left out.

        Source: OpenTelemetry's specification, Prometheus and OpenMetrics compatibility, metric metadata.
        """
        name = re.sub(r"[^a-zA-Z0-9:]+", "_", self.name)
        unit = _PROMETHEUS_UNITS.get(self.unit, "")
        if self.unit == "1" and self.kind.endswith("gauge"):
            unit = "ratio"
        if unit and not name.endswith("_" + unit):
            name += "_" + unit
        if self.kind in ("counter", "observable_counter"):
            name = name.removesuffix("_total") + "_total"
        return name


def counter(name: str, unit: str, description: str, attributes: tuple[str, ...] = ()) -> Metric:
    """An observable counter."""
    return Metric(name, "observable_counter", unit, description, attributes)


def up_down_counter(name: str, unit: str, description: str, attributes: tuple[str, ...] = ()) -> Metric:
    """An observable up-down counter."""
    return Metric(name, "observable_up_down_counter", unit, description, attributes)


def gauge(name: str, unit: str, description: str, attributes: tuple[str, ...] = ()) -> Metric:
    """An observable gauge."""
    return Metric(name, "observable_gauge", unit, description, attributes)


_PROMETHEUS_UNITS: Final = {"s": "seconds", "By": "bytes", "By/s": "bytes_per_second"}


def create(meter: Meter, metric: Metric, callbacks: Sequence[CallbackT] | None = None) -> OTelInstrument:
    """Create the instrument that ``metric`` describes; ``callbacks`` only for the observable kinds.

    Returns the API's instrument; synchronous kinds have ``add`` or ``record``.
    """
    more: dict[str, Any] = {} if metric.kind == "counter" else {"callbacks": callbacks}
    if metric.kind == "histogram":
        more = {"explicit_bucket_boundaries_advisory": metric.buckets}
    make = getattr(meter, "create_" + metric.kind)
    return make(metric.name, unit=metric.unit, description=metric.description, **more)  # type: ignore[no-any-return]  # getattr
