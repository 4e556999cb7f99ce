"""Sends spans through ``otel_netmon_otlp`` and ends in the way given: ``end``, ``_exit`` or ``SIGKILL``."""

import os
import signal
import sys
import time

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_netmon.delivery.exporters import OtlpSpanExporter

how, count, wait = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
provider = TracerProvider()
exporter = OtlpSpanExporter()
provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=100))
tracer = provider.get_tracer("test")
for number in range(count):
    tracer.start_span(f"span {number}").end()
    if number % 50 == 49:
        time.sleep(0.05)
if how != "end":
    time.sleep(1)
if wait:
    time.sleep(2)
print("last line", flush=True)
if how == "_exit":
    os._exit(7)
if how == "SIGKILL":
    os.kill(os.getpid(), signal.SIGKILL)
