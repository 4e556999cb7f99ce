"""Perfetto's trace format: tracks, slices and flows as protobuf, written one packet at a time.

Needs the package ``perfetto`` (``pip install otel-netmon[perfetto]``), which is imported when a trace is begun.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import IO, Any, Final

from otel_netmon.records import Value

_CLEARED, _NEEDED = 1, 2
"""Flags of packets: names are numbered from here on; numbers of before are used."""
_SEQUENCE: Final = 1
_MOST_NAMES: Final = 4096
"""Names that are written once and then numbered."""


class NoPerfetto(Exception):
    """The package is not installed; the message is one sentence for the user."""


class TraceFile:
    """A trace that is being written. Times are nanoseconds; ``slices`` and ``flows`` count what was."""

    def __init__(self, file: IO[bytes]) -> None:
        """Raises :class:`NoPerfetto`."""
        try:
            from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import (
                TracePacket,
                TrackDescriptor,
                TrackEvent,
            )
            from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder
        except ImportError as error:
            raise NoPerfetto(
                f"Perfetto's format needs the package perfetto ({error}): pip install 'otel-netmon[perfetto]'"
            ) from None
        self._packet: Any = TracePacket
        self._explicit = TrackDescriptor.EXPLICIT
        self._begin, self._end = TrackEvent.TYPE_SLICE_BEGIN, TrackEvent.TYPE_SLICE_END
        self._instant = TrackEvent.TYPE_INSTANT
        self._write: Any = StreamingTraceProtoBuilder(file).write_packet
        self._events: dict[str, int] = {}
        self._arguments: dict[str, int] = {}
        self._tracks = 0
        self._is_first = True
        self.slices = self.flows = 0

    def track(self, name: str, parent: int | None = None, order: int = 0) -> int:
        """A new row, below others or below another; siblings are in the order of ``order``."""
        self._tracks += 1
        packet = self._packet()
        about = packet.track_descriptor
        about.uuid, about.name = self._tracks, name
        about.sibling_order_rank = order
        about.child_ordering = self._explicit
        if parent is not None:
            about.parent_uuid = parent
        self._write(packet)
        return self._tracks

    def begin(
        self,
        track: int,
        at: int,
        name: str,
        about: Mapping[str, Value | None] | None = None,
        *,
        flows: Collection[int] = (),
        same: int = 0,
    ) -> None:
        """Begin a slice within the one that is open. Slices of one ``same`` have one colour. A flow leads from the
        earlier one of its two slices to the later one."""
        self.slices += 1
        self._event(self._begin, track, at, name, about, flows=flows, same=same)

    def end(self, track: int, at: int) -> None:
        """End the slice that was begun last."""
        self._event(self._end, track, at)

    def instant(self, track: int, at: int, name: str, about: Mapping[str, Value | None]) -> None:
        """Something without a duration."""
        self._event(self._instant, track, at, name, about)

    def new_flow(self) -> int:
        """The number of a flow, for two slices."""
        self.flows += 1
        return self.flows

    def _event(
        self,
        kind: int,
        track: int,
        at: int,
        name: str | None = None,
        about: Mapping[str, Value | None] | None = None,
        *,
        flows: Collection[int] = (),
        same: int = 0,
    ) -> None:
        packet = self._packet()
        packet.timestamp = at
        packet.trusted_packet_sequence_id = _SEQUENCE
        packet.sequence_flags = _CLEARED if self._is_first else _NEEDED
        self._is_first = False
        event = packet.track_event
        event.type, event.track_uuid = kind, track
        if name is not None:
            number = self._number(name, self._events, packet.interned_data.event_names)
            if number:
                event.name_iid = number
            else:
                event.name = name
        if flows:
            event.flow_ids.extend(flows)
        if same:
            event.correlation_id = same
        for key, value in (about or {}).items():
            if value is None:
                continue
            argument = event.debug_annotations.add()
            argument.name_iid = self._number(key, self._arguments, packet.interned_data.debug_annotation_names)
            if isinstance(value, bool):
                argument.bool_value = value
            elif isinstance(value, int):
                argument.int_value = value
            elif isinstance(value, float):
                argument.double_value = value
            else:
                argument.string_value = value
        self._write(packet)

    @staticmethod
    def _number(name: str, known: dict[str, int], interned: Any) -> int:
        """Of a name; 0 where there are too many."""
        number = known.get(name, 0)
        if not number and len(known) < _MOST_NAMES:
            number = known[name] = len(known) + 1
            new = interned.add()
            new.iid, new.name = number, name
        return number
