"""Values of OpenTelemetry's variables that cannot work: one sentence each, and the SDK starts without them."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from otel_netmon.delivery.connect import connect, protocol
from otel_netmon.sdk.check import check, silenced
from otel_netmon.sdk.setup import without_collections
from otel_netmon.sdk.values import SIGNALS
from tests.installed import ROOT, python_path

OTLP = "OTEL_EXPORTER_OTLP_"
ENDPOINT = f"{OTLP}ENDPOINT"
HTTP = {f"{OTLP}PROTOCOL": "http/protobuf"}

BAD = {
    **{f"OTEL_{p}_{n}": "0" for p in ("BSP", "BLRP") for n in ("MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE")},
    **{f"OTEL_{p}_{n}": "1.5" for p in ("BSP", "BLRP") for n in ("SCHEDULE_DELAY", "EXPORT_TIMEOUT")},
    **{f"OTEL_{p}_COUNT_LIMIT": "many" for p in ("ATTRIBUTE", "SPAN_ATTRIBUTE", "SPAN_EVENT", "SPAN_LINK")},
    **{f"OTEL_{p}_ATTRIBUTE_COUNT_LIMIT": "-1" for p in ("EVENT", "LINK", "LOGRECORD")},
    **{f"OTEL_{p}ATTRIBUTE_VALUE_LENGTH_LIMIT": "long" for p in ("", "SPAN_", "LOGRECORD_")},
    "OTEL_METRIC_EXPORT_INTERVAL": "nan",
    "OTEL_METRIC_EXPORT_TIMEOUT": "-1",
    "OTEL_METRICS_EXEMPLAR_FILTER": "sometimes",
    f"{OTLP}METRICS_TEMPORALITY_PREFERENCE": "diff",
    f"{OTLP}METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "bars",
    **{f"{OTLP}{p}TIMEOUT": "soon" for p in ("", "TRACES_", "METRICS_", "LOGS_")},
    **{f"{OTLP}{p}COMPRESSION": "zip" for p in ("", "TRACES_", "METRICS_", "LOGS_")},
    **{f"{OTLP}{p}CERTIFICATE": "/nowhere" for p in ("", "TRACES_", "METRICS_", "LOGS_")},
    f"{OTLP}CLIENT_KEY": "/",
    f"{OTLP}HEADERS": "Authorization Bearer hunter2",
    f"{OTLP}TRACES_HEADERS": "a=x%0Ahunter2",
    f"{OTLP}INSECURE": "1",
    "OTEL_SDK_DISABLED": "yes",
    "OTEL_TRACES_SAMPLER": "alwayson",
    "OTEL_PROPAGATORS": "b3",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "moon",
    "OTEL_RESOURCE_ATTRIBUTES": "nonsense",
    "OTEL_CONFIG_FILE": "/nowhere",
    "OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH": "all",
    "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "1",
    "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES": "BUSY",
    **{f"OTEL_PYTHON_{n}": "x" for n in ("ID_GENERATOR", "CONTEXT", "CONFIGURATOR", "DISTRO")},
    **{f"OTEL_PYTHON_{n}_PROVIDER": "x" for n in ("TRACER", "METER", "LOGGER", "EXPORTER_OTLP_GRPC_CREDENTIAL")},
    **{f"OTEL_PYTHON_{n}_CONFIGURATOR": "x" for n in ("TRACER", "METER", "LOGGER")},
    **{f"OTEL_{signal.upper()}_EXPORTER": "oltp" for signal in SIGNALS},
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_each_costs_one_sentence_and_its_default_is_used(name: str) -> None:
    works, (problem,) = check({name: BAD[name]})
    assert problem.variable == name and problem.sentence.startswith(name)
    assert works == {} or works == {name: "false"}  # a flag that is not true
    assert "hunter2" not in problem.sentence
    assert check({name: " "})[1] == ()


GOOD = {
    "OTEL_BSP_MAX_QUEUE_SIZE": "512",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "0",
    "OTEL_METRIC_EXPORT_INTERVAL": "250.5",
    "OTEL_METRICS_EXEMPLAR_FILTER": "always_off",
    f"{OTLP}TIMEOUT": "2.5",
    f"{OTLP}COMPRESSION": "gzip",
    f"{OTLP}HEADERS": "authorization=Bearer%20x, X-Key=a b=",
    f"{OTLP}INSECURE": "true",
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": "0.25",
    "OTEL_PROPAGATORS": "tracecontext,baggage",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "*",
    "OTEL_RESOURCE_ATTRIBUTES": "a=b=c, d=",
    "OTEL_PYTHON_ID_GENERATOR": "random",
    "OTEL_TRACES_EXPORTER": "otlp,console",
    "OTEL_METRICS_EXPORTER": "none",
    ENDPOINT: "localhost:4317",  # gRPC over TLS
    f"{OTLP}LOGS_ENDPOINT": "unix:///run/collector.sock",
    "PATH": "",
}


def test_what_works_is_left_as_it_is() -> None:
    assert check(GOOD) == (GOOD, ())


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ({"OTEL_TRACES_EXPORTER": " OTLP, none,"}, {"OTEL_TRACES_EXPORTER": "otlp"}),
        ({"OTEL_TRACES_EXPORTER": "None"}, {"OTEL_TRACES_EXPORTER": "none"}),
        ({"OTEL_TRACES_SAMPLER": "Always_On "}, {"OTEL_TRACES_SAMPLER": "always_on"}),
        ({f"{OTLP}PROTOCOL": "HTTP/protobuf "}, HTTP),
        ({f"{OTLP}COMPRESSION": "none"}, {}),  # the official gRPC exporter refuses the word, and all is lost
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=b,,"}, {"OTEL_RESOURCE_ATTRIBUTES": "a=b"}),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio"},
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1.0"},
        ),
        ({ENDPOINT: " http://c:4317\n"}, {ENDPOINT: "http://c:4317"}),
    ],
)
def test_what_is_meant_is_used_without_a_word(given: dict[str, str], used: dict[str, str]) -> None:
    assert check(given) == (used, ())


@pytest.mark.parametrize(
    ("given", "queue", "batch"),
    [
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "100"}, "100", "100"),
        ({"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4096"}, "4096", "4096"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "20"}, "10", "10"),
    ],
)
def test_a_batch_fits_into_the_queue(given: dict[str, str], queue: str, batch: str) -> None:
    works, (_,) = check(given)
    assert works == {"OTEL_BSP_MAX_QUEUE_SIZE": queue, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": batch}


def test_the_rest_of_a_list_is_used() -> None:
    works, problems = check({"OTEL_PROPAGATORS": "b3,baggage", "OTEL_TRACES_EXPORTER": "jaeger,console"})
    assert works == {"OTEL_PROPAGATORS": "baggage", "OTEL_TRACES_EXPORTER": "console"}
    assert len(problems) == 2
    works, (problem,) = check({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "50"})
    assert works["OTEL_TRACES_SAMPLER_ARG"] == "1.0" and "from 0 to 1" in problem.sentence


@pytest.mark.parametrize("word", ["http/json", "http", "nonsense", "gprc"])
def test_an_unsupported_protocol_is_logged_once_and_is_never_grpc(
    word: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"{OTLP}METRICS_PROTOCOL"
    sentence = f"{name}={word!r} is not supported, only grpc and http/protobuf are; using http/protobuf"
    works, (problem,) = check({name: word})
    assert (works, problem.sentence) == ({name: "http/protobuf"}, sentence)
    monkeypatch.setenv(name, word)
    with caplog.at_level(logging.WARNING):
        made = [connect("metrics") for _ in range(2)]
    assert [transport.endpoint for transport in made] == ["http://localhost:4318/v1/metrics"] * 2
    assert caplog.text.count(sentence) == 1
    assert protocol("traces") == "grpc"


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("127.0.0.1:4318", "no scheme; write http://127.0.0.1:4318"),
        ("me:hunter2@c:4318", "no scheme"),
        ("grpc://c:4318", "grpc:// is not supported"),
        ('"http://c:4318"', "not an address"),
        ("http://", "not an address"),
        ("http://c:port", "not an address"),
        ("http://[::1", "not an address"),
    ],
)
def test_an_address_that_http_can_never_reach(endpoint: str, words: str) -> None:
    works, (problem,) = check({**HTTP, ENDPOINT: endpoint}, instead="files")
    assert problem.lost and words in problem.sentence and "hunter2" not in problem.sentence
    assert [works[f"OTEL_{signal.upper()}_EXPORTER"] for signal in SIGNALS] == ["files"] * 3
    works, (problem,) = check({**HTTP, ENDPOINT: "http://c", f"{OTLP}LOGS_ENDPOINT": endpoint}, instead="files")
    assert problem.variable == f"{OTLP}LOGS_ENDPOINT" and works["OTEL_LOGS_EXPORTER"] == "none"
    assert (
        check({**HTTP, ENDPOINT: endpoint, **{f"OTEL_{s.upper()}_EXPORTER": "console" for s in SIGNALS}})[1] == ()
    )


def test_what_can_never_be_sent_is_not_kept_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{OTLP}PROTOCOL", "http/protobuf")
    outcome = connect("traces", endpoint="127.0.0.1:4318/v1/traces").send(b"", 1)
    assert (outcome.kind, outcome.reason) == ("rejected", "InvalidSchema") and "http://" in outcome.hint


def test_why_nothing_is_recorded() -> None:
    assert silenced({"OTEL_TRACES_EXPORTER": "none"}) == ()
    for environ in (
        {"OTEL_SDK_DISABLED": "TRUE"},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"},
    ):
        (problem,) = silenced(environ)
        assert problem.lost
    (problem,) = silenced({"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "flask, netmon"})
    assert not problem.lost and "the monitors" in problem.sentence and "collectives" not in problem.sentence


PROGRAM = """
import os
from otel_netmon.sdk.setup import configure_sdk_if_nobody_did
configure_sdk_if_nobody_did()
from opentelemetry import metrics, trace
trace.get_tracer("t").start_span("seen").end()
metrics.get_meter("t").create_counter("counted").add(1)
"""


@pytest.mark.row("settings that OpenTelemetry refuses: a queue below the batch, an unknown exporter, …")
def test_the_sdk_starts_with_all_of_them_wrong(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environ = {
        **clean,
        **BAD,
        **{f"OTEL_{signal.upper()}_EXPORTER": "oltp,otel_netmon_file" for signal in SIGNALS},
        "OTEL_NETMON_OUTPUT_DIR": str(tmp_path / "out"),
        "PYTHONPATH": python_path(tmp_path / "site") or str(ROOT),
    }
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "Traceback" not in done.stderr and "hunter2" not in done.stderr
    lines = done.stderr.splitlines()
    assert all(line.startswith("otel-netmon: OTEL_") for line in lines) and len(lines) == len(BAD), done.stderr
    written = "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    assert "seen" in written and "counted" in written


@pytest.mark.parametrize("kind", ["TRACER", "METER"])
def test_a_provider_that_is_named_is_no_reason_for_none(kind: str, tmp_path: Path) -> None:
    name = f"OTEL_PYTHON_{kind}_PROVIDER"
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
        name: f"sdk_{kind.lower()}_provider",
        "OTEL_TRACES_EXPORTER": "console",
        "OTEL_METRICS_EXPORTER": "console",
        "PYTHONPATH": python_path(tmp_path / "site") or str(ROOT),
    }
    code = PROGRAM + f"print(os.environ[{name!r}])"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60)
    assert "seen" in done.stdout and "counted" in done.stdout and environ[name] in done.stdout, done.stderr


@pytest.mark.parametrize("enabled", [True, False])
def test_collections_go_on_as_before_once_we_are_set_up(enabled: bool) -> None:
    was_enabled = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(ValueError, match="one of ours"), without_collections():
            assert not gc.isenabled()
            raise ValueError("one of ours")
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()
