"""A real job to a real collector with the shipped configuration, by both protocols, and on to Jaeger.

Nothing but `opentelemetry-instrument` and the standard variables; no distribution is installed.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from otel_netmon import schema, semconv
from otel_netmon.records import Collective, RankStep
from tests.e2e.servers import (
    QUIET,
    attributes,
    collector_overlay,
    free_ports,
    get_json,
    jaeger_config,
    run,
    server,
    spans_in,
)
from tests.installed import ROOT, python_path

STEPS = 4
PROTOCOLS = ("grpc", "http/protobuf")
PROGRAM = Path(__file__).parent / "programs" / "train.py"
KINDS = {
    "counter": "cumulative monotonic sum",
    "observable_counter": "cumulative monotonic sum",
    "observable_up_down_counter": "cumulative sum",
    "observable_gauge": "gauge",
    "histogram": "cumulative histogram",
}
SCRAPED = "torch_distributed_collective_duration_seconds_count"

PARENTS = {span.name: span.parent for span in semconv.SPANS}

Json = dict[str, Any]


@dataclass
class Arrived:
    """What one job sent, as the collector wrote it."""

    spans: list[Json] = field(default_factory=list)
    metrics: list[Json] = field(default_factory=list)


@dataclass
class Finished:
    jobs: dict[str, Arrived]
    scraped: list[str]
    exposed: set[str]
    """The names of the series that Prometheus would scrape."""
    fetch: Callable[[str], Json] | None
    """A trace by its id, from Jaeger; ``None`` where there is no Jaeger."""


def rank_of(span: Json) -> int:
    return int(span["attributes"][semconv.RANK])


@pytest.fixture(scope="module")
def finished(binary: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("collector")
    grpc, http, prometheus, jaeger_otlp, jaeger_http, jaeger_grpc = free_ports(6)
    with ExitStack() as stack:
        fetch = None
        try:
            program = binary("jaeger")
        except pytest.skip.Exception:
            pass
        else:
            (folder / "jaeger.yaml").write_text(json.dumps(jaeger_config(jaeger_otlp, jaeger_http, jaeger_grpc)))
            store = (program, "--config", str(folder / "jaeger.yaml"))
            stack.enter_context(server(store, (jaeger_otlp, jaeger_http), folder / "jaeger.log", QUIET))

            def fetch(trace_id: str) -> Json:
                found: Json = get_json(f"http://127.0.0.1:{jaeger_http}/api/v3/traces/{trace_id}")
                return found

        (folder / "overlay.yaml").write_text(json.dumps(collector_overlay(folder)))
        configs = (str(ROOT / "collector-config" / "local.yaml"), str(folder / "overlay.yaml"))
        variables = {
            "OTLP_GRPC_PORT": str(grpc),
            "OTLP_HTTP_PORT": str(http),
            "PROMETHEUS_ENDPOINT": f"localhost:{prometheus}",
            "JAEGER_ENDPOINT": f"127.0.0.1:{jaeger_otlp}",
        }
        command = (binary("otelcol"), *(f"--config={config}" for config in configs))
        with server(command, (grpc, http, prometheus), folder / "otelcol.log", variables):
            for protocol, port in zip(PROTOCOLS, (grpc, http), strict=True):
                train(protocol, port, folder)
            scraped = scrape(prometheus)
            exposed = names_at(prometheus)
        yield Finished(read(folder), scraped, exposed, fetch)


def train(protocol: str, port: int, folder: Path) -> None:
    scripts = Path(sys.executable).parent
    environ = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "PYTHONPATH": python_path(folder / "site"),
        "OMP_NUM_THREADS": "1",
        "OTEL_SERVICE_NAME": protocol,
        "OTEL_TRACES_EXPORTER": "otel_netmon_otlp",
        "OTEL_METRICS_EXPORTER": "otel_netmon_otlp",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_NETMON_SPOOL_DIR": str(folder / "spool"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "otel,otel_netmon",
        "OTEL_NETMON_INTERFACES": "lo",
        "OTEL_NETMON_INTERVAL": "0.2",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",  # some gauges are there only while something moves
        "OTEL_NETMON_LATENCY_TARGETS": f"127.0.0.1:{port}",
    }
    launcher = (str(scripts / "torchrun"), "--standalone", "--nproc-per-node=2")
    code, output = run((str(scripts / "opentelemetry-instrument"), *launcher, str(PROGRAM), str(STEPS)), environ)
    assert code == 0, output
    assert "Traceback" not in output, output


def scrape(port: int) -> list[str]:
    """The lines that count all_reduces, once all four ranks have one; the batch processor holds them for 1 s."""
    lines: list[str] = []
    for _ in range(100):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            page = answer.read().decode()
        lines = [line for line in page.splitlines() if line.startswith(SCRAPED + "{") and '"all_reduce"' in line]
        if len(lines) >= 2 * len(PROTOCOLS):
            break
        time.sleep(0.1)
    return lines


def names_at(port: int) -> set[str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return set(re.findall(r"^# TYPE (\S+) ", answer.read().decode(), re.MULTILINE))


def read(folder: Path) -> dict[str, Arrived]:
    jobs: defaultdict[str, Arrived] = defaultdict(Arrived)
    for span in spans_in([folder / "traces.jsonl"]):
        jobs[span["resource"]["service.name"]].spans.append(span)
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        for group in json.loads(line)["resourceMetrics"]:
            resource = attributes(group["resource"])
            for scope in group["scopeMetrics"]:
                jobs[resource["service.name"]].metrics += [
                    {
                        **metric,
                        "resource": resource,
                        "scope": scope["scope"]["name"],
                        "schema": scope.get("schemaUrl"),
                    }
                    for metric in scope["metrics"]
                ]
    return dict(jobs)


@pytest.fixture(params=PROTOCOLS)
def job(request: pytest.FixtureRequest, finished: Finished) -> Arrived:
    return finished.jobs[request.param]


def test_every_step_is_one_trace_of_both_ranks(job: Arrived) -> None:
    assert Counter(span["name"] for span in job.spans if rank_of(span) == 1)["rank_step"] == STEPS
    traces: defaultdict[str, list[Json]] = defaultdict(list)
    for span in job.spans:
        traces[span["traceId"]].append(span)
    setups = [spans for spans in traces.values() if any(span["name"] == "setup" for span in spans)]
    (setup,) = setups  # DDP's construction
    assert {rank_of(span) for span in setup if span["name"] == "rank_setup"} == {0, 1}
    assert len(traces) == STEPS + 1
    for spans in traces.values():
        if spans is setup:
            continue
        names = Counter((span["name"], rank_of(span)) for span in spans)
        assert {name: count for name, count in names.items() if name[0] in PARENTS} == {
            ("train_step", 0): 1,
            ("rank_step", 0): 1,
            ("rank_step", 1): 1,
            ("all_reduce", 0): 1,  # one bucket of DDP's
            ("all_reduce", 1): 1,
        }
        by_id = {span["spanId"]: span for span in spans}
        assert len(by_id) == len(spans)
        for span in spans:
            parent = by_id.get(span.get("parentSpanId", ""))
            expected = PARENTS.get(span["name"], "rank_step")
            assert (parent and parent["name"]) == expected
            if expected == "rank_step":
                assert parent is not None
                assert rank_of(parent) == rank_of(span)
                assert int(parent["startTimeUnixNano"]) <= int(span["startTimeUnixNano"])
        assert len({span["attributes"][semconv.STEP] for span in spans if semconv.STEP in span["attributes"]}) == 1


def test_spans_keep_the_contract(job: Arrived) -> None:
    of_a_step, of_a_collective = (list(schema.ATTRIBUTES[cls].values()) for cls in (RankStep, Collective))
    root = of_a_step[: of_a_step.index(semconv.STEP_INCOMPLETE) + 1]
    declared = {
        **dict.fromkeys((semconv.SPAN_RANK_STEP, semconv.SPAN_RANK_SETUP, semconv.SPAN_RANK_WINDOW), of_a_step),
        **{semconv.SPAN_TRAIN_STEP: root, semconv.SPAN_SETUP: root[:-2], semconv.SPAN_WINDOW: root[:-2]},
    }
    types = {str(a): a.type for a in (*of_a_step, *of_a_collective)}
    python = {"string": str, "int": int, "double": float, "boolean": bool}
    for span in job.spans:
        assert set(span["attributes"]) <= set(declared.get(span["name"], of_a_collective))
        assert span["attributes"].get(semconv.COLLECTIVE_NAME, span["name"]) == span["name"]
        for name, value in span["attributes"].items():
            assert type(value) is python[types[name]] or (types[name] == "double" and type(value) is int), name
        assert span["kind"] == 1  # INTERNAL
        assert not span.get("status")
        assert span["scope"] == semconv.SCOPE_COLLECTIVES
        assert semconv.COLLECTIVE_STATE not in span["attributes"]  # all had completed
        assert {str(a) for a in semconv.RESOURCE_ATTRIBUTES} <= set(span["resource"])
        assert span["resource"][semconv.RANK] == rank_of(span)


# What this machine and this job cannot show: hardware ports (there is only the loopback), and with it the link's
# speed; peers on other hosts; collectives that hang; what the kernel may be built without; quotas, losses; the
# diagnosis, which needs a longer job.
NOT_HERE = (
    "hw.",
    *(f"otel_netmon.{name}" for name in ("rdma.", "nic.", "peer.", "cgroup.", "pressure.", "host.run_queue.")),
    semconv.LOST_ITEMS.name,
    semconv.COLLECTIVE_AGE_METRIC.name,  # nothing hangs
    "otel_netmon.diagnosis.",  # it ends before the first look
)


def test_metrics_keep_the_contract(job: Arrived) -> None:
    declared = {metric.name: metric for metric in semconv.METRICS}
    ours = [metric for metric in job.metrics if metric["scope"].startswith("otel_netmon.")]
    for metric in ours:
        said = declared[metric["name"]]
        assert (metric.get("unit"), metric.get("description")) == (said.unit, said.description)
        assert metric["schema"] == semconv.SCHEMA_URL
        kind, points = data(metric)
        assert kind == KINDS[said.kind], metric["name"]
        for point in points:
            assert set(attributes(point)) <= set(said.attributes), metric["name"]
            if said.buckets is not None:
                assert tuple(point["explicitBounds"]) == said.buckets
    missing = set(declared) - {metric["name"] for metric in ours}
    assert {name for name in missing if not name.startswith(NOT_HERE)} <= {semconv.LINK_UTILIZATION.name}


def test_prometheus_calls_them_as_the_rules_do(finished: Finished) -> None:
    ours = {metric.prometheus_name for metric in semconv.METRICS}
    exposed = {name for name in finished.exposed if name != "target_info"}
    assert exposed <= ours, exposed - ours
    assert len(exposed) > 30


def data(metric: Json) -> tuple[str, list[Json]]:
    """What kind of metric it is, in words, and its points."""
    if "gauge" in metric:
        return "gauge", metric["gauge"]["dataPoints"]
    kind = "histogram" if "histogram" in metric else "sum"
    body = metric[kind]
    words = (
        "cumulative" if body["aggregationTemporality"] == 2 else "delta",
        body.get("isMonotonic") and "monotonic",
    )
    return " ".join(filter(None, (*words, kind))), body["dataPoints"]


def test_metrics_count_what_the_spans_count(job: Arrived) -> None:
    spans = Counter(
        (rank_of(span), span["name"]) for span in job.spans if semconv.COLLECTIVE_NAME in span["attributes"]
    )
    assert spans[0, "all_reduce"] == spans[1, "all_reduce"] == STEPS
    for name in (semconv.COLLECTIVE_DURATION_METRIC.name, semconv.COLLECTIVE_SIZE_METRIC.name):
        last = {m["resource"][semconv.RANK]: data(m)[1] for m in job.metrics if m["name"] == name}
        counted: Counter[tuple[int, str]] = Counter()
        for rank, points in last.items():
            for point in points:
                counted[rank, attributes(point)[semconv.COLLECTIVE_NAME]] += int(point["count"])
        assert counted == spans


def test_the_host_is_watched_once(job: Arrived) -> None:
    watchers = {m["resource"]["process.pid"] for m in job.metrics if m["name"] == semconv.NIC_IO.name}
    ranks = {m["resource"]["process.pid"] for m in job.metrics if semconv.RANK in m["resource"]}
    assert len(watchers) == 1
    assert len(ranks) == 2
    assert not watchers & ranks  # it is the launcher


def test_prometheus_can_scrape_both_jobs(finished: Finished) -> None:
    counts = {}
    for line in finished.scraped:
        labels, _, value = line.removeprefix(SCRAPED).rpartition("}")
        names = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        assert names["host_name"]
        counts[names["job"], names["torch_distributed_rank"]] = float(value.split()[0])
    assert counts == {(protocol, rank): STEPS for protocol in PROTOCOLS for rank in "01"}


def test_jaeger_shows_one_tree_for_each_step(finished: Finished, binary: Callable[[str], str]) -> None:
    binary("jaeger")
    assert finished.fetch is not None
    sent = Counter(span["traceId"] for job in finished.jobs.values() for span in job.spans)
    assert len(sent) == (STEPS + 1) * len(PROTOCOLS)
    for trace_id, count in sent.items():
        found = finished.fetch(trace_id)["result"]["resourceSpans"]
        spans = [span for group in found for scope in group["scopeSpans"] for span in scope["spans"]]
        ids = {span["spanId"] for span in spans}
        assert len(ids) == len(spans) == count
        roots = [span["name"] for span in spans if not span.get("parentSpanId")]
        assert roots in (["train_step"], ["setup"])
        assert all(span["parentSpanId"] in ids for span in spans if span.get("parentSpanId"))
