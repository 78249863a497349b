"""Trainings in processes of their own, which can be killed at a chosen point or at any time."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["kinegraph.training.train"])


def start(recipe: dict[str, Any], out: Path, *, resume: bool = False, kill_at: int = 0) -> Any:
    """A process that trains; with ``kill_at``, it kills itself at that call of fsync or rename."""
    process = SERVER.Process(target=_train, args=(recipe, str(out), resume, kill_at))
    process.start()
    return process


def run(recipe: dict[str, Any], out: Path, *, resume: bool = False, kill_at: int = 0) -> int | None:
    """The exit code of a training, negative if a signal ended it."""
    process = start(recipe, out, resume=resume, kill_at=kill_at)
    process.join()
    return process.exitcode


def _train(recipe: dict[str, Any], out: str, resume: bool, kill_at: int) -> None:
    from kinegraph.training.recipe import parse_recipe
    from kinegraph.training.train import train

    if kill_at:
        _count_down(kill_at)
    train(parse_recipe(recipe, "killed"), out, resume=resume)


def _count_down(calls: int) -> None:
    left = [calls]

    def counted(function: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*given, **named)

        return call

    os.fsync = counted(os.fsync)
    Path.replace = counted(Path.replace)  # type: ignore[method-assign]
