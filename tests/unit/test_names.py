"""No page, rule, dashboard or configuration names what does not exist.

Names of signals in every form: as OpenTelemetry has them, cut short (`.size`, `gc_time`), and as Prometheus writes
them; variables with the values that are shown; exporters; files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import entry_points, metadata
from pathlib import Path
from pkgutil import iter_modules, resolve_name

import opentelemetry.environment_variables as api_variables
import opentelemetry.instrumentation.environment_variables as instrumentation_variables
import opentelemetry.sdk.environment_variables as sdk_variables
import opentelemetry.semconv._incubating.attributes as borrowed
import pytest
from opentelemetry.sdk.trace import sampling
from opentelemetry.semconv._incubating.metrics import hw_metrics, system_metrics

from benchmarks.rows import ROWS
from otel_netmon import config, semconv
from otel_netmon.analysis.questions import QUESTIONS, question
from otel_netmon.diagnosis.finding import Kind
from otel_netmon.monitors import registry
from otel_netmon.store import json_tables, sql, unpacked
from otel_netmon.store.engine import SCHEMES
from tests.conftest import BINARIES

ROOT = Path(__file__).parents[2]
PAGES = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")))
SHIPPED = sorted(
    path
    for folder in ("alerts", "collector-config", "dashboards")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".yaml", ".json")
)
SOURCES = [
    *(path for path in sorted(ROOT.glob("otel_netmon/**/*.py")) if path.parent.name != "semconv"),
    *(*sorted(ROOT.glob("examples/*.py")), ROOT / "Makefile"),
]

OF_OTHERS = {
    *("CUDA_DEVICE_MAX_CONNECTIONS", "authorization", "c10d", "comms_logger", "destroy_process_group"),
    *("error", "fit", "getsockopt", "grpc", "gzip", "histogram.record", "host", "jaeger", "max", "mpirun"),
    *("nft", "none", "os._exit", "otelcol", "otlp", "ping", "prometheus", "requests", "softnet", "srun"),
    *("start_as_current_span", "sum", "tcp_info", "torch.profiler", "wait"),
}
"""What pages set in code and is not ours: functions, programs, values. What is ours is never listed here."""

GONE = {
    *("otel_netmon.collective_window", "otel_netmon.local_files", "otel_netmon.peers", "otel_netmon.resource"),
    *("otel_netmon.runtime", "otel_netmon.span_lines"),
}
"""Modules that the changelog says have moved; no other page names them."""

VALUES = {
    semconv.COLLECTIVE_STATE: {semconv.STATE_IN_FLIGHT, semconv.STATE_LATE},
    semconv.COLLECTIVE_CLOCK: {semconv.CLOCK_HOST, semconv.CLOCK_DEVICE},
}

CODE = re.compile(r"`([^`\n]+)`")
PYTHON = re.compile(r"^```python.*?^```", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SIGNAL = re.compile(
    r"(?<![\w/.-])(?:torch\.distributed|otel_netmon|system\.network|hw\.network)\.[a-z][\w.]*[\w*]"
)
BORROWED = re.compile(r"(?:service|host|process|network|error|hw|system|telemetry)(?:\.[a-z_]+)+")
CUT = re.compile(r"[.…]{1,2}([a-z_]+(?:\.[a-z_]+)*)(\.\*)?")
WORD = re.compile(r"[a-z][a-z0-9_]*(?:\.[a-z][a-z0-9_]*)*")
IN_PROMETHEUS = re.compile(
    r"(?<![\w/.-])(?:torch_distributed|otel_netmon|system_network|hw_network)_\w+\b(?!/|\.py)"
)
LABELS = re.compile(r"\bby \(([^)]*)\)|\{\{ ?(?:\$labels\.)?(\w+) ?\}\}|[{,](\w+)=~?\\?\"")


@cache
def names() -> frozenset[str]:
    """All that OpenTelemetry is told by us."""
    found = {metric.name for metric in semconv.METRICS} | {span.name for span in semconv.SPANS}
    found |= {name for metric in semconv.METRICS for name in metric.attributes}
    found |= {*semconv.ATTRIBUTES, *semconv.RESOURCE_ATTRIBUTES}
    found |= {*semconv.SPAN_PERIODS, *semconv.SPAN_COLLECTIVES, *semconv.EVENTS}
    return frozenset(found | {semconv.SCOPE_COLLECTIVES, semconv.SCOPE_MONITORS, semconv.SCOPE_DELIVERY})


@cache
def tails() -> frozenset[str]:
    """What is left of the names when they are cut at a dot."""
    parts = (name.split(".") for name in names())
    return frozenset(".".join(each[place:]) for each in parts for place in range(len(each)))


@cache
def of_opentelemetry() -> frozenset[str]:
    """Attributes of the semantic conventions."""
    modules = [resolve_name(f"{borrowed.__name__}.{one.name}") for one in iter_modules(borrowed.__path__)]
    return frozenset(value for module in modules for value in vars(module).values() if isinstance(value, str))


@cache
def in_prometheus() -> frozenset[str]:
    found = set()
    for metric in semconv.METRICS:
        ends = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        found |= {metric.prometheus_name + end for end in ("", *ends)}
    return frozenset(found)


@cache
def labels() -> frozenset[str]:
    """Attributes as Prometheus writes them; `job`, `instance` and `le` are its own."""
    attributes = {name for metric in semconv.METRICS for name in metric.attributes}
    attributes |= set(semconv.RESOURCE_ATTRIBUTES)
    return frozenset({re.sub(r"\W", "_", name) for name in attributes} | {"job", "instance", "le"})


@cache
def of_entry_points() -> frozenset[str]:
    """Exporters, detectors and instrumentors, and our own group of entry points."""
    groups = ("traces_exporter", "metrics_exporter", "logs_exporter", "resource_detector", "instrumentor")
    found = {point.name for group in groups for point in entry_points(group=f"opentelemetry_{group}")}
    return frozenset(found | {registry.ENTRY_POINTS})


@cache
def variables() -> frozenset[str]:
    modules = (api_variables, instrumentation_variables, sdk_variables)
    found = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    return frozenset(found | {variable.name for variable in config.VARIABLES} | {BINARIES})


@cache
def words() -> frozenset[str]:
    """Lower-case words of ours that are no signal's: monitors, modules, commands, benchmarks, settings."""
    found = {one.name for one in registry.BUILT_IN} | set(of_entry_points())
    found |= {path.stem for path in ROOT.glob("otel_netmon/**/*")} | {"otel_netmon", *ROWS}
    found |= {semconv.STATE_IN_FLIGHT, semconv.STATE_LATE, semconv.CLOCK_HOST, semconv.CLOCK_DEVICE}
    found |= {kind.value for kind in Kind} | of_sql()
    found |= set(metadata("otel-netmon").get_all("Provides-Extra") or ())
    return frozenset(found | labels())


@cache
def of_sql() -> frozenset[str]:
    """Tables, their columns, and those of the answers to our own questions."""
    found = {*sql.TABLES, *unpacked.NAMES, *json_tables.TABLES, *SCHEMES, "sql"}
    for name, cls in sql.TABLES.items():
        found |= {*cls._fields, name}
    for query in (*map(question, QUESTIONS), *map(unpacked.select, unpacked.NAMES)):
        found |= set(re.findall(r"\bAS (\w+)", query))
    return frozenset(found)


@cache
def code() -> str:
    folders = ("otel_netmon", "tests", "benchmarks", "dashboards", "docs", "collector-config", "alerts")
    return "\n".join(
        path.read_text()
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".yaml", ".tree", ".h", ".cpp") and path != Path(__file__)
    )


def unknown_signals(text: str) -> Iterator[str]:
    """Dotted names, in prose as well: neither ours nor something to import."""
    for name in SIGNAL.findall(PYTHON.sub("", text)):  # other tests read the Python on the pages
        known = any(one.startswith(name[:-1]) for one in names()) if name.endswith("*") else name in names()
        if not (known or name in OF_OTHERS or is_python(name)):
            yield name


def is_python(name: str) -> bool:
    """Something of our package: a module, or what one has."""
    try:
        return name.startswith("otel_netmon.") and resolve_name(name) is not None
    except (ImportError, AttributeError, ValueError):
        return False


def unknown_words(text: str) -> Iterator[str]:
    """Pieces of code in prose: names cut short, attributes by their last part, files, identifiers."""
    for span in CODE.findall(FENCE.sub("", text)):
        name, _, value = (part.strip() for part in span.partition("="))
        if value and value not in VALUES.get(name, {value}):
            yield span
        if cut := CUT.fullmatch(name):
            tail, star = cut.groups()
            is_known = any(f".{tail}." in one for one in names()) if star else tail in tails()
            if not (is_known or re.search(rf"def {re.escape(tail)}\b", code()) or name == ".venv"):
                yield span
        elif re.fullmatch(r"[\w./-]+\.(py|md|yaml|toml|h|cpp)|[\w/-]+/", name):
            if not any(ROOT.glob(f"**/{name}")):
                yield span
        elif BORROWED.fullmatch(name):
            if name not in of_opentelemetry() | names() | tails():
                yield span
        elif WORD.fullmatch(name):
            known = name in tails() | words() | OF_OTHERS | rdma_counters() or is_python(name)
            if not (known or is_defined(span)):
                yield span
        elif re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*(\(\))?", name):  # an identifier, or a variable of somebody's
            last = re.split(r"\W+", name.removesuffix("()"))[-1]
            if not (re.search(rf"\b{last}\b", code()) or name in variables() | OF_OTHERS):
                yield span


def is_defined(span: str) -> bool:
    """Python of ours: `name = value`, or a module's function."""
    module, _, last = span.rpartition(".")
    return bool(
        (re.fullmatch(r"\w+ = .*", span) and re.search(rf"\b{span.partition(' ')[0]}\b", code()))
        or (any(ROOT.glob(f"otel_netmon/**/{module}.py")) and re.search(rf"def {last}\b", code()))
    )


@cache
def rdma_counters() -> frozenset[str]:
    """The drivers' own names."""
    source = (ROOT / "otel_netmon" / "monitors" / "infiniband.py").read_text()
    return frozenset(re.findall(r"\w+_\w+|\w*[A-Z]\w*", source))


def unknown_variables(text: str) -> Iterator[str]:
    """Variables that nobody reads, and values that they do not take."""
    for name, value in re.findall(r"\b(OTEL_\w*[A-Z])\b(?!_?\*)(?:=([\w./:,-]*\w))?", text):
        if name not in variables():
            yield name
        elif value and name.startswith(config.PREFIX):
            yield from config.load({name: value})[1]
        elif value and name in takes():
            yield from (f"{name}={one}" for one in value.split(",") if one not in takes()[name])


@cache
def takes() -> dict[str, frozenset[str]]:
    """What the variables take that choose something by its name."""

    def group(name: str) -> frozenset[str]:
        return frozenset(point.name for point in entry_points(group=f"opentelemetry_{name}")) | {"none"}

    exporters = {
        f"OTEL_{kind.upper()}_EXPORTER": group(f"{kind}_exporter") for kind in ("traces", "metrics", "logs")
    }
    return {
        **exporters,
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": group("resource_detector"),
        "OTEL_TRACES_SAMPLER": frozenset(sampling._KNOWN_SAMPLERS),
    }


def unknown_in_prometheus(text: str) -> Iterator[str]:
    known = in_prometheus() | labels() | of_entry_points()
    for name in IN_PROMETHEUS.findall(text):
        if name not in known and f" {name}(" not in code():  # or a function of the compiled module
            yield name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_what_exists(page: Path) -> None:
    text = page.read_text()
    unknown = [*unknown_signals(text), *unknown_variables(text), *unknown_in_prometheus(text)]
    if page.name != "data.md":  # written from the code: its words are the code's
        unknown += unknown_words(text)
    assert set(unknown) == (GONE if page.name == "CHANGELOG.md" else set())


@pytest.mark.parametrize("file", [*SHIPPED, *SOURCES], ids=lambda file: str(file.relative_to(ROOT)))
def test_what_is_shipped_and_what_the_code_says_names_what_exists(file: Path) -> None:
    text = file.read_text()
    unknown = [*unknown_signals(text), *unknown_variables(text)]
    if file in SHIPPED:
        unknown += unknown_in_prometheus(text)
    else:
        unknown = [name for name in unknown if not name.startswith("torch.distributed.")]  # torch's own
    assert not unknown


@pytest.mark.parametrize(
    "file", [file for file in SHIPPED if "collector-config" not in file.parts], ids=lambda f: f.name
)
def test_rules_and_dashboards_sum_by_labels_that_exist(file: Path) -> None:
    found = set(re.findall(r"\w+", ",".join(",".join(groups) for groups in LABELS.findall(file.read_text()))))
    assert found and found <= labels() | {"severity", "alertname"}, found - labels()


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        (unknown_signals, "and otel_netmon.cgroup.throttled_time as well"),
        (unknown_signals, "`torch.distributed.step.colective_time`"),
        (unknown_signals, "`otel_netmon.tpc.*`"),
        (unknown_signals, "`system.network.bytes`"),
        (unknown_words, "`run_queue.times`"),
        (unknown_words, "`gc_times`"),
        (unknown_words, "`.throttled_times`"),
        (unknown_words, "`.grups.*`"),
        (unknown_words, "`torch.distributed.collective.state=inflight`"),
        (unknown_words, "`service.instance`"),
        (unknown_words, "`ranks_step`"),
        (unknown_words, "`capture/pollings.py`"),
        (unknown_words, "`Recorder.was_begun`"),
        (unknown_variables, "OTEL_NETMON_TRACES_EVERY"),
        (unknown_variables, "`OTEL_NETMON_CAPTURE=recorder`"),
        (unknown_variables, "OTEL_TRACE_EXPORTER=otlp"),
        (unknown_variables, "OTEL_LOGS_EXPORTER=otel_netmon_oltp"),
        (unknown_variables, "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS=otel,netmon"),
        (unknown_variables, "OTEL_TRACES_SAMPLER=ratio"),
        (unknown_in_prometheus, "rate(otel_netmon_cgroup_throttled_time_total[5m])"),
        (unknown_in_prometheus, "torch_distributed_step_duration_bucket"),
        (unknown_in_prometheus, "otel_netmon_tcp_rtt_seconds_count"),
        (unknown_in_prometheus, "the exporter otel_netmon_files"),
    ],
)
def test_a_name_that_does_not_exist_is_found(reader: Callable[[str], Iterator[str]], text: str) -> None:
    assert list(reader(text))


def test_metrics_named_like_opentelemetrys_are_its() -> None:
    modules = (hw_metrics, system_metrics)
    conventions = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    borrowed_names = {one.name for one in semconv.METRICS if one.name.startswith(("hw.", "system."))}
    assert borrowed_names <= conventions
    assert len(borrowed_names) > 5
