"""``otel-netmon diagnose``: the verdicts with what they rest on, as text or JSON."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from otel_netmon.analysis.diagnoses import DUMPS, diagnoses_of
from otel_netmon.analysis.results import Diagnosis
from otel_netmon.cli.source import source
from otel_netmon.cli.summary import reading
from otel_netmon.diagnosis.finding import SCHEMA
from otel_netmon.report.words import about, fact
from otel_netmon.store.problems import FolderError

_WIDTH = 100


def show(where: Path | str, run_id: str | None, *, as_json: bool) -> int:
    """Print who is to blame there to stdout; 2 with one sentence on stderr when there is nothing in it."""
    try:
        with source(where, run_id) as found, reading() as progress:
            diagnoses = diagnoses_of(found, progress)
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
        for each in finding.facts:
            yield from _wrapped(fact(each), "     ", "       ")
        if finding.not_excluded:
            yield from _wrapped(f"not excluded: {'; '.join(finding.not_excluded)}", "   ", "     ")


def _wrapped(text: str, first: str, then: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=then)
