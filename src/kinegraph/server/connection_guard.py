"""Timeouts and size limits of connections that uvicorn itself does not have.

uvicorn waits without limit for the head of a request, for the end of a websocket message, and for
clients that do not read the answers to their pings. The classes here stand between a transport and
uvicorn's protocols and pass every call on; they use the public interfaces of asyncio and ASGI.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.frames import CloseCode, Opcode

MAX_FRAGMENTS = 1024
"""Fragments of one websocket message."""
MAX_UNSENT_BYTES = 2**16
"""Bytes that may wait for a client that sends pings."""

_Connections: TypeAlias = "WeakValueDictionary[tuple[Any, ...], _HttpGuard]"


class RequestTimeout:
    """ASGI application that closes HTTP connections without a running request after a timeout.

    The time counts from the connection, or from the end of the last request, to the call of the
    application, which uvicorn makes when the head of a request is complete.

    Args:
        app: the application that answers.
        timeout: seconds.
    """

    def __init__(self, app: ASGIApp, timeout: float) -> None:
        self._app, self._timeout = app, timeout
        self._connections: _Connections = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, with the timeout of its connection suspended."""
        connection = self._connections.get(scope.get("client") or ())
        if connection is not None:
            connection.stop_timer()
        try:
            await self._app(scope, receive, send)
        finally:
            if connection is not None:
                connection.start_timer()

    def install(self, config: Any) -> None:
        """Load a `uvicorn.Config` and wrap the protocols of its connections."""
        config.load()
        http, websocket = config.http_protocol_class, config.ws_protocol_class
        seconds, connections = self._timeout, self._connections

        def create_http(**options: Any) -> _HttpGuard:
            return _HttpGuard(http(**options), seconds, connections)

        def create_websocket(**options: Any) -> _WebSocketGuard:
            return _WebSocketGuard(websocket(**options), seconds)

        config.http_protocol_class, config.ws_protocol_class = create_http, create_websocket


class _Guard:
    """A protocol that passes every call on to another one, with a timer."""

    def __init__(self, protocol: asyncio.Protocol, timeout: float) -> None:
        self._protocol, self._timeout = protocol, timeout
        self._timer: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._protocol, name)

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._protocol.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.stop_timer()
        self._protocol.connection_lost(error)

    def start_timer(self) -> None:
        self.stop_timer()
        self._timer = asyncio.get_running_loop().call_later(self._timeout, self.on_timeout)

    def stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def on_timeout(self) -> None:
        if self._transport.get_write_buffer_size():  # the client does not read: closing would wait
            self._transport.abort()
        else:
            self._transport.close()


class _HttpGuard(_Guard):
    """Guard of an HTTP connection, found by the client's address."""

    def __init__(
        self, protocol: asyncio.Protocol, timeout: float, connections: _Connections
    ) -> None:
        super().__init__(protocol, timeout)
        self._connections = connections

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._connections[tuple(transport.get_extra_info("peername") or ())[:2]] = self
        self.start_timer()


class _WebSocketGuard(_Guard):
    """Guard of a websocket, which reads the headers of the client's frames (RFC 6455, 5.2)."""

    def __init__(self, protocol: asyncio.Protocol, timeout: float) -> None:
        super().__init__(protocol, timeout)
        self._upgraded = False
        self._header = b""  # the part of a frame's header that was received
        self._payload = 0  # bytes until the next header
        self._fragments = 0  # of the message that is not complete

    def data_received(self, data: bytes) -> None:
        frames = data
        if not self._upgraded:  # uvicorn repeats the head of the request that asked for a websocket
            _, end, frames = data.partition(b"\r\n\r\n")
            self._upgraded = bool(end)
        for first_byte in self._first_bytes(frames):
            self._check(first_byte & 15, bool(first_byte & 128))
        if not self._transport.is_closing():
            self._protocol.data_received(data)

    def _first_bytes(self, data: bytes) -> Iterator[int]:
        """Yield the first byte of every frame whose header is complete."""
        at, data = self._payload, self._header + data
        while at + 2 <= len(data):
            size = data[at + 1] & 127
            end = at + 2 + {126: 2, 127: 8}.get(size, 0)
            if end > len(data):
                break
            if size > 125:
                size = int.from_bytes(data[at + 2 : end])
            yield data[at]
            at = end + (4 if data[at + 1] & 128 else 0) + size
        self._header, self._payload = data[at:], max(0, at - len(data))

    def _check(self, opcode: int, is_final: bool) -> None:
        if opcode == Opcode.PING:
            if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
                self._transport.abort()
        elif opcode < 8:
            self._fragments = 0 if is_final else self._fragments + 1
            if is_final:
                self.stop_timer()
            elif self._fragments == 1:
                self.start_timer()
            elif self._fragments > MAX_FRAGMENTS:
                self._close(CloseCode.MESSAGE_TOO_BIG)

    def on_timeout(self) -> None:
        self._close(CloseCode.POLICY_VIOLATION)

    def _close(self, code: int) -> None:
        if not self._transport.is_closing():
            self._transport.write(b"\x88\x02" + code.to_bytes(2))
            self._transport.close()
