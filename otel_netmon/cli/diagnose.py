"""``otel-netmon diagnose``: the verdicts with what they rest on, as text or JSON."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from otel_netmon.analysis.diagnoses import DUMPS, diagnoses_of
from otel_netmon.analysis.results import Diagnosis
from otel_netmon.cli.render import rate, seconds
from otel_netmon.cli.summary import reading
from otel_netmon.diagnosis.finding import SCHEMA, Fact, Finding, Kind
from otel_netmon.store.problems import FolderError

_WIDTH = 100


def show(folder: Path, *, as_json: bool) -> int:
    """Print who is to blame in ``folder`` to stdout; 2 with one sentence on stderr when there is nothing in it."""
    try:
        with reading() as progress:
            diagnoses = diagnoses_of(folder, progress)
    except FolderError as error:
        print(f"otel-netmon: {error}", file=sys.stderr)
        return 2
    if as_json:
        said = {"schema": SCHEMA, "runs": [each.to_dict() for each in diagnoses]}
        print(json.dumps(said, indent=2, allow_nan=False))
    else:
        text = (
            "\n".join(line for each in diagnoses for line in _lines(each)) or "no rank sent anything: no verdict"
        )
        encoding = sys.stdout.encoding or "ascii"
        print(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()  # a broken pipe shows here, where it is handled
    return 0


def _lines(diagnosis: Diagnosis) -> Iterator[str]:
    if diagnosis.run_id == DUMPS:
        yield f"{DUMPS} of {diagnosis.ranks} ranks"
    else:
        run = f"run {diagnosis.run_id}: " if diagnosis.run_id else ""
        yield f"{run}{diagnosis.ranks} ranks, {diagnosis.steps} steps seen on all of them"
    for number, finding in enumerate(diagnosis.findings, 1):
        yield ""
        yield from _wrapped(f"{number}. {finding.sentence}", "", "   ")
        yield from _wrapped(about(finding), "   ", "   ")
        for fact in finding.facts:
            yield from _wrapped(_fact(fact), "     ", "       ")
        if finding.not_excluded:
            yield from _wrapped(f"not excluded: {'; '.join(finding.not_excluded)}", "   ", "     ")


def _wrapped(text: str, first: str, then: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=then)


def about(finding: Finding) -> str:
    """Kind, cause, culprit, steps, cost and confidence, in one line."""
    parts = [finding.kind.value + (f" ({finding.cause.value})" if finding.cause else "")]
    if finding.hosts:
        parts.append(f"host {' or '.join(finding.hosts)}")
    if finding.direction is not None:
        parts.append(finding.direction.value)
    if finding.first_step is not None and finding.last_step is not None:
        first, last = finding.first_step, finding.last_step
        parts.append(f"step {first}" if first == last else f"steps {first} to {last}")
    if finding.lost:
        waiting = finding.lost_rank_seconds
        each = "" if finding.first_step == finding.last_step else " of each step"
        parts.append(f"costs {seconds(finding.lost)}{each}" + (f", {waiting:.3g} rank-seconds" if waiting else ""))
    if finding.kind is not Kind.NOTHING:
        parts.append(f"confidence {finding.confidence.value}")
    return "; ".join(parts)


def _fact(fact: Fact) -> str:
    value, baseline = (None if each is None else _value(each, fact.unit) for each in (fact.value, fact.baseline))
    return f"{fact.name}: {value}" + (f", elsewhere {baseline}" if baseline is not None else "")


def _value(value: float, unit: str) -> str:
    if unit == "By/s":
        return rate(value)
    if unit == "1":
        return f"{100 * value:.2f} %"
    kind, _, per = unit.partition("/")
    if kind == "s":
        return (seconds(value) if value >= 0 else f"-{seconds(-value)}") + (f" per {per}" if per else "")
    return f"{value:g}"
