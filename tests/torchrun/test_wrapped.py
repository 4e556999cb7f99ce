"""A call that its group makes of calls of another, inner one is one call."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torchrun.harness import SEAMS, forked
from tests.torchrun.test_all_reduce import attribute, collectives

CALLS = ("all_reduce", "all_gather_into_tensor", "broadcast", "all_reduce", "barrier")


@pytest.mark.parametrize("capture", SEAMS)
def test_what_a_wrapper_calls_is_not_seen_again(capture: str, tmp_path: Path) -> None:
    """At that level torch wraps the backend: each call goes with an all_gather and a barrier of a helper group."""
    run = forked("wrapped.py", tmp_path, OTEL_NETMON_CAPTURE=capture, TORCH_DISTRIBUTED_DEBUG="DETAIL")
    assert run.code == 0, run.output
    for report in run.ranks:
        assert report["wrappers"] == ["_ProcessGroupWrapper"]
        seen = {(attribute(s, "group.name"), attribute(s, "collective.sequence")): s for s in collectives(report)}
        assert len(seen) == len(collectives(report))
        assert len(set(report["names"])) == 3  # or they count together
        assert {key: span["name"] for key, span in seen.items()} == {
            (name, number): call for name in report["names"] for number, call in enumerate(CALLS, 1)
        }
