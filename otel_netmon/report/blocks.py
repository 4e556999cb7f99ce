"""A summary as blocks of text cells, and those as plain aligned text. Pure; ASCII but for names in the data."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from otel_netmon.analysis.apart import Apart
from otel_netmon.analysis.nics import NicTotal
from otel_netmon.analysis.results import Alive, Losses, OperationSummary, StepSummary, Summary
from otel_netmon.analysis.waiting import Waiting
from otel_netmon.report.words import ABSENT, MOST_ROWS, counted, rate, seconds, size, spans

MOST_ALIVE: Final = 4
MOST_FINDINGS: Final = 3


@dataclass(frozen=True)
class Block:
    """A titled table with notes below. Without headers it is a list of facts. ``left``: columns of text."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    left: frozenset[int] = frozenset({0})


def blocks(summary: Summary) -> list[Block]:
    """All that is said of a run, in the order it is read."""
    folder = summary.folder.encode("utf-8", "replace").decode()  # a path need not be valid text
    facts = (
        ("ranks", _ranks(summary)),
        ("steps", _steps(summary.steps)),
        *((("steps differ", _apart(summary.apart)),) if summary.apart else ()),
        *((("sampled", _sampled(summary)),) if summary.losses.sampled_out else ()),
        ("dropped", _losses(summary.losses)),
        ("unreadable", _unreadable(summary.losses)),
        ("files", f"{folder} ({counted(summary.files, 'file')}, {size(summary.size)})")
        if summary.files
        else ("from", folder),
    )
    runs = f": {len(summary.runs)} runs in one folder" if len(summary.runs) > 1 else ""
    return [
        Block(f"otel-netmon summary{runs}", (), facts, left=frozenset({0, 1})),
        _operations(summary.operations),
        *([_waiting(summary.waiting)] if summary.waiting else []),
        _nics(summary.nics),
        *([_diagnosis(summary)] if summary.diagnoses else []),
    ]


def plain(parts: Iterable[Block]) -> str:
    """Blocks as aligned text without colours or box characters."""
    lines: list[str] = []
    for part in parts:
        lines += ["", part.title] if part.title else [""]
        table = [part.headers, *part.rows] if part.headers else list(part.rows)
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for row in table:
            cells = (
                cell.ljust(width) if place in part.left else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            lines.append("  " + "  ".join(cells).rstrip())
        for note in part.notes:
            lines += textwrap.wrap(note, 100, initial_indent="  ", subsequent_indent="  ")
    return "\n".join(lines)


def _ranks(summary: Summary) -> str:
    seen = sorted({*summary.ranks, *summary.silent_ranks, *(one.rank for one in summary.alive)})
    if not seen:
        return "none seen: nothing of a step or a collective"
    text = f"{len(seen)} seen ({spans(seen)})"
    if summary.world_size is None:
        text += "; the size of the job is not known"
    else:
        missing = sorted(set(range(min(summary.world_size, 1 << 20))) - set(seen))
        text += f" of {summary.world_size}" + (f"; NOT SEEN: {spans(missing)}" if missing else "")
    text += f"; metrics but no span of: {spans(summary.silent_ranks)}" if summary.silent_ranks else ""
    alive = [*map(_alive, summary.alive[:MOST_ALIVE]), *(["..."] if len(summary.alive) > MOST_ALIVE else [])]
    return text + (f"; alive but no span of: {', '.join(alive)}" if alive else "")


def _alive(one: Alive) -> str:
    at = "" if one.step is None else f"step {one.step}, "
    busy = one.operation and f"in {one.operation} of group {one.group} for {seconds(one.age)}"
    return f"{one.rank} ({at}{busy or 'no collective in flight'})"


def _steps(steps: StepSummary | None) -> str:
    if steps is None:
        return "none complete"
    if steps.span is None:
        return f"{steps.count}, by the metrics; none has a span"
    times = f"median {seconds(steps.median)}, p99 {seconds(steps.p99)}"
    if steps.traced < steps.timed:
        return f"{steps.count}, {steps.traced} of them with a span: {times} (of {counted(steps.timed, 'step')})"
    times += f" ({steps.span} spans)"
    if steps.traced < steps.count:
        return f"{steps.count}, {steps.traced} of them with a span: {times}"
    if steps.numbered is not None and steps.traced < steps.numbered:
        return (
            f"{steps.traced} with a span, of at least {steps.numbered} by their numbers: {times}; the others were"
            " not sampled, or are lost (only metrics of steps could tell, or log events)"
        )
    return f"{steps.count}, {times}"


def _apart(apart: Apart) -> str:
    steps = "one step" if apart.steps == 1 else f"{apart.steps} steps"
    return (
        f"ranks {apart.behind} and {apart.ahead} are {steps} apart from step {apart.since} on: one did a step, or"
        " skipped one, that the other did not; their collectives are matched all the same"
    )


def _sampled(summary: Summary) -> str:
    return (
        f"{summary.losses.sampled_out} collectives have no span because their steps were not sampled;"
        " steps, calls and bytes here are of all"
    )


def _losses(losses: Losses) -> str:
    if losses.dropped is None:
        events = "not reported"
    else:
        reasons = ", ".join(f"{name}: {count}" for name, count in sorted(losses.dropped.items()) if count)
        events = f"{sum(losses.dropped.values())} events" + (f" ({reasons})" if reasons else "")
    if losses.missing_spans:
        events += f"; {losses.missing_spans} collectives were counted but have no span here"
        if losses.sampled_out is None:
            events += " (lost, or not sampled: only metrics of steps could tell)"
    return events


def _unreadable(losses: Losses) -> str:
    parts = (
        (losses.truncated_lines, "line cut off at the end of a file (process killed, or still writing)"),
        (losses.corrupt_lines, "corrupt line"),
        (losses.bad_records, "record of a wrong type"),
        (losses.skipped_files, "file skipped (a link, or no permission)"),
    )
    return "; ".join(f"{count} x {what}" for count, what in parts if count) or "0 lines"


def _operations(operations: Sequence[OperationSummary]) -> Block:
    if not operations:
        return Block("Collectives", (), (), ("none was captured",))
    headers = ("operation", "group", "backend", "ranks", "calls", "bytes", "p50", "p99", "algbw", "busbw")
    ordered = sorted(operations, key=lambda o: o.calls, reverse=True)
    rows = tuple(
        (
            o.operation,
            o.group,
            o.backend,
            f"{o.ranks}" + (f"/{o.group_size}" if o.group_size is not None else ""),
            str(o.calls),
            size(o.size),
            seconds(o.p50),
            seconds(o.p99),
            rate(o.algbw),
            rate(o.busbw),
        )
        for o in ordered[:MOST_ROWS]
    )
    notes = ["calls and bytes count every rank's call and buffer; bandwidths include waiting for late ranks"]
    failed, unfinished = sum(o.failed for o in operations), sum(o.unfinished for o in operations)
    if failed or unfinished:
        notes.append(f"{failed} calls failed, {unfinished} had not finished when their process ended")
    if any(o.spans < o.calls for o in operations):
        traced, timed = sum(o.spans for o in operations), sum(o.timed for o in operations)
        if timed > traced:
            notes.append(f"times are of {timed} calls, bandwidths of the {traced} that have a span")
        elif traced:
            notes.append(f"times and bandwidths are of the {traced} calls that have a span")
        else:
            notes.append("no call has a span here: they were not sampled, or traces went elsewhere")
    if any(o.p50 is None and o.spans > o.failed + o.unfinished for o in operations):
        notes.append("no times where calls return before the transfer ends (tensors on a device)")
    return Block("Collectives", headers, rows, (*notes, *_more(len(rows), len(operations))), frozenset({0, 1, 2}))


def _waiting(waiting: Waiting) -> Block:
    ordered = sorted(waiting.ranks, key=lambda rank: rank.caused, reverse=True)
    rows = tuple(
        (
            str(r.rank),
            seconds(r.waited),
            ABSENT if r.share is None else f"{r.share:.1%}",
            f"{r.waited_for} ({r.waited_for / waiting.matched:.0%})",
            seconds(r.caused),
        )
        for r in ordered[:MOST_ROWS]
    )
    headers = ("rank", "waited", "of step time", "was last in", "others waited for it")
    notes = (_basis(waiting), *_more(len(rows), len(ordered)))
    return Block("Waiting in collectives", headers if rows else (), rows, notes)


def _basis(waiting: Waiting) -> str:
    if not waiting.matched:
        return f"no collective was seen on all of its ranks; {waiting.unmatched} were seen on some"
    basis = f"{waiting.matched} collectives seen on all their ranks in {waiting.steps} steps, without the first"
    unmatched = f"; {waiting.unmatched} more were not seen on all of them" if waiting.unmatched else ""
    return f"{basis}{unmatched}; who was waited for is not always who is to blame"


def _diagnosis(summary: Summary) -> Block:
    """The verdicts, one for each run."""
    several = len(summary.diagnoses) > 1
    notes = []
    for each in summary.diagnoses:
        head = f"run {each.run_id}: " if several else ""
        notes += [f"{head}{finding.sentence}" for finding in each.findings[:MOST_FINDINGS]]
        if len(each.findings) > MOST_FINDINGS:
            more = len(each.findings) - MOST_FINDINGS
            notes.append(f"{more} more findings; `otel-netmon diagnose` has them all")
    return Block("Diagnosis", (), (), tuple(notes))


def _nics(nics: Sequence[NicTotal]) -> Block:
    if not nics:
        return Block("NICs", (), (), ("not known: bytes need two samples of the counters, some seconds apart",))
    rows = tuple(
        (nic.host or ABSENT, nic.interface, size(nic.received), size(nic.transmitted), seconds(nic.seconds))
        for nic in nics[:MOST_ROWS]
    )
    headers = ("host", "NIC", "received", "sent", "within")
    notes = ("all traffic of the NIC, the job's and others', between the first sample and the last",)
    return Block("NICs", headers, rows, (*notes, *_more(len(rows), len(nics))), frozenset({0, 1}))


def _more(shown: int, total: int) -> tuple[str, ...]:
    return (f"{total - shown} more rows; --json has them all",) if total > shown else ()
