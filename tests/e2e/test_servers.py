"""Jobs to real servers: by each protocol, compressed, with TLS and a token; Jaeger, Prometheus.

What arrives is held against the local files of the same run.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dashboards.make_dashboards import ALL, render
from dashboards.model import Dashboard
from otel_netmon import semconv
from tests.e2e.servers import (
    QUIET,
    attributes,
    free_ports,
    get_json,
    jaeger_config,
    run,
    server,
    spans_in,
    wait_for,
)
from tests.installed import ROOT, python_path

RANKS, STEPS = 4, 4
"""Of the job in plain gRPC; what the other ways change is between a rank and the servers, and two show that."""
PROGRAM = Path(__file__).parent / "programs" / "train.py"
TOKEN = "Bearer 7dd1f8c1"
CONFIGS = ROOT / "collector-config"

Json = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """How a job's telemetry travels."""

    protocol: str
    compression: str
    tls: bool
    through: str = "otelcol"
    ranks: int = 2

    @property
    def name(self) -> str:
        tls = "tls" if self.tls else "plain"
        return "-".join((self.protocol.partition("/")[0], self.compression, tls, self.through))


WAYS = (
    Way("grpc", "gzip", tls=True),
    Way("grpc", "none", tls=False, ranks=RANKS),
    Way("http/protobuf", "gzip", tls=True),
    Way("http/protobuf", "none", tls=False),
    Way("grpc", "gzip", tls=False, through="rotel"),
    Way("http/protobuf", "none", tls=False, through="rotel"),
)
DIRECT = "to-prometheus"
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Where these are set, `requests` prefers them to the certificate that OpenTelemetry's variable names."""


@dataclass
class Servers:
    folder: Path
    ports: dict[str, int]

    def jaeger(self, trace_id: str) -> list[Json]:
        """The spans of a trace, as far as they came."""
        try:
            answer = get_json(f"http://127.0.0.1:{self.ports['jaeger_http']}/api/v3/traces/{trace_id}")
        except urllib.error.HTTPError as error:  # there is no such trace yet
            if error.code != 404:
                raise
            return []
        groups = answer["result"]["resourceSpans"]
        return [span for group in groups for scope in group["scopeSpans"] for span in scope["spans"]]

    def ask(self, query: str) -> list[Json]:
        """What Prometheus answers."""
        url = f"http://127.0.0.1:{self.ports['prometheus']}/api/v1/query?" + urllib.parse.urlencode(
            {"query": query}
        )
        answer = get_json(url)
        assert answer["status"] == "success", answer
        found: list[Json] = answer["data"]["result"]
        return found


@pytest.fixture(scope="module")
def servers(binary: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Jaeger, Prometheus, a collector with the shipped configuration and a receiver with TLS, and rotel."""
    folder = tmp_path_factory.mktemp("servers")
    openssl = shutil.which("openssl") or pytest.skip("no openssl on PATH: Debian's package openssl has it")
    certificate(openssl, folder)
    names = (
        *("grpc", "http", "tls_grpc", "tls_http", "rotel_grpc", "rotel_http"),
        *("jaeger_otlp", "jaeger_http", "jaeger_grpc", "exposed", "prometheus"),
    )
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    (folder / "jaeger.yaml").write_text(
        json.dumps(jaeger_config(ports["jaeger_otlp"], ports["jaeger_http"], ports["jaeger_grpc"]))
    )
    (folder / "overlay.yaml").write_text(json.dumps(overlay(folder, ports)))
    config = (CONFIGS / "prometheus.yaml").read_text()
    changes = {
        "localhost:8889": f"127.0.0.1:{ports['exposed']}",
        "../alerts": str(ROOT / "alerts"),
        "scrape_interval: 15s": "scrape_interval: 1s",
    }
    for old, new in changes.items():
        assert old in config
        config = config.replace(old, new)
    (folder / "prometheus.yaml").write_text(config)
    prometheus = (
        binary("prometheus"), f"--config.file={folder / 'prometheus.yaml'}", "--web.enable-otlp-receiver",
        f"--web.listen-address=127.0.0.1:{ports['prometheus']}", f"--storage.tsdb.path={folder / 'tsdb'}",
    )  # fmt: skip
    variables = {
        "OTLP_GRPC_PORT": str(ports["grpc"]), "OTLP_HTTP_PORT": str(ports["http"]),
        "FILES": str(folder / "collected"),
        "PROMETHEUS_ENDPOINT": f"127.0.0.1:{ports['exposed']}",
        "JAEGER_ENDPOINT": f"127.0.0.1:{ports['jaeger_otlp']}",
    }  # fmt: skip
    configs = (f"--config={CONFIGS / 'local.yaml'}", f"--config={folder / 'overlay.yaml'}")
    with ExitStack() as stack:
        for command, listens, environ in (
            ((binary("jaeger"), "--config", str(folder / "jaeger.yaml")), ("jaeger_otlp", "jaeger_http"), QUIET),
            ((binary("otelcol"), *configs), ("grpc", "http", "tls_grpc", "tls_http", "exposed"), variables),
            (prometheus, ("prometheus",), {}),
        ):
            log = folder / f"{Path(command[0]).name}.log"
            stack.enter_context(server(command, [ports[name] for name in listens], log, environ))
        rotel = rotel_agent()
        if rotel is not None:
            agent = (
                rotel, "start", f"--otlp-grpc-endpoint=127.0.0.1:{ports['rotel_grpc']}",
                f"--otlp-http-endpoint=127.0.0.1:{ports['rotel_http']}", "--exporter=otlp", "--disable-batching",
                f"--otlp-exporter-endpoint=http://127.0.0.1:{ports['grpc']}",
            )  # fmt: skip
            stack.enter_context(
                server(agent, (ports["rotel_grpc"], ports["rotel_http"]), folder / "rotel.log", {})
            )
        yield Servers(folder, ports)


def rotel_agent() -> str | None:
    try:
        import rotel
    except ImportError:
        return None
    return str(Path(rotel.__file__).parent / "rotel-agent")


def certificate(openssl: str, folder: Path) -> None:
    subprocess.run(
        [
            openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt"),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )  # fmt: skip


def overlay(folder: Path, ports: dict[str, int]) -> Json:
    """A receiver with TLS beside the shipped ones; which token came with what, as an attribute in a file."""
    tls = {"cert_file": str(folder / "tls.crt"), "key_file": str(folder / "tls.key")}
    listeners = {
        protocol: {"endpoint": f"127.0.0.1:{ports['tls_' + protocol]}", "tls": tls, "include_metadata": True}
        for protocol in ("grpc", "http")
    }
    seen = {"key": "seen.token", "action": "insert", "from_context": "metadata.authorization"}
    return {
        "receivers": {"otlp/tls": {"protocols": listeners}},
        "processors": {"attributes/token": {"actions": [seen]}},
        "exporters": {"file/token": {"path": str(folder / "tokens.jsonl")}},
        "service": {
            "pipelines": {
                "traces": {"receivers": ["otlp", "otlp/tls"]},
                "metrics": {"receivers": ["otlp", "otlp/tls"]},
                "traces/token": {
                    "receivers": ["otlp/tls"],
                    "processors": ["attributes/token"],
                    "exporters": ["file/token"],
                },
            }
        },
    }


def train(
    servers: Servers,
    name: str,
    settings: dict[str, str],
    ranks: int,
    script: tuple[str, ...] = (str(PROGRAM), str(STEPS)),
) -> Path:
    """Run the job; the folder of its local files."""
    output = servers.folder / f"run-{name}"
    scripts = Path(sys.executable).parent
    environ = {
        **{key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", *BUNDLES)},
        "PYTHONPATH": python_path(servers.folder / f"site-{name}"),
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "OTEL_SERVICE_NAME": name,
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "OTEL_NETMON_INTERFACES": "lo",
        "OTEL_NETMON_INTERVAL": "0.5",
        "OTEL_NETMON_SPOOL_DIR": str(servers.folder / f"spool-{name}"),
        "OTEL_NETMON_LATENCY_TARGETS": f"127.0.0.1:{servers.ports['grpc']}",
        **settings,
    }
    command = (
        *(str(scripts / "otel-netmon"), "run", "--output", str(output), "--"),
        *("torchrun", "--standalone", f"--nproc-per-node={ranks}", *script),
    )
    code, said = run(command, environ)
    assert code == 0, said
    assert "Traceback" not in said, said
    (servers.folder / f"said-{name}.log").write_text(said)
    return output


def local_spans(output: Path) -> list[Json]:
    return spans_in(output.glob("traces-*.jsonl"))


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: way.name)
def travelled(request: pytest.FixtureRequest, servers: Servers) -> tuple[Way, list[Json]]:
    way: Way = request.param
    if way.through == "rotel" and rotel_agent() is None:
        pytest.skip("no rotel: `pip install rotel` brings it")
    prefix = {"rotel": "rotel_"}.get(way.through, "tls_" if way.tls else "")
    port = servers.ports[prefix + ("grpc" if way.protocol == "grpc" else "http")]
    settings = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": way.protocol,
        "OTEL_EXPORTER_OTLP_COMPRESSION": way.compression,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"{'https' if way.tls else 'http'}://127.0.0.1:{port}",
    }
    if way.tls:
        settings["OTEL_EXPORTER_OTLP_CERTIFICATE"] = str(servers.folder / "tls.crt")
        settings["OTEL_EXPORTER_OTLP_HEADERS"] = f"authorization={urllib.parse.quote(TOKEN)}"
    output = train(servers, way.name, settings, way.ranks)
    spool = servers.folder / f"spool-{way.name}"
    assert not list(spool.glob("*.spool")) if spool.exists() else True, "not all was taken"
    return way, local_spans(output)


@pytest.mark.row("all is well")
def test_each_step_is_one_trace_in_jaeger(
    travelled: tuple[Way, list[Json]], servers: Servers, ledger: Callable[..., None]
) -> None:
    way, local = travelled
    traces: defaultdict[str, list[Json]] = defaultdict(list)
    for span in local:
        traces[span["traceId"]].append(span)
    steps = {span["attributes"].get(semconv.STEP) for span in local if span["name"] == "train_step"}
    assert len(steps) == STEPS
    assert len(traces) == STEPS + 1  # and the setup
    arrived = 0
    for trace_id, sent in traces.items():
        found = wait_for(lambda: servers.jaeger(trace_id), lambda spans: len(spans) >= len(sent))  # noqa: B023  # called at once
        assert Counter(span["name"] for span in found) == Counter(span["name"] for span in sent), way
        ids = {span["spanId"] for span in found}
        assert ids == {span["spanId"] for span in sent} and len(ids) == len(found)
        roots = [span["name"] for span in found if not span.get("parentSpanId")]
        assert roots in (["train_step"], ["setup"])
        assert all(span["parentSpanId"] in ids for span in found if span.get("parentSpanId"))
        ranks = Counter(attributes(span)[semconv.RANK] for span in found if span["name"].startswith("rank_"))
        assert ranks == dict.fromkeys(range(way.ranks), 1)
        arrived += len(ids)
    ledger(sent=len(local), lost=len(local) - arrived)


def test_the_token_travels_encrypted_with_each_request(
    travelled: tuple[Way, list[Json]], servers: Servers
) -> None:
    way, local = travelled
    if not way.tls:
        return
    tokens = Counter(
        span["attributes"].get("seen.token")
        for span in spans_in([servers.folder / "tokens.jsonl"])
        if span["resource"]["service.name"] == way.name
    )
    assert tokens == {TOKEN: len(local)}


@pytest.mark.row("all is well")
def test_prometheus_counts_what_the_spans_count(travelled: tuple[Way, list[Json]], servers: Servers) -> None:
    """Through the collector's endpoint, scraped: each rank a series, by host and rank, its buckets in seconds."""
    way, local = travelled
    check_series(servers, way.name, local, way.ranks)


def test_without_a_collector_straight_to_prometheus(servers: Servers) -> None:
    """Prometheus's own OTLP endpoint, with the shipped configuration: the same names and labels."""
    endpoint = f"http://127.0.0.1:{servers.ports['prometheus']}/api/v1/otlp/v1/metrics"
    settings = {
        "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": endpoint,
        "OTEL_TRACES_EXPORTER": "otel_netmon_file",
        "OTEL_METRICS_EXPORTER": "otel_netmon_otlp",
    }
    local = local_spans(train(servers, DIRECT, settings, 2))
    check_series(servers, DIRECT, local, 2)
    assert servers.ask(f'torch_distributed_step_duration_seconds_count{{job="{DIRECT}"}}')


def test_the_searches_of_the_guide(servers: Servers) -> None:
    """docs/jaeger.md: what it says to type, against the run that it was written from."""
    name, late, slow = "searches", 2, 22
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{servers.ports['grpc']}"}
    train(servers, name, settings, RANKS, (str(ROOT / "examples" / "slow_rank.py"), str(late), "0.2"))

    def search(**about: Any) -> list[Json]:
        if "tags" in about:
            about["tags"] = json.dumps(about["tags"])
        query = urllib.parse.urlencode({"service": name, "lookback": "1h", "limit": "100", **about})
        found: list[Json] = (
            get_json(f"http://127.0.0.1:{servers.ports['jaeger_http']}/api/traces?{query}")["data"] or []
        )
        return found

    steps = wait_for(lambda: search(operation="train_step"), lambda found: len(found) == 30)
    # on a busy machine one of the others may be as long
    assert slow <= len(search(operation="train_step", minDuration="150ms")) < len(steps)
    assert len(search(operation="rank_step", tags={"torch.distributed.rank": str(late)})) == len(steps)
    long = search(operation="all_reduce", tags={"torch.distributed.group.name": "0"}, minDuration="150ms")
    assert slow <= len(long) < len(steps)
    assert search(tags={"error.type": "RuntimeError"}) == []
    (step,) = search(operation="rank_step", tags={"torch.distributed.step": "9"})
    lengths = {}
    for span in step["spans"]:
        about = {tag["key"]: tag["value"] for tag in span["tags"]}
        if span["operationName"] == "all_reduce":
            lengths[int(about[semconv.RANK])] = span["duration"]
    assert min(lengths, key=lengths.__getitem__) == late and len(lengths) == RANKS  # the short bar


def check_series(servers: Servers, job: str, local: list[Json], ranks: int) -> None:
    counted = Counter(str(span["attributes"][semconv.RANK]) for span in local if span["name"] == "all_reduce")
    assert set(counted) == {str(rank) for rank in range(ranks)}
    name = semconv.COLLECTIVE_DURATION_METRIC.prometheus_name
    where = f'{{job="{job}",torch_distributed_collective_name="all_reduce"'
    series = wait_for(
        lambda: servers.ask(f"{name}_count{where}}}"),
        lambda found: {
            one["metric"]["torch_distributed_rank"]: float(one["value"][1]) for one in found
        } == counted,
    )  # fmt: skip
    for one in series:
        labels = one["metric"]
        assert labels["host_name"] and labels["instance"] and labels["torch_distributed_backend"] == "gloo"
    buckets = servers.ask(f'{name}_bucket{where},torch_distributed_rank="0"}}')
    bounds = {one["metric"]["le"] for one in buckets}
    assert {float(bound) for bound in bounds - {"+Inf"}} == set(semconv.SECONDS_BUCKETS)
    for query, unit in (
        ("torch_distributed_collective_io_bytes_total", "sum of bytes"),
        ("otel_netmon_collective_window_busbw_bytes_per_second", "bandwidth"),
    ):
        assert servers.ask(f'{query}{{job="{job}"}}'), unit


# What this machine has no hardware for, what this job does not do, and what its kernel may not tell.
EMPTY = (
    *("hw_network", "otel_netmon_rdma", "otel_netmon_pressure", "otel_netmon_cgroup", "otel_netmon_peer_latency"),
    *("otel_netmon_nic", "otel_netmon_softnet", "otel_netmon_host_softnet", "otel_netmon_process_run_queue"),
    *("in_flight_age", "error_type", "otel_netmon_delivery_lost", "otel_netmon_diagnosis"),
)


@pytest.mark.parametrize("dashboard", ALL, ids=lambda each: each.name)
def test_each_panel_of_a_dashboard_has_data(dashboard: Dashboard, servers: Servers) -> None:
    wait_for(lambda: servers.ask("count(count by (job) (otel_netmon_monitor_success_ratio))"), bool)
    asked = 0
    for panel in render(dashboard)["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$__rate_interval", "5m")
            for variable in ("job", "host", "group"):
                query = query.replace(f"${variable}", ".*")
            assert "$" not in query
            found = servers.ask(query)  # a mistake in the query is an error of HTTP
            if not any(name in query for name in EMPTY):
                assert found, f"{panel['title']}: {query}"
                asked += 1
    assert asked
