"""One run as one HTML file that needs nothing else: its verdict, pictures, tables and what is missing.

The same summary and details give the same bytes. Scripts only read out cells; without them the page is the same.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Final

import jinja2
from markupsafe import Markup

from otel_netmon.analysis.details import Details
from otel_netmon.analysis.results import Diagnosis, Summary
from otel_netmon.diagnosis.finding import Finding, Kind
from otel_netmon.report.blocks import Block, blocks
from otel_netmon.report.section import Section
from otel_netmon.report.sections import sections
from otel_netmon.report.verdict import Card, cards, leading
from otel_netmon.report.words import about, counted, fact, spans
from otel_netmon.text import printable
from otel_netmon.version import __version__

_NOTHING: Final = "No rank told of itself: there is no verdict."


@dataclass(frozen=True)
class _Said:
    """A finding in words."""

    sentence: str
    about: str
    facts: tuple[str, ...]
    not_excluded: tuple[str, ...]


@dataclass(frozen=True)
class _Page:
    """What the template shows."""

    name: str
    about: str
    sentence: str
    cards: tuple[Card, ...]
    confidence: str
    not_excluded: tuple[str, ...]
    findings: tuple[_Said, ...]
    others: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...]
    tables: tuple[Block, ...]
    facts: tuple[tuple[str, ...], ...]
    made: str
    style: Markup
    style_hash: str
    script: Markup
    script_hash: str


def page(summary: Summary, details: Details, name: str) -> str:
    """The HTML of a run; ``name`` is that of its folder."""
    name = printable(name.encode("utf-8", "replace").decode())
    diagnosis, finding = leading(summary, details.run_id)
    parts = blocks(replace(summary, folder=name))
    tables = tuple(block for block in parts[1:] if block.title != "Diagnosis")
    style, script = _file("report.css"), _file("report.js")
    services = ", ".join(details.services)
    shown = _Page(
        name=f"{services} · {name}" if services and services != name else name,
        about=_about(summary, details),
        sentence=finding.sentence if finding is not None else _NOTHING,
        cards=cards(summary, diagnosis, finding) if diagnosis is not None and finding is not None else (),
        confidence=finding.confidence.value if finding is not None and finding.kind is not Kind.NOTHING else "",
        not_excluded=finding.not_excluded if finding is not None else (),
        findings=tuple(map(_said, diagnosis.findings)) if diagnosis is not None else (),
        others=_others(summary, diagnosis),
        sections=sections(summary, details, finding),
        tables=tables,
        facts=(*parts[0].rows, *_origin(summary, details)),
        made=f"Made by otel-netmon {__version__}. Nothing here is loaded from elsewhere.",
        style=Markup(style),  # noqa: S704 - our own file
        style_hash=_hash(style),
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=_hash(script),
    )
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(_file("report.html.jinja")).render(page=shown)


def _file(name: str) -> str:
    return files("otel_netmon.report").joinpath(name).read_text(encoding="utf-8").rstrip("\n")


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _about(summary: Summary, details: Details) -> str:
    """How large the job was."""
    seen = sorted({*summary.ranks, *summary.silent_ranks, *(each.rank for each in summary.alive)})
    hosts = {host for host in details.hosts.values() if host}
    backends = sorted({each.backend for each in summary.operations if each.backend})
    steps = counted(summary.steps.count, "step") if summary.steps is not None else "no complete step"
    where = f" on {counted(len(hosts), 'host')}" if hosts else ""
    return ", ".join([f"{counted(len(seen), 'rank')}{where}", steps, *backends])


def _said(finding: Finding) -> _Said:
    return _Said(finding.sentence, about(finding), tuple(map(fact, finding.facts)), finding.not_excluded)


def _others(summary: Summary, diagnosis: Diagnosis | None) -> tuple[tuple[str, str], ...]:
    """The run and costliest finding of each other run in the folder, up to 20."""
    others = [each for each in summary.diagnoses if each is not diagnosis and each.findings][:20]
    return tuple((each.run_id or "that says no name", each.findings[0].sentence) for each in others)


def _origin(summary: Summary, details: Details) -> tuple[tuple[str, str], ...]:
    ranks = {host: [rank for rank, of in details.hosts.items() if of == host] for host in details.hosts.values()}
    hosts = "; ".join(
        f"{host}: {'rank' if len(of) == 1 else 'ranks'} {spans(of)}"
        for host, of in list(ranks.items())[:16]
        if host
    )
    runs = ", ".join(summary.runs[:8])
    return (
        *((("run", runs),) if runs else ()),
        *((("hosts", hosts + ("; …" if len(ranks) > 16 else "")),) if hosts else ()),
    )
