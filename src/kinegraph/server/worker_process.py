"""A crowd in a process of its own: frames are worked on there while this one hears and speaks.

Two threads of one process take turns in running Python; two processes do not. One asks, the other
answers, and nobody else can reach the pipe between them.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from kinegraph.clips.clip import MetaValue
from kinegraph.errors import KinegraphError, LiveError
from kinegraph.inference.answer import Prediction
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import RawFrame, SessionPool, StreamResult, StreamSnapshot
from kinegraph.runtime.streams import Mode

JOIN_TIMEOUT_S = 5.0
"""Seconds that the process may take to end."""


class RemoteSessionPool:
    """A `SessionPool` that works elsewhere; one thread at a time may speak to it.

    Args:
        recognizer: who answers.
        niceness: how far it lets others go first, from 0 to 19.
        options: of `SessionPool`.

    Attributes:
        busy_seconds: seconds that it has busy_seconds, up to its latest answer.

    Raises:
        LiveError: a model that cannot be sent to another process.
    """

    def __init__(self, recognizer: Recognizer, niceness: int = 0, **options: Any) -> None:
        self._here = SessionPool(recognizer, **options)  # has no streams
        self.busy_seconds = 0.0
        context = get_context("spawn")  # threads do not survive a fork
        self._pipe, theirs = context.Pipe()
        given = (theirs, niceness, recognizer, options)
        self._process = context.Process(target=worker_main, args=given, name="crowd", daemon=True)
        try:
            self._process.start()
        except Exception as error:  # each kind of thing that cannot be sent has its own
            raise LiveError(f"this model works in one process only: {error}") from error
        finally:
            theirs.close()

    @property
    def recognizer(self) -> Recognizer:
        """Who answers."""
        return self._here.recognizer

    @property
    def mode(self) -> Mode:
        """See `SessionPool.mode`."""
        return self._here.mode

    def open(self, meta: Mapping[str, MetaValue] | None = None) -> int:
        """See `SessionPool.open`."""
        key: int = self._ask("open", dict(meta or {}))
        return key

    def push_many(self, frames: Mapping[int, RawFrame]) -> dict[int, StreamResult | KinegraphError]:
        """See `SessionPool.push_many`; the work on these frames is done when all is said."""
        found = self._ask("push", dict(frames)) if frames else {}
        return self._here.decode(found)

    def snapshot(self, key: int) -> StreamSnapshot:
        """See `SessionPool.snapshot`; to be read by a process."""
        ending: StreamSnapshot = self._ask("snapshot", key)
        return ending

    def decode_snapshot(self, ending: StreamSnapshot) -> Prediction | None:
        """See `SessionPool.decode_snapshot`; of a stream of any process of the same model."""
        answer: Prediction | None = self._ask("decode_snapshot", ending)
        return answer

    def close(self, key: int) -> None:
        """See `SessionPool.close`."""
        self._ask("close", key)
        self._here.drop(key)

    def end(self) -> None:
        """Let the process go."""
        self._pipe.close()
        self._process.join(JOIN_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _ask(self, method: str, *given: Any) -> Any:
        try:
            self._pipe.send((method, given))
            answer, self.busy_seconds = self._pipe.recv()
        except (OSError, EOFError) as error:
            raise LiveError("a process that works on frames has ended by itself") from error
        if isinstance(answer, Exception):
            raise answer
        return answer


def worker_main(
    pipe: Connection, niceness: int, recognizer: Recognizer, options: Mapping[str, Any]
) -> None:
    """What the other process does, until the pipe is closed."""
    import torch

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # whoever asks says when it is over
    if niceness and hasattr(os, "nice"):
        os.nice(niceness)
    torch.set_num_threads(1)
    crowd = SessionPool(recognizer, **options)
    busy_seconds = 0.0
    failure: Exception | None = None
    with suppress(EOFError, OSError):
        while True:
            method, given = pipe.recv()
            began = time.perf_counter()
            pipe.send((failure or _answer(crowd, method, given), busy_seconds))
            failure = _failure(lambda: crowd.step(pipe.poll))  # who asks comes first
            busy_seconds += time.perf_counter() - began


def _answer(crowd: SessionPool, method: str, given: Any) -> Any:
    try:
        if method == "push":
            (frames,) = given
            return crowd.poll(frames, crowd.enqueue(frames))
        return getattr(crowd, method)(*given)
    except Exception as error:
        return _sendable_error(error)


def _failure(work: Callable[[], None]) -> Exception | None:
    """Why some work failed, to be told by the one that asks next."""
    try:
        work()
    except Exception as error:
        return _sendable_error(error)
    return None


def _sendable_error(error: Exception) -> Exception:
    """What can be sent of an error."""
    known = isinstance(error, KinegraphError)
    return error if known else RuntimeError(f"{type(error).__name__}: {error}")
