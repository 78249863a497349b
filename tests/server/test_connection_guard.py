"""Slow and hostile clients: every connection ends in time, and none takes memory without limit."""

from __future__ import annotations

import socket
import time

import httpx
import pytest

from kinegraph.server.connection_guard import _WebSocketGuard
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
    guard.connection_made(recorder)
    for at in range(0, len(data), size):
        if size == 1 and at > 8000:  # the head and the first payloads, byte by byte
            break
        guard.data_received(data[at : at + size])
    assert not recorder.closed and not recorder.written
    assert data.startswith(recorder.received) and len(recorder.received) > 7000
    assert guard._fragments == 0
