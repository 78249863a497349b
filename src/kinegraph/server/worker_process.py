"""A session pool in a process of its own, so that the event loop keeps a core to itself.

The threads of one process share the Python interpreter; processes do not. The parent sends one
request at a time over a private pipe, and the worker answers it.
"""

from __future__ import annotations

import atexit
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from kinegraph.clips.clip import MetaValue
from kinegraph.errors import KinegraphError, ServerError
from kinegraph.inference.answer import Prediction
from kinegraph.inference.recognizer import Recognizer
from kinegraph.inference.session import (
    RawFrame,
    SessionPool,
    StatedSpace,
    StreamResult,
    StreamSnapshot,
)
from kinegraph.skeleton.layout import SkeletonLayout

JOIN_TIMEOUT_S = 5.0
"""Seconds in which the process must exit before it is killed."""


class RemoteSessionPool:
    """A `SessionPool` in another process, for one thread at a time.

    Args:
        recognizer: the model.
        niceness: niceness of the process, from 0 to 19.
        options: options of `SessionPool`.

    Attributes:
        recognizer, mode: those of `SessionPool`.
        busy_seconds: seconds of work of the process, up to its latest answer.

    Raises:
        ServerError: the model cannot be sent to another process.
    """

    def __init__(self, recognizer: Recognizer, niceness: int = 0, **options: Any) -> None:
        self._decoder = SessionPool(recognizer, **options)  # without sessions
        self.recognizer, self.mode = recognizer, self._decoder.mode
        self.busy_seconds = 0.0
        context = get_context("spawn")  # threads do not survive a fork
        self._pipe, worker_pipe = context.Pipe()
        arguments = (worker_pipe, niceness, recognizer, options)
        self._process = context.Process(
            target=worker_main, args=arguments, name="session-pool", daemon=True
        )
        try:
            self._process.start()
        except Exception as error:  # pickling raises many types of errors
            raise ServerError(f"this model cannot be sent to another process: {error}") from error
        finally:
            worker_pipe.close()
        # at exit, multiprocessing waits for the worker, which waits for the end of the pipe
        atexit.register(self._pipe.close)

    def open(
        self,
        meta: Mapping[str, MetaValue] | None = None,
        layout: str | SkeletonLayout | None = None,
        space: StatedSpace = None,
    ) -> int:
        """See `SessionPool.open`."""
        return self._call("open", dict(meta or {}), layout, space)

    def push_many(self, frames: Mapping[int, RawFrame]) -> dict[int, StreamResult | KinegraphError]:
        """See `SessionPool.push_many`; the process computes on these frames after it answered."""
        updates = self._call("push", dict(frames)) if frames else {}
        return self._decoder.decode(updates)

    def snapshot(self, key: int) -> StreamSnapshot:
        """See `SessionPool.snapshot`; any process of the same model can decode it."""
        return self._call("snapshot", key)

    def decode_snapshot(self, snapshot: StreamSnapshot) -> Prediction | None:
        """See `SessionPool.decode_snapshot`."""
        return self._call("decode_snapshot", snapshot)

    def close(self, key: int) -> None:
        """See `SessionPool.close`."""
        self._call("close", key)
        self._decoder.drop(key)

    def shutdown(self) -> None:
        """End the process."""
        atexit.unregister(self._pipe.close)
        self._pipe.close()
        self._process.join(JOIN_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            self._pipe.send((method, arguments))
            answer, self.busy_seconds = self._pipe.recv()
        except (OSError, EOFError) as error:
            raise ServerError("a worker process exited unexpectedly") from error
        if isinstance(answer, Exception):
            raise answer
        return answer


AnySessionPool = SessionPool | RemoteSessionPool


def shutdown_pool(pool: AnySessionPool) -> None:
    """End the process of a pool, if it has one."""
    if isinstance(pool, RemoteSessionPool):
        pool.shutdown()


def worker_main(
    pipe: Connection, niceness: int, recognizer: Recognizer, options: Mapping[str, Any]
) -> None:
    """Run a session pool in this process until the pipe is closed."""
    import torch

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent decides when to exit
    if niceness and hasattr(os, "nice"):
        os.nice(niceness)
    torch.set_num_threads(1)
    pool = SessionPool(recognizer, **options)
    busy_seconds = 0.0
    failure: Exception | None = None  # of the computation after the last answer
    with suppress(EOFError, OSError):
        while True:
            method, arguments = pipe.recv()
            started = time.perf_counter()
            pipe.send((failure or _result(_execute, pool, method, arguments), busy_seconds))
            failure = _result(pool.step, pipe.poll)  # stops early if a request waits
            busy_seconds += time.perf_counter() - started


def _execute(pool: SessionPool, method: str, arguments: Any) -> Any:
    if method == "push":
        (frames,) = arguments
        return pool.poll(frames, pool.enqueue(frames))
    return getattr(pool, method)(*arguments)


def _result(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns or raises; foreign errors as ones that can be pickled."""
    try:
        return function(*arguments)
    except KinegraphError as error:
        return error
    except Exception as error:
        return RuntimeError(f"{type(error).__name__}: {error}")
