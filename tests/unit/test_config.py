"""Settings: defaults, what is refused, and what is said about it."""

from __future__ import annotations

import copy
import logging
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_netmon import config, semconv
from otel_netmon.values import parse_target


def test_nothing_set_is_the_defaults() -> None:
    assert config.load({"PATH": "/bin"}) == (config.Config(), ())


def test_empty_is_unset() -> None:
    assert config.load({"OTEL_NETMON_INTERVAL": "  "}) == (config.Config(), ())


def test_values_are_parsed() -> None:
    settings, problems = config.load(
        {
            "OTEL_NETMON_INTERVAL": "2.5",
            "OTEL_NETMON_INTERFACES": "eth0, ib*",
            "OTEL_NETMON_LATENCY_TARGETS": "node1:29500,[fe80::1]:22",
            "OTEL_NETMON_CAPTURE": "OFF",
        }
    )
    assert problems == ()
    assert settings.interval == 2.5
    assert settings.interfaces == ("eth0", "ib*")
    assert settings.latency_targets == ("node1:29500", "[fe80::1]:22")
    assert settings.capture == "off"


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("INTERVAL", "fast", "a number from 0.1 to 3600"),
        ("INTERVAL", "nan", "a number from 0.1 to 3600"),
        ("RING_SIZE", "3.5", "a whole number from 16 to"),
        ("CAPTURE", "maybe", "one of auto, "),
        ("LATENCY_TARGETS", "example", "host:port pairs"),
        ("LATENCY_TARGETS", "::1:22", "host:port pairs"),
        ("LATENCY_TARGETS", "a:70000", "host:port pairs"),
        ("INTERFACES", " , ", "names or globs"),
        *(
            ("TRACE_RANKS", value, "ranks and ranges of ranks")
            for value in ("/0", "/", "a", "3-1", "-1", "1-", ",", "9" * 12)
        ),
    ],
)
def test_a_bad_value_is_named_with_what_is_accepted(name: str, value: str, accepted: str) -> None:
    settings, (problem,) = config.load({f"OTEL_NETMON_{name}": value})
    assert settings == config.Config()
    assert f"OTEL_NETMON_{name}={value.strip()!r} is not {accepted}" in problem
    assert "using the default" in problem


def test_an_unknown_name_gets_the_nearest() -> None:
    environ = {"OTEL_NETMON_LATENCY_TARGET": "a:1"}
    assert config.load(environ)[1] == ()
    (problem,) = config.unknown(environ)
    assert "OTEL_NETMON_LATENCY_TARGET is not a variable" in problem
    assert "did you mean OTEL_NETMON_LATENCY_TARGETS?" in problem


def test_each_problem_is_warned_of_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("OTEL_NETMON_INTERVAL", "fast")
    config.current.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert config.current() is config.current()
        assert len(caplog.records) == 1
    finally:
        config.current.cache_clear()


@given(st.dictionaries(st.sampled_from([v.name for v in config.VARIABLES]), st.text(max_size=200)))
def test_no_text_raises(environ: dict[str, str]) -> None:
    config.load(environ)


@given(st.text(max_size=60))
def test_a_target_parses_or_is_a_value_error(text: str) -> None:
    try:
        host, port = parse_target(text)
    except ValueError:
        return
    assert host
    assert 0 < port < 65536


@pytest.mark.parametrize(
    ("text", "ranks"),
    [("0", {0}), ("1, 3", {1, 3}), ("2-4,8", {2, 3, 4, 8}), ("/4", {0, 4, 8}), ("/1", set(range(10)))],
)
def test_ranks_are_listed_or_every_nth(text: str, ranks: set[int]) -> None:
    chosen = config.load({"OTEL_NETMON_TRACE_RANKS": text})[0].trace_ranks
    assert chosen is not None and {rank for rank in range(10) if rank in chosen} == ranks


def test_an_attribute_is_copied_as_a_plain_string() -> None:
    for again in (copy.deepcopy(semconv.RANK), pickle.loads(pickle.dumps(semconv.RANK)), copy.copy(semconv.RANK)):
        assert type(again) is str and again == semconv.RANK == "torch.distributed.rank"
