"""A Perfetto trace read back: slices by track, as Perfetto's own processor makes them of its events."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Slice:
    """``depth`` is 0 on the track itself; ``end`` is ``None`` where it has none."""

    track: int
    name: str
    start: int
    depth: int
    end: int | None = None
    about: dict[str, Any] = field(default_factory=dict)
    flows: tuple[int, ...] = ()
    colour: int = 0


@dataclass
class Trace:
    """All of it. ``wrong`` is what the processor would count as errors."""

    tracks: dict[int, str] = field(default_factory=dict)
    parents: dict[int, int] = field(default_factory=dict)
    slices: list[Slice] = field(default_factory=list)
    instants: list[Slice] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def path(self, track: int) -> str:
        """Names from the top."""
        above = self.parents.get(track)
        return f"{self.path(above)}/{self.tracks[track]}" if above else self.tracks[track]

    def named(self, start: str) -> list[Slice]:
        return [each for each in self.slices if each.name.startswith(start)]

    def flows(self) -> list[list[Slice]]:
        """The slices of each, in the order of time."""
        found: dict[int, list[Slice]] = defaultdict(list)
        for each in sorted(self.slices, key=lambda one: one.start):
            for flow in each.flows:
                found[flow].append(each)
        return list(found.values())


def load(path: Path) -> Trace:
    """Read it: events in the order of time, and of those of one moment in that of the file."""
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace as Message
    from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import TrackEvent

    found, names, arguments = Trace(), dict[int, str](), dict[int, str]()
    events: list[tuple[int, int, Any, dict[str, Any], str]] = []
    message: Any = Message.FromString(path.read_bytes())
    for place, packet in enumerate(message.packet):
        if packet.HasField("track_descriptor"):
            about = packet.track_descriptor
            found.tracks[about.uuid] = about.name
            if about.HasField("parent_uuid"):
                found.parents[about.uuid] = about.parent_uuid
            continue
        names.update((each.iid, each.name) for each in packet.interned_data.event_names)
        arguments.update((each.iid, each.name) for each in packet.interned_data.debug_annotation_names)
        event = packet.track_event
        said = {arguments[a.name_iid]: getattr(a, a.WhichOneof("value")) for a in event.debug_annotations}
        name = event.name or names.get(event.name_iid, "")
        events.append((packet.timestamp, place, event, said, name))
    stacks: dict[int, list[Slice]] = defaultdict(list)
    for at, _, event, said, name in sorted(events, key=lambda each: each[:2]):
        stack = stacks[event.track_uuid]
        one = Slice(
            event.track_uuid, name, at, len(stack), None, said, tuple(event.flow_ids), event.correlation_id
        )
        if event.type == TrackEvent.TYPE_INSTANT:
            found.instants.append(one)
        elif event.type == TrackEvent.TYPE_SLICE_BEGIN:
            stack.append(one)
            found.slices.append(one)
        elif stack:
            stack.pop().end = at
        else:
            found.wrong.append(f"an end without a slice at {at}")
    found.wrong += [f"{one.name} does not end" for one in found.slices if one.end is None]
    found.wrong += [f"flow with {len(some)} ends" for some in found.flows() if len(some) != 2]
    return found
