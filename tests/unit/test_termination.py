"""SIGTERM in real processes: flushed first, then what it would have been."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import pytest

HEAD = """
import os, signal, sys, threading, time
from otel_netmon.termination import Termination

def say(text):
    os.write(1, (text + "\\n").encode())

def flush(dies):
    time.sleep(0.2)
    say(f"flushed {dies}")
"""


def run(body: str, *, wait: float = 0.0, signals: int = 1) -> tuple[int, list[str], float]:
    """Run a program until it says ``ready``, send SIGTERM; its code, other lines, seconds until its end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD + textwrap.dedent(body)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(wait)
    start = time.monotonic()
    for _ in range(signals):
        process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    return process.returncode, out.splitlines(), time.monotonic() - start


STUCK = {
    "in Python": "while True: time.sleep(0.01)",
    # a system call that is begun again after a signal: what a hung collective does
    "in C": "import ctypes\nm = ctypes.create_string_buffer(256)\nl = ctypes.CDLL(None)\n"
    "l.pthread_mutex_lock(m)\nl.pthread_mutex_lock(m)",
}


@pytest.mark.parametrize("where", STUCK)
@pytest.mark.row("SIGTERM, the main thread in Python or stuck in C")
def test_it_is_flushed_and_dies_of_the_signal(where: str) -> None:
    code, lines, took = run(f"Termination(flush, 4).install()\nsay('ready')\n{STUCK[where]}", signals=3)
    assert (code, lines) == (-signal.SIGTERM, ["flushed True"])
    assert took < 5


@pytest.mark.row("SIGTERM, the main thread in Python or stuck in C")
def test_a_flush_that_hangs_is_left_behind() -> None:
    code, lines, took = run(
        "def flush(dies): time.sleep(60)\n"
        "Termination(flush, 0.5).install()\nsay('ready')\nwhile True: time.sleep(0.01)"
    )
    assert (code, lines) == (-signal.SIGTERM, [])
    assert took < 4


@pytest.mark.row("SIGTERM, the main thread in Python or stuck in C")
def test_the_users_handler_decides() -> None:
    body = """
        ended = []
        signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
        Termination(flush, 4).install()
        say('ready')
        while not ended: time.sleep(0.01)
        time.sleep(0.5)
        say('checkpoint written')
        sys.exit(3)
    """
    code, lines, _ = run(body)
    assert code == 3
    assert lines == ["flushed False", "checkpoint written"]


def test_a_handler_that_comes_later_is_the_users_too() -> None:
    """As Lightning's: it looks whether there is one first."""
    body = """
        Termination(flush, 4).install()
        if signal.getsignal(signal.SIGTERM) in (None, signal.SIG_DFL):
            signal.signal(signal.SIGTERM, lambda *_: (say('theirs'), os._exit(4)))
        say('ready')
        while True: time.sleep(0.01)
    """
    code, lines, _ = run(body)
    assert (code, lines) == (4, ["theirs"])


def test_what_is_ignored_stays_ignored_and_all_is_put_back() -> None:
    body = """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        Termination(flush, 4).install()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for _ in range(100):
            one = Termination(flush, 4)
            one.install()
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            one.remove()
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            assert signal.set_wakeup_fd(-1) == -1
        time.sleep(0.5)
        assert threading.active_count() == 1, threading.enumerate()
        assert len(os.listdir('/proc/self/fd')) < 12
        say('ready')
        time.sleep(60)
    """
    code, lines, _ = run(body)
    assert (code, lines) == (-signal.SIGTERM, [])


def test_a_forked_child_dies_as_it_would() -> None:
    body = """
        one = Termination(flush, 4)
        one.install()
        os.register_at_fork(after_in_child=one.after_fork_in_child)
        child = os.fork()
        if child == 0:
            while True: time.sleep(0.01)
        time.sleep(0.2)
        os.kill(child, signal.SIGTERM)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        say('ready')
        time.sleep(0.3)
        say(f"child {code}")
        while True: time.sleep(0.01)
    """
    code, lines, _ = run(body, wait=1)
    assert (code, lines) == (-signal.SIGTERM, ["child -15", "flushed True"])


def test_a_handler_that_chains_to_what_it_found_is_not_killed() -> None:
    """It calls what stood before, if that can be called: the default could not, and so ours must return."""
    body = """
        Termination(flush, 4).install()
        before, ended = signal.getsignal(signal.SIGTERM), []

        def handler(number, frame):
            if callable(before):
                before(number, frame)
            ended.append(1)

        signal.signal(signal.SIGTERM, handler)
        say('ready')
        while not ended: time.sleep(0.01)
        say('checkpoint written')
        sys.exit(3)
    """
    code, lines, _ = run(body)
    assert (code, lines) == (3, ["flushed False", "checkpoint written"])


TAKEN = {
    "by a plain descriptor": """
        import socket
        theirs, other = socket.socketpair()
        other.setblocking(False)
        old = signal.set_wakeup_fd(other.fileno())
        assert old == -1, old
    """,
    "and given back": """
        import socket
        theirs, other = socket.socketpair()
        other.setblocking(False)
        old = signal.set_wakeup_fd(other.fileno())
        assert signal.set_wakeup_fd(old) == other.fileno()
    """,
    "and set to none": """
        import socket
        theirs, other = socket.socketpair()
        other.setblocking(False)
        signal.set_wakeup_fd(other.fileno())
        assert signal.set_wakeup_fd(-1) == other.fileno()
    """,
    "by an event loop that has ended": """
        import asyncio

        async def main():
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: None)
            await asyncio.sleep(0.01)

        asyncio.run(main())
    """,
    "by the original function": """
        import _signal, socket
        theirs, other = socket.socketpair()
        other.setblocking(False)
        _signal.set_wakeup_fd(other.fileno())
    """,
    "before": "",
}


# Where the descriptor is taken past the replaced function, and no Python runs either, nothing of ours is woken.
@pytest.mark.parametrize(
    ("taken", "where"),
    [
        (taken, where)
        for taken in TAKEN
        for where in STUCK
        if (taken, where) != ("by the original function", "in C")
    ],
)
@pytest.mark.row("SIGTERM, the main thread in Python or stuck in C")
def test_the_flush_comes_whoever_takes_the_wakeup_descriptor(taken: str, where: str) -> None:
    first = ""
    if taken == "before":
        first = (
            "import socket\na, b = socket.socketpair()\nb.setblocking(False)\nsignal.set_wakeup_fd(b.fileno())\n"
        )
    body = f"{first}Termination(flush, 4).install()\n{textwrap.dedent(TAKEN[taken])}\nsay('ready')\n{STUCK[where]}"
    code, lines, took = run(body)
    assert (code, lines) == (-signal.SIGTERM, ["flushed True"])
    assert took < 5


def test_an_event_loop_hears_its_signals_and_decides() -> None:
    body = """
        import asyncio
        Termination(flush, 4).install()

        async def main():
            loop, stop = asyncio.get_running_loop(), asyncio.Event()
            loop.add_signal_handler(signal.SIGTERM, stop.set)
            loop.add_signal_handler(signal.SIGUSR1, lambda: say('usr1'))
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.sleep(0.1)
            say('ready')
            await stop.wait()
            await asyncio.sleep(0.4)
            say('loop ended')

        asyncio.run(main())
        sys.exit(5)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD + textwrap.dedent(body)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "usr1\n"
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out.splitlines()) == (5, ["flushed False", "loop ended"])


def test_nothing_is_lost_where_an_event_loop_owns_the_wakeup_descriptor() -> None:
    body = """
        import socket
        original = signal.signal, signal.set_wakeup_fd
        theirs, other = socket.socketpair()
        other.setblocking(False)
        signal.set_wakeup_fd(other.fileno())
        before = len(os.listdir('/proc/self/fd'))
        one = Termination(flush, 4)
        for _ in range(100):
            one.install()
            one.remove()
        time.sleep(0.5)
        assert len(os.listdir('/proc/self/fd')) == before
        assert threading.active_count() == 1, threading.enumerate()
        assert (signal.signal, signal.set_wakeup_fd) == original
        assert signal.set_wakeup_fd(-1) == other.fileno()
        say('ready')
        time.sleep(60)
    """
    code, lines, _ = run(body)
    assert (code, lines) == (-signal.SIGTERM, [])


def test_it_works_again_after_it_was_taken_out() -> None:
    body = """
        one = Termination(flush, 4)
        one.install()
        one.remove()
        one.install()
        say('ready')
        while True: time.sleep(0.01)
    """
    code, lines, _ = run(body)
    assert (code, lines) == (-signal.SIGTERM, ["flushed True"])
