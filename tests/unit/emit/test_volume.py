"""What goes out of a large job: each step of each rank, and collectives of few of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_netmon import semconv
from otel_netmon.config import Config
from otel_netmon.emit.chosen import FULL_UP_TO, MOST_SPANS, Chosen, is_full
from otel_netmon.emit.intervals import of_step
from otel_netmon.emit.spans import SpanWriter
from otel_netmon.job import identity
from otel_netmon.job.roles import RankIdentity
from otel_netmon.job.slow_steps import Judged
from otel_netmon.job.steps import Step, StepMarks
from otel_netmon.records import Call, RankStep
from otel_netmon.store.problems import Problems
from otel_netmon.store.reader import read
from tests.unit.emit.a_rank import RUN, Rank, context, job_of, settings_with
from tests.unit.emit.test_evidence import events_in, record_of

MS = 1_000_000
NAME = semconv.EVENT_OF_PERIOD["rank_step"]


def a_rank(folder: Path, rank: int = 0, **more: Any) -> Rank:
    return Rank(rank, ranks=128, hold=10_000, steps_dir=folder, **more)


def train(rank: Rank, lengths: list[int], *, first: int = 0, calls: int = 2) -> None:
    """Steps of so many ms, with some collectives each."""
    start = rank.made + 1000 * MS * first
    for number, length in enumerate(lengths, first):
        end = start + length * MS
        step = Step(number, last_boundary=number + 1, start=start, end=end, key=f"{number}.0")
        events = [
            rank.event(boundary=number, start=start + (n + 1) * MS, end=start + (n + 2) * MS) for n in range(calls)
        ]
        for n, event in enumerate(events):
            event.sequence = number * calls + n + 1
        rank.play(step, events=events)
        start += 1000 * MS


def steps_of(spans: tuple[ReadableSpan, ...], name: str) -> list[int]:
    return [int(str((span.attributes or {})[semconv.STEP])) for span in spans if span.name == name]


def told(logged: InMemoryLogRecordExporter) -> list[RankStep]:
    found = []
    for event in events_in(logged, NAME):
        said = dict(event.attributes)
        said.pop(semconv.STEP_START)
        found.append(record_of(RankStep, said, name="rank_step"))
    return found


def test_it_is_the_size_of_the_job_that_decides() -> None:
    def full(volume: str, rank: int | None, size: int | None) -> bool:
        return is_full(Config(volume=volume), RankIdentity(rank, rank, size))

    assert full("auto", 0, FULL_UP_TO) and not full("auto", 0, FULL_UP_TO + 1)
    assert full("auto", 0, None) and full("auto", None, 10_000)  # it is not known how many there are
    assert full("full", 0, 10_000) and not full("steps", 0, 2)


def test_each_step_goes_out_and_collectives_of_few(logged: InMemoryLogRecordExporter, tmp_path: Path) -> None:
    rank = a_rank(tmp_path)
    train(rank, [100] * 250)
    spans = rank.exported.get_finished_spans()
    assert steps_of(spans, "train_step") == steps_of(spans, "rank_step") == [0, 100, 200]
    # how many collectives a step has is known after the first
    assert sum(span.name == "all_reduce" for span in spans) == 4
    records = told(logged)
    assert [each.step for each in records] == [n for n in range(250) if n % 100]
    assert {(each.calls, each.collective_count, each.sampled) for each in records} == {((), 2, False)}
    assert all(each.groups[0].last_sequence == 2 * (each.step or 0) + 2 for each in records)


def test_on_the_host_each_step_is_whole(logged: InMemoryLogRecordExporter, tmp_path: Path) -> None:
    train(a_rank(tmp_path), [100] * 30)
    (file,) = tmp_path.glob("*.jsonl")
    found = [each for each in read(file, Problems()) if isinstance(each, RankStep)]
    assert [each.step for each in found] == list(range(30))
    calls = Call("all_reduce", "0", 1000, 1000), Call("all_reduce", "0", 2000, 1000)
    assert {(each.calls, each.sampled) for each in found} == {(calls, False)}


def test_none_is_kept_on_the_host_where_that_is_switched_off(tmp_path: Path) -> None:
    train(a_rank(tmp_path, steps_max_bytes=0), [100] * 30)
    train(Rank(steps_dir=tmp_path), [100] * 30)  # of a small job everything goes out
    assert not list(tmp_path.iterdir())


def test_a_slow_step_is_whole_and_traced(logged: InMemoryLogRecordExporter, tmp_path: Path) -> None:
    rank = a_rank(tmp_path)
    train(rank, [100] * 20 + [130] + [110] * 9)
    spans = rank.exported.get_finished_spans()
    assert steps_of(spans, "train_step") == steps_of(spans, "rank_step") == [0, 20]
    slow = record_of(RankStep, spans[-2].attributes, name="rank_step")
    assert (slow.step, len(slow.calls), slow.sampled) == (20, 2, False)
    assert not any(span.name == "all_reduce" for span in spans)
    assert 20 not in [each.step for each in told(logged)]


def test_a_slow_step_that_the_sampler_does_not_let_be_traced_is_whole_too(
    logged: InMemoryLogRecordExporter, tmp_path: Path
) -> None:
    rank = a_rank(tmp_path, sampler=ALWAYS_OFF)
    train(rank, [100] * 20 + [130] + [110] * 9)
    assert not rank.exported.get_finished_spans()
    assert [each.step for each in told(logged) if each.calls] == [20]


def test_a_rank_waits_for_the_word_of_the_leader(logged: InMemoryLogRecordExporter, tmp_path: Path) -> None:
    rank = a_rank(tmp_path, 7)
    rank.job.slow.share(True)
    train(rank, [100] * 20)
    assert not told(logged) and steps_of(rank.exported.get_finished_spans(), "rank_step") == [0]
    tie = identity.tie_of(identity.trace_id(RUN, "5.0"))
    rank.job.slow.hear(Judged(9, (tie,)))
    train(rank, [100], first=20)
    assert [each.step for each in told(logged)] == [n for n in range(1, 8) if n != 5]
    assert steps_of(rank.exported.get_finished_spans(), "rank_step") == [0, 5]
    train(rank, [115, 100], first=21)
    rank.emitter.finish(RUN)  # the last ones by its own judgement: the leader may find step 21 slow
    assert [each.step for each in told(logged)] == [n for n in range(1, 23) if n not in (5, 21)]
    assert steps_of(rank.exported.get_finished_spans(), "rank_step") == [0, 5, 21]


@pytest.mark.parametrize("volume", [{}, {"volume": "full", "trace_every": 1 << 20}], ids=["steps", "every"])
@pytest.mark.parametrize("error", ["RuntimeError", None])
def test_where_a_collective_fails_the_last_ones_are_spans(
    logged: InMemoryLogRecordExporter, tmp_path: Path, volume: Any, error: str | None
) -> None:
    rank = a_rank(tmp_path, 3, **volume)
    train(rank, [100] * 5)
    rank.exported.clear()
    events = [rank.event(boundary=5, start=n * MS + 1, end=n * MS + 2) for n in range(60)]
    events[-1].end, events[-1].error = (events[-1].end if error else None), error
    for n, event in enumerate(events):
        event.sequence = n + 1
    rank.emitter.marks(StepMarks([], 5, 5, "5.0"))
    for few in events[:50], events[50:]:
        rank.emitter.take(few)
        rank.emitter.emit(RUN)
    rank.emitter.finish(RUN, Step(5, 6, 0, 100 * MS, complete=False, key="5.0"), is_present=True)
    *last, step = rank.exported.get_finished_spans()
    most = MOST_SPANS // 128
    sent = [(span.attributes or {})[semconv.COLLECTIVE_SEQUENCE] for span in last]
    assert sent == list(range(61 - most, 61))
    assert (step.name, {context(span).trace_id for span in last}) == ("rank_step", {context(step).trace_id})
    record = record_of(RankStep, step.attributes, name="rank_step")
    assert (record.incomplete, record.sampled, len(record.calls)) == (True, False, 60)


def test_a_sampler_that_says_no_is_obeyed_then_too(logged: InMemoryLogRecordExporter, tmp_path: Path) -> None:
    rank = a_rank(tmp_path, sampler=ALWAYS_OFF)
    rank.play(Step(0, 1, 0, 5000), events=[rank.event(error="RuntimeError")])
    assert not rank.exported.get_finished_spans() and len(told(logged)) == 1


@pytest.mark.parametrize("size", [65, 128, 1000, 2499, 2501, 10_000])
@pytest.mark.parametrize("calls", [1, 25, 200, 4000])
def test_a_trace_has_no_more_spans_than_a_backend_takes(size: int, calls: int) -> None:
    spans = 1
    with_calls = 0
    writer = SpanWriter(Rank().provider)
    assert writer.ready()
    for rank in range(size):
        chosen = Chosen(settings_with(), job_of(rank, ranks=size), writer)
        chosen.learn(calls)
        makes = chosen.has_calls(RUN, of_step(100))
        assert chosen.has(RUN, of_step(100)) and not chosen.has(RUN, of_step(101))
        assert chosen.has_rank or not makes  # each span has its parent
        spans += chosen.has_rank + makes * calls
        with_calls += makes
    assert spans <= MOST_SPANS + calls and with_calls >= 1
    assert spans >= MOST_SPANS / 3 or with_calls == size or spans + calls > MOST_SPANS


def test_a_step_with_more_collectives_than_a_trace_may_have_spans_has_none_of_them() -> None:
    writer = SpanWriter(Rank().provider)
    assert writer.ready()
    chosen = Chosen(settings_with(), job_of(0, ranks=100), writer)
    chosen.learn(MOST_SPANS + 1)
    assert not chosen.has_calls(RUN, of_step(100))
