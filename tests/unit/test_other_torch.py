"""A torch that lacks one of the private names that we lean on: what is lost, and that the rest lives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("torch", reason="pip install torch")

STEPS = 8
WHOLE = {"all_reduces": STEPS + 1, "steps": STEPS + 1, "rank": ["0"], "data": True, "changed": [], "left": False}
NOTHING = {**WHOLE, "all_reduces": 0, "steps": 0, "rank": [], "data": False}
LOST: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, ""),
    "c10d._register_process_group": ({}, "groups are found when they are first looked for"),
    "c10d._update_default_pg": ({}, "what a job recorded at its very end"),
    "c10d._unregister_all_process_groups": ({}, "nothing is exported at once"),
    "c10d._world": ({}, ""),
    "c10d._world.pg_map": ({}, ""),
    "c10d.GroupMember": ({}, ""),
    "dataloader._BaseDataLoaderIter": ({"data": False}, "the time in data loaders is not measured"),
    "optimizer.register_optimizer_step_post_hook": ({"steps": 1}, "steps do not end with optimizers"),
    "_C._dynamo.eval_frame.set_code_exec_strategy": ({}, "no way to keep our code out of torch.compile"),
    "ProcessGroup._get_backend": ({}, ""),
    "ProcessGroup.register_pre_hook": ({}, ""),
    "_distributed_c10d.HookOpName": ({}, ""),
}
WITHOUT_KERNELS = ("_C._dispatch_keyset_full_after", "ProcessGroup.unbox")
"""What the dispatcher's kernels are made with: where those are all that there is, nothing is captured."""


ENVIRON = {
    "native, if it is built": {},
    "hooks, if there are any": {"OTEL_NETMON_NATIVE_DIR": "/nothing-is-built-here"},
    "dispatcher": {"OTEL_NETMON_CAPTURE": "dispatcher"},
}


@pytest.fixture(scope="module", params=ENVIRON)
def seen(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.unit.other_torch"],
        env={**os.environ, **ENVIRON[request.param]},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stderr
    return request.param, json.loads(done.stdout)


def test_each_name_costs_only_what_it_gives(seen: tuple[str, dict[str, Any]]) -> None:
    from otel_netmon.capture.backends import hooks

    capture, cases = seen
    has_hooks = capture != "dispatcher" and hooks.are_available()
    expected = {name: {**WHOLE, **lost} for name, (lost, _) in LOST.items()}
    for name in WITHOUT_KERNELS:
        expected[name] = WHOLE if has_hooks else NOTHING
    found = {name: {key: one.get(key, one.get("raised")) for key in WHOLE} for name, one in cases.items()}
    assert found == {name: expected[name] for name in cases}
    assert set(cases) >= set(expected) - {"ProcessGroup.register_pre_hook", "_distributed_c10d.HookOpName"}


def test_what_is_lost_is_said_once(seen: tuple[str, dict[str, Any]]) -> None:
    capture, cases = seen
    for name, one in cases.items():
        _, words = LOST.get(
            name, ({}, "is not captured" if capture != "dispatcher" else "no collective is captured")
        )
        if name in WITHOUT_KERNELS:
            assert len(one["said"]) == 1 and "captured" in one["said"][0], one["said"]
        else:
            assert [words in said for said in one["said"]] == ([True] if words else []), (name, one["said"])
