"""The state that all connections share: the model, its workers, and the open connections."""

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
from kinegraph.server.admission import MULTIPROCESS_THRESHOLD_S, measure_latency
from kinegraph.server.batch_worker import BatchWorker, FlushExecutor
from kinegraph.server.errors import RequestRejectedError, unavailable
from kinegraph.server.limits import Limits
from kinegraph.server.metrics import Metrics
from kinegraph.server.worker_process import AnySessionPool, RemoteSessionPool

T = TypeVar("T")
WORKER_NICENESS, FLUSH_NICENESS = 4, 14
"""Niceness of the processes that compute frames, and of the one that computes flushes: the event
loop needs little time and has priority."""
LATENCY_GUARD = 0.8
"""Share of the latency target above which no person is admitted once half of the capacity is in
use."""
AFFINITY_SLACK = 8
"""Additional persons that a worker may have if that keeps the persons of a connection together."""
SHUTDOWN_GRACE_S = 5.0
"""Seconds in which a connection must read its last answers."""


class Drainable(Protocol):
    """An open connection."""

    async def drain(self) -> None:
        """Answer the messages that were received, and close."""


class Service:
    """One model that serves all connections.

    Args:
        recognizer: the model.
        limits: limits for clients.
        name: name of the model, for clients.
        on_worker_lost: called if a worker process exits unexpectedly.
        processes: number of worker processes for streams; 0 for none, None for one per core if
            the network is large enough, else one.
        options: options of `SessionPool`: mode, window, every.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        limits: Limits,
        name: str,
        on_worker_lost: Callable[[], None],
        processes: int | None = None,
        **options: Any,
    ) -> None:
        self.recognizer, self.limits, self.name = recognizer, limits, name
        window = options.get("window")
        self.window: float | None = float(window) if isinstance(window, int | float) else None
        self.metrics = Metrics()
        self.shape = input_frame_shape(recognizer)
        latency = measure_latency(recognizer, **options)
        if processes is None:
            is_large = latency.per_person_s > MULTIPROCESS_THRESHOLD_S
            processes = (is_large and os.cpu_count()) or 1
            if isinstance(recognizer.model, ExportedModel):
                processes = 0  # it cannot be sent to another process

        def create_pool(niceness: int) -> AnySessionPool:
            if processes:
                return RemoteSessionPool(recognizer, niceness, **options)
            return SessionPool(recognizer, **options)

        workers = max(1, processes)
        pools = [create_pool(WORKER_NICENESS) for _ in range(workers)]
        self.mode = pools[0].mode
        self._flush_executor = FlushExecutor(create_pool(FLUSH_NICENESS))
        self.workers = [
            BatchWorker(
                pool,
                self._run_in_loop,
                self._flush_executor,
                self.metrics.observe_batch,
                limits.frame_rate,
                on_worker_lost,
            )
            for pool in pools
        ]
        self.capacity = limits.max_persons or workers * latency.capacity(limits.frame_rate)
        self.draining = False
        self.connections: set[Drainable] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._prediction_thread = ThreadPoolExecutor(1, "predictions")
        self._queued_predictions = 0
        for gauge, help_text, value in (
            ("persons", "Persons that stream.", lambda: self.persons),
            ("capacity", "Maximum number of persons.", lambda: self.capacity),
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

    async def stop(self) -> None:
        """Drain all connections and stop the workers."""
        await self.drain()
        for worker in self.workers:
            await asyncio.to_thread(worker.stop)
        await asyncio.to_thread(self._flush_executor.stop)
        self._prediction_thread.shutdown(cancel_futures=True)

    async def drain(self) -> None:
        """Reject new requests, and answer those that were received."""
        self.draining = True
        await asyncio.gather(*(self._drain(connection) for connection in [*self.connections]))
        deadline = time.monotonic() + SHUTDOWN_GRACE_S
        while self._queued_predictions and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    async def _drain(self, connection: Drainable) -> None:
        try:
            async with asyncio.timeout(SHUTDOWN_GRACE_S):
                await connection.drain()
        except TimeoutError:
            self.connections.discard(connection)

    @property
    def persons(self) -> int:
        """Number of persons that stream."""
        return sum(worker.persons for worker in self.workers)

    def p95_latency(self) -> float:
        """Return the 95th percentile of the latency of the slowest worker in seconds."""
        return max(worker.p95_latency() for worker in self.workers)

    def acquire(self, preferred: BatchWorker | None = None) -> BatchWorker:
        """Admit one person and return the worker for it: the one with the fewest persons.

        Args:
            preferred: worker of the connection's other persons, taken if its load allows.

        Raises:
            RequestRejectedError: the server is at capacity, overloaded or shutting down.
        """
        self.check_open()
        in_use = f"{self.persons} of {self.capacity} streams in use"
        if self.persons >= self.capacity:
            raise unavailable(f"server at capacity ({in_use})")
        max_latency = LATENCY_GUARD * self.limits.latency_target
        if 2 * self.persons > self.capacity and self.p95_latency() > max_latency:
            max_ms = 1000 * max_latency
            raise unavailable(f"server overloaded (latency above {max_ms:.0f} ms, {in_use})")
        worker = min(self.workers, key=lambda one: one.persons)
        if preferred is not None and preferred.persons < worker.persons + AFFINITY_SLACK:
            worker = preferred
        worker.persons += 1
        return worker

    def release(self, worker: BatchWorker) -> None:
        """Return the place of a person of this worker."""
        worker.persons -= 1

    def register(self, connection: Drainable) -> None:
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
