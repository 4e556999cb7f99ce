"""The pages say what the code does: no name missing, none stale."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
from collections.abc import Iterator
from pathlib import Path

from otel_netmon import config, schema, semconv
from otel_netmon.records import Collective, Heartbeat, HostTraffic, InFlight, PeerTraffic, RankStep, Verdict

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
CODE = re.compile(r"`([^`\n]+)`")
OURS = re.compile(r"(?:torch\.distributed|otel_netmon|system\.network|hw\.network)\.[a-z0-9_.]+[a-z0-9_*]")


def rows(heading: str) -> dict[str, list[str]]:
    """The cells of the table below ``heading`` in the contract, by the name in the first."""
    section = (ROOT / "docs" / "data.md").read_text().split(f"# {heading}\n", 1)[1].split("\n#", 1)[0]
    lines = [re.split(r"(?<!\\) \| ", line[2:-2]) for line in section.splitlines() if line.startswith("| `")]
    assert len({cells[0] for cells in lines}) == len(lines)
    return {cells[0].strip("`"): cells for cells in lines}


RECORDS = {
    "Of a collective": Collective,
    "Of a step on a rank": RankStep,
    "Of the traffic with a peer": PeerTraffic,
    "Of the traffic of a NIC": HostTraffic,
    "Of a collective that hangs": InFlight,
    "Of a heartbeat": Heartbeat,
    "Of a verdict": Verdict,
}


def names_known() -> Iterator[str]:
    yield from (metric.name for metric in semconv.METRICS)
    yield from (*semconv.ATTRIBUTES, *semconv.RESOURCE_ATTRIBUTES, *semconv.EVENTS)
    yield from (name for metric in semconv.METRICS for name in metric.attributes)
    yield from (semconv.SCOPE_COLLECTIVES, semconv.SCOPE_MONITORS, semconv.SCOPE_DELIVERY)


def test_the_contract_was_written_from_the_code() -> None:
    render = runpy.run_path(str(ROOT / "docs" / "make_data.py"))["render"]
    assert (ROOT / "docs" / "data.md").read_text() == render(), "run `make docs`"


def test_the_contract_has_every_metric() -> None:
    found = {
        name: (
            kind.replace(" ", "_"),
            unit.strip("`"),
            other.strip("`"),
            tuple(CODE.findall(attributes)),
            description,
        )
        for name, (_, kind, unit, other, attributes, description) in rows("Metrics").items()
    }
    assert found == {
        m.name: (m.kind, m.unit, m.prometheus_name, m.attributes, m.description) for m in semconv.METRICS
    }


def test_the_contract_has_every_span_and_attribute() -> None:
    spans = {name: CODE.findall(parent)[:1] for name, (_, parent, _) in rows("Spans").items()}
    assert spans == {span.name: [span.parent] if span.parent else [] for span in semconv.SPANS}
    for heading, cls in RECORDS.items():
        found = {
            name: (kind, unit.strip("`"), column.strip("`"), description, absent)
            for name, (_, kind, unit, column, description, absent) in rows(heading).items()
        }
        assert found == {
            str(a): (a.type, a.unit, column, a.description, a.absent or "never absent")
            for column, a in schema.ATTRIBUTES[cls].items()
        }
    resource = {name: kind for name, (_, kind, _) in rows("Resource attributes").items()}
    assert resource == {str(a): a.type for a in semconv.RESOURCE_ATTRIBUTES}


def test_the_contract_has_every_variable() -> None:
    found = {name: (accepted, doc) for name, (_, _, accepted, doc) in rows("Variables").items()}
    assert found == {v.name: (v.kind.accepted, v.doc) for v in config.VARIABLES}


def test_every_name_is_documented_on_some_span() -> None:
    """No attribute constant exists that the contract does not list."""
    values = {value for name, value in vars(semconv).items() if isinstance(value, str) and name.isupper()}
    spans = {span.name for span in semconv.SPANS}
    prefixed = {value for value in values if OURS.fullmatch(value)}
    assert prefixed - spans <= set(names_known()) | {semconv.SCHEMA_URL}


def test_the_readmes_python_is_valid() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    import otel_netmon

    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "otel_netmon":
                assert {alias.name for alias in node.names} <= set(otel_netmon.__all__)
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "otel_netmon"
            ):
                assert node.attr in otel_netmon.__all__


def test_the_demo_has_no_line_of_ours() -> None:
    script = (ROOT / "examples" / "train_digits.py").read_text()
    assert not re.search(r"otel|netmon|opentelemetry", script, re.IGNORECASE)


def test_the_scripts_are_valid_shell() -> None:
    assert subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], timeout=10).returncode == 0


def test_each_promise_names_its_tests_and_each_of_these_says_which_it_shows() -> None:
    """The table of docs/reliability.md is what the tests print."""
    page = (ROOT / "docs" / "reliability.md").read_text()
    promised: dict[str, set[tuple[str, str]]] = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 3 and cells[0] != "fault":
            promised[cells[0]] = set(re.findall(r"`(test_\w+\.py)::(\w+)`", cells[2]))
    marked: dict[str, set[tuple[str, str]]] = {}
    mark = re.compile(r'@pytest\.mark\.row\("(.*?)"\)\n((?:@.*\n(?:[ \])].*\n)*)*)def (\w+)')
    for file in (ROOT / "tests").rglob("test_*.py"):
        source = file.read_text()
        for found in mark.finditer(source):
            for fault in (found[1], *re.findall(r'@pytest\.mark\.row\("(.*?)"\)', found[2])):
                marked.setdefault(fault, set()).add((file.name, found[3]))
    assert set(promised) == set(marked)
    for fault, tests in promised.items():
        assert tests and tests <= marked[fault], fault
