"""The private names of OpenTelemetry that this package touches, with ``otel_internals_spans`` and ``…_logs``.

Where one is not there, the caller goes on without what is named here. All of them are there in 1.45, the oldest
version that the package runs with; ``make newest`` tries them on the newest.

Nothing of the SDK is imported with this module: that reads its variables, before we could correct them.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from otel_netmon import threads
from otel_netmon.guard import log_once

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

_logger = logging.getLogger(__name__)


def find(module: str, name: str) -> Any:
    """``name`` of ``module``. Raises LookupError where one of them is not there."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise LookupError(f"{module}.{name} is not found") from error


# --- the SDK's setup ----------------------------------------------------------------------------------------


def configure_sdk() -> None:
    """Set up the SDK from its variables, by the class that every distribution's configurator derives from.

    Raises LookupError where it is not there: then the SDK has to be set up by a distribution, and what it raises
    itself at settings that it refuses.
    """
    try:
        from opentelemetry.sdk._configuration import _OTelSDKConfigurator
    except ImportError as error:
        raise LookupError("this version of OpenTelemetry needs the package opentelemetry-distro") from error
    _OTelSDKConfigurator().configure()  # type: ignore[no-untyped-call]  # untyped in the SDK


def update_resource(provider: Any, added: Resource, stale: Collection[str]) -> None:
    """Have ``provider``, and all that was made from it, use its resource without the ``stale`` attributes and with
    the ``added`` ones, as the SDK itself does after a fork.

    Without it the resource stays what it was when the SDK was set up: a rank that became known later is missing.
    """
    if not hasattr(provider, "_update_resource"):
        return
    holder, name = provider, "_resource"
    if hasattr(provider, "_sdk_config"):  # a MeterProvider
        holder, name = provider._sdk_config, "resource"
    try:
        old: Resource = getattr(holder, name)
        if not old.attributes.keys().isdisjoint(stale):
            kept = {each: value for each, value in old.attributes.items() if each not in stale}
            setattr(holder, name, type(old)(kept, old.schema_url))
        provider._update_resource(added)
    except Exception as error:  # noqa: BLE001  # another version of the SDK
        log_once(_logger, error, "otel-netmon: the resource cannot be updated; telemetry goes on with the old one")


# --- metrics ------------------------------------------------------------------------------------------------


def _storages(instrument: Any) -> tuple[Any, list[Any]]:
    """The SDK's instrument, also behind the API's proxy for one made before it, and what each reader keeps."""
    real = getattr(instrument, "_real_instrument", None) or instrument
    return real, list(real._measurement_consumer._reader_storages.values())


def forget(instrument: Any) -> None:
    """In a forked child: drop what the parent measured with a synchronous instrument. The SDK keeps it.

    Without it the child reports its parent's sums once more, in its own name.
    """
    try:
        real, storages = _storages(instrument)
        for storage in storages:
            for match in storage._instrument_view_instrument_matches.get(real, ()):
                match._attributes_aggregation, match._lock = {}, threads.Lock()
    except Exception as error:  # noqa: BLE001  # another SDK, or another version of it
        _logger.debug("otel-netmon: what the parent measured is reported by the child too: %r", error)


def is_enabled(instrument: Any) -> bool:
    """Whether an instrument of the SDK's takes measurements: its meter may be switched off. True where that cannot
    be told: then its points are not found either."""
    real = getattr(instrument, "_real_instrument", None) or instrument
    return bool(getattr(real, "_is_enabled", lambda: True)())


def histogram_points(
    instrument: Any, attributes: Mapping[str, str], boundaries: Sequence[float]
) -> list[Any] | None:
    """Where each reader keeps the point of a histogram that has these ``attributes``; for ``add_to_point``.

    ``None`` where one has none yet, or keeps it otherwise (a view, delta temporality, another SDK): then each
    value has to be recorded, which takes some eight microseconds.
    """
    try:
        from opentelemetry.sdk.metrics._internal.aggregation import _ExplicitBucketHistogramAggregation

        found = []
        real, storages = _storages(instrument)
        for storage in storages:
            for match in storage._get_or_init_view_instrument_match(real):
                (point,) = [a for a in list(match._attributes_aggregation.values()) if a._attributes == attributes]
                if (
                    match._reset_on_collect  # it drops its points at each collection
                    or type(point) is not _ExplicitBucketHistogramAggregation
                    or tuple(point._boundaries) != tuple(boundaries)
                    or not all(hasattr(point, name) for name in _FIELDS)
                ):
                    return None
                found.append(point)
    except Exception:  # noqa: BLE001  # another SDK, or another version of it
        return None
    return found


_FIELDS: Final = ("_lock", "_value", "_sum", "_min", "_max", "_record_min_max")


def add_to_point(point: Any, counts: Sequence[int], total: float, least: float, greatest: float) -> None:
    """What ``_ExplicitBucketHistogramAggregation.aggregate`` does, for many values at once."""
    with point._lock:
        before = point._value or [0] * len(counts)
        point._value = [a + b for a, b in zip(before, counts, strict=True)]
        point._sum += total
        if point._record_min_max:
            point._min = min(point._min, least)
            point._max = max(point._max, greatest)


# --- OTLP exporters -----------------------------------------------------------------------------------------


def exporter_class(protocol: str, signal: str) -> Any:
    """The official OTLP exporter of a signal by ``grpc`` or ``http``; that of logs is in a private module.

    Raises LookupError where it is not there: then this signal is kept on disk.
    """
    module, name = _EXPORTERS[signal]
    return find(f"opentelemetry.exporter.otlp.proto.{protocol}.{module}", name)


_EXPORTERS: Final = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}


class GrpcConnection:
    """What an official gRPC exporter made of its settings: its public surface sends no request that is encoded.

    Raises LookupError for an exporter that is made otherwise: then what would go by gRPC is kept on disk, for
    `otel-netmon flush` by HTTP.
    """

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter
        try:
            self.endpoint = str(exporter._endpoint)
            self.timeout = float(exporter._timeout)
            self.metadata: tuple[tuple[str, str], ...] | None = exporter._headers or None
            _ = exporter._channel.unary_unary, exporter._initialize_channel_and_stub  # are they there?
        except AttributeError as error:
            raise LookupError(f"the settings of {type(exporter).__module__} are not found: {error}") from error

    def call(self, method: str) -> Any:
        """``method`` of the server: bytes in, bytes out."""
        return self._exporter._channel.unary_unary(method)

    def reconnect(self) -> None:
        """A channel backs off for minutes where nobody listened for a while; a new one tries at once."""
        self._exporter._channel.close()
        self._exporter._initialize_channel_and_stub()
