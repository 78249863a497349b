"""The further processes of a training on one machine: started, watched and ended by the first.

A follower is `python -m kinegraph.training.launcher`. It reads what to train from its standard
input, whose end tells it that the first process is gone; it answers on its standard output, with
a sentence, only if it fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import torch.distributed as dist

from kinegraph.errors import KinegraphError, TrainingError

HOST = "127.0.0.1"
ERROR_EXIT_CODE = 2
#: Seconds that the other processes may take to end by themselves once one of them has.
EXIT_TIMEOUT_S = 20.0


@contextmanager
def launch_workers(count: int, job: str) -> Iterator[None]:
    """Start further processes, and be the first of a group with them.

    Args:
        count: how many.
        job: what each of them is told, on one line.

    Raises:
        TrainingError: one of them failed; its sentence is passed on.
    """
    store = dist.TCPStore(HOST, 0, count + 1, is_master=True, wait_for_workers=False)
    crew = [WorkerProcess(rank, count + 1, store.port, job) for rank in range(1, count + 1)]
    left = threading.Event()
    threading.Thread(target=_end_if_stuck, args=(crew, left), daemon=True).start()
    try:
        dist.init_process_group(store=store, rank=0, world_size=count + 1)
        yield
        _await(crew)
        _raise_failure(crew)
    except KinegraphError:
        raise
    except Exception as error:  # most likely that another process no longer answers
        _await(crew)
        _raise_failure(crew, error)
        raise
    finally:
        left.set()
        for follower in crew:
            follower.end()
        if dist.is_initialized():
            dist.destroy_process_group()


class WorkerProcess:
    """One further process, and what it says."""

    def __init__(self, rank: int, size: int, port: int, job: str) -> None:
        place = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
        self.name = f"process {rank + 1} of {size}"
        self._said: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kinegraph.training.launcher"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {key: str(value) for key, value in place.items()},
            text=True,
            start_new_session=True,  # an interrupt from the keyboard is for the first process alone
        )
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()
        with suppress(BrokenPipeError):  # it has failed already, and says why
            self._process.stdin.write(f"{job}\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]

    def _listen(self) -> None:
        self._said.extend(self._process.stdout or ())

    def has_ended(self) -> bool:
        """Well or not."""
        return self._process.poll() is not None

    def failure(self) -> str | None:
        """Why it failed, in a sentence; None if it runs or has ended well."""
        code = self._process.poll()
        if not code:
            return None
        self._listening.join()
        if code == ERROR_EXIT_CODE and self._said:
            return "".join(self._said)
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{self.name} {how}, which ends the training: go on with --resume"

    def end(self) -> None:
        """Kill it if it still runs."""
        self._process.kill()
        self._process.wait()
        self._listening.join()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]


def _await(crew: Sequence[WorkerProcess]) -> None:
    """Until all have ended or one has failed, but no longer than a while."""
    patience = time.monotonic() + EXIT_TIMEOUT_S
    while time.monotonic() < patience:
        if all(f.has_ended() for f in crew) or any(f.failure() for f in crew):
            return
        time.sleep(0.05)


def _raise_failure(crew: Sequence[WorkerProcess], cause: Exception | None = None) -> None:
    for follower in crew:
        if told := follower.failure():
            raise TrainingError(told) from cause


def _end_if_stuck(crew: Sequence[WorkerProcess], left: threading.Event) -> None:
    """A GPU may wait for a lost process for ever: then nothing but the end of this one helps."""
    while not left.wait(0.5):
        for follower in crew:
            told = follower.failure()
            if told and not left.wait(EXIT_TIMEOUT_S):
                sys.stderr.write(f"kinegraph: {told}\n")
                sys.stderr.flush()
                os._exit(ERROR_EXIT_CODE)


def main() -> None:
    """Be a follower."""
    from kinegraph.training.train import follow

    job = sys.stdin.readline()
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        _meet()
        follow(job)
    except KinegraphError as error:
        sys.stdout.write(str(error))
        sys.stdout.flush()
        os._exit(ERROR_EXIT_CODE)
    except Exception:
        time.sleep(2)  # if the cause lies with another process, this one is ended by now
        raise
    dist.destroy_process_group()


def _meet() -> None:
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = dist.TCPStore(HOST, int(os.environ["MASTER_PORT"]), size, wait_for_workers=False)
    dist.init_process_group(store=store, rank=rank, world_size=size)


def _exit_with_parent() -> None:
    # not by sys.stdin: a loading process forked meanwhile would find its lock taken for ever
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
