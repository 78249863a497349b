"""Launcher of the worker processes of a training on one machine.

The calling process has rank 0. Every further rank is a process of `kinegraph.training.worker`. It
reads its stages from standard input and exits when that pipe closes, even if this process was
killed. If it fails, it writes one sentence to standard output.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import torch.distributed as dist

from kinegraph.errors import KinegraphError, TrainingError

HOST = "127.0.0.1"
ERROR_EXIT_CODE = 2
#: Seconds that the other processes may take to exit after one of them has.
EXIT_TIMEOUT_S = 20.0


@contextmanager
def launch_workers(count: int, stages: str) -> Iterator[None]:
    """Start worker processes and join a process group with them as rank 0.

    Args:
        stages: the stages to train, as one line of JSON.

    Raises:
        TrainingError: a worker failed; its message is passed on.
    """
    store = dist.TCPStore(HOST, 0, count + 1, is_master=True, wait_for_workers=False)
    workers = [WorkerProcess(rank, count + 1, store.port, stages) for rank in range(1, count + 1)]
    finished = threading.Event()
    watcher = threading.Thread(target=_exit_if_stalled, args=(workers, finished), daemon=True)
    watcher.start()
    try:
        _wait_for_start(store, workers)
        dist.init_process_group(store=store, rank=0, world_size=count + 1)
        yield
        _wait_for_exit(workers)
    except KinegraphError:
        raise
    except Exception as error:  # most likely because a worker no longer responds
        _wait_for_exit(workers, error)
        raise
    finally:
        finished.set()
        watcher.join()
        for worker in workers:
            worker.kill()
        if dist.is_initialized():
            dist.destroy_process_group()


class WorkerProcess:
    """A worker process and its output."""

    def __init__(self, rank: int, size: int, port: int, stages: str) -> None:
        place = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
        self.name = f"process {rank + 1} of {size}"
        self._output = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kinegraph.training.worker"],
            stdin=subprocess.PIPE,
            stdout=self._output,
            env=os.environ | {key: str(value) for key, value in place.items()},
            start_new_session=True,  # Ctrl-C must interrupt only the process of rank 0
        )
        with suppress(BrokenPipeError):  # it has failed already; `failure` returns the reason
            self._process.stdin.write(f"{stages}\n".encode())  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]

    def has_exited(self) -> bool:
        """Return whether the process has ended, with or without success."""
        return self._process.poll() is not None

    def failure(self) -> str | None:
        """Return why the process failed, or None if it is running or has succeeded."""
        code = self._process.poll()
        if not code:
            return None
        self._output.seek(0)
        if code == ERROR_EXIT_CODE and (message := self._output.read().decode()):
            return message
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{self.name} {how}, which ends the training: continue it with --resume"

    def kill(self) -> None:
        """Kill the process if it is still running, and release its pipes."""
        self._process.kill()
        self._process.wait()
        self._output.close()
        with suppress(BrokenPipeError):
            self._process.stdin.close()  # type: ignore[union-attr]


def ready_key(rank: int) -> str:
    """Return the key that a worker sets when it is about to join the process group."""
    return f"ready {rank}"


def _wait_for_start(store: dist.TCPStore, workers: Sequence[WorkerProcess]) -> None:
    """Wait until all workers have started.

    A signal interrupts this, but not the same wait inside of `init_process_group`.

    Raises:
        TrainingError: one has failed.
    """
    keys = [ready_key(rank) for rank in range(1, len(workers) + 1)]
    while not store.check(keys):
        _check_failures(workers)
        time.sleep(0.05)


def _check_failures(workers: Sequence[WorkerProcess], cause: Exception | None = None) -> None:
    for worker in workers:
        if failure := worker.failure():
            raise TrainingError(failure) from cause


def _wait_for_exit(workers: Sequence[WorkerProcess], cause: Exception | None = None) -> None:
    """Wait until all workers have exited or one has failed, at most `EXIT_TIMEOUT_S`.

    Raises:
        TrainingError: one has failed.
    """
    deadline = time.monotonic() + EXIT_TIMEOUT_S
    while time.monotonic() < deadline:
        _check_failures(workers, cause)
        if all(worker.has_exited() for worker in workers):
            return
        time.sleep(0.05)


def _exit_if_stalled(workers: Sequence[WorkerProcess], finished: threading.Event) -> None:
    """Exit if a worker has failed and this process still waits for it.

    A GPU collective waits for a lost process without a timeout, so that no exception ends it.
    """
    while not finished.wait(0.5):
        for worker in workers:
            failure = worker.failure()
            if failure and not finished.wait(EXIT_TIMEOUT_S):
                sys.stderr.write(f"kinegraph: {failure}\n")
                sys.stderr.flush()
                os._exit(ERROR_EXIT_CODE)
