"""What the SDK keeps of a synchronous instrument, below its public surface."""

from __future__ import annotations

import logging
from typing import Any

from otel_netmon import threads

_logger = logging.getLogger(__name__)


def forget(instrument: Any) -> None:
    """In a forked child: what its parent measured is its parent's to report. The SDK keeps it, and would report it
    once more in the child's name.

    With another SDK, or another version of it, nothing is forgotten.
    """
    try:
        real = getattr(instrument, "_real_instrument", None) or instrument
        for storage in list(real._measurement_consumer._reader_storages.values()):
            for match in storage._instrument_view_instrument_matches.get(real, ()):
                match._attributes_aggregation, match._lock = {}, threads.Lock()
    except Exception as error:  # noqa: BLE001 - see above
        _logger.debug("otel-netmon: what the parent measured is reported by the child too: %r", error)
