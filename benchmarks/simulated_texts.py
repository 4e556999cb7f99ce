"""The texts of a simulated job's telemetry: one for each kind of span, log event and line, with holes."""

from __future__ import annotations

from typing import Any, Final

from opentelemetry.sdk.resources import Resource

from benchmarks.planted import Shape
from benchmarks.simulated import AXES, CALLS
from benchmarks.simulated_traffic import PERIOD
from benchmarks.templates import Fill, Holes, around_logs, around_spans, event, log, span
from otel_netmon import schema, semconv
from otel_netmon.bandwidth import bus_factor
from otel_netmon.delivery.packed import Place
from otel_netmon.records import Collective, GroupUse, Heartbeat, HostTraffic, PeerTraffic, RankStep

SAID: Final = ("first", "inside", "issued", "wait", "collector", "loader", "cpu", "queue", "throttled")
"""What a rank says of a step, in the order of its record."""
OF_PEER: Final = PeerTraffic._fields.index("at")
"""So many fields of a reading are attributes."""


class Texts:
    """All of one job."""

    def __init__(self, shape: Shape, run: str) -> None:
        self._shape, self._run = shape, run
        holes = Holes()
        about = Resource(
            {
                "telemetry.sdk.language": "python",
                "telemetry.sdk.name": "opentelemetry",
                "telemetry.sdk.version": "1.45.2",
                str(semconv.SERVICE_INSTANCE): holes.text(),
                str(semconv.SERVICE_NAME): "pretrain",
                str(semconv.HOST_NAME): holes.text(),
                str(semconv.PROCESS_ID): holes.integer(),
                str(semconv.RANK): holes.integer(),
                str(semconv.LOCAL_RANK): holes.integer(),
                str(semconv.WORLD_SIZE): shape.ranks,
            }
        )
        inside = holes.text()
        self.spans = holes.fill(around_spans(about, inside))
        self.logs = holes.fill(around_logs(about, inside))
        self.step = {
            (traced, called): self._step(traced, called) for traced in (True, False) for called in (True, False)
        }
        self.root = self._root()
        self.calls = [self._call(place) for place in range(len(CALLS))]
        self.peer_event, self.peer_log, self.nic, self.beat = (
            self._peer(),
            self._peer_log(),
            self._nic(),
            self._beat(),
        )

    def _step(self, is_traced: bool, is_sampled: bool) -> Fill:
        holes = Holes()
        trace, root, own, start, end = holes.id(32), holes.id(16), holes.id(16), holes.integer(), holes.integer()
        rank, local, number, count, size = (holes.integer() for _ in range(5))
        seconds = [holes.double() for _ in SAID]
        uses = tuple(
            GroupUse(holes.text(), holes.integer(), holes.integer(), holes.integer(), last, holes.integer())
            for axis in AXES
            for last in (None if axis == "pipe" else holes.integer(),)
        )
        more = holes.text()
        first, inside, issued, wait, gc, data, cpu, queue, throttled = seconds
        record = RankStep(
            semconv.SPAN_RANK_STEP, self._run, None, rank, local, self._shape.ranks, number, None, is_sampled,
            first, count, size, inside, issued, wait, gc, data, cpu, queue, throttled, 61, 5, uses,
        )  # fmt: skip
        attributes = schema.attributes(record)
        if is_traced:
            events = holes.text()
            place = Place(trace, root, own, start, end)
            return holes.fill(span(record.name, place, attributes, more, events))
        attributes[str(semconv.STEP_START)] = start
        body = f"{record.name} {number}, not traced"
        name = semconv.EVENT_OF_PERIOD[record.name]
        text = log(name, body, attributes, end, (trace, own), more)
        filled = holes.fill(text + f"{root:016x}")
        return lambda *values: filled(*values)[:-16]

    def _root(self) -> Fill:
        holes = Holes()
        place = Place(holes.id(32), None, holes.id(16), holes.integer(), holes.integer())
        record = RankStep(semconv.SPAN_TRAIN_STEP, self._run, None, 0, 0, self._shape.ranks, holes.integer())
        return holes.fill(span(record.name, place, schema.attributes(record)))

    def _call(self, number: int) -> Fill:
        """``number`` is its place in a step."""
        call, holes = CALLS[number], Holes()
        place = Place(holes.id(32), holes.id(16), holes.id(16), holes.integer(), holes.integer())
        size = {"tensor": self._shape.tensor, "pipe": self._shape.pipeline, "data": self._shape.data}
        ours = size.get(call.axis, self._shape.ranks)
        record = Collective(
            call.operation,
            holes.text(),
            "gloo",
            ours,
            holes.integer(),
            holes.integer(),
            "host",
            call.size,
            None if call.axis == "pipe" else holes.integer(),
            "bfloat16",
            call.size // 2,
            "sum" if "reduce" in call.operation else None,
            call.is_async,
            algbw=holes.double(),
            busbw=None if bus_factor(call.operation, ours) is None else holes.double(),
        )
        return holes.fill(span(call.operation, place, schema.attributes(record)))

    def _traffic(self, holes: Holes) -> PeerTraffic:
        number, seconds, name = holes.integer, holes.double, holes.text
        values: list[Any] = [
            number(), name(), seconds(), *(number() for _ in range(5)), *(seconds() for _ in range(6)),
            *(number() for _ in range(5)), seconds(), name(),
        ]  # fmt: skip
        return PeerTraffic(*values)

    def _peer(self) -> Fill:
        holes = Holes()
        return holes.fill(event(semconv.EVENT_TCP_PEER, holes.integer(), schema.attributes(self._traffic(holes))))

    def _peer_log(self) -> Fill:
        holes = Holes()
        at = holes.integer()
        record = self._traffic(holes)
        ids = holes.id(32), holes.id(16)
        about = f"traffic with rank {record.peer}"
        return holes.fill(log(semconv.EVENT_TCP_PEER, about, schema.attributes(record), at, ids))

    def _nic(self) -> Fill:
        holes = Holes()
        at, name = holes.integer(), holes.text()
        sent, received, job_sent, job_received, rank = (holes.integer() for _ in range(5))
        record = HostTraffic(name, PERIOD, sent, received, job_sent, job_received, rank)
        return holes.fill(log(semconv.EVENT_NIC_TRAFFIC, f"traffic of {name}", schema.attributes(record), at))

    def _beat(self) -> Fill:
        holes = Holes()
        at, rank, local, number = (holes.integer() for _ in range(4))
        record = Heartbeat(self._run, rank, local, self._shape.ranks, number)
        return holes.fill(log(semconv.EVENT_HEARTBEAT, "0 collectives in flight", schema.attributes(record), at))
