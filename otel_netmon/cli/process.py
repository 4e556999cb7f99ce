"""Start a command in this process's place, as near as a parent can come to that, and wait for it.

The command shares the process group, session and terminal, so that job control works as without us. Signals:

* what the terminal sends (Ctrl-C, Ctrl-Z, a resize) reaches the command from the kernel and is not sent again;
* what a process sends to us is passed on. A signal that it sends to the whole group reaches the command twice:
  nothing tells that case from one sent to us alone.
"""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

_SI_KERNEL: Final = 0x80
_PASSED_ON: Final = frozenset(
    {
        *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2),
        *(signal.SIGWINCH, signal.SIGCONT, signal.SIGTSTP),
    }
)
_WAITED_FOR: Final = _PASSED_ON | {signal.SIGCHLD}
# Python ignores these two; a command expects them as the shell gives them.
_RESTORED: Final = (signal.SIGPIPE, signal.SIGXFSZ)
_STOPS_OF_THE_TERMINAL: Final = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


def run_and_wait(command: Sequence[str], environ: Mapping[str, str]) -> tuple[int, int]:
    """Run ``command``, found on PATH, with ``environ``; its process id, and exit code or minus the signal that
    killed it.

    Raises OSError when it cannot be started. Must be called in the main thread of a process without others: the
    signals are blocked meanwhile.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if it was ignored, the kernel would discard the exit code
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
    try:
        pid = os.posix_spawnp(command[0], list(command), dict(environ), setsigmask=before, setsigdef=_RESTORED)
        code = _wait(pid)
        while signal.sigtimedwait(_WAITED_FOR, 0):
            pass  # meant for the command, which has ended
        return pid, code
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(pid: int) -> int:
    stopped = False
    while True:
        received = signal.sigwaitinfo(_WAITED_FOR)
        if received.si_signo in (signal.SIGCHLD, signal.SIGCONT):
            while True:
                found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
                if not found:
                    break
                stopped = os.WIFSTOPPED(status)
                if not stopped and not os.WIFCONTINUED(status):
                    return os.waitstatus_to_exitcode(status)
                # Only with the terminal's stops: whoever stops the command alone will continue it alone.
                if stopped and os.WSTOPSIG(status) in _STOPS_OF_THE_TERMINAL:
                    _stop_too()
            # A shell continues the whole group. Passed on late, that would undo the next Ctrl-Z.
            if received.si_signo == signal.SIGCONT and stopped:
                os.kill(pid, signal.SIGCONT)
        elif _is_ours_alone(received):
            with suppress(PermissionError):  # it runs as another user
                os.kill(pid, received.si_signo)  # not yet waited for, so the number cannot be another's


def _is_ours_alone(received: signal.struct_siginfo) -> bool:
    """Whether the command has not got this signal as well."""
    if received.si_code != _SI_KERNEL:
        return True
    # A terminal that hangs up tells its session's leader only.
    return received.si_signo == signal.SIGHUP and os.getsid(0) == os.getpid()


def _stop_too() -> None:
    """Stop as Ctrl-Z would, so that the shell sees its job stopped; returns when it is continued."""
    os.kill(os.getpid(), signal.SIGTSTP)  # while blocked: one with the terminal's, if that is still pending
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTSTP})  # stops here
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})


def end_like(code: int) -> int:
    """The code of ``run_and_wait`` as this process's end: does not return when a signal killed the command."""
    if code >= 0:
        return code
    number = -code
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    return 128 + number
