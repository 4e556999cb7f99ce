"""Forks over and over while spans are exported; each child, and each round of the parent, makes one span."""

import os
import sys
import time

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_netmon.delivery.exporters import OtlpSpanExporter

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OtlpSpanExporter(), schedule_delay_millis=10))
tracer = provider.get_tracer("test")
stuck = 0
for number in range(int(sys.argv[1])):
    tracer.start_span(f"parent {number}").end()
    child = os.fork()
    if child == 0:
        tracer.start_span(f"child {number}").end()
        provider.force_flush(1000)
        os._exit(0)
    deadline = time.monotonic() + 20
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, 9)
            os.waitpid(child, 0)
            stuck += 1
            break
        time.sleep(0.001)
print(f"stuck {stuck}", flush=True)
