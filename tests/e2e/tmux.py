"""A real terminal: a pane of tmux, on a server of its own."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

MISSING = "" if shutil.which("tmux") else "no tmux: apt-get install tmux"


class Pane:
    """One terminal with a shell in it."""

    def __init__(self, socket: Path, size: tuple[int, int]) -> None:
        self._base = ["tmux", "-S", str(socket), "-f", "/dev/null"]
        self._run("new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), "env PS1='$ ' sh")

    def _run(self, *words: str) -> str:
        return subprocess.run([*self._base, *words], check=True, capture_output=True, text=True, timeout=20).stdout

    def start(self, command: Sequence[str]) -> None:
        """Type a command; what it ends with is echoed behind it."""
        self._run("send-keys", "-l", f"{shlex.join(command)}; echo it ended with $?")
        self.press("Enter")

    def press(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def text(self) -> str:
        """What is on the screen."""
        return self._run("capture-pane", "-p")

    def settings(self) -> str:
        """Of the terminal, as stty has them."""
        tty = self._run("display-message", "-p", "#{pane_tty}").strip()
        return subprocess.run(["stty", "-a", "-F", tty], check=True, capture_output=True, text=True).stdout

    def alternate(self) -> bool:
        """Whether the screen is one that a program has put over the other."""
        return self._run("display-message", "-p", "#{alternate_on}").strip() == "1"

    def resize(self, width: int, height: int) -> None:
        self._run("resize-window", "-x", str(width), "-y", str(height))

    def wait_for(self, text: str | Callable[[str], bool], timeout: float = 30) -> str:
        """The screen once it shows that."""
        shows = text if callable(text) else lambda screen: text in screen
        deadline = time.monotonic() + timeout
        while not shows(screen := self.text()):
            assert time.monotonic() < deadline, f"{text}\n{screen}"
            time.sleep(0.1)
        return screen

    def close(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self._run("kill-server")


@contextlib.contextmanager
def pane(folder: Path, size: tuple[int, int] = (110, 30)) -> Iterator[Pane]:
    """A pane, always ended; the name of its socket is short enough for the kernel."""
    one = Pane(folder / "tmux", size)
    try:
        yield one
    finally:
        one.close()
