"""The page as text: its policy, its sizes, what it says where something is missing."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
import zlib
from array import array
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from otel_netmon.analysis.details import Details, LastCall
from otel_netmon.analysis.results import Summary
from otel_netmon.analysis.waiting import Waiting
from otel_netmon.diagnosis.finding import Finding, Kind
from otel_netmon.report.page import page
from otel_netmon.report.png import png
from tests.unit.report.synthetic import NOTHING, made_up


class Elements(HTMLParser):
    """Every element that is open and shut, and every attribute."""

    VOID = frozenset(("meta",))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in {"style", "script"}:
            self.texts[self.open[-1]] = self.texts.get(self.open[-1], "") + data


@pytest.mark.parametrize(
    ("ranks", "steps", "most"), [(4, 200, 100_000), (64, 200, 200_000), (1000, 1000, 1_000_000)]
)
def test_sizes(ranks: int, steps: int, most: int) -> None:
    summary, details = made_up(ranks, steps)
    text = page(summary, details, "run")
    assert len(text.encode()) <= most
    assert text == page(summary, details, "run")
    if ranks == 1000:
        assert "all 1000 ranks; above, the 8 that were waited for most" in text
        assert "a column is the worst of 2 steps, a row the worst of 3 ranks" in text


def test_noise_everywhere_stays_small_too() -> None:
    summary, details = made_up(64, 200)
    noise = {
        rank: array("f", ((rank * 7919 + step * 104729) % 1009 / 100 for step in range(200))) for rank in range(64)
    }
    assert len(page(summary, replace(details, lateness=noise), "run").encode()) <= 200_000


def test_steps_of_many_collectives_and_events_stay_small_too() -> None:
    summary, details = made_up(4, 200)
    (step, other) = details.inside
    many = tuple(
        row._replace(
            collectives=tuple(
                row.collectives[0]._replace(start=at / 1000, seconds=1e-3, waited=2e-4, sequence=at)
                for at in range(100)
            )
        )
        for row in step.ranks
    )
    inside = tuple(each._replace(ranks=many, left_out=7) for each in (step, other))
    events = tuple(
        details.events[0]._replace(step=at, kind=kind) for at in range(1, 201) for kind in ("gc", "data")
    )
    text = page(summary, replace(details, inside=inside, events=events), "run")
    assert len(text.encode()) <= 100_000
    assert "without the 7 shortest collectives" in text
    assert "garbage collection in 200 steps" in text


def test_the_policy_admits_our_own_script_and_style_and_nothing_else() -> None:
    elements = Elements(page(*made_up(4, 30), "run"))
    assert elements.open == []
    (policy,) = (value for tag, name, value in elements.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(elements.texts[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    for tag, name, value in elements.attributes:
        assert name != "style" and not name.startswith("on"), (tag, name)
        if name in {"href", "src"}:
            assert value.startswith(("#", "data:image/png;base64,")), value
    assert "unsafe" not in policy


def test_ids_are_unique_and_links_lead_somewhere() -> None:
    attributes = Elements(page(*made_up(4, 30), "run")).attributes
    ids = [value for _, name, value in attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value[1:] for tag, name, value in attributes if (tag, name) == ("a", "href")} <= set(ids)


def test_the_name_of_the_folder_is_all_that_is_said_of_where_it_is() -> None:
    summary, details = made_up(4, 30)
    text = page(replace(summary, folder="/home/me/secret/run-7"), details, "run-7")
    assert "run-7 (12 files" in text
    assert "secret" not in text


def test_names_without_valid_text_are_shown_all_the_same() -> None:
    assert "caf? ??" in page(*made_up(4, 30), "caf\udce9 \u202e\n")


def missing(text: str) -> dict[str, str]:
    """By section, why there is no picture."""
    found = re.findall(r'<section id="(\w+)"><h2>[^<]*</h2>\s*<p class="missing">([^<]*)</p>', text)
    return dict(found)


def test_without_any_telemetry_of_a_training_the_page_says_so_everywhere() -> None:
    text = page(NOTHING, Details(), "run")
    said = missing(text)
    assert set(said) == {"time", "late", "inside", "bandwidth", "hosts", "overlap"}
    assert "otel_netmon.step()" in said["time"]
    assert said["bandwidth"] == "No collective was captured."
    assert "No rank told of itself: there is no verdict." in text
    assert "<svg" not in text


def test_one_rank_has_a_picture_of_its_time_and_waits_for_nobody() -> None:
    summary, details = made_up(1, 30)
    said = missing(page(summary, details, "run"))
    assert "one rank only" in said["late"]
    assert "time" not in said


def unmatched(summary: Summary) -> Summary:
    """As of NCCL without durations: nothing could be matched."""
    return replace(summary, waiting=Waiting(0, 0, 0, ()))


def test_without_durations_lateness_is_not_known_and_not_zero() -> None:
    summary, details = made_up(4, 30)
    times = tuple(
        each._replace(own=0.0, transfer=0.0, waiting=0.0, unknown=each.total, data=0.0, gc=0.0)
        for each in details.times
    )
    details = replace(details, times=times, inside=(), bandwidths=(), overlaps=(), unknown_overlaps=120, links=())
    text = page(unmatched(summary), details, "run")
    said = missing(text)
    assert set(said) == {"late", "inside", "bandwidth", "hosts", "overlap"}
    assert all("TORCH_NCCL_ENABLE_TIMING=1" in said[name] for name in ("late", "bandwidth", "overlap"))
    assert "not known whether in collectives" in text
    assert 'id="heat"' not in text


def test_steps_before_anything_was_late_have_an_empty_map() -> None:
    summary, details = made_up(4, 3)
    nobody = {rank: array("f", bytes(12)) for rank in range(4)}
    assert 'id="heat"' in page(summary, replace(details, lateness=nobody), "run")


@pytest.mark.parametrize("seconds", [(0.0, 0.0, 0.0), (0.0, 0.0, 5.0), (1e-6, 1e-6, 1e5)])
def test_steps_of_any_length_have_a_picture(seconds: tuple[float, ...]) -> None:
    summary, details = made_up(4, 3)
    assert 'id="heat"' in page(summary, replace(details, step_times=array("d", seconds)), "run")


def test_what_hung_comes_first_with_those_that_are_behind() -> None:
    summary, details = made_up(4, 30)
    last = (
        LastCall("0", 1, 79, "all_reduce", None, None, is_over=True),
        LastCall("0", 0, 80, "all_reduce", 10.1, None, is_over=False),
        LastCall("0", 2, 80, "all_reduce", 10.0, "RuntimeError", is_over=False),
    )
    text = page(summary, replace(details, last_calls=last), "run")
    assert "1. What each rank was at when it ended" in text
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", text)
    at = cells.index("79")
    assert cells[at - 4 : at + 3] == ["1", "node000", "0", "all_reduce", "79", "ended", "-"]
    assert "failed: RuntimeError" in cells and "did not end" in cells and "10.1 s" in cells
    assert "when it ended" not in page(summary, details, "run")


def test_one_host_has_no_network() -> None:
    summary, details = made_up(4, 30)
    assert missing(page(summary, replace(details, links=()), "run"))["hosts"].startswith(
        "All ranks were on one host"
    )


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_finding_has_four_numbers(kind: Kind) -> None:
    summary, details = made_up(4, 30)
    for finding in (
        Finding(kind, "It is so."),
        Finding(kind, "It is so.", ranks=(1, 2), lost=2.0, first_step=3, last_step=3),
        Finding(kind, "It is so.", hosts=("a",), pairs=(("a", "b"),), lost=0.1, first_step=3, last_step=30),
    ):
        said = replace(summary, diagnoses=(replace(summary.diagnoses[0], findings=(finding,)),))
        text = page(said, details, "run")
        assert text.count('<span class="head">') == 4
        assert '<p class="verdict" id="verdict">It is so.</p>' in text


def test_all_findings_and_all_runs_are_named() -> None:
    summary, details = made_up(4, 30)
    (first,) = summary.diagnoses
    second = replace(first, run_id="the second", findings=(Finding(Kind.NOTHING, "Nothing stands out there."),))
    first = replace(first, findings=(*first.findings, Finding(Kind.LOSSY, "It loses packets.", hosts=("a",))))
    text = page(replace(summary, diagnoses=(first, second)), details, "run")
    assert "Also found" in text and "It loses packets." in text
    assert "run the second: Nothing stands out there." in text


def test_a_picture_holds_its_cells_as_they_are() -> None:
    rows = [bytes((0, 1, 255)), bytes((7, 8, 9))]
    data = png(rows)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, {}
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        name, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(name + content)
        chunks[name] = content
        at += 12 + length
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (3, 2, 8, 3, 0, 0, 0)
    assert zlib.decompress(chunks[b"IDAT"]) == b"\0" + rows[0] + b"\0" + rows[1]
    assert len(chunks[b"PLTE"]) == 768 and len(chunks[b"tRNS"]) == 256 and chunks[b"tRNS"][0] == 0
