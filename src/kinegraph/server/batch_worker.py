"""A thread that works on the frames of many persons, whoever sent them."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, Literal, Protocol

from kinegraph.clips.clip import MetaValue
from kinegraph.errors import KinegraphError, LiveError
from kinegraph.inference.session import RawFrame, SessionPool, StreamResult, StreamSnapshot
from kinegraph.server.admission import warmup
from kinegraph.server.errors import RequestRejectedError
from kinegraph.server.worker_process import RemoteSessionPool

BATCH_INTERVALS = ((0.5, 8), (0.7, 4), (1.0, 3))
"""(busy up to this share of the time, rounds between two frames of a person): together frames are
less work, so the busier, the longer they wait for each other."""
LATENCY_WINDOW_S = 2.0
"""Seconds that times of answers are remembered."""
MIN_SAMPLES = 60
"""Answers that say how quick they are; of fewer, one slow one would say too much."""


class ResponseListener(Protocol):
    """Where answers go; it is called in the thread of the event loop."""

    def on_results(self, news: list[SessionResponse]) -> None:
        """The next answers, in order."""
        ...


@dataclass(eq=False)
class PersonSession:
    """A stream of frames on its way to the worker, and what was made of them.

    Attributes:
        listener: who is told.
        worker: who works on it.
        name: by which the listener knows this person.
        meta: facts about the recording.
        requests: what is still to be done, in order.
        frames: how many were accepted.
    """

    listener: ResponseListener
    worker: BatchWorker
    name: str | int
    meta: dict[str, MetaValue] = field(default_factory=dict)
    requests: deque[SessionRequest] = field(default_factory=deque)
    frames: int = 0
    key: int | None = None


RequestKind = Literal["frame", "flush", "end", "leave"]


@dataclass(frozen=True)
class SessionRequest:
    """What is to be done for a person."""

    kind: RequestKind
    arrived: float
    frame: RawFrame | None = None
    time: float = math.nan


@dataclass(frozen=True)
class SessionResponse:
    """What was done for a person: an answer, or why there is none."""

    person: PersonSession
    job: SessionRequest
    number: int
    told: StreamResult | KinegraphError


class FlushExecutor:
    """Works out the answers to all that was said to a stream, one after the other.

    Args:
        crowd: who does it; nobody else may ask it.
    """

    def __init__(self, crowd: SessionPool | RemoteSessionPool) -> None:
        self._crowd = crowd
        self._thread = ThreadPoolExecutor(1, "flush_executor")

    def add(
        self,
        ending: StreamSnapshot,
        frames: int,
        tell: Callable[[StreamResult | KinegraphError], None],
    ) -> None:
        """One more, of so many frames, to be told in a thread of its own."""
        self._thread.submit(self._answer, ending, frames, tell)

    def _answer(
        self,
        ending: StreamSnapshot,
        frames: int,
        tell: Callable[[StreamResult | KinegraphError], None],
    ) -> None:
        try:
            tell(StreamResult(self._crowd.decode_snapshot(ending), frames))
        except KinegraphError as error:
            tell(error)

    def stop(self) -> None:
        """Leave undone what waits."""
        self._thread.shutdown(cancel_futures=True)
        if isinstance(self._crowd, RemoteSessionPool):
            self._crowd.end()


class BatchWorker:
    """Takes all frames that wait, works on them together, and tells who sent them.

    Args:
        crowd: the streams; nobody else may touch them.
        deliver: called in the worker's threads with a function to be run by the event loop.
        flush_executor: works out last answers, one after the other.
        observe: called with (persons, seconds of work) of every round.
        rate: frames a second of a person.
        on_worker_lost: run by the event loop if the crowd's process has ended.
    """

    def __init__(
        self,
        crowd: SessionPool | RemoteSessionPool,
        deliver: Callable[[Callable[[], None]], Any],
        flush_executor: FlushExecutor,
        observe: Callable[[int, float], None] = lambda persons, seconds: None,
        rate: float = 30.0,
        on_worker_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._crowd, self._deliver, self._observe = crowd, deliver, observe
        self._rate, self._on_worker_lost, self._flush_executor = (
            rate,
            on_worker_lost,
            flush_executor,
        )
        self._busy = self._seconds = 0.0
        self._began = 0.0
        self._behind = False
        self._due: dict[PersonSession, None] = {}
        self._wakes = threading.Condition()
        self._over = False
        self._times: deque[tuple[float, float]] = deque(maxlen=8192)
        self.persons = 0
        self._warm = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        """Begin to work; it is ready for frames at once."""
        self._thread.start()
        self._warm.wait()

    def stop(self) -> None:
        """Finish what is under way; what still waits is left undone."""
        with self._wakes:
            self._over = True
            self._wakes.notify()
        self._thread.join()
        if isinstance(self._crowd, RemoteSessionPool):
            self._crowd.end()

    def ask(self, person: PersonSession, job: SessionRequest) -> None:
        """One more job for a person; it is done after those before it."""
        with self._wakes:
            person.requests.append(job)
            self._due[person] = None
            self._wakes.notify()

    def leave(self, person: PersonSession) -> None:
        """Forget a person at once, and what was to be done for it."""
        with self._wakes:
            person.requests.clear()
        self.ask(person, SessionRequest("leave", time.monotonic()))

    def p95_latency(self, share: float = 0.95) -> float:
        """Within how many seconds this share of the latest frames was answered; 0 without any."""
        since = time.monotonic() - LATENCY_WINDOW_S
        latest = sorted(seconds for when, seconds in self._times.copy() if when > since)
        return latest[int(share * (len(latest) - 1))] if len(latest) >= MIN_SAMPLES else 0.0

    def _run(self) -> None:
        try:
            warmup(self._crowd)
        finally:
            self._warm.set()
        ended, before = time.monotonic(), 0.0
        while (jobs := self._next()) is not None:
            began = self._began = time.monotonic()
            news = self._worked(jobs)
            now = time.monotonic()
            self._observe(len(jobs), now - began)
            passed = max(now - ended, 1e-6)
            weight = min(1.0, passed / LATENCY_WINDOW_S)
            self._seconds += now - began
            worked = (
                self._crowd.busy_seconds
                if isinstance(self._crowd, RemoteSessionPool)
                else self._seconds
            )
            self._busy += weight * ((worked - before) / passed - self._busy)
            ended, before = now, worked
            answered = [one.job.arrived for one in news if one.job.kind == "frame"]
            self._times.extend((now, now - arrived) for arrived in answered)
            self._tell(news)

    def _next(self) -> list[tuple[PersonSession, SessionRequest]] | None:
        """The next job of everybody who has one; None when all is over."""
        with self._wakes:
            self._wakes.wait_for(lambda: self._due or self._over)
        if not self._over and not self._behind:
            time.sleep(self._time_to_next_batch())
        with self._wakes:
            if self._over:
                return None
            jobs = [(person, person.requests.popleft()) for person in self._ready()]
            self._due = {person: None for person in self._due if person.requests}
            self._behind = bool(self._due)
            return jobs

    def _ready(self) -> list[PersonSession]:
        """Whoever has a job; of those that end something, which is much to move, one at a time."""
        people = [person for person in self._due if person.requests]
        ending = [person for person in people if person.requests[0].kind in ("flush", "end")]
        return [person for person in people if person not in ending[1:]]

    def _time_to_next_batch(self) -> float:
        """Seconds until the next round."""
        rounds = next(
            rounds for share, rounds in BATCH_INTERVALS if self._busy <= share or share == 1.0
        )
        return max(0.0, self._began + 1 / (self._rate * rounds) - time.monotonic())

    def _worked(self, jobs: list[tuple[PersonSession, SessionRequest]]) -> list[SessionResponse]:
        try:
            return self._work(jobs)
        except LiveError as lost:
            self._deliver(self._on_worker_lost)
            error: KinegraphError = RequestRejectedError(
                HTTPStatus.INTERNAL_SERVER_ERROR, str(lost)
            )
        except Exception:  # whatever it was, the others have to be served on
            logging.getLogger(__name__).exception("a round of frames could not be worked on")
            error = RequestRejectedError(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "this could not be worked on; the server's log says why",
            )
        return [SessionResponse(person, job, person.frames - 1, error) for person, job in jobs]

    def _work(self, jobs: list[tuple[PersonSession, SessionRequest]]) -> list[SessionResponse]:
        frames: dict[int, RawFrame] = {}
        for person, job in jobs:
            if job.frame is not None:
                frames[self._key(person)] = job.frame
        told = self._crowd.push_many(frames)
        news = []
        for person, job in jobs:
            if job.kind != "frame":
                self._end(person, job)
                continue
            found = told[self._key(person)]
            if not isinstance(found, KinegraphError):
                person.frames += 1
            news.append(SessionResponse(person, job, person.frames - 1, found))
        return news

    def _key(self, person: PersonSession) -> int:
        if person.key is None:
            person.key = self._crowd.open(person.meta)
        return person.key

    def _end(self, person: PersonSession, job: SessionRequest) -> None:
        """An answer to all that was said takes as long as many frames, which would have to wait."""
        if job.kind != "leave":
            number = person.frames

            def tell(told: StreamResult | KinegraphError) -> None:
                self._tell([SessionResponse(person, job, number - 1, told)])

            self._flush_executor.add(self._crowd.snapshot(self._key(person)), number, tell)
        if job.kind != "flush" and person.key is not None:
            self._crowd.close(person.key)
            person.key = None

    def _tell(self, news: list[SessionResponse]) -> None:
        heard: dict[ResponseListener, list[SessionResponse]] = defaultdict(list)
        for one in news:
            heard[one.person.listener].append(one)
        if heard:
            self._deliver(partial(_spread, heard))


def _spread(heard: dict[ResponseListener, list[SessionResponse]]) -> None:
    for listener, own in heard.items():
        listener.on_results(own)
