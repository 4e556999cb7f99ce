"""Every link on a page leads somewhere, and the index leads to every page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.installed import ROOT

PAGES = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")))
INDEX = ROOT / "docs" / "README.md"

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(page: str) -> frozenset[str]:
    """The anchors that GitHub gives to the headings; one that comes again is numbered."""
    found: dict[str, int] = {}
    for heading in HEADING.findall(FENCE.sub("", page)):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = found[anchor] = found.get(anchor, -1) + 1
        if number:
            found.setdefault(f"{anchor}-{number}", 0)
    return frozenset(found)


def broken(text: str, folder: Path, own: frozenset[str]) -> Iterator[str]:
    """Relative links in ``text``, a page in ``folder`` with anchors of its ``own``, that lead nowhere."""
    for link in LINK.findall(FENCE.sub("", text)):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = folder / path
        if not target.exists() or (
            anchor
            and anchor not in (anchors(target.read_text()) if path else own)
            and target.suffix in ("", ".md")
        ):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_and_anchor_resolves(page: Path) -> None:
    text = page.read_text()
    assert not list(broken(text, page.parent, anchors(text)))


@pytest.mark.parametrize(
    "link", ["docs/dataa.md", "../docs/data.md", "docs/data.md#metric", "#what-it-cost", "dashboard"]
)
def test_a_broken_link_is_found(link: str) -> None:
    own = anchors("# otel-netmon\n\n## What it costs\n")
    assert list(broken(f"see [it]({link})", ROOT, own))
    assert not list(broken("[a](docs/data.md#metrics) [b](#what-it-costs) [c](dashboards)", ROOT, own))


def test_the_index_has_each_page_on_a_line_of_its_own() -> None:
    lines = [line for line in INDEX.read_text().splitlines() if line.startswith("| [")]
    listed = [re.findall(r"\]\(([\w.-]+\.md)\)", line) for line in lines]
    assert sorted(listed) == [[page.name] for page in PAGES if page.parent == INDEX.parent and page != INDEX]


def test_the_readme_leads_to_the_index() -> None:
    assert "docs/README.md" in LINK.findall((ROOT / "README.md").read_text())
