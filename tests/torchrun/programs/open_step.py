"""A step that stays open for seconds, in which things move: tells which log events had gone out before its end."""

import sys
import time

import torch
import torch.distributed as dist
from opentelemetry import _logs as logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from otel_netmon import NetmonInstrumentor
from tests.torchrun.programs.captured import Captured, write

exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # untyped in the SDK
provider = LoggerProvider()
provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
logs.set_logger_provider(provider)
captured = Captured()
NetmonInstrumentor().instrument()
dist.init_process_group("gloo")
weights = torch.nn.Linear(100, 100)
optimizer = torch.optim.SGD(weights.parameters(), lr=0.1)


def step(seconds: float) -> None:
    end = time.monotonic() + seconds
    going = torch.ones(1)
    while going:
        for parameter in weights.parameters():
            parameter.grad = torch.ones_like(parameter)
            dist.all_reduce(parameter.grad)
        time.sleep(0.1)
        going = torch.tensor([float(time.monotonic() < end)])
        dist.all_reduce(going, op=dist.ReduceOp.MIN)
    optimizer.step()


def told() -> list[dict[str, object]]:
    return [
        {
            "time": one.log_record.timestamp,
            "trace": f"{one.log_record.trace_id:032x}",
            **(one.log_record.attributes or {}),
        }
        for one in exporter.get_finished_logs()
        if one.log_record.event_name == "tcp.peer"
    ]


for _ in range(2):  # only the second shows that one call of the optimizer is a step
    step(0)
opened = time.time_ns()
step(float(sys.argv[2]))
before = told()
step(0)
dist.barrier()
write(sys.argv[1], dist.get_rank(), {**captured.report(), "opened": opened, "before": before, "after": told()})
