"""Priority of worker processes, and their end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def start_pool_worker(niceness: int = 0) -> None:
    """Prepare a process of a `ProcessPoolExecutor`; give it as ``initializer``.

    The process ignores Ctrl-C, which reaches the whole process group and is handled by the parent.
    It exits when the parent does: without this it would wait for tasks forever if the parent were
    killed, because the pipe it reads from stays open.

    Args:
        niceness: increase of the niceness, where the system has it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lower_priority(niceness)
    threading.Thread(target=_exit_after_parent, daemon=True).start()


def lower_priority(niceness: int) -> None:
    """Increase the niceness of this process, where the system has it."""
    if hasattr(os, "nice"):
        os.nice(niceness)


def _exit_after_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
