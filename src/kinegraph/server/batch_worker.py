"""A thread that processes the frames of many persons in batches."""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from kinegraph.clips.clip import MetaValue
from kinegraph.errors import KinegraphError, ServerError
from kinegraph.inference.session import RawFrame, StreamResult, StreamSnapshot
from kinegraph.inference.streaming_backends import log_failure
from kinegraph.server.admission import Usage, warmup
from kinegraph.server.worker_process import AnySessionPool, RemoteSessionPool, shutdown_pool
from kinegraph.skeleton.space import Space

BATCH_INTERVALS = ((0.5, 8), (0.7, 4), (1.0, 3))
"""(maximum load, batches between two frames of a person): larger batches cost less per frame, so
under load frames wait longer for each other."""
LATENCY_WINDOW_S = 2.0
"""Seconds over which latencies are measured."""
RESTART_PAUSE_S = 0.5
"""Seconds before another try to restart a process."""
MIN_SAMPLES = 60
"""Latencies needed for a percentile; with fewer, a single slow answer would decide."""

Result = StreamResult | KinegraphError


class SessionRequest(NamedTuple):
    """A request for a person's session; ``drop`` closes it without an answer."""

    kind: Literal["frame", "flush", "end", "drop"]
    arrival: float
    frame: RawFrame | None = None
    time: float = math.nan


@dataclass(eq=False)
class PersonSession:
    """The queue of one person between a connection and a worker.

    Attributes:
        on_results: called in the event loop with the next responses, in order.
        worker: processes the requests.
        name: the listener's name of the person.
        meta: facts about the recording.
        layout, space: of its frames; None for those of the model.
        requests: requests that wait, in order.
        frames: number of accepted frames.
        key: key of the session in the worker's pool.
    """

    on_results: Callable[[list[SessionResponse]], None]
    worker: BatchWorker
    name: str | int
    meta: Mapping[str, MetaValue] = field(default_factory=dict)
    layout: str | None = None
    space: Space | None = None
    requests: deque[SessionRequest] = field(default_factory=deque)
    frames: int = 0
    key: int | None = None


class SessionResponse(NamedTuple):
    """The answer to a request, or the error."""

    person: PersonSession
    request: SessionRequest
    frame_index: int
    result: Result


class FlushExecutor:
    """A thread that decodes snapshots one after the other, in a process of its own if possible.

    A lost process is replaced, and the snapshot is decoded again.

    Args:
        create_pool: creates the pool that decodes.
    """

    def __init__(self, create_pool: Callable[[], AnySessionPool]) -> None:
        self._create_pool = create_pool
        self._thread = ThreadPoolExecutor(1, "flush")
        self._pool = create_pool()
        self._stopping = False
        self._watch()

    @property
    def is_running(self) -> bool:
        """Return whether the process runs, or there is none."""
        return not isinstance(self._pool, RemoteSessionPool) or not self._pool.has_exited

    def submit(
        self, snapshot: StreamSnapshot, frames: int, callback: Callable[[Result], None]
    ) -> None:
        """Queue a snapshot of so many frames; its result is passed to the callback."""

        def decode() -> None:
            try:
                try:
                    prediction = self._pool.decode_snapshot(snapshot)
                except ServerError:  # the process was lost
                    self._replace_lost()
                    prediction = self._pool.decode_snapshot(snapshot)
                result: Result = StreamResult(prediction, frames)
            except KinegraphError as error:
                result = error
            except Exception:  # the client must get an answer
                result = log_failure("a flush")
            callback(result)

        self._thread.submit(decode)

    def stop(self) -> None:
        """Discard the queue and end the thread."""
        self._stopping = True
        self._thread.shutdown(cancel_futures=True)
        shutdown_pool(self._pool)

    def _watch(self) -> None:
        if isinstance(self._pool, RemoteSessionPool):
            self._pool.watch(self._on_exit)

    def _on_exit(self) -> None:
        with suppress(RuntimeError):  # the thread has ended
            self._thread.submit(self._restore)

    def _restore(self) -> None:
        while not self._stopping:
            try:
                self._replace_lost()
                return
            except ServerError:
                time.sleep(RESTART_PAUSE_S)

    def _replace_lost(self) -> None:
        if isinstance(self._pool, RemoteSessionPool) and self._pool.has_exited:
            shutdown_pool(self._pool)
            self._pool = self._create_pool()
            self._watch()


class BatchWorker:
    """A thread that takes the requests that wait, processes them as a batch, and responds.

    Args:
        pool: the sessions; no other thread may use it.
        deliver: runs a function in the event loop.
        flush_executor: computes the answers to all frames of a session.
        observe: called with the persons and seconds of every batch.
        frame_rate: frames per second of a person.
        on_lost: called in the event loop, maybe twice, if the pool's process exits.
    """

    def __init__(
        self,
        pool: AnySessionPool,
        deliver: Callable[[Callable[[], None]], Any],
        flush_executor: FlushExecutor,
        observe: Callable[[int, float], None],
        frame_rate: float,
        on_lost: Callable[[BatchWorker], None],
    ) -> None:
        self._pool, self._deliver, self._flush_executor = pool, deliver, flush_executor
        self._observe, self._frame_rate = observe, frame_rate
        self._on_lost = on_lost
        self.persons, self.mode = 0, pool.mode
        self._usage, self._used = Usage(0, 0, 0.0), Usage(0, 0, 0.0)
        self._load = 0.0  # moving average of the share of time that the pool is busy
        self._batch_start = 0.0
        self._has_backlog = False
        self._pending: dict[PersonSession, None] = {}
        self._wakeup = threading.Condition()
        self._stopping = False
        self._latencies: deque[tuple[float, float]] = deque(maxlen=8192)
        self._warm = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batch-worker", daemon=True)

    def start(self) -> None:
        """Start the thread and wait until the model is warmed up.

        Raises:
            ServerError: the pool's process has exited.
        """
        self._thread.start()
        self._warm.wait()
        if self._stopping:
            raise ServerError("a worker process exited unexpectedly")
        if isinstance(self._pool, RemoteSessionPool):
            self._pool.watch(self._report_loss)

    @property
    def is_lost(self) -> bool:
        """Return whether the pool's process has exited."""
        return isinstance(self._pool, RemoteSessionPool) and self._pool.has_exited

    def stop(self) -> None:
        """Finish the current batch, discard the queue, and end the thread."""
        with self._wakeup:
            self._stopping = True
            self._wakeup.notify()
        self._thread.join()
        shutdown_pool(self._pool)

    def submit(self, person: PersonSession, request: SessionRequest) -> None:
        """Queue a request of a person."""
        with self._wakeup:
            person.requests.append(request)
            self._pending[person] = None
            self._wakeup.notify()

    def drop(self, person: PersonSession) -> None:
        """Close a person's session without an answer to the requests that wait."""
        with self._wakeup:
            person.requests.clear()
        self.submit(person, SessionRequest("drop", time.monotonic()))

    def take_usage(self) -> Usage:
        """Return what the worker did since the last call."""
        earlier, self._used = self._used, self._usage
        return self._used.since(earlier)

    def p95_latency(self) -> float:
        """Return the 95th percentile of the recent latencies in seconds; 0 with too few samples."""
        since = time.monotonic() - LATENCY_WINDOW_S
        recent = sorted(seconds for when, seconds in self._latencies.copy() if when > since)
        return recent[int(0.95 * (len(recent) - 1))] if len(recent) >= MIN_SAMPLES else 0.0

    def _run(self) -> None:
        try:
            warmup(self._pool)
        except ServerError:
            self._stopping = True
        finally:
            self._warm.set()
        last_end, own_seconds, last_busy = time.monotonic(), 0.0, 0.0
        while (batch := self._next_batch()) is not None:
            self._batch_start = time.monotonic()
            responses = self._process(batch)
            end = time.monotonic()
            self._observe(len(batch), end - self._batch_start)
            own_seconds += end - self._batch_start
            pool = self._pool
            busy = pool.busy_seconds if isinstance(pool, RemoteSessionPool) else own_seconds
            frames = sum(request.frame is not None for _, request in batch)
            self._usage = Usage(self._usage.batches + 1, self._usage.frames + frames, busy)
            elapsed = max(end - last_end, 1e-6)
            weight = min(1.0, elapsed / LATENCY_WINDOW_S)
            self._load += weight * ((busy - last_busy) / elapsed - self._load)
            last_end, last_busy = end, busy
            arrivals = [one.request.arrival for one in responses if one.request.kind == "frame"]
            self._latencies.extend((end, end - arrival) for arrival in arrivals)
            self._respond(responses)

    def _next_batch(self) -> list[tuple[PersonSession, SessionRequest]] | None:
        """Wait for the next request of every person that has one; None ends the thread."""
        with self._wakeup:
            self._wakeup.wait_for(lambda: self._pending or self._stopping)
        if not self._stopping and not self._has_backlog:
            time.sleep(self._time_to_next_batch())
        with self._wakeup:
            if self._stopping:
                return None
            batch = [(person, person.requests.popleft()) for person in self._ready_persons()]
            self._pending = {person: None for person in self._pending if person.requests}
            self._has_backlog = bool(self._pending)
            return batch

    def _ready_persons(self) -> list[PersonSession]:
        """Return the persons with requests, but at most one whose snapshot has to be copied."""
        persons = [person for person in self._pending if person.requests]
        flushed = [person for person in persons if person.requests[0].kind in ("flush", "end")]
        return [person for person in persons if person not in flushed[1:]]

    def _time_to_next_batch(self) -> float:
        """Return the seconds until the next batch is due."""
        batches = next(n for load, n in BATCH_INTERVALS if self._load <= load or load == 1.0)
        due = self._batch_start + 1 / (self._frame_rate * batches)
        return max(0.0, due - time.monotonic())

    def _process(self, batch: list[tuple[PersonSession, SessionRequest]]) -> list[SessionResponse]:
        try:
            return self._process_batch(batch)
        except ServerError:  # the connections answer for all of their requests
            self._stopping = True
            self._report_loss()
            return []
        except Exception:  # the other sessions must go on
            failure = log_failure("a batch of frames")
        return [
            SessionResponse(person, request, person.frames - 1, failure)
            for person, request in batch
        ]

    def _report_loss(self) -> None:
        self._deliver(lambda: self._on_lost(self))

    def _process_batch(
        self, batch: list[tuple[PersonSession, SessionRequest]]
    ) -> list[SessionResponse]:
        keys = {person: self._open(person) for person, one in batch if one.kind != "drop"}
        frames = {}
        for person, request in batch:
            if request.frame is not None and isinstance(key := keys[person], int):
                frames[key] = request.frame
        results = self._pool.push_many(frames)
        responses = []
        for person, request in batch:
            if request.frame is None:
                self._finish(person, request, keys.get(person))
                continue
            key = keys[person]
            result = results[key] if isinstance(key, int) else key
            person.frames += not isinstance(result, KinegraphError)
            responses.append(SessionResponse(person, request, person.frames - 1, result))
        return responses

    def _open(self, person: PersonSession) -> int | KinegraphError:
        """Return the key of the person's session, opened if need be, or the error."""
        if person.key is None:
            try:
                person.key = self._pool.open(person.meta, person.layout, person.space)
            except ServerError:
                raise
            except KinegraphError as error:
                return error
            except Exception:  # the other persons must go on
                return log_failure("the start of a stream")
        return person.key

    def _finish(
        self, person: PersonSession, request: SessionRequest, key: int | KinegraphError | None
    ) -> None:
        """Answer a flush or an end in another thread, because it takes as long as many frames."""
        frames = person.frames

        def respond(result: Result) -> None:
            self._respond([SessionResponse(person, request, frames - 1, result)])

        if isinstance(key, int):
            self._flush_executor.submit(self._pool.snapshot(key), frames, respond)
        elif key is not None:
            respond(key)
        if request.kind != "flush" and person.key is not None:
            self._pool.close(person.key)
            person.key = None

    def _respond(self, responses: list[SessionResponse]) -> None:
        by_receiver = defaultdict(list)
        for response in responses:
            by_receiver[response.person.on_results].append(response)

        def notify() -> None:
            for on_results, own in by_receiver.items():
                on_results(own)

        if by_receiver:
            self._deliver(notify)
