"""The websocket of a stream: receives frames of persons, and sends their predictions."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.websockets import WebSocket
from websockets.frames import CloseCode

from kinegraph.errors import KinegraphError
from kinegraph.inference.frame_converter import open_converter
from kinegraph.inference.session import StreamResult
from kinegraph.server.batch_worker import (
    BatchWorker,
    PersonSession,
    SessionRequest,
    SessionResponse,
)
from kinegraph.server.errors import RequestRejectedError, too_large, unavailable
from kinegraph.server.limits import TokenBucket
from kinegraph.server.protocol import (
    ClientMessage,
    PersonId,
    decode_binary,
    decode_json,
    prediction_payload,
    to_json,
)
from kinegraph.server.schemas import Statement, to_space
from kinegraph.server.service import SHUTDOWN_GRACE_S, Service
from kinegraph.server.ws_connection import WebSocketConnection, run_until_first
from kinegraph.skeleton.layouts import get_layout

REJECTION_PAUSE_S = 0.005
"""Seconds before the next message is read after a rejected one."""
QUEUE_FACTOR = 8
"""Answers that may wait for a client, per frame that a person may queue."""
MAX_COALESCED = 256
"""Answers in one message, if the client asks for coalescing."""


class SendQueue:
    """At most ``size`` messages for a client; if it reads too slowly, it loses the oldest ones."""

    def __init__(self, size: int) -> None:
        self.dropped = 0
        self._reported = 0
        self._queue = asyncio.Queue[str](size)

    def put(self, message: str) -> None:
        """Add a message."""
        if self._queue.full():
            self._queue.get_nowait()
            self.dropped += 1
        self._queue.put_nowait(message)

    async def get(self, count: int) -> list[str]:
        """Wait for a message and return up to ``count``, after the number that was dropped."""
        messages = [await self._queue.get()]
        if self.dropped > self._reported:
            self._reported = self.dropped
            messages.insert(0, to_json({"dropped": self.dropped}))
        while len(messages) < count and not self._queue.empty():
            messages.append(self._queue.get_nowait())
        return messages

    def __len__(self) -> int:
        return self._queue.qsize()


class _StreamedPerson(PersonSession):
    """A person of this connection, with what the connection checks."""

    def __init__(
        self, connection: StreamConnection, worker: BatchWorker, message: ClientMessage
    ) -> None:
        meta, layout = message.meta or {}, message.layout
        space = to_space(message.space)
        super().__init__(connection.on_results, worker, message.person, meta, layout, space)
        self.bucket = TokenBucket(connection.service.limits.frame_rate)
        self.last_time = -math.inf
        self.queued = 0
        self.has_ended = False
        self.json_name = json.dumps(message.person)
        self._result: StreamResult | None = None
        self._json = ""

    def encode(self, result: StreamResult, top: int, logits: bool) -> str:
        """Return the end of the JSON object of an answer, which is the same for many frames."""
        if result is not self._result:
            prediction = prediction_payload(result.prediction, top, logits)
            self._result, self._json = result, to_json({"frames": result.frames, **prediction})[1:]
        return self._json


class StreamConnection(WebSocketConnection):
    """A websocket that streams frames of persons, whose names are known to it only.

    Args:
        socket, service: see `WebSocketConnection`.
        top: number of candidate actions in every answer.
        logits: whether answers contain the logits.
        coalesce: whether the answers that wait are sent as one list.
        statement: layout and space of persons whose first frame does not state them.
    """

    def __init__(
        self,
        socket: WebSocket,
        service: Service,
        top: int,
        logits: bool,
        coalesce: bool,
        statement: Statement,
    ) -> None:
        super().__init__(socket, service)
        self._top, self._logits, self._coalesce = top, logits, coalesce
        self._statement = statement
        self._persons: dict[PersonId, _StreamedPerson] = {}
        self._send_queue = SendQueue(QUEUE_FACTOR * service.limits.max_queued_frames)
        self._pending = 0
        self._rejected = 0
        self._is_full = False

    async def serve(self) -> None:
        try:
            await run_until_first(self._send(), self._read())
        finally:
            for person in self._persons.values():
                person.worker.drop(person)
                self.service.release(person.worker)
            self._persons.clear()

    def on_results(self, responses: list[SessionResponse]) -> None:
        """Queue the answers of a worker."""
        metrics, now = self.service.metrics, time.monotonic()
        for response in responses:
            self._pending -= 1
            request, result = response.request, response.result
            person = self._persons.get(response.person.name)
            if person is None or person is not response.person:
                continue
            person.queued -= 1
            if request.kind == "frame":
                metrics.frames.inc()
                metrics.latency.observe(now - request.arrival)
            if isinstance(result, KinegraphError):
                self._reject(result, person.name)
            else:
                self._answer(person, response, result)
            if request.kind == "end":
                del self._persons[person.name]
                self.service.release(person.worker)

    def on_worker_lost(self, worker: BatchWorker) -> None:
        if any(person.worker is worker for person in self._persons.values()):
            self.close_reason = "a worker process was lost; connect again and restart the streams"
            self._reject(RequestRejectedError(self.close_reason, HTTPStatus.SERVICE_UNAVAILABLE))
            self._stop_receiving(CloseCode.SERVICE_RESTART)

    def _answer(
        self, person: _StreamedPerson, response: SessionResponse, result: StreamResult
    ) -> None:
        request = response.request
        is_frame = request.kind == "frame"
        kind = f'"frame":{response.frame_index}' if is_frame else f'"{request.kind}":true'
        time_ = "" if math.isnan(request.time) else f'"time":{request.time!r},'
        prediction = person.encode(result, self._top, self._logits)
        self._send_queue.put(f'{{"person":{person.json_name},{kind},{time_}{prediction}')

    def _reject(self, error: KinegraphError, person: PersonId | None = None) -> None:
        fields = {} if person is None else {"person": person}
        self._send_queue.put(self.rejection(error, **fields))

    async def _read(self) -> None:
        try:
            while (message := await self.receive()) is not None and await self._handle(message):
                pass
        except RequestRejectedError as error:  # the connection was idle
            self._reject(error)
            self.close_code = CloseCode.POLICY_VIOLATION
        if self.close_code != CloseCode.NORMAL_CLOSURE:  # the client may read its last answers
            deadline = time.monotonic() + SHUTDOWN_GRACE_S
            while self._has_unsent_answers() and time.monotonic() < deadline:
                await asyncio.sleep(0.005)

    def _has_unsent_answers(self) -> bool:
        is_lost = self.close_code == CloseCode.SERVICE_RESTART  # no worker answers the rest
        return bool(len(self._send_queue) or (self._pending and not is_lost))

    async def _handle(self, message: Mapping[str, Any]) -> bool:
        """Handle a websocket message; return whether the client may send another one."""
        arrival = time.monotonic()
        try:
            client_messages = self._decode(message.get("text"), message.get("bytes"))
        except RequestRejectedError as error:
            client_messages = []
            self._reject(error)
        accepted = [self._handle_message(one, arrival) for one in client_messages]
        if accepted and all(accepted):
            self._rejected = max(0, self._rejected - 1)
            return True
        if self._is_full and not self._persons:
            self.close_code = CloseCode.TRY_AGAIN_LATER
            return False
        self._rejected += 1
        await asyncio.sleep(REJECTION_PAUSE_S)
        if self._rejected > self.service.limits.max_errors:
            self.close_code = CloseCode.POLICY_VIOLATION
            return False
        return True

    def _decode(self, text: str | None, data: bytes | None) -> list[ClientMessage]:
        max_bytes = self.service.limits.max_message_bytes
        if len(text or data or "") > max_bytes:
            raise too_large(f"expected messages of at most {max_bytes} bytes")
        if text is not None:
            return decode_json(text)
        V, D = self.service.shape
        stated = self._statement
        V = get_layout(stated.layout).num_joints if stated.layout else V
        return decode_binary(data or b"", V, None if any(stated) else D)

    def _handle_message(self, message: ClientMessage, arrival: float) -> bool:
        """Queue the requests of a message; return whether it was accepted."""
        try:
            person = self._persons.get(message.person) or self._admit(message)
            self._check(person, message, arrival)
        except RequestRejectedError as error:
            self._reject(error, message.person)
            return False
        if message.frame is not None:
            self._submit(person, SessionRequest("frame", arrival, message.frame, message.time))
        if message.end:
            person.has_ended = True
            self._submit(person, SessionRequest("end", arrival))
        elif message.flush:
            self._submit(person, SessionRequest("flush", arrival))
        return True

    def _admit(self, message: ClientMessage) -> _StreamedPerson:
        if message.frame is None:
            raise RequestRejectedError("this person has no frames yet; send a frame first")
        layout = message.layout or self._statement.layout
        space = message.space or self._statement.space
        message = message._replace(layout=layout, space=space)
        try:  # before a worker opens the stream
            stated, meta = to_space(space), message.meta or {}
            in_steps = self.service.mode == "step"
            open_converter(self.service.recognizer, layout, stated, meta, in_steps)
        except KinegraphError as error:
            raise RequestRejectedError(str(error)) from error
        others = (person.worker for person in self._persons.values())
        try:
            worker = self.service.acquire(next(others, None))
        except RequestRejectedError:
            self._is_full = True
            raise
        person = _StreamedPerson(self, worker, message)
        self._persons[message.person] = person
        return person

    def _check(self, person: _StreamedPerson, message: ClientMessage, arrival: float) -> None:
        """Reject a message that the person cannot send now."""
        limits = self.service.limits
        if person.has_ended:
            raise RequestRejectedError(
                "this person has ended; wait for the last answer before you start again"
            )
        if person.queued >= limits.max_queued_frames:
            raise unavailable(f"{person.queued} frames of this person are queued")
        if message.time <= person.last_time:
            raise RequestRejectedError(
                f"expected frames in order, but time {message.time:g} is not after "
                f"{person.last_time:g}"
            )
        if not person.bucket.allow(arrival):
            raise RequestRejectedError(
                f"expected at most {limits.frame_rate:g} frames/s per person",
                HTTPStatus.TOO_MANY_REQUESTS,
            )
        if not math.isnan(message.time):
            person.last_time = message.time

    def _submit(self, person: _StreamedPerson, request: SessionRequest) -> None:
        person.queued += 1
        self._pending += 1
        person.worker.submit(person, request)

    async def _send(self) -> None:
        """Send messages until the client does not read one within the read timeout."""
        metrics, dropped = self.service.metrics, 0
        while True:
            messages = await self._send_queue.get(MAX_COALESCED if self._coalesce else 1)
            metrics.dropped.inc(self._send_queue.dropped - dropped)
            dropped = self._send_queue.dropped
            try:
                async with asyncio.timeout(self.service.limits.read_timeout):
                    for text in [f"[{','.join(messages)}]"] if self._coalesce else messages:
                        await self.socket.send_text(text)
            except (TimeoutError, RuntimeError, OSError):
                return
            metrics.answers.inc(len(messages))
