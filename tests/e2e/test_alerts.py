"""The alerts: valid, each firing when it should and only then, about series that there are."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

from otel_netmon import semconv
from tests.installed import ROOT

RULES = ROOT / "alerts" / "otel-netmon.rules.yaml"
TESTS = sorted((ROOT / "alerts" / "tests").glob("*.test.yaml"))

SERIES = re.compile(r"\b((?:otel_netmon|torch_distributed)_\w+)\b(?=[\[{) ])")


def promtool(binary: Callable[[str], str], *arguments: str) -> str:
    done = subprocess.run([binary("promtool"), *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_are_valid_and_fire_as_their_tests_say(binary: Callable[[str], str]) -> None:
    assert "SUCCESS" in promtool(binary, "check", "rules", str(RULES))
    assert "SUCCESS" in promtool(binary, "test", "rules", *map(str, TESTS))


def test_each_alert_has_a_test() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", RULES.read_text()))
    tested = set(re.findall(r"alertname: (\w+)", "".join(path.read_text() for path in TESTS)))
    assert alerts == tested and len(alerts) > 8


def test_every_series_is_one_of_ours() -> None:
    known = {metric.prometheus_name for metric in semconv.METRICS}
    known |= {name + ending for name in known for ending in ("_count", "_bucket")}
    used: set[str] = set()
    for pair in re.findall(r"expr: (?:\|\n((?:\s{10,}.*\n)+)|(.*))", RULES.read_text()):
        used.update(SERIES.findall("".join(pair)))
    labels = {re.sub(r"\W", "_", name) for metric in semconv.METRICS for name in metric.attributes}
    series = used - labels - {"torch_distributed_rank"}
    assert series and series <= known, series - known
