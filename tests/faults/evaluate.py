"""How the diagnosis fares on recorded runs: ``python -m tests.faults.evaluate [--thinned] [FOLDER] [NAME...]``.

The only place that reads ``truth.json``. Each run is diagnosed from all of its telemetry, and from what could have
been known every half second; with ``--thinned``, from what a job of thousands of ranks would have sent.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from otel_netmon.analysis.evidence import collect, diagnoses
from otel_netmon.analysis.results import Diagnosis
from otel_netmon.analysis.summary import summarise
from otel_netmon.diagnosis.diagnose import diagnose
from otel_netmon.diagnosis.finding import Finding
from otel_netmon.live.settling import Change, Settling
from otel_netmon.live.watch import INTERVAL, SOONER
from otel_netmon.store.problems import FolderError, Problems
from otel_netmon.store.reader import read

from .grading import Grade, Graded, Truth, by_waiting, grade_rank, share, short
from .replay import looks, told
from .thinned import Agreement, Thinned


@dataclass
class Result:
    """Of one run. Seconds from onset."""

    run: str
    case: str
    is_clean: bool
    grade: Grade
    top: str
    more: tuple[str, ...]
    sentences: tuple[str, ...]
    also_wrong: tuple[str, ...]
    old: Grade
    old_rank: int | None
    named_after: float | None = None
    """Until the culprit was named, whatever for, and not withdrawn for another."""
    right_after: float | None = None
    looks_before: int = 0
    false_alarms: list[tuple[float, str]] = field(default_factory=list)
    """Before the onset, or in a run without a fault."""
    looks_after: int = 0
    wrong: list[tuple[float, str]] = field(default_factory=list)
    trail: list[tuple[float, str, str]] = field(default_factory=list)
    """Each change of the verdict."""
    told_after: float | None = None
    """Until a rank that leads would have told of the culprit, and ..."""
    told_wrong: list[tuple[float, str]] = field(default_factory=list)
    """... what it would have told of innocents."""
    has_live: bool = False
    """Whether the job diagnosed itself while it ran; what it told of the culprit, and of innocents:"""
    live_after: float | None = None
    live_wrong: list[tuple[float, str]] = field(default_factory=list)
    ended_after: float | None = None
    """When a job was over that ended by its fault, and that its last verdict explains."""
    agreement: Agreement | None = None


def evaluate(folder: Path, *, is_thinned: bool = False) -> Result:
    """Grade one run."""
    truth = Truth(json.loads((folder / "truth.json").read_text()))
    thinned = Thinned(folder / "telemetry") if is_thinned else None
    found, old = _found(folder / "telemetry", thinned)
    findings = max(found, key=lambda each: each.ranks).findings if found else ()
    graded = truth.grade(findings)
    result = Result(
        folder.name, truth.name, not truth.culprits, graded.grade, graded.top,
        tuple(truth.grade([each]).top for each in findings[1:]), tuple(each.sentence for each in findings),
        graded.also_wrong, grade_rank(truth, old), old,
    )  # fmt: skip
    if thinned is not None:
        result.agreement = thinned.agreement
    _replay(result, folder, truth, thinned)
    _really_told(result, folder, truth)
    if truth.culprits and truth.onset is not None and any(truth.codes.values()) and truth.ended:
        # The job is over, and what `otel-netmon run` says of all of it is what there is.
        end = round((max(truth.ended.values()) - truth.onset) / 1e9, 1)
        result.ended_after = end if graded.grade.is_found else None
        if result.named_after is None and graded.grade.is_found:
            result.named_after = end
        if result.right_after is None and graded.grade is Grade.RIGHT:
            result.right_after = end
    return result


def _found(telemetry: Path, thinned: Thinned | None) -> tuple[Sequence[Diagnosis], int | None]:
    """The verdicts on all of it, and whom waiting accuses."""
    if thinned is not None:
        files = sorted(telemetry.glob("*.jsonl"))
        records = (each for file in files for each in thinned.keep(read(file, Problems())))
        return diagnoses(collect(records)), None
    try:
        summary = summarise(telemetry)
    except FolderError:
        return (), None
    return summary.diagnoses, by_waiting(summary.waiting)


def _replay(result: Result, folder: Path, truth: Truth, thinned: Thinned | None) -> None:
    began, last, settling, due = None, None, Settling(), 0
    for at, evidence in looks(folder, truth, keep=thinned.keep if thinned is not None else list):
        began = at if began is None else began
        findings = diagnose(evidence, live=True)
        live = truth.grade(findings)
        seconds = round((at - (truth.onset or began)) / 1e9, 1)
        if truth.onset is None or at < truth.onset:
            accuses = any(each.accuses for each in findings) if truth.culprits else live.grade is Grade.FALSE_ALARM
            _before(result, live, seconds, accuses)
        else:
            _after(result, live, seconds)
        if (live.grade, live.top) != last:
            last = live.grade, live.top
            result.trail.append((seconds, live.grade.value, live.top))
        if at >= due:
            _tell(result, truth, settling.look(findings), [*settling.told.values()], seconds)
            due = at + int(INTERVAL * (SOONER if settling.is_pending else 1) * 1e9)


def _tell(result: Result, truth: Truth, changes: list[Change], told: list[Finding], seconds: float) -> None:
    """What ``live`` tells: what two of its looks agree on."""
    for change in changes:
        if change.finding.accuses and not change.is_over:
            is_early = bool(truth.culprits) and seconds < 0
            if is_early or truth.grade([change.finding]).grade in (Grade.WRONG, Grade.FALSE_ALARM):
                result.told_wrong.append((seconds, short(change.finding)))
    guilty = [each for each in told if truth.accused(each) & truth.guilty]
    if result.told_after is None and seconds >= 0 and guilty and truth.grade(guilty).grade.is_found:
        result.told_after = seconds


def _really_told(result: Result, folder: Path, truth: Truth) -> None:
    events = told(folder)
    result.has_live = events is not None
    for at, finding in events or ():
        seconds = round((at - (truth.onset or at)) / 1e9, 1)
        graded = truth.grade([finding])
        is_early = bool(truth.culprits) and seconds < 0
        if finding.accuses and (is_early or graded.grade in (Grade.WRONG, Grade.FALSE_ALARM)):
            result.live_wrong.append((seconds, short(finding)))
        elif truth.accused(finding) and truth.accused(finding) <= truth.guilty and result.live_after is None:
            result.live_after = seconds


def _before(result: Result, live: Graded, seconds: float, accuses: bool) -> None:
    result.looks_before += 1
    if accuses:
        result.false_alarms.append((seconds, live.top))


def _after(result: Result, live: Graded, seconds: float) -> None:
    result.looks_after += 1
    if live.grade is Grade.WRONG or live.also_wrong:
        result.wrong.append((seconds, live.top if live.grade is Grade.WRONG else live.also_wrong[0]))
    if live.grade.is_found and result.named_after is None:
        result.named_after = seconds
    if live.grade is Grade.RIGHT and result.right_after is None:
        result.right_after = seconds


_COLUMNS = (("right", 6), ("named", 6), ("wrong", 6), ("s, named", 9), ("s, right", 9), ("old rule", 9))


def table(results: list[Result]) -> str:
    """The confusion table, and what it comes to."""
    rows: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        rows[result.case].append(result)
    head = " ".join(f"{name:>{width}}" for name, width in _COLUMNS)
    lines = [f"{'case':22} {head}  verdicts"]
    for case, some in rows.items():
        verdicts = Counter(each.top for each in some)
        lines.append(
            f"{case:22} {share(each.grade is Grade.RIGHT for each in some):>6} "
            f"{'' if some[0].is_clean else share(each.grade.is_found for each in some):>6} "
            f"{share(_is_bad(each) for each in some):>6} {_times(each.named_after for each in some):>9} "
            f"{_times(each.right_after for each in some):>9} "
            f"{share(each.old is Grade.RIGHT for each in some):>9}  "
            + "; ".join(f"{count} x {what}" if count > 1 else what for what, count in verdicts.most_common())
        )
    return "\n".join((*lines, "", *_sums(results)))


def _is_bad(result: Result) -> bool:
    return result.grade in (Grade.WRONG, Grade.FALSE_ALARM) or bool(result.also_wrong)


def _times(seconds: Iterable[float | None]) -> str:
    known = sorted(each for each in seconds if each is not None)
    return f"{known[0]:.0f}-{known[-1]:.0f}" if len(known) > 1 else "".join(f"{each:.0f}" for each in known)


def _sums(results: list[Result]) -> list[str]:
    faults, clean = [each for each in results if not each.is_clean], [each for each in results if each.is_clean]
    named = sorted(each.named_after for each in faults if each.named_after is not None)
    right = sorted(each.right_after for each in faults if each.right_after is not None)
    before, after = sum(each.looks_before for each in results), sum(each.looks_after for each in results)
    lines = [
        f"faults: right {share(each.grade is Grade.RIGHT for each in faults)}, culprit named "
        f"{share(each.grade.is_found for each in faults)}, wrong culprit {share(map(_is_bad, faults))}; "
        f"old rule: right {share(each.old is Grade.RIGHT for each in faults)}, wrong "
        f"{share(each.old is Grade.WRONG for each in faults)}",
        f"clean runs: false alarms {share(map(_is_bad, clean))}; "
        f"old rule: {share(each.old is Grade.FALSE_ALARM for each in clean)}",
        f"live: false alarms {sum(len(each.false_alarms) for each in results)} of {before} looks without a fault, "
        f"a wrong culprit in {sum(len(each.wrong) for each in faults)} of {after} looks after the onset",
    ]
    agreed = sum((each.agreement for each in results if each.agreement is not None), Agreement())
    if agreed.by_any:
        lines.append(
            f"slow steps: {agreed.by_any} by a rank alone, {agreed.by_all} of them on all; {agreed.by_first} by "
            f"rank 0, whole on all ranks if they hear of it, {agreed.near} of them also if they do not"
        )
    told = sorted(each.told_after for each in faults if each.told_after is not None)
    lines.append(
        f"told, when two looks {INTERVAL * SOONER:.0f} to {INTERVAL:.0f} s apart agree: wrong "
        f"{sum(len(each.told_wrong) for each in faults)} times in {len(faults)} faulty runs, "
        f"{sum(len(each.told_wrong) for each in clean)} times in {len(clean)} clean ones"
    )
    really = [each for each in faults if each.has_live]
    times_told = sorted(each.live_after for each in really if each.live_after is not None)
    if any(each.has_live for each in results):
        quiet = [each for each in clean if each.has_live]
        wrong, alarms = (sum(len(each.live_wrong) for each in some) for some in (really, quiet))
        heard = [min(filter(None, (each.live_after, each.ended_after)), default=None) for each in really]
        lines.append(
            f"the jobs' own live diagnosis: told of the culprit in {len(times_told)}/{len(really)}, in "
            f"{sum(each <= 10 for each in times_told)} within 10 s; wrong {wrong} times there, and {alarms} times "
            f"in {len(quiet)} clean ones"
        )
        lines.append(
            f"told while it ran or, of jobs that it ended, by the verdict at their end: "
            f"{share(each is not None for each in heard)}, within 10 s "
            f"{share(each is not None and each <= 10 for each in heard)}"
        )
    for what, times in (("named", named), ("right", right), ("told", told)):
        if times:
            middle, most = times[len(times) // 2], times[int(0.9 * (len(times) - 1))]
            within = sum(each <= 10 for each in times)
            lines.append(
                f"live: {what} in {len(times)}/{len(faults)}, median {middle:.1f} s, 90 % {most:.1f} s after the "
                f"onset; within 10 s {within}/{len(faults)}"
            )
    return lines


def main(folder: Path, patterns: list[str] | None = None, *, is_thinned: bool = False) -> int:
    """Grade all runs in ``folder``; 1 if a culprit was wrong or an alarm false."""
    runs = [path.parent for path in sorted(folder.glob("*/truth.json"))]
    runs = [path for path in runs if not patterns or any(fnmatch(path.name, each) for each in patterns)]
    with ProcessPoolExecutor(2) as pool:
        results = list(pool.map(partial(evaluate, is_thinned=is_thinned), runs))
    for each in results:
        if each.grade is not Grade.RIGHT or any((each.also_wrong, each.wrong, each.false_alarms, each.live_wrong)):
            print(f"{each.run}: {each.grade.value}: {' | '.join(each.sentences)}")
            for what in each.also_wrong:
                print(f"    also: {what}")
            for name, some in (
                ("false alarm", each.false_alarms),
                ("wrong", each.wrong),
                ("told wrongly", each.told_wrong),
                ("really told wrongly", each.live_wrong),
            ):
                if some:
                    print(f"    {name} in {len(some)} looks, first at {some[0][0]:+.1f} s: {some[0][1]}")
            print("    live: " + " | ".join(f"{seconds:+.1f} {what}" for seconds, _, what in each.trail))
    print()
    print(table(results))
    kept = [asdict(each) for each in results]
    (folder / f"results{'-thinned' * is_thinned}.json").write_text(json.dumps(kept, indent=1))
    return int(any(map(_is_bad, results)))


if __name__ == "__main__":
    arguments = [each for each in sys.argv[1:] if each != "--thinned"]
    wanted = Path(arguments[0] if arguments else "build/faults")
    sys.exit(main(wanted, arguments[1:], is_thinned="--thinned" in sys.argv))
