"""The run id: drawn once, said through the store, and never waited for."""

from __future__ import annotations

import pytest

from otel_netmon.job.identity import RunId
from otel_netmon.job.store import JobStore


class Store:
    """The two operations of a torch store that are used."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def set(self, key: str, value: str) -> None:
        self.values[key] = value.encode()

    def check(self, keys: list[str]) -> bool:
        return all(key in self.values for key in keys)

    def get(self, key: str) -> bytes:
        return self.values[key]


def test_rank_0_says_the_run_id_and_the_others_take_it() -> None:
    store = Store()
    first = RunId(None, 30, store=lambda: JobStore(store), is_first=True)
    other = RunId(None, 30, store=lambda: JobStore(store))
    assert other.resolve() is None
    assert first.resolve() == other.resolve() == first.value
    assert len(first.value or "") == 32


def test_two_runs_never_share_an_id() -> None:
    ids = [RunId(None, 30, store=lambda: JobStore(Store()), is_first=True) for _ in range(2)]
    assert ids[0].resolve() != ids[1].resolve()


def test_a_rank_0_that_says_nothing_is_not_waited_for_without_end(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    run_id = RunId(None, 30, store=lambda: JobStore(Store()), clock=lambda: now[0])
    assert run_id.resolve() is None
    now[0] = 31
    assert run_id.resolve() is not None
    assert "OTEL_NETMON_RUN_ID" in caplog.text


def test_a_dead_store_does_not_raise() -> None:
    class Dead:
        def check(self, _: list[str]) -> bool:
            raise RuntimeError("connection reset")

    run_id = RunId(None, 30, store=lambda: JobStore(Dead()))
    assert run_id.resolve() is None
    assert run_id.resolve(last_call=True) is not None
