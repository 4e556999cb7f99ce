"""This process's TCP connections: found, left alone, and read as the kernel has them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_netmon.job.peers import Connection, Endpoint
from otel_netmon.monitors import own_sockets
from otel_netmon.monitors.own_sockets import Descriptor, OwnSockets
from otel_netmon.monitors.tcp_info import TcpInfo, parse_tcp_info

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux'")

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))


@contextlib.contextmanager
def joined(family: int = socket.AF_INET) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection over loopback; ``AF_UNSPEC`` is IPv4 on an IPv6 socket."""
    mapped = family == socket.AF_UNSPEC
    with socket.socket(socket.AF_INET6 if mapped else family) as server:
        if mapped:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        server.bind(("::" if mapped else "::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        server.listen()
        target = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        with socket.create_connection((target, server.getsockname()[1])) as near:
            far, _ = server.accept()
            with far:
                yield near, far


def connection(one: socket.socket) -> Connection:
    ends = (one.getsockname(), one.getpeername())
    return Connection(*(Endpoint(end[0].removeprefix("::ffff:"), end[1]) for end in ends))


@pytest.fixture
def sockets() -> OwnSockets:
    return OwnSockets()


FAMILIES = [socket.AF_INET, socket.AF_INET6, socket.AF_UNSPEC]


@pytest.mark.parametrize("family", FAMILIES, ids=["IPv4", "IPv6", "IPv4 in IPv6"])
def test_a_connection_is_found_and_read_as_the_kernel_has_it(family: int, sockets: OwnSockets) -> None:
    with joined(family) as (near, far):
        near.sendall(b"x" * 3000)
        far.recv(1000, socket.MSG_WAITALL)
        own = sockets.connections()
        assert {connection(near), connection(far)} <= set(own)
        read = OwnSockets().read(own)
        theirs = read[connection(far)]
        assert theirs.receive_queue == 2000 and theirs.send_queue == 0
        assert theirs.inode == os.fstat(far.fileno()).st_ino
        info = read[connection(near)].info
        raw = near.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512)
        assert parse_tcp_info(raw) == info
        # against the layout itself, by hand: rtt and rttvar at 68, bytes_acked at 120, min_rtt at 148
        assert (info.rtt, info.rttvar) == struct.unpack_from("=II", raw, 68)
        assert (info.bytes_acked, info.bytes_received) == struct.unpack_from("=QQ", raw, 120)
        assert info.bytes_acked == 3001  # with the SYN
        assert info.min_rtt == struct.unpack_from("=I", raw, 148)[0]


def test_what_is_no_connection_is_left_out(sockets: OwnSockets) -> None:
    with contextlib.ExitStack() as stack:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            stack.enter_context(socket.socket(socket.AF_INET, kind))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.connect(("127.0.0.1", 9))
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        for end in socket.socketpair():
            stack.enter_context(end)
        before = set(sockets.connections())
        late = stack.enter_context(socket.socket())
        assert set(sockets.connections()) == before
        late.connect(listening.getsockname())  # one that was not connected the time before
        assert set(sockets.connections()) - before == {connection(late)}


def test_a_closed_one_is_gone_and_its_number_given_on(sockets: OwnSockets) -> None:
    with joined() as (near, far):
        number, first = near.fileno(), connection(near)
        assert first in sockets.connections()
        near.close()
        with joined() as (other, _):
            assert other.fileno() == number or far.fileno() != number
            own = sockets.connections()
            assert first not in own and connection(other) in own
    assert OwnSockets().read({first: Descriptor(number, 1)}) == {}


def test_nothing_of_a_socket_is_changed_and_none_is_kept_open(sockets: OwnSockets) -> None:
    """Python's own socket object would make it non-blocking under a default timeout; a copy would keep it open."""
    socket.setdefaulttimeout(1.0)
    try:
        with joined() as (near, far):
            near.setblocking(True)
            flags = fcntl.fcntl(near, fcntl.F_GETFL)
            ended = threading.Event()

            def read() -> None:
                while not ended.is_set():
                    sockets.read(sockets.connections())

            thread = threading.Thread(target=read)
            thread.start()
            try:
                assert fcntl.fcntl(near, fcntl.F_GETFL) == flags
                near.close()
                far.settimeout(5)
                assert far.recv(1) == b""  # the peer sees the end at once
            finally:
                ended.set()
                thread.join()
    finally:
        socket.setdefaulttimeout(None)


def test_a_number_given_on_between_listing_and_reading_is_not_read(sockets: OwnSockets) -> None:
    """However late: the last question is whether the descriptor is still the socket that was listed."""
    with joined() as (near, _), joined() as (other, _):
        listed = {one: fd for one, fd in sockets.connections().items() if one == connection(near)}
        (descriptor,) = listed.values()
        os.dup2(other.fileno(), near.fileno())
        assert OwnSockets().read(listed) == {}
        assert OwnSockets().read({connection(near): Descriptor(descriptor.fd, os.fstat(near.fileno()).st_ino)})


def test_a_number_given_on_while_it_is_read_is_not_counted(
    sockets: OwnSockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    with joined() as (near, _), joined() as (other, _):
        listed = {one: fd for one, fd in sockets.connections().items() if one == connection(near)}

        def parse(raw: memoryview) -> TcpInfo:
            os.dup2(other.fileno(), near.fileno())
            return parse_tcp_info(raw)

        monkeypatch.setattr(own_sockets, "parse_tcp_info", parse)
        assert len(listed) == 1 and OwnSockets().read(listed) == {}


def test_what_is_sent_and_not_acknowledged_is_told(sockets: OwnSockets) -> None:
    """Also by kernels that do not say how much of it was not sent yet: then the socket itself is asked."""
    with joined() as (near, far):
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        near.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                near.send(bytes(1 << 16))
        stuck = OwnSockets().read(sockets.connections())[connection(near)]
        assert stuck.send_queue == struct.unpack("=i", fcntl.ioctl(near, 0x5411, bytes(4)))[0] > 0
        assert stuck.info.notsent_bytes is not None and stuck.send_queue >= stuck.info.notsent_bytes


def test_reading_leaves_no_descriptor_behind(sockets: OwnSockets) -> None:
    with joined():
        before = sorted(os.listdir("/proc/self/fd"))
        for _ in range(3):
            assert len(OwnSockets().read(sockets.connections())) >= 2
        assert sorted(os.listdir("/proc/self/fd")) == before


LENGTHS = {104: "bytes_acked", 151: "min_rtt", 168: "busy_time", 192: None, 248: None, 400: None}


@pytest.mark.parametrize(("length", "absent"), LENGTHS.items())
def test_kernels_old_and_new(length: int, absent: str | None) -> None:
    """A shorter struct has fewer fields, a longer one has some that nobody knows yet."""
    data = bytes(range(1, 105)) + bytes(length - 104)
    info = parse_tcp_info(data)
    assert info.backoff == 5 and info.total_retrans == int.from_bytes(data[100:104], sys.byteorder)
    if absent is None:
        assert None not in info
    else:
        place = TcpInfo._fields.index(absent)
        assert None not in info[:place] and set(info[place:]) == {None}


def test_too_short_a_struct_is_refused() -> None:
    with pytest.raises(ValueError, match="tcp_info has 103 bytes"):
        parse_tcp_info(bytes(103))


@given(st.binary(max_size=600))
@example(b"\xff" * 16)
@settings(max_examples=EXAMPLES, deadline=None)
def test_no_bytes_do_harm(noise: bytes) -> None:
    """An answer, or the one exception that is promised."""
    with contextlib.suppress(ValueError):
        assert parse_tcp_info(noise).backoff == noise[4]
