"""Commands in processes of their own, killed at a chosen write or at any time; a small disk."""

from __future__ import annotations

import io
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "kinegraph.cli",
        "kinegraph.training.train",
        "kinegraph.readers.convert",
        "kinegraph.inference.export.export_run",
        "kinegraph.inference.teach",
        "kinegraph.reports.run_report",
    ]
)
#: Seconds after which a command counts as hanging.
TIMEOUT_S = 180.0


class Outcome(NamedTuple):
    """How a command ended; what a killed process printed is lost.

    Attributes:
        code: its exit code, negative if a signal ended it; None if it did not end in time.
        errors: what it printed on standard error.
        writes: its calls of fsync and rename.
        seconds: how long it ran.
    """

    code: int | None
    errors: str
    writes: int
    seconds: float


class Command:
    """A command of kinegraph that runs in a session of its own.

    Args:
        words: the words after ``kinegraph``.
        folder: its working folder.
        kill_at: it kills itself at this call of fsync or rename; 0: it does not.
        disk: size in bytes beyond which it cannot write a file; None: no limit.
    """

    def __init__(
        self, words: Sequence[str], folder: Path, *, kill_at: int = 0, disk: int | None = None
    ) -> None:
        self._receiver, sender = SERVER.Pipe(duplex=False)
        arguments = (sender, tuple(words), str(folder), kill_at, disk)
        self._process = SERVER.Process(target=_run_command, args=arguments)
        self._process.start()
        sender.close()
        self._receiver.recv()
        self._started = time.monotonic()

    def send_signal(self, number: int, after: float) -> None:
        """Send a signal to the command, not to its children, after so many seconds."""
        self._process.join(after)
        if self._process.exitcode is None:
            os.kill(self._process.pid, number)

    def wait(self) -> Outcome:
        """Wait until the command ends."""
        self._process.join(TIMEOUT_S)
        code = self._process.exitcode
        seconds = time.monotonic() - self._started
        if code is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.join()
        errors, writes = "", 0
        with suppress(EOFError):
            errors, writes = self._receiver.recv()
        return Outcome(code, errors, writes, seconds)

    def orphans(self, patience: float = 10.0) -> list[int]:
        """Return the processes that outlive the command by so many seconds, and kill them."""
        end = time.monotonic() + patience
        while (found := processes_of(self._process.pid)) and time.monotonic() < end:
            time.sleep(0.02)
        for pid in found:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        return found


def _run_command(
    sender: Any, words: Sequence[str], folder: str, kill_at: int, disk: int | None
) -> None:
    from kinegraph.cli import main

    os.setsid()
    # the command starts processes as it does when a shell starts it
    multiprocessing.set_start_method(None, force=True)
    SERVER.set_forkserver_preload([])
    os.chdir(folder)
    with Path(os.devnull).open("w") as nowhere:  # of child processes
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    counted = count_writes(kill_at)
    if disk is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (disk, resource.RLIM_INFINITY))
    sender.send(None)
    try:
        main(words)
    except Exception:
        traceback.print_exc(file=sys.stderr)
        raise
    finally:
        sender.send((sys.stderr.getvalue(), counted()))


def count_writes(kill_at: int = 0) -> Callable[[], int]:
    """Count the calls of fsync and rename of this process, and kill it at one of them."""
    calls = [0]

    def count(function: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            calls[0] += 1
            if calls[0] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*given, **named)

        return call

    os.fsync = count(os.fsync)
    Path.replace = count(Path.replace)  # type: ignore[method-assign]
    return lambda: calls[0]


def processes_of(session: int) -> list[int]:
    """Return all processes of a session but its leader; forks of a killed process are in it too."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, own = stat.read_text().rpartition(")")[2].split()[:4]
            if state != "Z" and int(own) == session:
                found.append(int(stat.parent.name))
    return sorted({*found} - {session})


def hidden(folder: Path) -> list[Path]:
    """Return what a command left behind that is neither a result nor an input."""
    return [path for path in folder.rglob(".*") if path.name != ".lock"]


@contextmanager
def small_disk(size: int = 3000) -> Iterator[None]:
    """Let no file grow beyond a few bytes, which the writers see as a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
