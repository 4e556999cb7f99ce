"""Why a collective failed, in a few words that may be sent."""

from __future__ import annotations

from otel_netmon.capture.event import failure_of


class Mute(Exception):
    """Says nothing, and fails at that."""

    def __str__(self) -> str:
        raise ValueError


def test_what_a_failure_says() -> None:
    assert failure_of(RuntimeError("one\n  two")) == ("RuntimeError", "one two")
    assert failure_of(ValueError()) == ("ValueError", None)
    assert failure_of(Mute()) == (f"{__name__}.Mute", None)


def test_the_stack_of_cplusplus_is_left_out() -> None:
    said = "Connection reset by peer\nException raised from read at pair.cc:1 (most recent call first):\nframe #0"
    assert failure_of(RuntimeError(said)).message == "Connection reset by peer"


def test_it_is_bounded_and_can_be_encoded() -> None:
    message = failure_of(RuntimeError("\ud800" + "x" * 10**6)).message
    assert message is not None and len(message) == 255 and message.startswith("?x")
