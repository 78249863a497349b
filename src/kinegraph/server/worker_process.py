"""A session pool in a process of its own, so that the event loop keeps a core to itself.

The threads of one process share the Python interpreter; processes do not. The parent sends one
request at a time over a private pipe, and the worker answers it. A worker can be forked from
another one that is warm: that takes milliseconds in place of seconds, and they share memory.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
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
from kinegraph.processes import lower_priority
from kinegraph.skeleton.layout import SkeletonLayout

JOIN_TIMEOUT_S = 5.0
"""Seconds in which the process must exit before it is killed."""
SPAWN_CONTEXT = get_context("spawn")
"""The context of new processes; threads do not survive a fork of the parent."""
CAN_FORK = hasattr(os, "fork")
START_TIMEOUT_S = 600.0
"""Seconds in which a new process must answer its first request: it imports torch first."""
CALL_TIMEOUT_S = 60.0
"""Seconds in which the process must answer a request before it is killed."""


class RemoteSessionPool:
    """A `SessionPool` in another process, for one thread at a time.

    Args:
        recognizer: the model.
        niceness: niceness of the process, from 0 to 19.
        template: a pool of the same model, niceness and options, without sessions, whose process
            is forked; None for a new process.
        options: options of `SessionPool`.

    Attributes:
        recognizer, mode: those of `SessionPool`.
        busy_seconds: seconds of work of the process, up to its latest answer.
        has_exited: whether the process has exited.

    Raises:
        ServerError: the model cannot be sent to another process, or the template has exited.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        niceness: int = 0,
        template: RemoteSessionPool | None = None,
        **options: Any,
    ) -> None:
        self._decoder = SessionPool(recognizer, **options)  # without sessions
        self.recognizer, self.mode = recognizer, self._decoder.mode
        self.busy_seconds = 0.0
        self.has_exited = self._is_shutting_down = False
        self._pipe, worker_pipe = SPAWN_CONTEXT.Pipe()
        # its other end is open as long as the process runs
        self._lifeline, worker_lifeline = SPAWN_CONTEXT.Pipe(duplex=False)
        try:
            if template is not None:
                self._pid = template._fork(worker_pipe, worker_lifeline)
            else:
                self._pid = _spawn(worker_pipe, worker_lifeline, niceness, recognizer, options)
        finally:
            worker_pipe.close()
            worker_lifeline.close()
        # at exit, multiprocessing waits for the worker, which waits for the end of the pipe
        atexit.register(self._pipe.close)
        self._timeout = START_TIMEOUT_S
        self._on_exit: Callable[[], None] = lambda: None
        self._watcher = threading.Thread(target=self._wait_for_exit, name="watch", daemon=True)
        self._watcher.start()

    def watch(self, on_exit: Callable[[], None]) -> None:
        """Call a function, in another thread, if the process exits without a shutdown.

        It replaces the function of an earlier call.
        """
        self._on_exit = on_exit
        if self.has_exited:
            on_exit()

    def _wait_for_exit(self) -> None:
        with suppress(OSError, EOFError):
            self._lifeline.recv_bytes()
        self._lifeline.close()
        self.has_exited = True
        if not self._is_shutting_down:
            self._on_exit()

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

    def increase_niceness(self, increment: int) -> None:
        """Lower the priority of the process."""
        self._call("nice", increment)

    def close(self, key: int) -> None:
        """See `SessionPool.close`."""
        self._call("close", key)
        self._decoder.drop(key)

    def shutdown(self) -> None:
        """End the process."""
        self._is_shutting_down = True
        atexit.unregister(self._pipe.close)
        self._pipe.close()
        self._watcher.join(JOIN_TIMEOUT_S)
        self._kill()

    def _kill(self) -> None:
        if not self.has_exited:
            with suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)

    def _fork(self, *pipes: Connection) -> int:
        """Fork the process and return the process id of the fork, which serves these pipes."""
        try:
            self._pipe.send(("fork", ()))
            for pipe in pipes:
                send_handle(self._pipe, pipe.fileno(), self._pid)
            return int(self._receive())
        except (OSError, EOFError) as error:
            raise ServerError("a worker process exited unexpectedly") from error

    def _call(self, method: str, *arguments: Any) -> Any:
        try:
            self._pipe.send((method, arguments))
            answer = self._receive()
        except (OSError, EOFError) as error:
            self.has_exited = True
            raise ServerError("a worker process exited unexpectedly") from error
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _receive(self) -> Any:
        if not self._pipe.poll(self._timeout):
            self._kill()
        answer, self.busy_seconds = self._pipe.recv()
        self._timeout = CALL_TIMEOUT_S
        return answer


AnySessionPool = SessionPool | RemoteSessionPool


def shutdown_pool(pool: AnySessionPool) -> None:
    """End the process of a pool, if it has one."""
    if isinstance(pool, RemoteSessionPool):
        pool.shutdown()


def worker_main(
    pipe: Connection,
    lifeline: Connection,
    niceness: int,
    recognizer: Recognizer,
    options: Mapping[str, Any],
) -> None:
    """Run a session pool in this process until the pipe is closed; keep the lifeline open."""
    import torch

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent decides when to exit
    if CAN_FORK:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # reap the forks
    lower_priority(niceness)
    torch.set_num_threads(1)
    pool = SessionPool(recognizer, **options)
    busy_seconds = 0.0
    failure: Exception | None = None  # of the computation after the last answer
    with suppress(EOFError, OSError):
        while True:
            method, arguments = pipe.recv()
            if method == "fork":
                pipe, lifeline = _fork_worker(pipe, lifeline, busy_seconds)
                continue
            started = time.perf_counter()
            pipe.send((failure or _result(_execute, pool, method, arguments), busy_seconds))
            failure = _result(pool.step, pipe.poll)  # stops early if a request waits
            busy_seconds += time.perf_counter() - started
    os._exit(0)  # nothing is left to clean up, which takes seconds on a busy machine


def _spawn(
    pipe: Connection,
    lifeline: Connection,
    niceness: int,
    recognizer: Recognizer,
    options: Mapping[str, Any],
) -> int:
    """Start a new process with `worker_main` and return its process id."""
    arguments = (pipe, lifeline, niceness, recognizer, options)
    process = SPAWN_CONTEXT.Process(
        target=worker_main, args=arguments, name="session-pool", daemon=True
    )
    try:
        process.start()
    except Exception as error:  # pickling raises many types of errors
        raise ServerError(f"this model cannot be sent to another process: {error}") from error
    return int(process.pid or 0)


def _fork_worker(
    pipe: Connection, lifeline: Connection, busy_seconds: float
) -> tuple[Connection, Connection]:
    """Fork this process: return its own pipes, and in the fork those that it receives."""
    received = Connection(recv_handle(pipe)), Connection(recv_handle(pipe), readable=False)
    pid = os.fork()
    if not pid:
        pipe.close()
        lifeline.close()
        return received
    for one in received:
        one.close()
    pipe.send((pid, busy_seconds))
    return pipe, lifeline


def _execute(pool: SessionPool, method: str, arguments: Any) -> Any:
    if method == "push":
        (frames,) = arguments
        return pool.poll(frames, pool.enqueue(frames))
    if method == "nice":
        return lower_priority(*arguments)
    return getattr(pool, method)(*arguments)


def _result(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns or raises; foreign errors as ones that can be pickled."""
    try:
        return function(*arguments)
    except KinegraphError as error:
        return error
    except Exception as error:
        return RuntimeError(f"{type(error).__name__}: {error}")
