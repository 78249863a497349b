"""Warm worker processes on standby, which the processes that do the work are forked from."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from kinegraph.errors import ServerError
from kinegraph.server.admission import warmup
from kinegraph.server.worker_process import CAN_FORK, RemoteSessionPool

NUM_TEMPLATES = 2
"""If one is lost, another one is forked from the rest."""


class WorkerTemplates:
    """Creates session pools as forks of warm ones.

    Args:
        create: creates a pool in a fork of another pool's process, or in a new one if it is given
            None.
    """

    def __init__(self, create: Callable[[RemoteSessionPool | None], RemoteSessionPool]) -> None:
        self._create, self._lock = create, threading.Lock()
        self._thread = ThreadPoolExecutor(1, "templates")
        self._templates: list[Future[RemoteSessionPool]] = []
        for _ in range(NUM_TEMPLATES if CAN_FORK else 0):
            self._add()

    def fork(self) -> RemoteSessionPool:
        """Return a new pool, as soon as a template is warm.

        Raises:
            ServerError: a process could not be started.
        """
        if not CAN_FORK:
            return self._create(None)
        first = self._templates[0]
        try:
            first.result()
            pool = self._fork()
            if pool is None:
                raise ServerError("a worker process exited unexpectedly")
            return pool
        except ServerError:
            self._replace(first)
            raise

    def stop(self) -> None:
        """End the processes of the templates."""
        self._thread.shutdown()
        for template in self._templates:
            with suppress(ServerError):
                template.result().shutdown()

    def _add(self) -> None:
        """Create another template, in another thread."""
        self._templates.append(self._thread.submit(self._create_template))

    def _create_template(self) -> RemoteSessionPool:
        pool = self._fork() or self._create(None)
        pool.watch(lambda: self._on_exit(pool))
        warmup(pool)
        return pool

    def _fork(self) -> RemoteSessionPool | None:
        """Return a fork of a template, None if none is warm."""
        with self._lock:  # one fork at a time
            for one in self._templates:
                if one.done() and not one.exception():
                    with suppress(ServerError):
                        return self._create(one.result())
        return None

    def _on_exit(self, pool: RemoteSessionPool) -> None:
        for one in [*self._templates]:
            if one.done() and not one.exception() and one.result() is pool:
                self._replace(one)

    def _replace(self, lost: Future[RemoteSessionPool]) -> None:
        with self._lock:
            if lost in self._templates:
                self._templates.remove(lost)
                with suppress(RuntimeError):  # the server stops
                    self._add()
