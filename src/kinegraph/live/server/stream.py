"""A connection's stream: frames of its persons in, their answers out."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from kinegraph.errors import KinegraphError
from kinegraph.live.server.limits import Pace
from kinegraph.live.server.messages import PersonId, Said, from_bytes, from_text, to_text, told
from kinegraph.live.server.refusals import BAD, BUSY, TOO_LONG, TOO_MANY, RefusedError
from kinegraph.live.server.service import FAREWELL, Service
from kinegraph.live.server.worker import Job, News, Person

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

GOING_AWAY = 1001
POLICY = 1008
AGAIN = 1013
PAUSE = 0.005
"""Seconds that a client has to wait after a message that was refused."""
ANSWERS = 8
"""Answers that may wait for a client, for each frame of a person that may."""


class Outbox:
    """Messages on their way to a client; of those that it does not take, the oldest are dropped."""

    def __init__(self, most: int) -> None:
        self.dropped = 0
        self._most = most
        self._waiting: deque[dict[str, Any]] = deque()
        self._filled = asyncio.Event()

    def put(self, message: dict[str, Any]) -> None:
        """One more message."""
        if len(self._waiting) >= self._most:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(message)
        self._filled.set()

    async def next(self) -> dict[str, Any]:
        """The oldest message, with how many were dropped, as soon as there is one."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        message = self._waiting.popleft()
        if self.dropped:
            message = {**message, "dropped": self.dropped}
        return message

    def __len__(self) -> int:
        return len(self._waiting)


class _Client:
    """A person as its connection knows it."""

    def __init__(self, person: Person, rate: float) -> None:
        self.person = person
        self.pace = Pace(rate)
        self.latest = -math.inf
        self.waiting = 0
        self.ending = False


class StreamConnection:
    """One websocket, and the persons that only it knows.

    Args:
        socket: of the client; not accepted yet.
        service: what all connections share.
        top: how many guesses an answer tells.
        logits: whether it tells the logits.
    """

    def __init__(
        self, socket: WebSocket, service: Service, top: int = 0, logits: bool = False
    ) -> None:
        self._socket, self._service = socket, service
        self._top, self._logits = top, logits
        self._clients: dict[PersonId, _Client] = {}
        self._outbox = Outbox(ANSWERS * service.limits.queue)
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
                self._service.leave(client.person.worker)
            self._clients.clear()

    async def end(self) -> None:
        """Answer what was said so far, and part: the server is about to end."""
        self._code = GOING_AWAY
        if self._reading is not None:
            self._reading.cancel()
        while self in self._service.connections:
            await asyncio.sleep(0.01)

    def hear(self, news: list[News]) -> None:
        """Answers of the worker."""
        metrics, now = self._service.metrics, time.monotonic()
        for one in news:
            self._pending -= 1
            client = self._clients.get(one.person.name)
            if client is None or client.person is not one.person:
                continue
            client.waiting -= 1
            if one.job.wish == "frame":
                metrics.frames.inc()
                metrics.seconds.observe(now - one.job.arrived)
            if isinstance(one.told, KinegraphError):
                self._refuse(one.told, one.person.name)
            else:
                self._answer(one)
            if one.job.wish == "end":
                self._forget(client)

    def _answer(self, one: News) -> None:
        if isinstance(one.told, KinegraphError):
            return
        message: dict[str, Any] = {"person": one.person.name}
        if one.job.wish == "frame":
            message["frame"] = one.number
        else:
            message[one.job.wish] = True
        if not math.isnan(one.job.time):
            message["time"] = one.job.time
        message["frames"] = one.told.frames
        self._outbox.put(message | told(one.told.answer, self._top, self._logits))

    def _forget(self, client: _Client) -> None:
        del self._clients[client.person.name]
        self._service.leave(client.person.worker)

    async def _finish(self, sending: asyncio.Task[None]) -> None:
        """What waits is still answered, if the client is there to hear it."""
        if self._code != 1000:
            until = time.monotonic() + FAREWELL
            while (self._pending or len(self._outbox)) and not sending.done():
                if time.monotonic() > until:
                    break
                await asyncio.sleep(0.005)
            await self._socket.close(self._code)

    async def _read(self) -> None:
        limits = self._service.limits
        while True:
            try:
                async with asyncio.timeout(limits.idle):
                    message = await self._socket.receive()
            except TimeoutError:
                self._outbox.put({"error": f"nothing came for {limits.idle:g} s", "status": 408})
                self._code = POLICY
                return
            if message["type"] != "websocket.receive":
                return
            if not await self._take(message):
                self._code = self._code if self._code != 1000 else POLICY
                return

    async def _take(self, message: Any) -> bool:
        """Whether the client may go on after this message."""
        arrived = time.monotonic()
        text, data = message.get("text"), message.get("bytes")
        try:
            if len(text or data or "") > self._service.limits.message:
                raise RefusedError(
                    TOO_LONG,
                    f"expected messages of at most {self._service.limits.message} bytes",
                )
            shape = self._service.shape
            said = from_text(text, shape) if text is not None else from_bytes(data, shape)
        except RefusedError as error:
            said = []
            self._refuse(error)
        taken = [self._hear_of(one, arrived) for one in said]
        if said and all(taken):
            self._refused = max(0, self._refused - 1)
            return True
        if self._busy and not self._clients:
            self._code = AGAIN
            return False
        self._refused += 1
        await asyncio.sleep(PAUSE)
        return self._refused <= self._service.limits.errors

    def _hear_of(self, said: Said, arrived: float) -> bool:
        """Whether what is said of a person could be taken."""
        try:
            client = self._client(said)
            self._check(client, said, arrived)
        except RefusedError as error:
            self._refuse(error, said.person)
            return False
        if said.frame is not None:
            self._ask(client, Job("frame", arrived, said.frame, said.time))
        if said.end:
            client.ending = True
            self._ask(client, Job("end", arrived))
        elif said.flush:
            self._ask(client, Job("flush", arrived))
        return True

    def _client(self, said: Said) -> _Client:
        known = self._clients.get(said.person)
        if known is not None:
            return known
        if said.frame is None:
            raise RefusedError(BAD, "nothing was heard of this person yet: send a frame first")
        try:
            worker = self._service.enter()
        except RefusedError:
            self._busy = True
            raise
        person = Person(self, worker, said.person, said.meta or {})
        self._clients[said.person] = client = _Client(person, self._service.limits.rate)
        return client

    def _check(self, client: _Client, said: Said, arrived: float) -> None:
        """Refuse what a person cannot say now."""
        if client.ending:
            raise RefusedError(
                BAD, "this person has ended: wait for its last answer, then begin anew"
            )
        if client.waiting >= self._service.limits.queue:
            raise RefusedError(BUSY, f"{client.waiting} frames of this person wait; send fewer")
        if said.time <= client.latest:
            raise RefusedError(
                BAD, f"time {said.time:g} is not after {client.latest:g}: frames come in order"
            )
        if not client.pace.allows(arrived):
            raise RefusedError(
                TOO_MANY, f"expected at most {self._service.limits.rate:g} frames/s of a person"
            )
        if not math.isnan(said.time):
            client.latest = said.time

    def _ask(self, client: _Client, job: Job) -> None:
        client.waiting += 1
        self._pending += 1
        client.person.worker.ask(client.person, job)

    def _refuse(self, error: KinegraphError, person: PersonId | None = None) -> None:
        status = error.status if isinstance(error, RefusedError) else BAD
        self._service.metrics.refused.labels(status).inc()
        whose = {} if person is None else {"person": person}
        self._outbox.put({"error": str(error), "status": status, **whose})

    async def _send(self) -> None:
        """Messages as the client takes them; one who takes none is left."""
        metrics, dropped = self._service.metrics, 0
        while True:
            message = await self._outbox.next()
            metrics.dropped.inc(self._outbox.dropped - dropped)
            dropped = self._outbox.dropped
            try:
                async with asyncio.timeout(self._service.limits.patience):
                    await self._socket.send_text(to_text(message))
            except (TimeoutError, RuntimeError, OSError):
                return
            metrics.answers.inc()
