"""Connections that are not waited for without end, nor remembered without bound."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

PATIENCE = 20.0
"""Seconds until a request's head has come, or the whole of a message that was begun."""
FRAGMENTS = 1024
"""Parts of a message."""
TOO_BIG = 1009


class PatientHttp(H11Protocol):
    """HTTP whose clients have to say something, in time."""

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        super().connection_made(transport)
        self.loop.call_later(PATIENCE, self._give_up)

    def _give_up(self) -> None:
        """A client that has asked for nothing is left; a websocket is another's business."""
        mine = self.transport.get_protocol() is self
        if mine and self.cycle is None and not self.transport.is_closing():
            self.transport.close()


class PatientSocket(WebSocketsSansIOProtocol):
    """A websocket whose messages end, and whose pings wait while their answers are not taken."""

    _begun: asyncio.TimerHandle | None = None

    def handle_text(self, event: Any) -> None:
        """The first part of a text."""
        self._begin(event)
        super().handle_text(event)

    def handle_bytes(self, event: Any) -> None:
        """The first part of a binary message."""
        self._begin(event)
        super().handle_bytes(event)

    def handle_cont(self, event: Any) -> None:
        """A further part."""
        if event.fin:
            self._forget()
        if len(self.frames) >= FRAGMENTS:
            self._leave(TOO_BIG, "too many parts")
        else:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """Answered, unless answers pile up."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._forget()
        super().connection_lost(exc)

    def _begin(self, event: Any) -> None:
        if not event.fin:
            self._begun = self.loop.call_later(PATIENCE, self._leave, 1008, "never-ending message")

    def _forget(self) -> None:
        if self._begun is not None:
            self._begun.cancel()
            self._begun = None

    def _leave(self, code: int, reason: str) -> None:
        self._forget()
        if not self.transport.is_closing():
            self.conn.fail(code, reason)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            self.transport.close()
