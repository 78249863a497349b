"""Creation and shutdown of the server: its socket, its event loop and its processes."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Collection
from typing import Any

from kinegraph.errors import ServerError, install_command
from kinegraph.inference.recognizer import Recognizer
from kinegraph.server.address_limit import AddressLimit
from kinegraph.server.auth import AccessMiddleware, is_loopback, parse_origin
from kinegraph.server.limits import Limits
from kinegraph.server.service import Service

MAX_OTHER_REQUESTS = 256
"""Complete HTTP requests that are answered at the same time."""
SWITCH_INTERVAL_S = 0.0001
"""Seconds that a Python thread may keep others waiting; answers take milliseconds."""
MIN_TOKEN_LENGTH = 8
SHUTDOWN_TIMEOUT_S = 30.0
"""Seconds after SIGTERM in which the server must end: a worker that starts may take longer."""
SHUTDOWN_POLL_S = 0.5


def open_socket(host: str, port: int, token: str | None) -> socket.socket:
    """Open a listening socket.

    Raises:
        ServerError: the address is not a loopback one and there is no token, the token is too
            short, or the address is not available.
    """
    if token is None and not is_loopback(host):
        raise ServerError(
            f"other machines can reach {host}: set a token with --token, or serve on 127.0.0.1"
        )
    if token is not None and len(token) < MIN_TOKEN_LENGTH:
        raise ServerError(
            f"expected a token of at least {MIN_TOKEN_LENGTH} characters, got {len(token)}; "
            "generate one with `openssl rand -hex 16`"
        )
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=256)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ServerError(
            f"cannot listen on {host}:{port}: {error}; choose another --port"
        ) from error


def address_of(listening: socket.socket) -> str:
    """Return the URL of the page."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def create_server(
    recognizer: Recognizer,
    *,
    token: str | None = None,
    limits: Limits | None = None,
    origins: Collection[str] = (),
    proxies: Collection[str] = (),
    name: str = "model",
    on_ready: Callable[[Service], None] = lambda service: None,
    **options: Any,
) -> Any:
    """Create a `uvicorn.Server`; `run_server` runs it.

    It may start processes: a script must call it under ``if __name__ == "__main__":``.

    Args:
        recognizer: the model.
        token: token that clients must send.
        limits: limits for clients.
        origins: origins of pages of other sites that have access, see `parse_origin`.
        proxies: addresses of trusted proxies, which state the address of a client in the header
            X-Forwarded-For.
        name: name of the model, for clients.
        on_ready: called once the server accepts connections.
        options: options of `Service` and `SessionPool`.

    Raises:
        ServerError: a package is not installed, an origin or proxy is not valid, or the model
            cannot be sent to a process.
    """
    allowed, proxies = [_checked_origin(one) for one in origins], [*map(_checked_proxy, proxies)]
    try:
        import uvicorn
        from starlette.middleware.cors import CORSMiddleware
        from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

        from kinegraph.server.app import create_app
        from kinegraph.server.connection_guard import MAX_WAITING, ConnectionGuard
    except ImportError as error:
        raise ServerError(
            f"the server needs {error.name}, which is not installed; run {install_command('serve')}"
        ) from error
    import torch

    torch.set_num_threads(1)  # batches of frames are too small for several threads
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    limits = limits or Limits()
    service = Service(recognizer, limits, name, **options)
    on_reject = service.metrics.count_rejection
    app: Any = AccessMiddleware(create_app(service), token, on_reject, allowed)
    if allowed:
        app = CORSMiddleware(app, allowed, ("GET", "POST"), ("authorization", "content-type"))
    app = AddressLimit(app, limits.max_connections_per_address, on_reject)
    if proxies:
        app = ProxyHeadersMiddleware(app, proxies)

    class GracefulServer(uvicorn.Server):
        """A server that drains active streams before it closes connections."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready(service)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            for listener in self.servers:
                listener.close()
            await service.drain()
            await asyncio.sleep(0.05)
            await super().shutdown(sockets)

    logging.getLogger("uvicorn.error").addFilter(_is_no_refused_handshake)
    guard = ConnectionGuard(app, limits.read_timeout, proxies)
    config = uvicorn.Config(
        guard,
        http="h11",
        ws="websockets-sansio",
        log_level="error",
        access_log=False,
        ws_max_size=max(limits.max_image_bytes, limits.max_message_bytes) + 64,
        ws_per_message_deflate=False,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=5,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.max_connections + MAX_WAITING + MAX_OTHER_REQUESTS,
    )
    guard.install(config)
    return GracefulServer(config)


def _is_no_refused_handshake(record: logging.LogRecord) -> bool:
    """Return False for uvicorn's message after a websocket was refused with an HTTP status."""
    return record.msg != "ASGI callable returned without completing handshake."


def _checked_origin(origin: str) -> str:
    try:
        return parse_origin(origin)
    except ValueError as error:
        raise ServerError(
            f"expected an origin such as https://example.org, got {origin!r}: {error}"
        ) from error


def _checked_proxy(address: str) -> str:
    try:
        return str(ipaddress.ip_address(address))
    except ValueError as error:
        raise ServerError(f"expected the IP address of a proxy, got {address!r}") from error


def run_server(server: Any, listening: socket.socket) -> None:
    """Run a server until SIGTERM or SIGINT, and drain its connections.

    If that takes longer than `SHUTDOWN_TIMEOUT_S`, the process exits at once; its workers exit when
    their pipes are closed.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # the exit code of a normal shutdown is 0
    finished = threading.Event()
    threading.Thread(target=_limit_shutdown, args=(server, finished), daemon=True).start()
    try:
        server.run([listening])
    finally:
        finished.set()


def _limit_shutdown(server: Any, finished: threading.Event) -> None:
    """Exit if the server has not finished some time after it was asked to."""
    while not server.should_exit:
        if finished.wait(SHUTDOWN_POLL_S):
            return
    if not finished.wait(SHUTDOWN_TIMEOUT_S):
        logger = logging.getLogger(__name__)
        logger.error("the shutdown took longer than %g s", SHUTDOWN_TIMEOUT_S)
        os._exit(1)
