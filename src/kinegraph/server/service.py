"""The state that all connections share: the model, its workers, and the open connections."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Any, Literal, Protocol, TypeVar

from kinegraph.errors import ServerError
from kinegraph.inference.backends.exported_model import ExportedModel
from kinegraph.inference.online_preprocessing import input_frame_shape
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import SessionPool
from kinegraph.server.admission import (
    MULTIPROCESS_THRESHOLD_S,
    UPDATE_INTERVAL_S,
    AdmissionController,
    measure_cost,
)
from kinegraph.server.batch_worker import RESTART_PAUSE_S, BatchWorker, FlushExecutor
from kinegraph.server.errors import RequestRejectedError, unavailable
from kinegraph.server.limits import Limits
from kinegraph.server.metrics import Metrics
from kinegraph.server.teaching import TaughtModels
from kinegraph.server.worker_process import (
    AnySessionPool,
    RemoteSessionPool,
)
from kinegraph.server.worker_templates import WorkerTemplates
from kinegraph.video.segmentation import Segment

T = TypeVar("T")
SendSegments = Callable[[str, Sequence[Segment]], None]
WORKER_NICENESS, FLUSH_NICENESS = 4, 14
"""Niceness of the processes that compute frames, and of the one that computes flushes: the event
loop needs little time and has priority."""
AFFINITY_SLACK = 8
"""Additional persons that a worker may have if that keeps the persons of a connection together."""
SHUTDOWN_GRACE_S = 5.0
"""Seconds in which a connection must read its last answers."""


class Connection(Protocol):
    """An open connection."""

    async def drain(self) -> None:
        """Answer the messages that were received, and close."""

    def on_worker_lost(self, worker: BatchWorker) -> None:
        """Close the connection if it has streams of this worker, which are lost."""


def _ignore_segments(source: str, segments: Sequence[Segment]) -> None:
    """Do nothing: there are no receivers of events."""


class Service:
    """One model that serves all connections.

    Args:
        recognizer: the model.
        limits: limits for clients.
        name: name of the model, for clients.
        send_segments: called with the source and the segments of a video that have ended.
        processes: number of worker processes for streams; 0 for none, None for one per core if
            the network is large enough, else one.
        options: options of `SessionPool`: mode, window, every.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        limits: Limits,
        name: str,
        processes: int | None = None,
        send_segments: SendSegments = _ignore_segments,
        **options: Any,
    ) -> None:
        self.recognizer, self.limits, self.name = recognizer, limits, name
        self.send_segments = send_segments
        window = options.get("window")
        self.window: float | None = float(window) if isinstance(window, int | float) else None
        self.taught = TaughtModels()
        self.metrics = Metrics()
        self.shape = input_frame_shape(recognizer)
        cost, slowdown = measure_cost(recognizer, **options)
        if processes is None:
            is_large = cost.per_person_s > MULTIPROCESS_THRESHOLD_S
            processes = (is_large and os.cpu_count()) or 1
            if isinstance(recognizer.model, ExportedModel):
                processes = 0  # it cannot be sent to another process

        def create_process(template: RemoteSessionPool | None) -> RemoteSessionPool:
            return RemoteSessionPool(recognizer, WORKER_NICENESS, template, **options)

        self._templates = WorkerTemplates(create_process) if processes else None
        self._create_pool: Callable[[], AnySessionPool] = (
            self._templates.fork if self._templates else partial(SessionPool, recognizer, **options)
        )
        self._flush_executor = FlushExecutor(self._create_flush_pool)
        self.expected_workers = max(1, processes)
        self.workers = [self._create_worker() for _ in range(self.expected_workers)]
        self.mode = self.workers[0].mode
        self._admission = AdmissionController(cost, slowdown, limits)
        self.draining = False
        self.connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._prediction_thread = ThreadPoolExecutor(1, "predictions")
        self._queued_predictions = 0
        for gauge, help_text, value in (
            ("persons", "Persons that stream.", lambda: self.persons),
            ("capacity", "Maximum number of persons.", lambda: self.capacity),
            ("slowdown", "Duration of batches in CPU time.", lambda: self._admission.slowdown),
            ("workers", "Worker processes that take streams.", lambda: len(self.workers)),
            ("connections", "Open websockets.", lambda: len(self.connections)),
            ("queued_predictions", "Clips in the queue.", lambda: self._queued_predictions),
            ("p95_latency_seconds", "95th percentile of the latency.", self.p95_latency),
        ):
            self.metrics.add_gauge(gauge, help_text, value)

    def start(self) -> None:
        """Start the workers; called in the event loop."""
        self._loop = asyncio.get_running_loop()
        for worker in self.workers:
            worker.start()
        self._run_task(self._adapt_capacity())

    async def stop(self) -> None:
        """Drain all connections and stop the workers."""
        await self.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self.workers:
            await asyncio.to_thread(worker.stop)
        if self._templates is not None:
            await asyncio.to_thread(self._templates.stop)
        await asyncio.to_thread(self._flush_executor.stop)
        self._prediction_thread.shutdown(cancel_futures=True)

    async def drain(self) -> None:
        """Reject new requests, and answer those that were received."""
        self.draining = True
        await asyncio.gather(*(self._drain(connection) for connection in [*self.connections]))
        deadline = time.monotonic() + SHUTDOWN_GRACE_S
        while self._queued_predictions and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    async def _drain(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(SHUTDOWN_GRACE_S):
                await connection.drain()
        except TimeoutError:
            self.connections.discard(connection)

    @property
    def persons(self) -> int:
        """Number of persons that stream."""
        return sum(worker.persons for worker in self.workers)

    @property
    def capacity(self) -> int:
        """Number of persons that can stream at the same time, as far as known now."""
        return self._admission.capacity(len(self.workers))

    def p95_latency(self) -> float:
        """Return the 95th percentile of the latency of the slowest worker in seconds."""
        return max((worker.p95_latency() for worker in self.workers), default=0.0)

    def acquire(self, preferred: BatchWorker | None = None) -> BatchWorker:
        """Admit one person and return the worker for it: the one with the fewest persons.

        Args:
            preferred: worker of the connection's other persons, taken if its load allows.

        Raises:
            RequestRejectedError: the server is at capacity, or shutting down.
        """
        self.check_open()
        if not self.workers:
            raise unavailable("the worker processes are being restarted")
        if self.persons >= self.capacity:
            in_use = f"{self.persons} of {self.capacity} streams in use"
            raise unavailable(f"server at capacity ({in_use})")
        worker = min(self.workers, key=lambda one: one.persons)
        if preferred is not None and preferred.persons < worker.persons + AFFINITY_SLACK:
            worker = preferred
        worker.persons += 1
        return worker

    @property
    def status(self) -> Literal["ok", "degraded", "unavailable", "draining"]:
        """State of the server: whether it takes streams, and whether all processes run."""
        if self.draining:
            return "draining"
        if not self.workers:
            return "unavailable"
        is_complete = len(self.workers) == self.expected_workers
        return "ok" if is_complete and self._flush_executor.is_running else "degraded"

    def _create_flush_pool(self) -> AnySessionPool:
        pool = self._create_pool()
        if isinstance(pool, RemoteSessionPool):
            pool.increase_niceness(FLUSH_NICENESS - WORKER_NICENESS)
        return pool

    def _create_worker(self) -> BatchWorker:
        return BatchWorker(
            self._create_pool(),
            self._run_in_loop,
            self._flush_executor,
            self.metrics.observe_batch,
            self.limits.frame_rate,
            self._on_worker_lost,
        )

    def _on_worker_lost(self, worker: BatchWorker) -> None:
        """Close the connections of a worker whose process has exited, and replace it."""
        if worker not in self.workers:  # reported before
            return
        logging.getLogger(__name__).error("a worker process exited unexpectedly; restarting it")
        self.workers.remove(worker)
        self.metrics.lost_workers.inc()
        for connection in [*self.connections]:
            connection.on_worker_lost(worker)
        self._run_task(self._replace(worker))

    async def _replace(self, lost: BatchWorker) -> None:
        await asyncio.to_thread(lost.stop)
        while True:
            try:
                worker = await asyncio.to_thread(self._create_worker)
                await asyncio.to_thread(worker.start)
            except ServerError:
                await asyncio.sleep(RESTART_PAUSE_S)
            else:
                self.workers.append(worker)
                if worker.is_lost:  # before it was known here
                    self._on_worker_lost(worker)
                return

    async def _adapt_capacity(self) -> None:
        while True:
            await asyncio.sleep(UPDATE_INTERVAL_S)
            usage = [worker.take_usage() for worker in self.workers]
            self._admission.update(len(self.workers), self.persons, self.p95_latency(), usage)

    def _run_task(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def release(self, worker: BatchWorker) -> None:
        """Return the place of a person of this worker."""
        worker.persons -= 1

    def register(self, connection: Connection) -> None:
        """Add an open connection.

        Raises:
            RequestRejectedError: there are too many, or the server is shutting down.
        """
        self.check_open()
        if len(self.connections) >= self.limits.max_connections:
            raise unavailable(f"all {self.limits.max_connections} connections are in use")
        self.connections.add(connection)

    def check_open(self) -> None:
        """Raise RequestRejectedError if the server is shutting down."""
        if self.draining:
            raise unavailable("the server is shutting down")

    def check_prediction_queue(self) -> None:
        """Raise RequestRejectedError if the queue is full, or the server is shutting down."""
        self.check_open()
        if self._queued_predictions >= self.limits.max_queued_predictions:
            raise RequestRejectedError(
                f"prediction queue is full ({self._queued_predictions} clips); retry later",
                HTTPStatus.TOO_MANY_REQUESTS,
            )

    def find_model(self, taught: str | None) -> Recognizer:
        """Return the model with the id of a taught one; the server's own for None.

        Raises:
            RequestRejectedError: see `TaughtModels.get`.
        """
        return self.recognizer if taught is None else self.taught.get(taught)

    async def predict(self, function: Callable[[], T]) -> T:
        """Run a prediction in the prediction thread, one after the other, and return its result.

        Raises:
            RequestRejectedError: the queue is full, or the server is shutting down.
        """
        self.check_prediction_queue()
        self._queued_predictions += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._prediction_thread, function)
        finally:
            self._queued_predictions -= 1

    def _run_in_loop(self, function: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)
