"""Coverage-guided fuzzing of every parser of what comes from outside: ``make fuzz``.

The first byte picks the parser, the rest is its input. Each may raise the one exception that it documents, and no
other, and may not take more memory than its input deserves. It runs for the time given
(``-max_total_time``).
"""

from __future__ import annotations

import contextlib
import sys
import tracemalloc
from collections.abc import Callable

import atheris

with atheris.instrument_imports():
    from otel_netmon import flight_recorder, schema
    from otel_netmon.monitors import infiniband, procfs, protocols, tcp_info
    from otel_netmon.store import reader, values
    from otel_netmon.store.problems import Problems

_ROOM = 1 << 22
"""Bytes that a parser may take beyond a hundred times its input."""


def _counters(data: bytes) -> object:
    lines = data.split(b"\n")
    names = sorted(infiniband.NAMES)
    read: dict[str, bytes | None] = {names[len(line) % len(names)]: line for line in lines}
    return infiniband.parts(dict.fromkeys(infiniband.FOLDERS, read))


def _packed(data: bytes) -> object:
    text = data.decode("utf-8", "replace")
    return [schema.unpack(attribute, text) for attribute in schema.PACKED]


PARSERS: tuple[tuple[Callable[[bytes], object], type[Exception] | None], ...] = (
    (tcp_info.parse_tcp_info, ValueError),
    (procfs.parse_net_dev, None),
    (procfs.parse_speed, None),
    (lambda data: procfs.parse_default_routes(data, data), None),
    (protocols.parse_snmp, None),
    (protocols.parse_softnet, None),
    (protocols.parse_pressure, None),
    (protocols.parse_schedstat, None),
    (protocols.parse_cgroups, None),
    (protocols.parse_cgroup_mounts, None),
    (protocols.parse_cpu_list, None),
    (protocols.parse_cpu_stat, None),
    (protocols.parse_cpu_max, None),
    (infiniband.parse_rate, None),
    (infiniband.parse_state, None),
    (_counters, None),
    (flight_recorder.parse, flight_recorder.FlightRecorderError),
    (lambda data: reader.records(values.parse(data, Problems()), Problems()), None),
    (_packed, None),
)


def one(data: bytes) -> None:
    """Feed one input to one parser."""
    if not data:
        return
    parse, promised = PARSERS[data[0] % len(PARSERS)]
    tracemalloc.reset_peak()
    with contextlib.suppress(*([promised] if promised else [])):
        parse(data[1:])
    peak = tracemalloc.get_traced_memory()[1]
    if peak > _BASE + _ROOM + 100 * len(data):
        raise MemoryError(f"{parse}: {peak} bytes for an input of {len(data)}")


if __name__ == "__main__":
    tracemalloc.start()
    _BASE = tracemalloc.get_traced_memory()[0] + (1 << 22)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
