"""What the user lets go of is gone, and what nobody can tell the end of is not said to hang."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.torchrun.harness import SEAMS, forked

TD = "torch.distributed."


@pytest.mark.parametrize("capture", SEAMS)
def test_handles_live_as_long_as_their_users_want(capture: str, tmp_path: Path) -> None:
    run = forked(
        "handles.py",
        tmp_path,
        OTEL_NETMON_CAPTURE=capture,
        OTEL_NETMON_STALL_AFTER="1",
        OTEL_NETMON_EMIT_INTERVAL="0.2",
    )
    assert run.code == 0, run.output
    sender, receiver = run.ranks
    assert sender["grew"] < 60, "200 MiB were sent"
    assert sender["gone"] and all(sender["gone"]) and all(receiver["gone"])
    assert "send number" not in run.output and "recv number" not in run.output
    assert run.output.count("all_reduce number") == 1  # rank 0 waited for rank 1

    sends = [span["attributes"] for span in sender["spans"] if span["name"] == "send"]
    states = Counter(one.get(TD + "collective.state") for one in sends)
    assert len(sends) == 200 + 6 + 300
    # dropped: the end of the handle is a bound. Waited for: as measured. Kept: in flight, for all that is known.
    assert states["late"] >= 200 + 3 and states["in_flight"] == 300
    assert all(TD + "collective.algbw" not in one for one in sends if one.get(TD + "collective.state"))
