"""Rank 1 comes three seconds late to an all_reduce; rank 0 tells what it saw of that while it waited."""

import json
import sys
import threading
import time

import torch
import torch.distributed as dist
from opentelemetry import _logs as logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from tests.torchrun.programs.captured import Captured, write

exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # untyped in the SDK
provider = LoggerProvider()
provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
logs.set_logger_provider(provider)
captured = Captured()
dist.init_process_group("gloo")
rank = dist.get_rank()
seen: dict[str, object] = {}


def watch() -> None:
    time.sleep(2)
    seen["age"] = captured.metrics().get("torch.distributed.collective.in_flight.age", [])
    seen["logs"] = [
        json.loads(one.log_record.to_json() if hasattr(one.log_record, "to_json") else one.to_json())
        for one in exporter.get_finished_logs()
    ]


dist.all_reduce(torch.ones(8))
watcher = threading.Thread(target=watch)
watcher.start()
if rank == 1:
    time.sleep(3)
dist.all_reduce(torch.ones(1000))
watcher.join()
time.sleep(0.5)
seen["age after"] = captured.metrics().get("torch.distributed.collective.in_flight.age", [])
dist.barrier()
write(sys.argv[1], rank, {**captured.report(), **seen})
