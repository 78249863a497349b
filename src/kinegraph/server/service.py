"""What all connections share: the model, the workers, who is here, and how it all ends."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from kinegraph.inference.backends.exported_model import ExportedModel
from kinegraph.inference.online_preprocessing import input_frame_shape
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import SessionPool
from kinegraph.server.admission import (
    MULTIPROCESS_THRESHOLD_S,
    AdmissionController,
    measure_latency,
)
from kinegraph.server.batch_worker import BatchWorker, FlushExecutor
from kinegraph.server.errors import RequestRejectedError
from kinegraph.server.limits import Limits
from kinegraph.server.metrics import Metrics
from kinegraph.server.worker_process import RemoteSessionPool

T = TypeVar("T")
WORKER_NICENESS, FLUSH_NICENESS = 4, 14
"""How nice the processes are that work on frames, and the one for last answers: to hear and to
speak takes little time, and comes first."""
AFFINITY_SLACK = 8
"""Persons that one worker may have more than another, if that keeps a connection's together."""
SHUTDOWN_GRACE_S = 5.0
"""Seconds that a connection has to hear its last answers."""


class Connection(Protocol):
    """An open stream."""

    async def serve(self) -> None:
        """Until one side has had enough."""
        ...

    async def end(self) -> None:
        """Answer what was said so far, and part."""
        ...


class Service:
    """One model at work for all who are connected.

    Args:
        recognizer: who answers.
        limits: for clients.
        name: of the model, as it is told.
        on_worker_lost: called if one of them ends by itself.
        processes: that work on streams; 0 for this one, None for as many as there are cores, if the
            network is large enough to keep them busy, else 1.
        mode, window, every: of the streams, see `SessionPool`.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        limits: Limits,
        name: str = "model",
        on_worker_lost: Callable[[], None] = lambda: None,
        processes: int | None = None,
        **options: Any,
    ) -> None:
        self.recognizer, self.limits, self.name = recognizer, limits, name
        self.metrics = Metrics()
        self.shape = input_frame_shape(recognizer)
        cost = measure_latency(recognizer, **options)
        if processes is None:
            processes = (cost.per_person_s > MULTIPROCESS_THRESHOLD_S and os.cpu_count()) or 1
            if isinstance(recognizer.model, ExportedModel):
                processes = 0  # it cannot be sent to another
        persons = limits.max_persons or max(1, processes) * cost.capacity(limits.frame_rate)
        crowds: list[SessionPool | RemoteSessionPool]
        if processes:
            crowds = [
                RemoteSessionPool(recognizer, WORKER_NICENESS, **options) for _ in range(processes)
            ]
            self._flush_executor = FlushExecutor(
                RemoteSessionPool(recognizer, FLUSH_NICENESS, **options)
            )
        else:
            crowds = [SessionPool(recognizer, **options)]
            self._flush_executor = FlushExecutor(SessionPool(recognizer, **options))
        self.mode = crowds[0].mode
        made = (
            self._in_loop,
            self._flush_executor,
            self.metrics.observe_round,
            limits.frame_rate,
            on_worker_lost,
        )
        self.workers = [BatchWorker(crowd, *made) for crowd in crowds]
        self.admission = AdmissionController(limits, persons, self.p95_latency)
        self.draining = False
        self.connections: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._predictions = ThreadPoolExecutor(1, "predictions")
        self._waiting = 0
        for figure, about, value in (
            ("persons", "Persons that are streaming.", lambda: self.admission.in_use),
            ("room", "Persons that there is room for.", lambda: self.admission.capacity),
            ("connections", "Open streams.", lambda: len(self.connections)),
            ("waiting_predictions", "Clips that wait.", lambda: self._waiting),
            ("slowness_seconds", "95 in 100 answers are quicker.", self.p95_latency),
        ):
            self.metrics.watch(figure, about, value)

    def start(self) -> None:
        """Begin to work, for the event loop that calls."""
        self._loop = asyncio.get_running_loop()
        for worker in self.workers:
            worker.start()

    async def stop(self) -> None:
        """Let everybody finish, and end."""
        await self.drain()
        for worker in self.workers:
            await asyncio.to_thread(worker.stop)
        await asyncio.to_thread(self._flush_executor.stop)
        self._predictions.shutdown(cancel_futures=True)

    async def drain(self) -> None:
        """Take nothing new, answer what was said, and part from everybody."""
        self.draining = True
        await asyncio.gather(*(self._part(connection) for connection in [*self.connections]))
        until = time.monotonic() + SHUTDOWN_GRACE_S
        while self._waiting and time.monotonic() < until:
            await asyncio.sleep(0.02)

    async def _part(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(SHUTDOWN_GRACE_S):
                await connection.end()
        except TimeoutError:
            self.connections.discard(connection)

    def p95_latency(self) -> float:
        """Within how many seconds 95 in 100 frames were answered lately, by the slowest worker."""
        return max(worker.p95_latency() for worker in self.workers)

    def acquire(self, others: BatchWorker | None = None) -> BatchWorker:
        """Let one more person in -> who works on its frames: whoever has the fewest to do.

        Args:
            others: who works on those whose frames come with this person's: if it can, on it too.

        Raises:
            RequestRejectedError: there is no room, or the server is about to end.
        """
        self.check_open()
        self.admission.acquire()
        worker = min(self.workers, key=lambda one: one.persons)
        if others is not None and others.persons < worker.persons + AFFINITY_SLACK:
            worker = others
        worker.persons += 1
        return worker

    def release(self, worker: BatchWorker) -> None:
        """A person has gone, of whom this worker heard last."""
        worker.persons -= 1
        self.admission.release()

    def register(self, connection: Connection) -> None:
        """One more stream.

        Raises:
            RequestRejectedError: there are too many, or the server is about to end.
        """
        self.check_open()
        if len(self.connections) >= self.limits.max_connections:
            raise RequestRejectedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{self.limits.max_connections} streams are open; come back",
            )
        self.connections.add(connection)

    def check_open(self) -> None:
        """Refuse what comes after the end has begun.

        Raises:
            RequestRejectedError: it has.
        """
        if self.draining:
            raise RequestRejectedError(
                HTTPStatus.SERVICE_UNAVAILABLE, "this server is about to end; come back"
            )

    def check_predictions(self) -> None:
        """Refuse a clip if too many wait.

        Raises:
            RequestRejectedError: they do.
        """
        self.check_open()
        if self._waiting >= self.limits.max_queued_predictions:
            raise RequestRejectedError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{self._waiting} clips wait to be answered; come back",
            )

    async def predict(self, work: Callable[[], T]) -> T:
        """The result of work on a clip, done beside the streams, one clip after the other.

        Raises:
            RequestRejectedError: too many wait.
        """
        self.check_predictions()
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._predictions, work)
        finally:
            self._waiting -= 1

    def _in_loop(self, function: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)
