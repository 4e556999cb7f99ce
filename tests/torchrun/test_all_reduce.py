"""all_reduce is seen from every caller, once, and counted against gloo's own Flight Recorder."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from otel_netmon import semconv
from tests.torchrun.harness import SEAMS, Run, forked

TD = "torch.distributed."
RANKS = 3


@pytest.fixture(scope="module", params=SEAMS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("all_reduce")
    finished = forked("all_reduce.py", folder, ranks=RANKS, OTEL_NETMON_CAPTURE=request.param)
    assert finished.code == 0, finished.output
    return finished


def all_reduces(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [span for span in report["spans"] if span["name"] == "all_reduce"]


def collectives(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [span for span in report["spans"] if span["name"] not in semconv.SPAN_PERIODS]


def attribute(span: dict[str, Any], name: str) -> Any:
    return span["attributes"].get(TD + name)


def test_every_all_reduce_is_seen_once(run: Run) -> None:
    for report in run.ranks:
        truth = Counter(
            (entry["process_group"][0], entry["profiling_name"].removeprefix("gloo:"), entry["collective_seq_id"])
            for entry in report["entries"]
        )
        seen = Counter(
            (attribute(span, "group.name"), span["name"], attribute(span, "collective.sequence"))
            for span in collectives(report)
        )
        # The second default group was made after the Flight Recorder was read.
        assert seen - truth == Counter({("0", "all_reduce", 1): 1})
        assert truth - seen == Counter()
        assert sum(name == "all_reduce" for _, name, _ in truth) > 20


def test_metrics_count_what_the_spans_count(run: Run) -> None:
    for report in run.ranks:
        spans = Counter((span["name"], attribute(span, "group.name")) for span in collectives(report))
        points = report["metrics"][TD + "collective.duration"]
        assert spans == {
            (p["attributes"][TD + "collective.name"], p["attributes"][TD + "group.name"]): p["count"]
            for p in points
        }
        sizes = sum(attribute(span, "collective.size") for span in collectives(report))
        assert sum(p["sum"] for p in report["metrics"][TD + "collective.size"]) == sizes
        assert sum(p["value"] for p in report["metrics"][TD + "collective.io"]) == sizes
        assert all(p["value"] == 0 for p in report["metrics"][TD + "collective.active"])
        assert all(p["value"] == 0 for p in report["metrics"]["otel_netmon.events.dropped"])


def test_attributes_of_a_call(run: Run, request: pytest.FixtureRequest) -> None:
    knows_reduce_op = request.node.callspec.params["run"] == "dispatcher"  # the hooks are not told
    for rank, report in enumerate(run.ranks):
        plain, maximum, product, async_one, *_ = all_reduces(report)
        assert plain["attributes"] == {
            TD + "collective.name": "all_reduce",
            TD + "collective.sequence": 1,
            TD + "collective.size": 4000,
            TD + "collective.element_count": 1000,
            TD + "collective.dtype": "float32",
            **({TD + "collective.reduce_op": "sum"} if knows_reduce_op else {}),
            TD + "collective.async": False,
            TD + "collective.clock": "host",
            TD + "collective.algbw": attribute(plain, "collective.algbw"),
            TD + "collective.busbw": pytest.approx(attribute(plain, "collective.algbw") * 2 * (RANKS - 1) / RANKS),
            TD + "group.name": "0",
            TD + "group.size": RANKS,
            TD + "group.rank": rank,
            TD + "backend": "gloo",
            TD + "rank": rank,
        }
        assert plain["kind"] == "SpanKind.INTERNAL"
        assert plain["status"] == {"status_code": "UNSET"}
        assert attribute(maximum, "collective.reduce_op") == ("max" if knows_reduce_op else None)
        assert attribute(product, "collective.reduce_op") == ("product" if knows_reduce_op else None)
        assert attribute(product, "collective.dtype") == "int64"
        assert attribute(product, "collective.size") == 56
        assert attribute(async_one, "collective.async") is True


def test_a_group_of_one_has_no_bus_bandwidth(run: Run) -> None:
    (alone,) = [s for s in all_reduces(run.ranks[-1]) if attribute(s, "group.size") == 1]
    assert attribute(alone, "collective.busbw") is None
    assert attribute(alone, "group.rank") == 0
    (pair,) = [s for s in all_reduces(run.ranks[1]) if attribute(s, "group.size") == 2]
    assert attribute(pair, "group.rank") == 1


def test_ddp_has_several_buckets_a_step(run: Run) -> None:
    (report, *_) = run.ranks
    parents = Counter(span["parent_id"] for span in all_reduces(report))
    steps = [s for s in report["spans"] if s["name"] == "rank_step"]
    per_step = [parents[s["context"]["span_id"]] for s in steps]
    assert len(per_step) == 6  # four optimizer steps, what was open then, and the group's second life
    assert per_step[1] == per_step[2] == per_step[3] > 2  # no_sync adds none
    assert [attribute(step, "step.incomplete") for step in steps] == [None] * 4 + [True] * 2


def test_one_trace_per_step_on_all_ranks(run: Run) -> None:
    traces = [
        {attribute(s, "step"): s["context"]["trace_id"] for s in report["spans"] if s["name"] == "rank_step"}
        for report in run.ranks
    ]
    assert traces[0] == traces[1] == traces[2]
    assert len(set(traces[0].values())) == 6  # the last is of the second life of the default group
    spans = [span for report in run.ranks for span in report["spans"]]
    ids = {span["context"]["span_id"] for span in spans}
    assert len(ids) == len(spans)
    roots = [span for span in spans if span["parent_id"] is None]
    assert Counter(span["name"] for span in roots) == {"train_step": 6, "setup": 1}
    assert {attribute(span, "rank") for span in roots} == {0}
    orphans = [span for span in spans if span["parent_id"] is not None and span["parent_id"] not in ids]
    assert not orphans, [(span["name"], span["attributes"]) for span in orphans]
