"""The server's process: its socket, its threads, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any

from kinegraph.errors import LiveError
from kinegraph.inference.recognizer import Recognizer
from kinegraph.server.auth import AccessMiddleware, is_loopback
from kinegraph.server.limits import Limits
from kinegraph.server.service import Service

SWITCH_INTERVAL_S = 0.0001
"""Seconds that a thread may keep others from running: answers are a matter of milliseconds."""


def open_socket(host: str, port: int, token: str | None) -> socket.socket:
    """A socket that listens.

    Raises:
        LiveError: another address than this machine's own without a token, or one that cannot be
            had.
    """
    if token is None and not is_loopback(host):
        raise LiveError(
            f"{host} can be reached by others: give them a token with --token, or serve on "
            "127.0.0.1"
        )
    if token is not None and len(token) < 8:
        raise LiveError(
            "expected a token of at least 8 letters; `openssl rand -hex 16` makes a good one"
        )
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, _, _, _, address = found[0]
        return socket.create_server(address[:2], family=family, backlog=256)
    except (OSError, OverflowError, UnicodeError) as error:
        raise LiveError(f"cannot listen on {host}:{port}: {error}; take another --port") from error


def address_of(listening: socket.socket) -> str:
    """The address that a browser opens."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def serve(recognizer: Recognizer, listening: socket.socket, **options: Any) -> None:
    """Answer until told to end (SIGTERM, SIGINT), then let everybody finish.

    It starts processes: a script calls it under ``if __name__ == "__main__":``.

    Args:
        recognizer: who answers.
        listening: from `open_socket`.
        options: of `create_server`.

    Raises:
        LiveError: what it needs is not installed, or a process that worked on frames has ended.
    """
    server = create_server(recognizer, listening, **options)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # to be told to end is no mistake
    server.run([listening])
    if server.lost:
        raise LiveError("a process that worked on frames has ended by itself; so does the server")


def create_server(
    recognizer: Recognizer,
    listening: socket.socket,
    *,
    token: str | None = None,
    limits: Limits | None = None,
    name: str = "model",
    ready: Callable[[Service], None] = lambda service: None,
    **options: Any,
) -> Any:
    """A server that has not begun, see `serve`.

    Args:
        recognizer: who answers.
        listening: from `open_socket`.
        token: that clients have to show.
        limits: for clients.
        name: of the model.
        ready: called before the first client is answered.
        options: of `Service` and `SessionPool`.
    """
    try:
        import uvicorn

        from kinegraph.server.app import create_app
        from kinegraph.server.uvicorn_protocols import PatientHttp, PatientSocket
    except ImportError as error:
        raise LiveError(
            f'{error.name} is not installed, and a server needs it: pip install "kinegraph[serve]"'
        ) from error
    import torch

    torch.set_num_threads(1)  # frames of many go through one network; two threads would wait
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    limits = limits or Limits()
    service = Service(recognizer, limits, name, lambda: server.lose(), **options)
    guarded = AccessMiddleware(
        create_app(service), token, lambda status: service.metrics.refused.labels(status).inc()
    )

    class GracefulServer(uvicorn.Server):
        """Parts from everybody before it closes their connections."""

        lost = False

        def lose(self) -> None:
            """End, as somebody has who is needed."""
            self.lost = self.should_exit = True

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready(service)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            for server in self.servers:
                server.close()
            await service.drain()
            await asyncio.sleep(0.05)
            await super().shutdown(sockets)

    config = uvicorn.Config(
        guarded,
        http=PatientHttp,
        ws=PatientSocket,
        log_level="error",
        access_log=False,
        ws_max_size=max(limits.max_image_bytes, limits.max_message_bytes) + 64,
        ws_per_message_deflate=False,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=5,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.max_connections + 256,
    )
    server = GracefulServer(config)
    return server
