"""A protocol at odds with the settings is said before the command starts, and an outage is not taken for it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from otel_netmon.cli import port as module
from otel_netmon.cli.port import at_odds
from tests.e2e.faulty import Faulty, Protocol, free_port, serving
from tests.unit.cli.conftest import Cli

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
EXPORTERS = {f"OTEL_{signal}_EXPORTER": "otel_netmon_otlp" for signal in ("TRACES", "METRICS", "LOGS")}
HTTP: Protocol = "http/protobuf"


@pytest.fixture(scope="module")
def places() -> Iterator[dict[Protocol, str]]:
    """A collector that speaks gRPC, and one that speaks HTTP."""
    ports = free_port(), free_port()
    with serving(Faulty("grpc"), ports[0]), serving(Faulty(HTTP), ports[1]):
        yield {"grpc": f"127.0.0.1:{ports[0]}", HTTP: f"127.0.0.1:{ports[1]}"}


@pytest.mark.parametrize(
    ("spoken", "scheme", "environ", "hint"),
    [
        (HTTP, "http://", {}, f"set {PROTOCOL}=http/protobuf"),
        ("grpc", "http://", {PROTOCOL: HTTP}, f"set {PROTOCOL}=grpc"),
        ("grpc", "", {}, f"let {ENDPOINT} begin with http://"),
        ("grpc", "https://", {}, f"let {ENDPOINT} begin with http://"),
        (HTTP, "https://", {PROTOCOL: HTTP}, f"let {ENDPOINT} begin with http://"),
        ("grpc", "http://", {"OTEL_EXPORTER_OTLP_INSECURE": "false"}, "begin with http://"),
        ("grpc", "http://", {}, ""),
        (HTTP, "http://", {PROTOCOL: HTTP}, ""),
        ("grpc", "", {"OTEL_EXPORTER_OTLP_INSECURE": "true"}, ""),
        (HTTP, "http://", {"https_proxy": "http://proxy"}, ""),
    ],
)
def test_what_is_spoken_there(
    places: dict[Protocol, str], spoken: Protocol, scheme: str, environ: dict[str, str], hint: str
) -> None:
    found = at_odds({ENDPOINT: scheme + places[spoken], **environ}, EXPORTERS)
    assert len(found) == bool(hint) and all(hint in one for one in found), found
    assert at_odds({ENDPOINT: scheme + places[spoken], **environ}, {}) == ()


def test_tls_is_told_from_the_rest() -> None:
    assert "begin with https://" in module._fault(frozenset({"tls"}), "grpc", plain=True)
    assert module._fault(frozenset({"tls"}), "grpc", plain=False) == ""


def test_the_endpoint_of_one_signal(places: dict[Protocol, str]) -> None:
    environ = {ENDPOINT: f"http://{places['grpc']}", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": f"http://{places[HTTP]}"}
    (sentence,) = at_odds(environ, EXPORTERS)
    assert sentence.startswith("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=")
    assert "set OTEL_EXPORTER_OTLP_LOGS_PROTOCOL=http/protobuf" in sentence


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:{free}", "http://127.0.0.1:{silent}", "unix:///nowhere", "http://["]
)
def test_one_that_is_away_or_silent_is_no_fault_and_costs_a_second_at_most(address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = address.format(free=free_port(), silent=server.getsockname()[1])
        began = time.monotonic()
        assert at_odds({ENDPOINT: address}, EXPORTERS) == ()
        assert time.monotonic() - began < module.SECONDS + 0.5


@pytest.mark.row("an endpoint that speaks another protocol")
def test_it_is_said_before_and_at_the_end(places: dict[Protocol, str], cli: Cli) -> None:
    process = cli("run", "--", "sh", "-c", "printf training >&2; exit 3", **{ENDPOINT: f"http://{places[HTTP]}"})
    _, err = process.communicate(timeout=60)
    before, _, after = err.decode().partition("training")
    assert process.returncode == 3
    assert before.count(f"set {PROTOCOL}=http/protobuf") == after.count(f"set {PROTOCOL}=http/protobuf") == 1
