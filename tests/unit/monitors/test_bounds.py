"""10,000 NICs with random names, of any bytes: bounded series, bounded memory, nothing that cannot be exported."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_netmon import semconv
from otel_netmon.monitors import NetworkInterfaceMonitor
from otel_netmon.monitors.kernel import KernelNetworkMonitor

NICS, LIMIT = 10_000, 2000
COLUMNS = " ".join(["7"] * 16)


@pytest.mark.row("10,000 groups or NICs with random names")
def test_ten_thousand_nics_and_names_of_any_bytes(tmp_path: Path) -> None:
    draw = random.Random(1)
    names = {bytes(draw.choices(range(1, 256), k=12)).replace(b"/", b"_") for _ in range(200)}
    names |= {f"nic{number}x{draw.random():.6f}".encode() for number in range(NICS)}
    names = {name for name in names if not set(name) & set(b" :\t\r\n\v\f\x1c\x1d\x1e\x85")}
    net = tmp_path / "proc" / "1" / "net"
    net.mkdir(parents=True)
    lines = [b" %s: %s" % (name, COLUMNS.encode()) for name in names]
    (net / "dev").write_bytes(b"Inter-|\n face |\n" + b"\n".join(lines) + b"\n")
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("test")
    monitor = NetworkInterfaceMonitor(proc_root=tmp_path / "proc", sys_root=tmp_path / "sys", interfaces=("*",))
    monitor.register(meter)
    for _ in range(3):
        monitor.sample()
    data: Any = reader.get_metrics_data()
    encode_metrics(data).SerializeToString()  # every name can be sent
    metrics = {
        m.name: m.data.data_points for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics
    }
    points = metrics[semconv.NIC_IO.name]
    assert 1000 < len(points) <= LIMIT + 1
    assert sum("otel.metric.overflow" in point.attributes for point in points) == 1


def test_a_device_whose_name_cannot_be_sent_is_left_out(tmp_path: Path) -> None:
    for name in (b"good", b"b\xffd"):
        folder = os.fsencode(tmp_path) + b"/sys/class/net/" + name
        os.makedirs(folder + b"/device")
        Path(os.fsdecode(folder + b"/carrier_changes")).write_text("3\n")
    monitor = KernelNetworkMonitor(proc_root=tmp_path / "proc", sys_root=tmp_path / "sys")
    assert monitor.run_once()
    assert [attributes[semconv.INTERFACE] for _, _, attributes in monitor.points()] == ["good"]
