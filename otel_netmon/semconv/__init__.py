"""Every metric, span and attribute name that this package emits, with its unit and meaning.

No such literal stands anywhere else: code imports from here, and ``docs/data.md`` is held to this file by a
test. Attributes that OpenTelemetry's semantic conventions define (schema 1.44.0, status Development) are imported
from ``opentelemetry.semconv``; its metrics' names stand here, held to it by a test, because its modules of metrics
import OpenTelemetry's API as well. The conventions say nothing of collectives, so those are ours, under
``torch.distributed.``. The health of the package itself is under ``otel_netmon.``.

Units are seconds and bytes throughout (UCUM ``s``, ``By``).
"""

from __future__ import annotations

from typing import Final

from otel_netmon.semconv.attributes import *
from otel_netmon.semconv.collectives import *
from otel_netmon.semconv.delivery import *
from otel_netmon.semconv.diagnosis import *
from otel_netmon.semconv.model import *
from otel_netmon.semconv.model import Attribute, Metric
from otel_netmon.semconv.monitors import *
from otel_netmon.semconv.pressure import *
from otel_netmon.semconv.rdma import *
from otel_netmon.semconv.samples import *
from otel_netmon.semconv.spans import *
from otel_netmon.semconv.tcp import *

METRICS: Final[tuple[Metric, ...]] = tuple(v for v in list(globals().values()) if isinstance(v, Metric))
"""All of them, in the order of their definition."""

ATTRIBUTES: Final[tuple[Attribute, ...]] = tuple(v for v in list(globals().values()) if isinstance(v, Attribute))
"""Those of spans, log events and the resource; metrics have names of their own besides."""
