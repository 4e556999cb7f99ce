"""The report in a real Chromium: it asks for nothing, can be read by all, and is whole on paper."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from otel_netmon.analysis.details import Details
from otel_netmon.report.page import page
from tests.browser.conftest import Open
from tests.unit.report.synthetic import NOTHING, made_up

SIZES = {"four": (4, 70), "many": (100, 700)}
LAST = "Nothing here is loaded from elsewhere."


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    texts = {name: page(*made_up(*size), name) for name, size in SIZES.items()}
    texts["nothing"] = page(NOTHING, Details(), "nothing")
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


@pytest.mark.parametrize("name", [*SIZES, "nothing"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_asked_for_and_nothing_is_said(
    pages: dict[str, Path], opened: Open, name: str, scheme: str
) -> None:
    tab = opened(pages[name], color_scheme=scheme)
    assert tab.page.inner_text("#verdict")
    assert tab.noted == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_with_scripts_forbidden_the_pixels_are_the_same(pages: dict[str, Path], opened: Open, scheme: str) -> None:
    shots = [
        opened(pages["many"], color_scheme=scheme, java_script_enabled=allowed).page.screenshot(full_page=True)
        for allowed in (True, False)
    ]
    assert shots[0] == shots[1]


def test_dark_is_dark(pages: dict[str, Path], opened: Open) -> None:
    colours = {
        scheme: opened(pages["four"], color_scheme=scheme).page.evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    }
    assert colours == {"light": "rgb(255, 255, 255)", "dark": "rgb(17, 21, 26)"}


@pytest.mark.parametrize("name", [*SIZES, "nothing"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(pages: dict[str, Path], opened: Open, name: str, scheme: str) -> None:
    core = pytest.importorskip("axe_core_python", reason="needs pip install axe-core-python")
    script = (Path(core.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    # The page's own policy forbids foreign scripts, so the check goes around it; the page is the same.
    tab = opened(pages[name], color_scheme=scheme, bypass_csp=True)
    tab.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    tab.page.evaluate(script)
    found = tab.page.evaluate("axe.run().then(result => result.violations)")
    assert [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in found] == []


def told(tab: Any) -> str:
    return str(tab.page.inner_text("#read"))


def test_the_pointer_reads_out_rank_step_and_value(pages: dict[str, Path], opened: Open) -> None:
    tab = opened(pages["four"])
    cells = tab.page.locator(".cells").first
    cells.scroll_into_view_if_needed()
    box = cells.bounding_box()
    assert box
    # Row 1 of 4, column 35 of 70: rank 1 is late from step 22 to 56.
    tab.page.mouse.move(box["x"] + box["width"] * 35.5 / 70, box["y"] + box["height"] * 1.5 / 4)
    tab.page.wait_for_function("document.getElementById('read').textContent !== ''")
    _, details = made_up(*SIZES["four"])
    seconds = details.lateness[1][35]
    assert told(tab).startswith("rank 1, step 36: ")
    value, unit = told(tab).removeprefix("rank 1, step 36: ").split()[:2]
    assert float(value) * {"ms": 1e-3, "s": 1.0}[unit] == pytest.approx(seconds, rel=0.05)
    assert tab.page.inner_text("#tip") == told(tab)
    tab.page.mouse.move(2, 2)
    tab.page.wait_for_function("getComputedStyle(document.getElementById('tip')).visibility === 'hidden'")


def test_arrow_keys_read_out_rank_step_and_value(pages: dict[str, Path], opened: Open) -> None:
    tab = opened(pages["many"])
    tab.page.focus("#heat")
    said = []
    for key in ("ArrowRight", "ArrowDown", "End", *["ArrowDown"] * 7):
        before = told(tab)
        tab.page.keyboard.press(key)
        tab.page.wait_for_function("was => document.getElementById('read').textContent !== was", arg=before)
        said.append(told(tab))
    places = [each.partition(": ")[0] for each in said]
    assert places[0] == "rank 0, steps 3-4"  # two steps to a column
    assert places[1].endswith(", steps 3-4") and places[1] != places[0]
    assert places[2] == places[1].replace("3-4", "699-700")
    assert places[-1] == "rank 0, steps 699-700"  # below the eight that are enlarged, all of them begin
    assert all(each.endswith(("on time", "later than the median of the others")) for each in said)
    assert tab.noted == []


def test_print_is_whole(pages: dict[str, Path], opened: Open) -> None:
    pypdf = pytest.importorskip("pypdf", reason="needs pip install pypdf")
    for allowed in (True, False):
        tab = opened(pages["four"], java_script_enabled=allowed)
        reader = pypdf.PdfReader(io.BytesIO(tab.page.pdf(format="A4")))
        text = "\n".join(sheet.extract_text() for sheet in reader.pages)
        assert 3 <= len(reader.pages) <= 8
        assert LAST in text.replace("\n", " ")
        assert "others waited for it" in text.replace("\n", " ")  # a table, closed on the screen


@pytest.mark.parametrize("name", [*SIZES, "nothing"])
def test_760_pixels_are_enough(pages: dict[str, Path], opened: Open, name: str) -> None:
    tab = opened(pages[name], viewport={"width": 760, "height": 900})
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 760
    outside = """() => [...document.querySelectorAll(".fig")].flatMap(figure => {
      const right = figure.getBoundingClientRect().right + 0.5;
      return [...figure.querySelectorAll("text")].filter(text => {
        const box = text.getBoundingClientRect();
        return box.right > right || box.left < figure.getBoundingClientRect().left - 0.5;
      }).map(text => text.textContent);
    })"""
    assert tab.page.evaluate(outside) == []
    smallest = """() => Math.min(...[...document.querySelectorAll(".fig text")].map(text =>
      parseFloat(getComputedStyle(text).fontSize) * text.getCTM().a))"""
    if name != "nothing":
        assert tab.page.evaluate(smallest) >= 9


HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>' & {{ 7 * 7 }} \u05d0\u05d1\u05d2"


def test_names_are_names_and_nothing_else(tmp_path: Path, opened: Open) -> None:
    summary, details = made_up(16, 30)
    finding = replace(summary.diagnoses[0].findings[0], sentence=f"Rank 5 {HOSTILE} is late.", hosts=(HOSTILE,))
    summary = replace(
        summary,
        runs=(HOSTILE,),
        operations=tuple(replace(each, operation=HOSTILE, group=HOSTILE) for each in summary.operations),
        diagnoses=(replace(summary.diagnoses[0], findings=(finding,)),),
    )
    details = replace(
        details,
        services=(HOSTILE,),
        hosts={rank: f"{host}{HOSTILE}" for rank, host in details.hosts.items()},
        bandwidths=tuple(each._replace(operation=HOSTILE) for each in details.bandwidths),
        links=tuple(each._replace(sender=each.sender + HOSTILE) for each in details.links),
        inside=tuple(each._replace(aligned=HOSTILE, why=HOSTILE) for each in details.inside),
        events=tuple(each._replace(what=HOSTILE) for each in details.events),
    )
    path = tmp_path / "hostile.html"
    path.write_text(page(summary, details, HOSTILE), encoding="utf-8")
    tab = opened(path)
    tab.page.on("dialog", lambda dialog: tab.noted.append(dialog.message))
    assert tab.page.locator("script").count() == 1
    assert tab.page.locator("img").count() == 0
    assert tab.page.inner_text("#verdict") == finding.sentence
    assert "49" not in tab.page.inner_text("h1")
    assert tab.noted == []
