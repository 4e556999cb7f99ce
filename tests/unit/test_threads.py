"""Threads and events of the system's own, also where greenlets stand in their place."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time

import pytest

from otel_netmon import threads


def test_others_get_their_turn_after_a_while_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10**9]
    slept: list[float] = []
    done: list[int] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += int(seconds * 1e9)

    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    pace, items = threads.Pace(), list(range(10))
    pace.give_way()
    assert len(slept) == 1  # nobody knows for how long it has been running
    for piece in pace.pieces(items, 4):
        done += piece
        now[0] += 200_000
    assert done == items and len(slept) == 2  # after 0.4 ms
    pace.rest(1)
    pace.give_way()
    assert slept[2:] == [1]
    monkeypatch.undo()
    ran, stopping = [], threading.Event()

    def count() -> None:
        while not stopping.is_set():
            ran.append(1)
            time.sleep(0.00005)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # only what is given up of itself
    other = threading.Thread(target=count)
    try:
        other.start()
        del ran[:]
        for _ in pace.pieces(range(100), 1):
            until = time.perf_counter() + 0.0005
            while time.perf_counter() < until:
                pass
        found = len(ran)
    finally:
        sys.setswitchinterval(before)
        stopping.set()
        other.join()
    assert found > 20


def test_an_event_is_as_python_has_it() -> None:
    event = threads.Event()
    assert not event.is_set() and not event.wait(0.01)
    done = []

    def wait() -> None:
        for _ in range(100):
            assert event.wait(10)
        done.append(1)

    running = [threads.start(wait, "test") for _ in range(20)]
    event.set()
    event.set()
    for one in running:
        one.join(10)
    assert len(done) == 20 and event.is_set() and event.wait(0)
    event.clear()
    event.clear()
    assert not event.is_set() and not event.wait(0)


def test_no_wakeup_is_lost() -> None:
    event, count = threads.Event(), 0
    ready = threads.Event()

    def wake() -> None:
        for _ in range(2000):
            ready.wait(10)
            ready.clear()
            event.set()

    running = threads.start(wake, "test")
    for _ in range(2000):
        ready.set()
        assert event.wait(10)
        event.clear()
        count += 1
    running.join(10)
    assert count == 2000 and not running.is_alive()


def test_a_thread_is_a_daemon_with_a_name() -> None:
    hold = threads.Event()

    def wait() -> None:
        hold.wait(10)

    running = threads.start(wait, "otel-netmon-test")
    assert [one.daemon for one in threading.enumerate() if one.name == "otel-netmon-test"] == [True]
    hold.set()
    running.join(10)
    assert not running.is_alive()


@pytest.mark.parametrize("first", ["we", "gevent"])
def test_greenlets_do_not_stop_what_runs_beside_the_training(first: str) -> None:
    """A program under gevent trains, with spans, and ends; so does what of ours waits in the system."""
    pytest.importorskip("gevent", reason="pip install gevent")
    pytest.importorskip("torch", reason="pip install torch")
    instrument = """
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        from otel_netmon import NetmonInstrumentor, TorchDistributedInstrumentor
        kept, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(kept))
        NetmonInstrumentor().instrument()
        TorchDistributedInstrumentor().instrument(tracer_provider=provider)
    """
    patch = "from gevent import monkey; monkey.patch_all()"
    head = [patch, textwrap.dedent(instrument)] if first == "gevent" else [textwrap.dedent(instrument), patch]
    body = """
        import time, torch, torch.distributed as dist
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 4))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(20):
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
            time.sleep(0.05)
        during = len(kept.get_finished_spans())
        dist.destroy_process_group()
        TorchDistributedInstrumentor().uninstrument()
        NetmonInstrumentor().uninstrument()
        print(during > 20, len([s for s in kept.get_finished_spans() if s.name == "rank_step"]), flush=True)
    """
    since = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*head, textwrap.dedent(body)])],
        capture_output=True,
        text=True,
        timeout=60,
        env={"OTEL_NETMON_INTERVAL": "0.2", "OTEL_NETMON_LATENCY_TARGETS": "127.0.0.1:9"},
    )
    assert done.stdout.split() == ["True", "20"], (done.stdout, done.stderr)
    assert time.monotonic() - since < 55
