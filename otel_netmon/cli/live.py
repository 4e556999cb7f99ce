"""``otel-netmon live``: a run's files followed on a terminal, or as plain lines in a pipe."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_netmon.analysis.following import Following
from otel_netmon.analysis.results import Diagnosis
from otel_netmon.analysis.summary import summarise
from otel_netmon.analysis.view import RunView, view_of
from otel_netmon.cli.live_view import Page, line, screen
from otel_netmon.cli.run import RUNS
from otel_netmon.cli.summary import reading
from otel_netmon.cli.terminal import keys
from otel_netmon.report.blocks import blocks, plain
from otel_netmon.store.problems import FolderError

if TYPE_CHECKING:
    from rich.live import Live

_EVERY: Final = 1.0
"""Seconds between two looks on a terminal, and ..."""
_EVERY_LINE: Final = 10.0
"""... between two lines in a pipe."""
_REST: Final = 100
"""Times as long as a verdict took there is no new one: a hundredth of a core."""
_MOST_REST: Final = 60.0


def live(folder: Path | None) -> int:
    """Show the run until it is over or ``q`` is pressed; 2 with one sentence on stderr where there is none."""
    try:
        folder = folder or _newest()
        following = Following(folder)
        if not folder.is_dir():
            raise FolderError(f"{folder} is not a folder; give the one that `otel-netmon run` named")
        is_over = _on_terminal(following) if sys.stdout.isatty() else _in_pipe(following)
        if is_over:
            _last_word(folder)
    except FolderError as error:
        print(f"otel-netmon: {error}", file=sys.stderr)
        return 2
    return 0


def _newest() -> Path:
    try:
        folders = [path for path in RUNS.iterdir() if path.is_dir() and not path.is_symlink()]
    except OSError:
        folders = []
    if not folders:
        raise FolderError(f"there is no run below ./{RUNS}; give the folder that holds the files")
    return max(folders, key=lambda path: path.stat().st_mtime)


@dataclass
class _Watched:
    """What was found out of a run so far."""

    following: Following
    view: RunView | None = None
    diagnoses: tuple[Diagnosis, ...] = ()
    _due: float = 0.0
    _cpu: float = field(default_factory=time.process_time)

    def look(self) -> bool:
        """Look once; whether the run is over. Raises ``FolderError`` where its folder is gone."""
        self.following.look()
        recent = self.following.recent
        self.view = view_of(recent, self.following.ages())
        now = time.monotonic()
        if now >= self._due and recent.processes:
            since = time.process_time()
            self.diagnoses = recent.diagnoses(recent.window())
            cost = time.process_time() - since
            self._due = now + min(_MOST_REST, max(_EVERY, _REST * cost))
        return self.following.is_over()


def _on_terminal(following: Following) -> bool:
    from rich.console import Console
    from rich.live import Live

    watched, page = _Watched(following), Page()
    console = Console(highlight=False)
    with keys() as pressed, Live(console=console, screen=True, auto_refresh=False, transient=True) as shown:
        while True:
            if not page.is_paused:
                if watched.look():
                    return True
                page.age, page.quiet = following.age(), following.quiet
            _show(shown, watched, page)
            until = time.monotonic() + _EVERY
            while (left := until - time.monotonic()) > 0:
                found = pressed.wait(left)
                if "q" in found or "\x03" in found:
                    return False
                for key in found:
                    page.press(key)
                if found:
                    _show(shown, watched, page)


def _show(shown: Live, watched: _Watched, page: Page) -> None:
    from rich.console import ConsoleDimensions

    following = watched.following
    # Not as COLUMNS and LINES say, which rich believes: they are of when the shell was started.
    size = shown.console.size = ConsoleDimensions(*os.get_terminal_size(sys.stdout.fileno()))
    text = screen(watched.view, watched.diagnoses, page, str(following.folder), (size.width, size.height))
    shown.update(text, refresh=True)


def _in_pipe(following: Following) -> bool:
    watched, due = _Watched(following), 0.0
    while not watched.look():
        if time.monotonic() >= due:
            due = time.monotonic() + _EVERY_LINE
            said = line(watched.view, watched.diagnoses, following.age(), str(following.folder))
            print(f"{time.strftime('%H:%M:%S')} {_printable(said)}", flush=True)
        time.sleep(_EVERY)
    return True


def _last_word(folder: Path) -> None:
    """The verdict of the whole run, as the summary has it."""
    with reading() as progress:
        summary = summarise(folder, progress=progress)
    wanted = [block for block in blocks(summary) if not block.headers and block.title != "NICs"]
    print(_printable(plain(wanted).replace("otel-netmon summary", "the run is over", 1).lstrip("\n")))
    print(f"\n`otel-netmon summary {folder}` and `otel-netmon diagnose {folder}` say more", flush=True)


def _printable(text: str) -> str:
    encoding = sys.stdout.encoding or "ascii"
    return text.encode(encoding, "replace").decode(encoding)
