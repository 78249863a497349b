"""Slow and hostile clients: every connection ends in time, and none takes memory without limit."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from kinegraph.server.address_limit import client_network
from kinegraph.server.connection_guard import MAX_WAITING_PER_ADDRESS, _WebSocketGuard
from server.serving import running
from server.test_server import handshake

TIMEOUT_S = 0.5


@pytest.fixture(scope="module")
def server():
    """A server with a short read timeout."""
    with running(read_timeout=TIMEOUT_S, frame_rate=2000.0) as one:
        yield one


def seconds_until_closed(raw: socket.socket) -> tuple[float, bytes]:
    """Return the seconds until the server closes the connection, and the bytes received."""
    raw.settimeout(10)
    began, content = time.monotonic(), b""
    try:
        while part := raw.recv(65536):
            content += part
    except ConnectionError:
        pass
    return time.monotonic() - began, content


def connection(server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), 5)


@pytest.mark.parametrize("start", [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: x\r\n"])
def test_an_incomplete_request_head_times_out(server, start):
    with connection(server) as raw:
        raw.sendall(start)
        seconds, content = seconds_until_closed(raw)
        assert seconds < 5 and not content


def test_a_slow_request_head_times_out(server):
    with connection(server) as raw, pytest.raises(ConnectionError):
        raw.sendall(b"GET /health HTTP/1.1\r\n")
        for _ in range(100):
            raw.sendall(b"a: b\r\n")
            time.sleep(0.05)


def test_an_incomplete_second_request_head_times_out(server):
    with connection(server) as raw:
        raw.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea")
        seconds, content = seconds_until_closed(raw)
        assert seconds < 5 and content.count(b"HTTP/1.1") == 1 and b"200 OK" in content


def test_an_incomplete_body_times_out(server):
    with connection(server) as raw:
        head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        raw.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        seconds, content = seconds_until_closed(raw)
        assert seconds < 5 and content.startswith(b"HTTP/1.1 408")


ENDLESS = {
    "of another kind": (b"POST", b"/v1/predict", b"Content-Type: text/csv\r\n"),
    "of a method that is not allowed": (b"POST", b"/health", b""),
    "of an unknown path": (b"PUT", b"/nothing", b""),
    "of another site": (b"POST", b"/v1/predict", b"Origin: https://evil.example\r\n"),
    "that nobody reads": (b"GET", b"/health", b""),
}


@pytest.mark.parametrize(("method", "path", "header"), ENDLESS.values(), ids=list(ENDLESS))
@pytest.mark.parametrize("length", [b"Transfer-Encoding: chunked", b"Content-Length: 999999999"])
def test_an_endless_body_is_cut_off_after_the_answer(server, method, path, header, length):
    with connection(server) as raw:
        head = b" HTTP/1.1\r\nHost: localhost\r\n"
        raw.sendall(method + b" " + path + head + header + length + b"\r\n\r\n")
        raw.settimeout(5)
        assert raw.recv(65536).startswith(b"HTTP/1.1 ")
        with pytest.raises(ConnectionError):
            for _ in range(200):
                raw.sendall(b"4\r\n[[[[\r\n")
                time.sleep(0.05)


def test_a_refused_request_is_closed_at_once(server):
    for request in (b"GET /nothing", b"DELETE /health"):
        with connection(server) as raw:
            raw.sendall(request + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
            seconds, content = seconds_until_closed(raw)
            assert b"connection: close" in content.lower() and b'{"error"' in content
            assert seconds < TIMEOUT_S


def test_a_client_that_does_not_read_its_answers_is_cut_off(server):
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", server.port))
        raw.setblocking(False)
        request = b"GET /page/page.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
        began, sent = time.monotonic(), 0
        with pytest.raises(ConnectionError):
            while time.monotonic() - began < 30:
                try:
                    sent += raw.send(request * 10)
                except BlockingIOError:
                    time.sleep(0.02)
        assert sent


def test_connections_without_a_request_keep_nobody_out(server):
    """More connections than the server holds: the oldest ones make room for new ones."""
    starts = (b"", b"GET /health HT", b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"
              b"Content-Type: application/json\r\nContent-Length: 99\r\n\r\n{")  # fmt: skip
    with ExitStack() as stack:
        for number in range(3 * MAX_WAITING_PER_ADDRESS):
            raw = stack.enter_context(connection(server))
            raw.sendall(starts[number % len(starts)])
        assert len(server.server.config.app._waiting._all) <= MAX_WAITING_PER_ADDRESS
        assert httpx.get(f"{server.url}/health", timeout=10).status_code == 200


def test_connections_of_one_address_are_limited():
    async def clients(one) -> None:
        async with connect(one.stream) as first, connect(one.stream):
            with pytest.raises(InvalidStatus) as refused:
                await connect(one.stream)
            assert refused.value.response.status_code == 429
            forged = {"x-forwarded-for": "192.0.2.1"}
            with pytest.raises(InvalidStatus):
                await connect(one.stream, additional_headers=forged)
            assert httpx.get(f"{one.url}/v1/model").status_code == 429
            assert httpx.get(f"{one.url}/health").status_code == 200
            await first.close()
            until = time.monotonic() + 10
            while httpx.get(f"{one.url}/v1/model").status_code != 200:
                assert time.monotonic() < until
                await asyncio.sleep(0.05)

    with running(max_connections_per_address=2) as one:
        asyncio.run(clients(one))


def test_clients_of_a_trusted_proxy_are_limited_by_their_own_address():
    def headers(address: str) -> dict[str, str]:
        return {"x-forwarded-for": address}

    async def clients(one) -> None:
        async with (
            connect(one.stream, additional_headers=headers("192.0.2.1")),
            connect(one.stream, additional_headers=headers("192.0.2.2")),
            connect(one.stream, additional_headers=headers("2001:db8::1")),
        ):
            for address in ("192.0.2.1", "2001:db8::2"):
                with pytest.raises(InvalidStatus):
                    await connect(one.stream, additional_headers=headers(address))

    with running(max_connections_per_address=1, proxies=["127.0.0.1"]) as one:
        asyncio.run(clients(one))


def test_the_network_of_a_client():
    for address, network in (
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::5:1", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ):
        assert client_network(address) == network


def test_keep_alive_outlasts_the_timeout(server):
    with httpx.Client() as client:
        for _ in range(4):
            assert client.get(f"{server.url}/health").status_code == 200
            time.sleep(0.3 * TIMEOUT_S)


def test_a_websocket_outlasts_the_timeout_and_leaves_no_guard(server):
    with handshake(server.port) as raw:
        time.sleep(3 * TIMEOUT_S)
        raw.sendall(b"\x81\x82\0\0\0\0{}")
        raw.settimeout(5)
        assert b'"error"' in raw.recv(4096)
    until = time.monotonic() + 10
    guard = server.server.config.app
    while len(guard._connections) and time.monotonic() < until:
        time.sleep(0.05)
    assert not len(guard._connections)


def test_an_incomplete_message_times_out(server):
    with handshake(server.port) as raw:
        raw.sendall(b"\x01\x81\0\0\0\0{")  # the first part of a text
        time.sleep(TIMEOUT_S / 2)
        raw.sendall(b"\x00\x81\0\0\0\0}")
        seconds, content = seconds_until_closed(raw)
        assert seconds < 5 and content.startswith(b"\x88") and b"\x03\xf0" in content  # 1008


def test_a_slow_message_of_one_frame_times_out(server):
    with handshake(server.port) as raw, pytest.raises(ConnectionError):
        raw.sendall(b"\x81\xfe\x01\x00\0\0\0\0")  # a text of 256 bytes
        for _ in range(100):
            raw.sendall(b" ")
            time.sleep(0.05)


def test_a_fragmented_message_is_accepted(server):
    with handshake(server.port) as raw:
        for byte in b"\x01\x81\0\0\0\0{" + b"\x00\x80\0\0\0\0" * 1000 + b"\x80\x81\0\0\0\0}":
            raw.sendall(bytes([byte]))
        raw.settimeout(5)
        assert b'expected \\"person\\"' in raw.recv(4096)
        raw.sendall(b"\x81\x82\0\0\0\0{}")
        assert b'expected \\"person\\"' in raw.recv(4096)


def test_a_ping_flood_without_reading_is_cut_off(server):
    with handshake(server.port) as raw:
        raw.settimeout(5)
        ping = b"\x89\xfd\0\0\0\0" + bytes(125)
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                raw.sendall(ping * 1000)  # 130 MB, more than the system's buffers hold


class Recorder:
    """A transport and protocol that record the calls."""

    def __init__(self) -> None:
        self.received = self.written = b""
        self.closed = False

    def connection_made(self, transport) -> None:
        pass

    def data_received(self, data: bytes) -> None:
        self.received += data

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000, 10**7])
def test_frames_are_counted_at_any_read_size(size):
    """Long payloads full of bytes that look like headers do not count as fragments."""
    frames = b"".join(
        bytes([0x82, 0x80 | code]) + length + bytes(4) + b"\x01\x80" * (n // 2)
        for n, code, length in (
            (124, 124, b""),
            (3000, 126, (3000).to_bytes(2)),
            (70000, 127, (70000).to_bytes(8)),
        )
    )
    data = b"GET / HTTP/1.1\r\n\r\n" + frames * 2
    recorder = Recorder()
    guard = _WebSocketGuard(recorder, 60.0)

    async def receive() -> None:
        guard.connection_made(recorder)
        for at in range(0, len(data), size):
            if size == 1 and at > 8000:  # the head and the first payloads, byte by byte
                break
            guard.data_received(data[at : at + size])

    asyncio.run(receive())
    assert not recorder.closed and not recorder.written
    assert data.startswith(recorder.received) and len(recorder.received) > 7000
    assert guard._fragments == 0
