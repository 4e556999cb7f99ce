"""Each operation of gloo is seen under its PyTorch name, with nccl-tests' size and factor."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from otel_netmon import semconv
from tests.torchrun.harness import SEAMS, Run, forked
from tests.torchrun.test_all_reduce import attribute, collectives

N = 3
SHARE = (N - 1) / N

# name, elements counted by bandwidth, busbw / algbw (None: no formula)
EXPECTED: list[tuple[str, int | None, float | None]] = [
    ("broadcast", 10, 1),
    ("reduce", 10, 1),
    ("all_gather", 10 * N, SHARE),
    ("all_gather_into_tensor", 10 * N, SHARE),
    ("gather", 10 * N, SHARE),
    ("scatter", 10 * N, SHARE),
    ("reduce_scatter", 10 * N, SHARE),
    ("reduce_scatter_tensor", 10 * N, SHARE),
    ("all_to_all", 10 * N, SHARE),
    ("all_to_all_single", 10 * N, SHARE),
    ("all_to_all_single", 6, None),  # unequal splits
    ("barrier", None, None),
    ("monitored_barrier", None, None),
    ("all_reduce_coalesced", 30, 2 * SHARE),
    ("all_reduce", 3, 2 * SHARE),
    ("barrier", None, None),
    ("broadcast", 1, 1),
]
SPLIT_EVENLY = EXPECTED.index(("all_to_all_single", 10 * N, SHARE))


@pytest.fixture(scope="module", params=SEAMS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("every_operation")
    finished = forked("every_operation.py", folder, ranks=N, OTEL_NETMON_CAPTURE=request.param)
    assert finished.code == 0, finished.output
    return finished


def test_each_operation(run: Run, request: pytest.FixtureRequest) -> None:
    expected = list(EXPECTED)
    if request.node.callspec.params["run"] in ("hooks", "native"):  # which do not say whether the splits are equal
        expected[SPLIT_EVENLY] = ("all_to_all_single", 10 * N, None)
    for rank, report in enumerate(run.ranks):
        spans = [s for s in collectives(report) if s["name"] not in ("send", "recv")]
        spans.sort(key=lambda span: attribute(span, "collective.sequence"))
        seen = []
        for span in spans:
            algbw, busbw = attribute(span, "collective.algbw"), attribute(span, "collective.busbw")
            factor = None if busbw is None else pytest.approx(busbw / algbw)
            seen.append((span["name"], attribute(span, "collective.element_count"), factor))
        assert seen == expected
        assert [attribute(span, "collective.sequence") for span in spans] == list(range(1, len(EXPECTED) + 1))

        sizes = {s["name"]: attribute(s, "collective.size") for s in spans}
        assert sizes["all_gather"] == 4 * 10 * N
        assert sizes["all_reduce"] == 3 * 4  # sparse: the bytes of its values
        assert sizes["barrier"] is None

        p2p = Counter(s["name"] for s in collectives(report) if s["name"] in ("send", "recv"))
        assert p2p == ({"send": 3, "recv": 1} if rank == 0 else {"send": 1, "recv": 2})
        assert all(
            attribute(s, "collective.sequence") is None
            for s in collectives(report)
            if s["name"] in ("send", "recv")
        )
        assert not any(point["value"] for point in report["metrics"]["otel_netmon.events.dropped"])


UNRECORDED = {"send", "recv", "monitored_barrier"}  # gloo's Flight Recorder has no entry for these


def as_the_flight_recorder_has_it(span: dict[str, Any]) -> dict[str, int]:
    """The entries that gloo's Flight Recorder makes of a call: it knows fewer operations than PyTorch."""
    name = span["name"]
    if name in UNRECORDED:
        return {}
    if name == "reduce_scatter":
        return {"all_reduce": N}  # gloo makes it of one for each rank
    if name == "all_reduce" and attribute(span, "collective.element_count") == 3:
        return {"sparse_all_reduce": 1}
    names = {"all_gather_into_tensor": "all_gather", "all_to_all_single": "all_to_all"}
    names |= {"reduce_scatter_tensor": "all_reduce", "all_reduce_coalesced": "all_reduce"}
    return {names.get(name, name): 1}


def test_the_flight_recorder_agrees(run: Run) -> None:
    for report in run.ranks:
        truth = Counter(entry["profiling_name"].removeprefix("gloo:") for entry in report["entries"])
        seen: Counter[str] = Counter()
        for span in collectives(report):
            seen.update(as_the_flight_recorder_has_it(span))
        assert seen == truth


def test_from_the_flight_recorder_alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is in torch; every entry of the recorder is a span, with its size, and none claims a duration."""
    folder = tmp_path_factory.mktemp("polled")
    run = forked("every_operation.py", folder, ranks=N, OTEL_NETMON_CAPTURE="flight_recorder")
    assert run.code == 0, run.output
    for report in run.ranks:
        spans = [s for s in report["spans"] if s["name"] in semconv.SPAN_COLLECTIVES]
        seen = Counter((s["name"], attribute(s, "collective.sequence")) for s in spans)
        named = {"sparse_all_reduce": "all_reduce"}
        truth_ = Counter(
            (named.get(name, name), entry["collective_seq_id"])
            for entry in report["entries"]
            for name in [entry["profiling_name"].removeprefix("gloo:")]
        )
        assert seen == truth_
        assert sum(seen.values()) > 10
        assert {attribute(s, "collective.state") for s in spans} == {"late"}
        assert not any(attribute(s, "collective.algbw") for s in spans)
        sizes = {s["name"]: attribute(s, "collective.size") for s in spans}
        assert (sizes["broadcast"], sizes["all_gather"]) == (4, 4 * 10 * N)
        assert len({s["context"]["trace_id"] for s in spans}) == 1
