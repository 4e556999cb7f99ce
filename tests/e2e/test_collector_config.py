"""The shipped configurations of the collector: valid, running, and choosing whole steps."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, Status, StatusCode, TraceFlags, set_span_in_context

from dashboards.make_dashboards import ALL as DASHBOARDS
from dashboards.make_dashboards import path as path_of
from dashboards.make_dashboards import render
from dashboards.model import Dashboard
from otel_netmon import semconv
from tests.e2e.servers import free_ports, server, spans_in, wait_for
from tests.installed import ROOT

CONFIGS = ROOT / "collector-config"
# What the collector at hand may lack: cut from a copy, by name, so that nothing else goes unseen.
LACKING = {
    "gateway-lb.yaml": {
        "load_balancing/traces": "exporter of the contrib distribution",
        "load_balancing/logs": "exporter of the contrib distribution",
        "load_balancing/metrics": "exporter of the contrib distribution",
        "bearertokenauth": "extension of the contrib distribution",
    }
}
COLLECTORS = ("agent", "gateway-lb", "gateway", "local")
RANKS, STEPS = 4, 12
FAILED, SLOW, LARGE = 3, 7, 9


def test_none_is_forgotten() -> None:
    others = {"compose", "kustomization", "prometheus"}
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {*COLLECTORS, *others}


def test_prometheus_takes_its_configuration_and_the_alerts(binary: Callable[[str], str]) -> None:
    done = subprocess.run(
        [binary("promtool"), "check", "config", str(CONFIGS / "prometheus.yaml")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and "1 rule files found" in done.stdout, done.stdout + done.stderr


def test_compose_has_versions_loopback_and_files_that_exist() -> None:
    services = yaml.safe_load((CONFIGS / "compose.yaml").read_text())["services"]
    assert set(services) == {"collector", "jaeger", "prometheus", "grafana"}
    for name, service in services.items():
        assert re.fullmatch(r"[\w/.-]+:v?\d+\.\d+\.\d+", service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        for volume in service.get("volumes", ()):
            place = volume.split(":")[0]
            assert not place.startswith(".") or (CONFIGS / place).exists(), place
    mounted = {volume.split(":")[0].rpartition("/")[2] for volume in services["grafana"]["volumes"]}
    assert {path.name for path in (ROOT / "dashboards").glob("*.json")} <= mounted


def test_compose_follows_its_specification() -> None:
    check = pytest.importorskip("check_jsonschema", reason="pip install check-jsonschema brings it")
    arguments = ["--builtin-schema", "vendor.compose-spec", str(CONFIGS / "compose.yaml")]
    done = subprocess.run(
        [sys.executable, "-m", check.__name__, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout


def test_the_manifests_follow_kubernetes_schemas_and_use_what_there_is() -> None:
    kustomization = yaml.safe_load((CONFIGS / "kustomization.yaml").read_text())
    assert {CONFIGS / name for name in kustomization["resources"]} == set((CONFIGS / "kubernetes").glob("*.yaml"))
    made = {each["name"] for each in kustomization["configMapGenerator"]}
    assert all((CONFIGS / file).exists() for each in kustomization["configMapGenerator"] for file in each["files"])
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate brings it")
    for name in kustomization["resources"]:
        for manifest in yaml.safe_load_all((CONFIGS / name).read_text()):
            validate.validate(manifest, "1.33", strict=True)
            if manifest["kind"] == "Service":
                continue
            (container,) = manifest["spec"]["template"]["spec"]["containers"]
            volumes = manifest["spec"]["template"]["spec"]["volumes"]
            assert {volume["configMap"]["name"] for volume in volumes if "configMap" in volume} <= made
            config = (CONFIGS / f"{manifest['metadata']['name']}.yaml").read_text()
            known = set(re.findall(r"\$\{env:(\w+)", config))
            assert {variable["name"] for variable in container["env"]} <= known, name


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.name)
def test_the_dashboards_are_those_of_the_code(dashboard: Dashboard) -> None:
    """Each series in them comes from the contract by construction; test_servers asks Prometheus for each panel."""
    found = json.loads(path_of(dashboard).read_text())
    assert found == render(dashboard), "run `make docs`"
    series = set(re.findall(r"\b((?:otel_netmon|torch_distributed|system|hw)_\w+)\{", json.dumps(found)))
    known = {metric.prometheus_name for metric in semconv.METRICS}
    assert series and {re.sub(r"_(bucket|sum|count)$", "", name) for name in series} <= known | {
        re.sub(r"_count$", "", name) for name in known
    }


@pytest.mark.parametrize("name", [f"{name}.yaml" for name in COLLECTORS])
def test_it_is_valid(name: str, binary: Callable[[str], str]) -> None:
    done = subprocess.run(
        [binary("otelcol"), "validate", "--config", str(CONFIGS / name)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = done.stdout + done.stderr
    if name in LACKING:
        unknown = {
            line.split('for id: "')[1].split('"')[0] for line in said.splitlines() if "unknown type" in line
        }
        if unknown:
            assert unknown <= set(LACKING[name]), said
            assert all("unknown type" in line for line in said.splitlines() if line.startswith("'")), said
            pytest.skip(f"this collector lacks {', '.join(sorted(unknown))}: otelcol-contrib has them")
    assert done.returncode == 0, said


def spans_of(rank: int, endpoint: str) -> Callable[[int], None]:
    """Sends what one rank has of a step: its span, and one collective; rank 0 the root as well."""
    provider = TracerProvider(resource=Resource({"service.name": "job", "torch.distributed.rank": rank}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=endpoint, insecure=True)))
    tracer = provider.get_tracer("test")

    def send(step: int) -> None:
        start = time.time_ns() - 10_000_000_000
        length = 6_000_000_000 if step == SLOW and rank == 2 else 20_000_000
        context = SpanContext(1000 + step, 77, is_remote=True, trace_flags=TraceFlags(1))
        parent = set_span_in_context(NonRecordingSpan(context))
        for name in ("rank_step", "all_reduce"):
            span = tracer.start_span(name, context=parent, start_time=start)
            if name == "rank_step":  # as if one were of a large job
                span.set_attribute(semconv.WORLD_SIZE, 65 if step == LARGE else 64)
            if step == FAILED and rank == 1 and name == "all_reduce":
                span.set_status(Status(StatusCode.ERROR))
            span.end(start + length)

    return send


def test_from_the_node_agent_through_the_gateway_whole_steps_are_kept(
    tmp_path: Path, binary: Callable[[str], str]
) -> None:
    """Each rank's part of a step comes by itself, and late: all of a chosen step is kept, nothing of another."""
    agent, http, gateway, prometheus = free_ports(4)
    kept = tmp_path / "kept.jsonl"
    overlay = {
        "exporters": {"file/kept": {"path": str(kept), "flush_interval": "200ms"}},
        "service": {"pipelines": {"traces/sampled": {"exporters": ["file/kept"]}}},
    }
    (tmp_path / "overlay.yaml").write_text(json.dumps(overlay))
    environ = {
        "OTLP_HOST": "127.0.0.1", "OTLP_GRPC_PORT": str(gateway), "PROMETHEUS_ENDPOINT": f"127.0.0.1:{prometheus}",
        "DECISION_WAIT": "4s", "SLOW_STEP_MS": "5000", "KEEP_PERCENT": "0", "QUEUE_DIR": str(tmp_path / "gateway"),
        "JAEGER_INSECURE": "true", "SPAN_METRICS_INTERVAL": "1s",
    }  # fmt: skip
    command = [binary("otelcol"), f"--config={CONFIGS / 'gateway.yaml'}", f"--config={tmp_path / 'overlay.yaml'}"]
    node = {
        "OTLP_GRPC_PORT": str(agent), "OTLP_HTTP_PORT": str(http), "GATEWAY_ENDPOINT": f"127.0.0.1:{gateway}",
        "GATEWAY_INSECURE": "true", "QUEUE_DIR": str(tmp_path / "agent"),
    }  # fmt: skip
    on_node = [binary("otelcol"), f"--config={CONFIGS / 'agent.yaml'}"]
    with (
        server(command, (gateway, prometheus), tmp_path / "gateway.log", environ),
        server(on_node, (agent, http), tmp_path / "agent.log", node),
    ):
        ranks = [spans_of(rank, f"127.0.0.1:{agent}") for rank in range(RANKS)]
        for send in ranks:
            for step in range(STEPS):
                send(step)
            time.sleep(0.3)
        found = wait_for(
            lambda: spans_in([kept] if kept.exists() else []), lambda spans: len(spans) >= 3 * RANKS * 2
        )
        time.sleep(2)  # nothing of another step comes after that
        found = spans_in([kept] if kept.exists() else [])
        # the numbers are of all steps, in seconds
        scraped = wait_for(lambda: scrape(prometheus), lambda text: all_reduces(text) >= RANKS * STEPS, 40)
    by_step = Counter(int(span["traceId"], 16) - 1000 for span in found)
    assert by_step == dict.fromkeys((FAILED, SLOW, LARGE), 2 * RANKS)
    assert all_reduces(scraped) == RANKS * STEPS
    assert 'le="0.025"' in scraped


def test_a_large_trace_reaches_a_backend_that_takes_messages_of_4_mib(
    tmp_path: Path, binary: Callable[[str], str]
) -> None:
    """gRPC's limit wherever nothing else is said, in Jaeger as well: batches are cut by bytes."""
    gateway, prometheus, backend = free_ports(3)
    stored, count = tmp_path / "stored.jsonl", 6000
    jaeger = {
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{backend}"}}}},
        "exporters": {"file": {"path": str(stored), "flush_interval": "200ms"}},
        "service": {
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["file"]}},
            "telemetry": {"metrics": {"level": "none"}},
        },
    }
    (tmp_path / "jaeger.yaml").write_text(json.dumps(jaeger))
    environ = {
        "OTLP_HOST": "127.0.0.1", "OTLP_GRPC_PORT": str(gateway), "PROMETHEUS_ENDPOINT": f"127.0.0.1:{prometheus}",
        "DECISION_WAIT": "2s", "KEEP_PERCENT": "100", "QUEUE_DIR": str(tmp_path / "gateway"),
        "JAEGER_INSECURE": "true", "JAEGER_ENDPOINT": f"127.0.0.1:{backend}",
    }  # fmt: skip
    otelcol = binary("otelcol")
    behind = server([otelcol, f"--config={tmp_path / 'jaeger.yaml'}"], (backend,), tmp_path / "jaeger.log", {})
    before = server(
        [otelcol, f"--config={CONFIGS / 'gateway.yaml'}"], (gateway, prometheus), tmp_path / "gateway.log", environ
    )
    with behind, before:
        provider = TracerProvider(resource=Resource({"service.name": "job"}))
        exporter = OTLPSpanExporter(endpoint=f"127.0.0.1:{gateway}", insecure=True)
        provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=2 * count))
        context = SpanContext(1, 77, is_remote=True, trace_flags=TraceFlags(1))
        parent = set_span_in_context(NonRecordingSpan(context))
        for number in range(count):
            said = {"packed": f"{number} " * 200}
            provider.get_tracer("test").start_span("rank_step", context=parent, attributes=said).end()
        provider.shutdown()
        wait_for(lambda: spans_in([stored] if stored.exists() else []), lambda spans: len(spans) == count)


def all_reduces(scraped: str) -> float:
    """How many of them the span metrics count."""
    lines = [line for line in scraped.splitlines() if "duration_seconds_count{" in line and "all_reduce" in line]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())
