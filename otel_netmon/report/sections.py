"""The sections of the page: each a picture with its numbers, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from otel_netmon.analysis.details import Details, Link
from otel_netmon.analysis.inside import shown
from otel_netmon.analysis.results import Summary
from otel_netmon.diagnosis.finding import Finding
from otel_netmon.report.bandwidth import bandwidth_picture, drawn
from otel_netmon.report.bars import BRIEF, OVERLAPPED, PARTS, bars, used
from otel_netmon.report.between_hosts import matrices, rate_of, retransmits
from otel_netmon.report.blocks import Block
from otel_netmon.report.heat import heat_map
from otel_netmon.report.last_calls import at_the_end
from otel_netmon.report.section import Section
from otel_netmon.report.steps import step_picture
from otel_netmon.report.svg import time
from otel_netmon.report.words import ABSENT, MOST_ROWS, counted, rate, share, size

_TIMING: Final = "TORCH_NCCL_ENABLE_TIMING=1"
_NO_STEPS: Final = (
    "No complete step after the first has a span or a log event here. A step ends where an optimizer of"
    " torch.optim steps, or where otel_netmon.step() is called."
)
_MOST_HOSTED: Final = 64
"""Ranks up to which rows name their hosts."""


class _View(NamedTuple):
    """What is shown, and how."""

    summary: Summary
    details: Details
    finding: Finding | None
    caused: Mapping[int, float]
    """By rank, what each other rank waited for it."""
    ranks: tuple[int, ...]
    """Those that have a row."""
    hosts: Mapping[int, str]
    """Of ranks, where rows name them."""
    strong: tuple[int, ...]
    """Ranks that the verdict is about."""


def sections(summary: Summary, details: Details, finding: Finding | None) -> tuple[Section, ...]:
    """All of them, in the order in which they are read."""
    caused = {each.rank: each.caused for each in summary.waiting.ranks} if summary.waiting is not None else {}
    ranks = shown([each.rank for each in details.times], caused)
    several = len({host for host in details.hosts.values() if host}) > 1
    hosts = details.hosts if several and len(details.hosts) <= _MOST_HOSTED else {}
    view = _View(summary, details, finding, caused, ranks, hosts, _strong(details, finding))
    ended = (at_the_end(details),) if details.last_calls else ()
    return (*ended, _time(view), _late(view), _inside(view), _bandwidth(view), _hosts(details), _overlap(view))


def _strong(details: Details, finding: Finding | None) -> tuple[int, ...]:
    """Ranks that the verdict names, or that are on the host that it names."""
    if finding is None or finding.ranks:
        return finding.ranks[:8] if finding is not None else ()
    return tuple(rank for rank, host in details.hosts.items() if host in finding.hosts)[:8]


def _time(view: _View) -> Section:
    details, ranks = view.details, view.ranks
    title = "What the time went into"
    if not details.times:
        return Section("time", title, missing=_NO_STEPS)
    times = details.times
    rows = [
        (
            str(each.rank),
            details.hosts.get(each.rank) or ABSENT,
            *(time(getattr(each, part)) for part in used(times, PARTS, 5)),
            ABSENT if each.run_queue is None else time(each.run_queue),
            time(each.total),
        )
        for each in times
        if each.rank in set(ranks)
    ]
    headers = ("rank", "host", *(BRIEF[part] for part in used(times, PARTS, 5)), "waited for a CPU", "in all")
    total = sum(each.total for each in times)
    notes = []
    if len(times) > 1:
        notes.append(
            "Waiting is the time in which a rank waited in at least one collective, also where several were in"
            " flight together."
        )
    if view.finding is not None and view.finding.pairs:
        notes.append(
            "The verdict is about a link: behind it ranks also wait in turn, since what one collective lacks"
            " delays the next."
        )
    if sum(each.unsplit for each in times) > 0.5 * total:
        notes.append("Waiting and transfer are not told apart: few collectives were seen on all of their ranks.")
    if sum(each.unknown for each in times) > 0:
        notes.append(
            "Of some steps it is not known how long a collective was in flight: on a device that needs the Flight"
            f" Recorder's timing ({_TIMING})."
        )
    return Section(
        "time",
        title,
        "Each bar is the whole of a rank's steps, without the first. Orange is what late ranks cost; those pay it"
        " that were on time.",
        (bars(times, PARTS, ranks, view.hosts, view.strong),),
        used(times, PARTS, 5),
        notes=tuple(notes),
        table=Block("", headers, tuple(rows), left=frozenset({0, 1})),
        of=_of(len(rows), len(times), "rank"),
    )


def _left_out(view: _View) -> str:
    """Why there may be few single collectives."""
    some = view.summary.losses.sampled_out
    return f" {counted(some, 'collective')} were not sent: see OTEL_NETMON_VOLUME." if some else ""


def _late(view: _View) -> Section:
    summary, details = view.summary, view.details
    title = "Who came late, and when"
    if not details.steps:
        return Section("late", title, missing=_NO_STEPS)
    if len(details.times) == 1:
        return Section("late", title, missing="There are steps of one rank only: late is who others wait for.")
    waiting = summary.waiting
    if not details.by_sums and (waiting is None or not waiting.matched):
        return Section(
            "late",
            title,
            missing="No collective was seen on all of its ranks with a duration on each, and lateness is what"
            " ranks waited for one another. Either the telemetry of some ranks is not in this folder, or the"
            f" collectives ran on a device and were not timed ({_TIMING} has the Flight Recorder time them).",
        )
    unmatched = waiting.unmatched if waiting is not None else 0
    steps = f"{counted(details.by_sums, 'step')}" + f" of {len(details.steps)}" * (details.by_sums > 1)
    by_sums = (
        f"In {steps} single collectives are not known on all ranks: there a rank is late by as much as it spent"
        " less time in collectives than the median of those that had the same ones."
    )
    return Section(
        "late",
        title,
        "The stronger a cell, the later a rank came to the collectives of a step. A row is a slow rank, a block of"
        " rows a slow host, a pattern in time a loader, a collector or a checkpoint; scattered cells are noise."
        " Point at a cell, or focus the picture and press the arrow keys, to read it.",
        (heat_map(details, view.caused, view.strong, view.hosts),),
        notes=(
            *((by_sums,) if details.by_sums else ()),
            *((f"{counted(unmatched, 'collective')} were not seen on all of their ranks.",) if unmatched else ()),
        ),
    )


def _inside(view: _View) -> Section:
    details = view.details
    title = "Inside two steps"
    if not details.inside:
        missing = f"No step with a collective that was seen on all its ranks.{_left_out(view)}"
        missing = missing if details.steps else _NO_STEPS
        return Section("inside", title, missing=missing)
    ranks = len(details.inside[0].ranks)
    words = (
        "A late rank has the least orange: the others are there before it. Clocks of hosts are not compared: rows"
        " are aligned where the ranks left a collective together. Collectives in flight together are drawn below"
        " one another."
    )
    if ranks < len(details.times):
        words += f" {ranks} of {len(details.times)} ranks: those waited for most, and some of the others."
    pictures = tuple(step_picture(each, view.hosts, view.strong) for each in details.inside)
    return Section("inside", title, words, pictures, dict(list(PARTS.items())[:5]))


def _bandwidth(view: _View) -> Section:
    summary, details = view.summary, view.details
    title = "What the network did: bus bandwidth by size"
    if not details.bandwidths:
        if not summary.operations:
            return Section("bandwidth", title, missing="No collective was captured.")
        return Section(
            "bandwidth",
            title,
            missing="No collective with a known size and duration was seen on all of its ranks. Sizes are in"
            f" spans; on a device, durations need {_TIMING}.",
        )
    some = drawn(details.bandwidths)
    text = (
        "Of the rank that came last in each collective, so without waiting (filled; the line is the 10th to the"
        " 90th percentile), and as the ranks saw it (hollow). If the filled marks are low it is the network, if"
        " only the hollow ones are it is the ranks. Collectives in flight together share the network, and each"
        " counts the others' transfer too."
    )
    rows = tuple(
        (
            each.operation,
            size(each.size),
            str(each.times),
            rate(each.middle),
            rate(each.low),
            rate(each.high),
            rate(each.called),
        )
        for each in sorted(details.bandwidths, key=lambda each: -each.size * each.times)[:MOST_ROWS]
    )
    headers = ("operation", "bytes", "times", "without waiting", "10th", "90th percentile", "as called")
    return Section(
        "bandwidth",
        title,
        text,
        (bandwidth_picture(some),) if some else (),
        notes=() if some else ("All are of one size, or too small to tell a bandwidth: the numbers are below.",),
        table=Block("", headers, rows),
        of=_of(len(rows), len(details.bandwidths), "size"),
    )


def _hosts(details: Details) -> Section:
    title = "Between hosts"
    links = [each for each in details.links if each.sender != each.receiver]
    if not links:
        hosts = {host for host in details.hosts.values() if host}
        missing = (
            f"All ranks were on one host, {next(iter(hosts))}: nothing went over a network."
            if len(hosts) == 1
            else "The connections between ranks were not measured: that needs TCP (gloo, or NCCL over sockets)"
            " and the monitor tcp on the ranks."
        )
        return Section("hosts", title, missing=missing)
    rows = tuple(_link(each, links) for each in sorted(links, key=lambda each: -(each.rtt or 0.0))[:MOST_ROWS])
    headers = ("from", "to", "sent", "round-trip time", "shortest", "segments", "sent again", "rate while sending")
    return Section(
        "hosts",
        title,
        "The training's own TCP connections, as the sending host (row) saw them. The stronger a cell, the worse it"
        " is against the median pair. A slow link shows in the row of its host on the way out, in the column on"
        " the way in. Pairs that moved little have no rate.",
        (matrices(links),),
        table=Block("", headers, rows, left=frozenset({0, 1})),
        of=_of(len(rows), len(links), "pair"),
    )


def _link(each: Link, links: Sequence[Link]) -> tuple[str, ...]:
    lost = retransmits(each)
    return (
        each.sender,
        each.receiver,
        size(each.sent),
        time(each.rtt),
        time(each.shortest),
        str(each.segments),
        ABSENT if lost is None else f"{each.retransmits} ({share(lost)})",
        rate(rate_of(each, links)),
    )


def _overlap(view: _View) -> Section:
    details, ranks = view.details, view.ranks
    title = "Exposed and overlapped communication"
    if not details.overlaps:
        missing = (
            "Not known: no step tells when each of its collectives began and how long it took. On a device that"
            f" needs {_TIMING}; of steps with more collectives than are packed it is not told.{_left_out(view)}"
        )
        return Section("overlap", title, missing=missing if details.steps else _NO_STEPS)
    unknown = details.unknown_overlaps
    rows = tuple(
        (str(each.rank), *map(time, (each.hidden, each.waited, each.rest, each.inside)))
        for each in details.overlaps
        if each.rank in set(ranks)
    )
    headers = ("rank", "overlapped", "exposed", "not told apart", "in collectives")
    return Section(
        "overlap",
        title,
        "The time in which a collective was in flight. Until a rank has issued its last asynchronous collective"
        " it works on; after that it is blocked, or works on: of waits within C++, as DDP's are, that is not"
        " told.",
        (bars(details.overlaps, OVERLAPPED, ranks, view.hosts, view.strong),),
        OVERLAPPED,
        notes=(f"Of {counted(unknown, 'step')} of ranks it is not known.",) if unknown else (),
        table=Block("", headers, rows),
        of=_of(len(rows), len(details.overlaps), "rank"),
    )


def _of(rows: int, total: int, noun: str) -> str:
    return f"{rows} of {counted(total, noun)}" if rows < total else ""
