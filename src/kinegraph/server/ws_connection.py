"""The common part of all websockets: acceptance, idle timeout, rejections and shutdown."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.frames import CloseCode

from kinegraph.errors import KinegraphError
from kinegraph.server.auth import SUBPROTOCOL
from kinegraph.server.batch_worker import BatchWorker
from kinegraph.server.errors import RequestRejectedError, status_of
from kinegraph.server.protocol import to_json
from kinegraph.server.service import Service

ENDING = (CloseCode.GOING_AWAY, CloseCode.SERVICE_RESTART)
"""Codes of connections that the server closes and that receive no more messages."""


class WebSocketConnection(ABC):
    """One open websocket.

    Args:
        socket: the websocket, not accepted yet.
        service: the state that all connections share.
    """

    def __init__(self, socket: WebSocket, service: Service) -> None:
        self.socket, self.service = socket, service
        self.close_code, self.close_reason = CloseCode.NORMAL_CLOSURE, ""
        self._timeout: asyncio.Timeout | None = None

    @abstractmethod
    async def serve(self) -> None:
        """Answer messages until the client or the server ends the connection."""

    async def run(self) -> None:
        """Serve the connection from its acceptance to its end.

        Raises:
            RequestRejectedError: there are too many connections, or the server is shutting down.
        """
        self.service.register(self)
        try:
            await accept(self.socket)
            await self.serve()
            async with asyncio.timeout(self.service.limits.read_timeout):
                await self.socket.close(self.close_code, self.close_reason)
        except (WebSocketDisconnect, RuntimeError, TimeoutError):
            pass  # the client has disconnected, or does not read
        finally:
            self.service.connections.discard(self)

    async def drain(self) -> None:
        """Stop to receive messages, answer those that were received, and close."""
        self._stop_receiving(CloseCode.GOING_AWAY)
        while self in self.service.connections:
            await asyncio.sleep(0.01)

    @abstractmethod
    def on_worker_lost(self, worker: BatchWorker) -> None:
        """Close the connection if it has streams of this worker, which are lost."""

    def _stop_receiving(self, close_code: CloseCode) -> None:
        """End the wait for messages, to close the connection."""
        self.close_code = close_code
        with suppress(RuntimeError):  # no message is awaited now
            if self._timeout is not None:
                self._timeout.reschedule(asyncio.get_running_loop().time())

    async def receive(self) -> Mapping[str, Any] | None:
        """Return the next message; None if the client has disconnected or the server closes.

        Raises:
            RequestRejectedError: no message arrived within the idle timeout.
        """
        seconds = self.service.limits.idle_timeout
        if self.close_code in ENDING:
            return None
        try:
            async with asyncio.timeout(seconds) as self._timeout:
                message = await self.socket.receive()
        except TimeoutError as error:
            if self.close_code in ENDING:
                return None
            raise RequestRejectedError(
                f"no message for {seconds:g} s", HTTPStatus.REQUEST_TIMEOUT
            ) from error
        return message if message["type"] == "websocket.receive" else None

    def rejection(self, error: KinegraphError, **fields: Any) -> str:
        """Count a rejection and return it as a message."""
        status = status_of(error)
        self.service.metrics.count_rejection(status)
        return to_json({"error": str(error), "status": status, **fields})


async def run_until_first(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run coroutines until one of them ends, and cancel the others."""
    tasks = [asyncio.create_task(one) for one in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def accept(socket: WebSocket) -> None:
    """Accept a websocket, with our subprotocol if the client asks for it."""
    asked = socket.scope.get("subprotocols", ())
    await socket.accept(SUBPROTOCOL if SUBPROTOCOL in asked else None)


async def reject(socket: WebSocket, message: str, status: HTTPStatus) -> None:
    """Accept a websocket in order to send an error, and close it."""
    await accept(socket)
    await socket.send_text(to_json({"error": message, "status": status}))
    again = status == HTTPStatus.SERVICE_UNAVAILABLE
    await socket.close(CloseCode.TRY_AGAIN_LATER if again else CloseCode.INTERNAL_ERROR)
