"""What a run looks like while it goes on: a screen, or one line. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from otel_netmon.analysis.recent import WINDOW
from otel_netmon.report.words import rate, seconds, spans

if TYPE_CHECKING:
    from rich.text import Text

    from otel_netmon.analysis.results import Diagnosis
    from otel_netmon.analysis.view import RankView, RunView

_BARS: Final = " ▁▂▃▄▅▆▇█"
_MOST_STALLED: Final = 4
_MOST_NICS: Final = 4
_HELP: Final = (
    "q           end this view; the run goes on, and `otel-netmon live` shows it again",
    "p           pause, and go on",
    "up, down    other ranks, where not all fit; page up, page down, home, end likewise",
    "?           this page, and back",
    "",
    "Ranks are in the order of how long the others waited for them in the last 60 steps. Who is waited for is",
    "not always who is to blame: the verdict, of the same steps, says what the evidence tells.",
    "'data ... old' is how long ago the newest step or sign of a rank was: by its own clock where it runs on this",
    "machine, else since it was read here. Ranks write once a second, and heartbeats every 10 s.",
    "Bars: how long the others waited in each step, against the longest.",
)


@dataclass
class Page:
    """What the keys have chosen, and when the data is of."""

    first: int = 0
    """Of the ranks that are shown."""
    is_paused: bool = False
    wants_help: bool = False
    age: float | None = None
    quiet: float = 0.0
    rows: int = 1
    """Ranks that fit, as the screen was drawn last."""

    def press(self, key: str) -> None:
        """Take a key; others mean nothing."""
        if key == "p":
            self.is_paused = not self.is_paused
        elif key in ("?", "h"):
            self.wants_help = not self.wants_help
        moves = {"up": -1, "down": 1, "page up": -self.rows, "page down": self.rows}
        self.first = max(0, self.first + moves.get(key, 0))
        self.first = {"home": 0, "end": 1 << 30}.get(key, self.first)


def line(view: RunView | None, diagnoses: tuple[Diagnosis, ...], age: float | None, folder: str) -> str:
    """All in one line, for a log."""
    if view is None or view.step is None:
        return f"no step has ended so far in {folder}"
    said = f"{_head(view, age)}: {' '.join(_sentences(diagnoses))}"
    calls = [
        f"rank {one.rank} has been in {one.operation} for {seconds(one.age)}"
        for one in view.stalled[:_MOST_STALLED]
    ]
    return f"{said}; {', '.join(calls)}" if calls else said


def screen(
    view: RunView | None, diagnoses: tuple[Diagnosis, ...], page: Page, folder: str, size: tuple[int, int]
) -> Text:
    """A whole screen of ``size`` columns and rows."""
    from rich.text import Text

    width, height = size
    text = Text(no_wrap=True, overflow="crop")
    if page.wants_help:
        lines = [(each, "") for each in _HELP]
    elif view is None or view.step is None:
        lines = [(f"no step has ended so far in {folder}", "bold"), *(_stalled(view) if view else ())]
    else:
        lines = _lines(view, diagnoses, page, width, height - 2)
    for said, style in lines[: height - 1]:
        text.append(said[: width - 1] + "\n", style)
    text.append("\n" * max(0, height - 1 - len(lines)))
    paused = "PAUSED  " if page.is_paused else ""
    text.append(f"{paused}{folder}   q end  p pause  up/down ranks  ? help"[: width - 1], "dim")
    return text


def _lines(
    view: RunView, diagnoses: tuple[Diagnosis, ...], page: Page, width: int, height: int
) -> list[tuple[str, str]]:
    lines = [(_head(view, page.age), "bold"), ("", "")]
    accused = [finding.accuses for each in diagnoses for finding in each.findings]
    style = "bold red" if any(accused) else "green" if accused else ""
    for sentence in _sentences(diagnoses):
        lines += [(each, style) for each in _wrapped(sentence, width - 1)[:4]]
    lines += _stalled(view)
    below = _nics(view)
    page.rows = max(1, min(len(view.ranks), height - len(lines) - len(below) - 4))
    page.first = min(page.first, max(0, len(view.ranks) - page.rows))
    lines += [("", ""), *_ranks(view, page, width)]
    return lines + below


def _head(view: RunView, age: float | None) -> str:
    of = f"/{view.world_size}" if view.world_size not in (None, len(view.ranks)) else ""
    old = "" if age is None else f", data {age:.1f} s old"
    return f"step {view.step}, median {seconds(view.median)} (last {view.steps}), {len(view.ranks)}{of} ranks{old}"


def _sentences(diagnoses: tuple[Diagnosis, ...]) -> list[str]:
    found = [finding.sentence for each in diagnoses for finding in each.findings[:3]]
    return found or ["no verdict yet"]


def _stalled(view: RunView) -> list[tuple[str, str]]:
    lines = [
        (
            f"stalled: rank {one.rank} in {one.operation} of group {one.group}"
            + (f", number {one.sequence}" if one.sequence is not None else "")
            + f", for {seconds(one.age)}",
            "bold yellow",
        )
        for one in view.stalled[:_MOST_STALLED]
    ]
    if len(view.stalled) > _MOST_STALLED:
        ranks = sorted({one.rank for one in view.stalled})
        lines.append((f"{len(view.stalled)} calls in all, of ranks {spans(ranks)}", "bold yellow"))
    return lines


def _ranks(view: RunView, page: Page, width: int) -> list[tuple[str, str]]:
    shown = view.ranks[page.first : page.first + page.rows]
    hosts = max([4, *(min(len(one.host), 20) for one in view.ranks)])
    head = f"rank  {'host':{hosts}}  others waited  waiting  in calls  data    GC  no CPU  late"
    bars = max(0, min(WINDOW, width - len(head) + 3))
    most = max((value for one in view.ranks for value in one.late), default=0.0)
    lines = [(f"{head}, steps {view.first} to {view.step}", "cyan")]
    for one in shown:
        cells = (
            f"{one.rank:>4}  {one.host[:20]:{hosts}}  {seconds(one.caused):>13}  {_percent(one.waited):>7}  "
            f"{_percent(one.in_collectives):>8}  {_percent(one.data):>4}  {_percent(one.gc):>4}  "
            f"{_percent(one.run_queue):>6}  {_bars(one, bars, most)}"
        )
        lines.append((cells, ""))
    if len(shown) < len(view.ranks):
        lines.append((f"ranks {page.first + 1} to {page.first + len(shown)} of {len(view.ranks)}", "dim"))
    return lines


def _bars(one: RankView, count: int, most: float) -> str:
    late = one.late[-count:] if count else ()
    return "".join(_BARS[min(8, int(9 * (value / most) ** 0.5))] if most else " " for value in late)


def _nics(view: RunView) -> list[tuple[str, str]]:
    lines = []
    busiest = sorted(
        view.nics, key=lambda nic: -((nic.received or 0) + (nic.transmitted or 0)) / (nic.seconds or 1)
    )
    for nic in busiest[:_MOST_NICS]:
        received, sent = (None if n is None else n / nic.seconds for n in (nic.received, nic.transmitted))
        said = f"NIC {nic.interface} of {nic.host or '-'}: {rate(received)} received, {rate(sent)} sent"
        lines.append((f"{said}, over {seconds(nic.seconds)}", ""))
    return [("", ""), *lines] if lines else []


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _wrapped(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, max(20, width), subsequent_indent="  ")
