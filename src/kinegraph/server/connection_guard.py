"""Timeouts and limits of connections that uvicorn itself does not have.

uvicorn waits without limit for the head of a request, for the end of a websocket message, for
clients that do not read, and for the rest of a body after its answer. The classes here stand
between a transport and uvicorn's protocols and pass every call on; they use the public interfaces
of asyncio and ASGI.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterator
from http import HTTPStatus
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from websockets.frames import CloseCode, Opcode

from kinegraph.server.address_limit import client_network
from kinegraph.server.errors import RequestRejectedError

MAX_FRAGMENTS = 1024
"""Fragments of one websocket message."""
MAX_UNSENT_BYTES = 2**16
"""Bytes that may wait for a client that sends pings."""
MAX_WAITING = 256
"""Connections that wait for a request of their client; one more closes the oldest of them."""
MAX_WAITING_PER_ADDRESS = 64
"""The same for the connections of one address."""
LINGER_S = 1.0
"""Seconds in which a client may read the answer to a request that it has not sent completely."""

_Connections: TypeAlias = "WeakValueDictionary[tuple[Any, ...], _HttpGuard]"


class ConnectionGuard:
    """ASGI application that closes connections whose client is too slow.

    A connection waits for its client until the head and the body of a request are complete. The
    timeout of a head counts from the connection or the end of the last request, that of a body from
    its head. Only connections that wait are closed to make room for others, so clients that send
    nothing cannot keep out those that do.

    Args:
        app: the application that answers.
        timeout: seconds for a head, a body, a websocket message, and for the client to read.
        proxies: addresses of trusted proxies, whose connections are those of many clients.
    """

    def __init__(self, app: ASGIApp, timeout: float, proxies: Collection[str] = ()) -> None:
        self._app, self._timeout = app, timeout
        self._connections: _Connections = WeakValueDictionary()
        self._waiting = _WaitingConnections(proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; see the class for its timeouts."""
        connection = self._connections.get(tuple(scope.get("client") or ()))
        if connection is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            connection.begin_request()
            connection.stop_waiting()
            try:
                await self._app(scope, receive, send)
            finally:
                connection.end_request(is_complete=False)
        else:
            await self._answer(_GuardedRequest(connection, scope, receive, send, self._timeout))

    async def _answer(self, request: _GuardedRequest) -> None:
        request.connection.begin_request()
        if request.is_complete:
            request.connection.stop_waiting()
        try:
            await self._app(request.scope, request.receive, request.send)
        finally:
            request.connection.end_request(is_complete=request.is_complete)

    def install(self, config: Any) -> None:
        """Load a `uvicorn.Config` and wrap the protocols of its connections."""
        config.load()
        http, websocket = config.http_protocol_class, config.ws_protocol_class
        seconds, connections, waiting = self._timeout, self._connections, self._waiting

        def create_http(**options: Any) -> _HttpGuard:
            return _HttpGuard(http(**options), seconds, connections, waiting)

        def create_websocket(**options: Any) -> _WebSocketGuard:
            return _WebSocketGuard(websocket(**options), seconds)

        config.http_protocol_class, config.ws_protocol_class = create_http, create_websocket


class _GuardedRequest:
    """The ASGI interface of one request, with a timeout of its body."""

    def __init__(
        self, connection: _HttpGuard, scope: Scope, receive: Receive, send: Send, timeout: float
    ) -> None:
        self.connection, self.scope = connection, scope
        self._receive, self._send, self._timeout = receive, send, timeout
        self._deadline = asyncio.get_running_loop().time() + timeout
        names = {name for name, _ in scope["headers"]}
        self.is_complete = not names & {b"content-length", b"transfer-encoding"}

    async def receive(self) -> Message:
        """Return the next part of the body.

        Raises:
            RequestRejectedError: the body was not complete within the timeout.
        """
        if self.is_complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError as error:
            raise RequestRejectedError(
                f"expected the body within {self._timeout:g} s", HTTPStatus.REQUEST_TIMEOUT
            ) from error
        if message["type"] == "http.request" and not message.get("more_body", False):
            self.is_complete = True
            self.connection.stop_waiting()
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer; a refusal closes the connection.

        If the body is not complete, uvicorn would reset the connection before the client reads the
        refusal; then the guard closes it a second later.
        """
        is_refusal = message["type"] == "http.response.start" and message["status"] >= 400
        if is_refusal and self.is_complete:
            message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        await self._send(message)


class _Guard:
    """A protocol that passes every call on to another one, with timers."""

    def __init__(self, protocol: asyncio.Protocol, timeout: float) -> None:
        self._protocol, self._timeout = protocol, timeout
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._protocol, name)

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._protocol.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.stop_timer()
        self._stop_write_timer()
        self._protocol.connection_lost(error)

    def pause_writing(self) -> None:
        self._stop_write_timer()
        loop = asyncio.get_running_loop()
        self._write_timer = loop.call_later(self._timeout, self._transport.abort)
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._stop_write_timer()
        self._protocol.resume_writing()

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

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


class _HttpGuard(_Guard):
    """Guard of an HTTP connection, found by the client's address and port."""

    def __init__(
        self,
        protocol: asyncio.Protocol,
        timeout: float,
        connections: _Connections,
        waiting: _WaitingConnections,
    ) -> None:
        super().__init__(protocol, timeout)
        self._connections, self._waiting = connections, waiting
        self._requests = 0
        self.address = ""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        client = tuple(transport.get_extra_info("peername") or ())[:2]
        self.address = str(client[0]) if client else ""
        self._connections[client] = self
        self._wait()

    def connection_lost(self, error: Exception | None) -> None:
        self.stop_waiting()
        super().connection_lost(error)

    def begin_request(self) -> None:
        """Stop the timeout of the head."""
        self._requests += 1
        self.stop_timer()

    def stop_waiting(self) -> None:
        """Note that the request is complete, or that the connection is one of a websocket."""
        self._waiting.remove(self)

    def end_request(self, *, is_complete: bool) -> None:
        """Wait for the next request, or close soon if the client still sends this one."""
        self._requests -= 1
        if self._requests or self._transport.is_closing():
            self.start_timer()  # ends a connection whose client does not read
        elif is_complete:
            self._wait()
        else:
            self.stop_timer()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(LINGER_S, self._close_after_linger)

    def evict(self) -> None:
        """Close the connection to make room for others."""
        self._transport.abort()

    def _wait(self) -> None:
        self.start_timer()
        self._waiting.add(self)

    def _close_after_linger(self) -> None:
        self._transport.close()
        self.start_timer()


class _WaitingConnections:
    """The connections that wait for their clients, oldest first."""

    def __init__(self, proxies: Collection[str]) -> None:
        self._proxies = proxies
        self._all: dict[_HttpGuard, None] = {}
        self._by_network: defaultdict[str, dict[_HttpGuard, None]] = defaultdict(dict)

    def add(self, connection: _HttpGuard) -> None:
        """Add a connection, and close the oldest one if there are too many."""
        own = self._by_network[client_network(connection.address)]
        self._all[connection] = own[connection] = None
        if len(own) > MAX_WAITING_PER_ADDRESS and connection.address not in self._proxies:
            next(iter(own)).evict()
        elif len(self._all) > MAX_WAITING:
            next(iter(self._all)).evict()

    def remove(self, connection: _HttpGuard) -> None:
        """Remove a connection if it waits."""
        network = client_network(connection.address)
        self._all.pop(connection, None)
        self._by_network[network].pop(connection, None)
        if not self._by_network[network]:
            del self._by_network[network]


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
        if not (self._header or self._payload or self._fragments):
            self.stop_timer()
        elif self._timer is None:
            self.start_timer()
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
            if is_final or self._fragments == 1:  # the timeout of a message counts from its start
                self.stop_timer()
            elif self._fragments > MAX_FRAGMENTS:
                self._close(CloseCode.MESSAGE_TOO_BIG)

    def on_timeout(self) -> None:
        self._close(CloseCode.POLICY_VIOLATION)

    def _close(self, code: int) -> None:
        if not self._transport.is_closing():
            self._transport.write(b"\x88\x02" + code.to_bytes(2))
            self._transport.close()
