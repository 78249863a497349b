"""A connection's stream: frames of its persons in, their answers out."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import deque
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from kinegraph.errors import KinegraphError
from kinegraph.inference.session import StreamResult
from kinegraph.server.batch_worker import PersonSession, SessionRequest, SessionResponse
from kinegraph.server.errors import RequestRejectedError
from kinegraph.server.limits import TokenBucket
from kinegraph.server.protocol import (
    ClientMessage,
    PersonId,
    parse_binary,
    parse_json,
    prediction_payload,
    to_json,
)
from kinegraph.server.service import SHUTDOWN_GRACE_S, Service

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

CLOSE_GOING_AWAY = 1001
CLOSE_POLICY_VIOLATION = 1008
CLOSE_TRY_AGAIN = 1013
REJECTION_PAUSE_S = 0.005
"""Seconds that a client has to wait after a message that was refused."""
QUEUE_FACTOR = 8
"""Answers that may wait for a client, for each frame of a person that may."""
MAX_COALESCED = 256
"""Answers in a message, where they come together."""


class SendQueue:
    """Messages on their way to a client; of those that it does not take, the oldest are dropped."""

    def __init__(self, most: int) -> None:
        self.dropped = 0
        self._told = 0
        self._most = most
        self._waiting: deque[str] = deque()
        self._filled = asyncio.Event()

    def put(self, message: str) -> None:
        """One more message."""
        if len(self._waiting) >= self._most:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(message)
        self._filled.set()

    async def next(self, most: int = 1) -> list[str]:
        """The oldest messages, as soon as there are any; before them, how many were dropped."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        if self.dropped > self._told:
            self._told = self.dropped
            return [to_json({"dropped": self.dropped})]
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def __len__(self) -> int:
        return len(self._waiting)


class _Client:
    """A person as its connection knows it."""

    def __init__(self, person: PersonSession, rate: float) -> None:
        self.person = person
        self.rate_limit = TokenBucket(rate)
        self.latest = -math.inf
        self.waiting = 0
        self.ending = False
        self.said = json.dumps(person.name)
        self._told: StreamResult | None = None
        self._text = ""

    def text(self, told_now: StreamResult, top: int, logits: bool) -> str:
        """What is known of the person, as it goes on in an object; the same for many frames."""
        if told_now is not self._told:
            known = {
                "frames": told_now.frames,
                **prediction_payload(told_now.prediction, top, logits),
            }
            self._told, self._text = told_now, to_json(known)[1:]
        return self._text


class StreamConnection:
    """One websocket, and the persons that only it knows.

    Args:
        socket: of the client; not accepted yet.
        service: what all connections share.
        top: how many guesses an answer tells.
        logits: whether it tells the logits.
        together: whether answers that wait come as one message, a list.
    """

    def __init__(
        self,
        socket: WebSocket,
        service: Service,
        top: int = 0,
        logits: bool = False,
        together: bool = False,
    ) -> None:
        self._socket, self._service = socket, service
        self._together = together
        self._top, self._logits = top, logits
        self._clients: dict[PersonId, _Client] = {}
        self._send_queue = SendQueue(QUEUE_FACTOR * service.limits.max_queued_frames)
        self._pending = 0
        self._refused = 0
        self._busy = False
        self._reading: asyncio.Task[None] | None = None
        self._code = 1000

    async def serve(self) -> None:
        """Until one side has had enough."""
        sending = asyncio.create_task(self._send())
        self._reading = asyncio.create_task(self._read())
        try:
            done, _ = await asyncio.wait(
                [sending, self._reading], return_when=asyncio.FIRST_COMPLETED
            )
            if sending not in done:
                await self._finish(sending)
        finally:
            for task in (sending, self._reading):
                task.cancel()
            await asyncio.gather(sending, self._reading, return_exceptions=True)
            for client in self._clients.values():
                client.person.worker.leave(client.person)
                self._service.release(client.person.worker)
            self._clients.clear()

    async def end(self) -> None:
        """Answer what was said so far, and part: the server is about to end."""
        self._code = CLOSE_GOING_AWAY
        if self._reading is not None:
            self._reading.cancel()
        while self in self._service.connections:
            await asyncio.sleep(0.01)

    def on_results(self, news: list[SessionResponse]) -> None:
        """Answers of the worker."""
        metrics, now = self._service.metrics, time.monotonic()
        for one in news:
            self._pending -= 1
            client = self._clients.get(one.person.name)
            if client is None or client.person is not one.person:
                continue
            client.waiting -= 1
            if one.job.kind == "frame":
                metrics.frames.inc()
                metrics.seconds.observe(now - one.job.arrived)
            if isinstance(one.told, KinegraphError):
                self._refuse(one.told, one.person.name)
            else:
                self._answer(client, one.job, one.number, one.told)
            if one.job.kind == "end":
                self._forget(client)

    def _answer(
        self, client: _Client, job: SessionRequest, number: int, told_now: StreamResult
    ) -> None:
        what = f'"frame":{number}' if job.kind == "frame" else f'"{job.kind}":true'
        time_ = "" if math.isnan(job.time) else f'"time":{job.time!r},'
        known = client.text(told_now, self._top, self._logits)
        self._send_queue.put(f'{{"person":{client.said},{what},{time_}{known}')

    def _forget(self, client: _Client) -> None:
        del self._clients[client.person.name]
        self._service.release(client.person.worker)

    async def _finish(self, sending: asyncio.Task[None]) -> None:
        """What waits is still answered, if the client is there to hear it."""
        if self._code != 1000:
            until = time.monotonic() + SHUTDOWN_GRACE_S
            while (self._pending or len(self._send_queue)) and not sending.done():
                if time.monotonic() > until:
                    break
                await asyncio.sleep(0.005)
            await self._socket.close(self._code)

    async def _read(self) -> None:
        limits = self._service.limits
        while True:
            try:
                async with asyncio.timeout(limits.idle_timeout):
                    message = await self._socket.receive()
            except TimeoutError:
                sentence = f"nothing came for {limits.idle_timeout:g} s"
                self._send_queue.put(to_json({"error": sentence, "status": 408}))
                self._code = CLOSE_POLICY_VIOLATION
                return
            if message["type"] != "websocket.receive":
                return
            if not await self._take(message):
                self._code = self._code if self._code != 1000 else CLOSE_POLICY_VIOLATION
                return

    async def _take(self, message: Any) -> bool:
        """Whether the client may go on after this message."""
        arrived = time.monotonic()
        text, data = message.get("text"), message.get("bytes")
        try:
            if len(text or data or "") > self._service.limits.max_message_bytes:
                raise RequestRejectedError(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    f"expected messages of at most {self._service.limits.max_message_bytes} bytes",
                )
            shape = self._service.shape
            said = parse_json(text, shape) if text is not None else parse_binary(data, shape)
        except RequestRejectedError as error:
            said = []
            self._refuse(error)
        taken = [self._handle_message(one, arrived) for one in said]
        if said and all(taken):
            self._refused = max(0, self._refused - 1)
            return True
        if self._busy and not self._clients:
            self._code = CLOSE_TRY_AGAIN
            return False
        self._refused += 1
        await asyncio.sleep(REJECTION_PAUSE_S)
        return self._refused <= self._service.limits.max_errors

    def _handle_message(self, said: ClientMessage, arrived: float) -> bool:
        """Whether what is said of a person could be taken."""
        try:
            client = self._client(said)
            self._check(client, said, arrived)
        except RequestRejectedError as error:
            self._refuse(error, said.person)
            return False
        if said.frame is not None:
            self._ask(client, SessionRequest("frame", arrived, said.frame, said.time))
        if said.end:
            client.ending = True
            self._ask(client, SessionRequest("end", arrived))
        elif said.flush:
            self._ask(client, SessionRequest("flush", arrived))
        return True

    def _client(self, said: ClientMessage) -> _Client:
        known = self._clients.get(said.person)
        if known is not None:
            return known
        if said.frame is None:
            raise RequestRejectedError(
                HTTPStatus.BAD_REQUEST, "nothing was heard of this person yet: send a frame first"
            )
        try:
            others = (client.person.worker for client in self._clients.values())
            worker = self._service.acquire(next(others, None))
        except RequestRejectedError:
            self._busy = True
            raise
        person = PersonSession(self, worker, said.person, said.meta or {})
        self._clients[said.person] = client = _Client(person, self._service.limits.frame_rate)
        return client

    def _check(self, client: _Client, said: ClientMessage, arrived: float) -> None:
        """Refuse what a person cannot say now."""
        if client.ending:
            raise RequestRejectedError(
                HTTPStatus.BAD_REQUEST,
                "this person has ended: wait for its last answer, then begin anew",
            )
        if client.waiting >= self._service.limits.max_queued_frames:
            raise RequestRejectedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{client.waiting} frames of this person wait; send fewer",
            )
        if said.time <= client.latest:
            raise RequestRejectedError(
                HTTPStatus.BAD_REQUEST,
                f"time {said.time:g} is not after {client.latest:g}: frames come in order",
            )
        if not client.rate_limit.allow(arrived):
            raise RequestRejectedError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"expected at most {self._service.limits.frame_rate:g} frames/s of a person",
            )
        if not math.isnan(said.time):
            client.latest = said.time

    def _ask(self, client: _Client, job: SessionRequest) -> None:
        client.waiting += 1
        self._pending += 1
        client.person.worker.ask(client.person, job)

    def _refuse(self, error: KinegraphError, person: PersonId | None = None) -> None:
        status = error.status if isinstance(error, RequestRejectedError) else HTTPStatus.BAD_REQUEST
        self._service.metrics.refused.labels(status).inc()
        whose = {} if person is None else {"person": person}
        self._send_queue.put(to_json({"error": str(error), "status": status, **whose}))

    async def _send(self) -> None:
        """Messages as the client takes them; one who takes none is left."""
        metrics, dropped = self._service.metrics, 0
        while True:
            messages = await self._send_queue.next(MAX_COALESCED if self._together else 1)
            text = f"[{','.join(messages)}]" if self._together else messages[0]
            metrics.dropped.inc(self._send_queue.dropped - dropped)
            dropped = self._send_queue.dropped
            try:
                async with asyncio.timeout(self._service.limits.read_timeout):
                    await self._socket.send_text(text)
            except (TimeoutError, RuntimeError, OSError):
                return
            metrics.answers.inc(len(messages))
