"""Steps of DDP with many buckets, in blocks that are captured or not, turn by turn; rank 0 prints both as JSON."""

import json
import statistics
import sys
import time

import torch
import torch.distributed as dist
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from benchmarks.bench_events import Nowhere
from otel_netmon import TorchDistributedInstrumentor

BLOCKS, STEPS, LAYERS = 16, 6, 24

torch.set_num_threads(1)
torch.manual_seed(0)
dist.init_process_group("gloo")
model = torch.nn.Sequential(*[torch.nn.Linear(448, 448, bias=False) for _ in range(LAYERS)])
ddp = torch.nn.parallel.DistributedDataParallel(model, bucket_cap_mb=0.5)
optimizer = torch.optim.SGD(ddp.parameters(), lr=1e-4)
batch = torch.randn(192, 448)
tracer_provider = TracerProvider(shutdown_on_exit=False)
tracer_provider.add_span_processor(BatchSpanProcessor(Nowhere()))
meter_provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
times: dict[bool, list[float]] = {False: [], True: []}
for block in range(2 * BLOCKS):
    captured = block % 4 in (1, 2)  # off on on off: a drift cancels out
    if captured:
        TorchDistributedInstrumentor().instrument(tracer_provider=tracer_provider, meter_provider=meter_provider)
    for step in range(STEPS):
        dist.barrier()
        start = time.perf_counter()
        ddp(batch).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if step:  # the first of a block starts the background
            times[captured].append(time.perf_counter() - start)
    if captured:
        TorchDistributedInstrumentor().uninstrument()
if dist.get_rank() == 0:
    plain, ours = statistics.median(times[False]), statistics.median(times[True])
    sys.stdout.write(json.dumps({"steps": len(times[True]), "plain": plain, "captured": ours}) + "\n")
dist.destroy_process_group()
