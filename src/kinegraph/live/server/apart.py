"""A crowd in a process of its own: frames are worked on there while this one hears and speaks.

Two threads of one process take turns in running Python; two processes do not. What goes between
them is pickled: one asks, the other answers, and nobody else can reach the pipe.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

from kinegraph.clips.clip import MetaValue
from kinegraph.errors import KinegraphError, LiveError
from kinegraph.inference.crowd import Crowd, Ending, Frame, Told
from kinegraph.inference.recognizer import Answer, Recognizer
from kinegraph.models.stream import Mode

PATIENCE = 5.0
"""Seconds that the process may take to end."""


class Apart:
    """A `Crowd` that works elsewhere; one thread at a time may speak to it.

    Args:
        recognizer: who answers.
        nice: how far it lets others go first, from 0 to 19.
        options: of `Crowd`.

    Raises:
        LiveError: a model that cannot be sent to another process.
    """

    def __init__(self, recognizer: Recognizer, nice: int = 0, **options: Any) -> None:
        self._here = Crowd(recognizer, **options)  # has no streams
        try:
            sent = pickle.dumps((nice, recognizer, options))
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise LiveError(f"this model works in one process only: {error}") from error
        command = [sys.executable, "-c", f"from {__name__} import work; work()"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._send(sent)

    @property
    def recognizer(self) -> Recognizer:
        """Who answers."""
        return self._here.recognizer

    @property
    def mode(self) -> Mode:
        """See `Crowd.mode`."""
        return self._here.mode

    def open(self, meta: Mapping[str, MetaValue] | None = None) -> int:
        """See `Crowd.open`."""
        key: int = self._ask("open", dict(meta or {}))
        return key

    def push_many(self, frames: Mapping[int, Frame]) -> dict[int, Told | KinegraphError]:
        """See `Crowd.push_many`."""
        found = self._ask("work", dict(frames)) if frames else {}
        return self._here.tell(found)

    def ending(self, key: int) -> Ending:
        """See `Crowd.ending`; to be read by a process."""
        ending: Ending = self._ask("ending", key)
        return ending

    def answer_to(self, ending: Ending) -> Answer | None:
        """See `Crowd.answer_to`; of a stream of any process of the same model."""
        answer: Answer | None = self._ask("answer_to", ending)
        return answer

    def close(self, key: int) -> None:
        """See `Crowd.close`."""
        self._ask("close", key)
        self._here.forget(key)

    def end(self) -> None:
        """Let the process go."""
        assert self._process.stdin and self._process.stdout
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _ask(self, method: str, *given: Any) -> Any:
        try:
            self._send(pickle.dumps((method, given), pickle.HIGHEST_PROTOCOL))
            assert self._process.stdout
            answer = pickle.load(self._process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise LiveError(
                f"the process that works on frames has ended (status {self._process.poll()})"
            ) from error
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _send(self, message: bytes) -> None:
        assert self._process.stdin
        self._process.stdin.write(message)
        self._process.stdin.flush()


def work() -> None:
    """What the other process does, until the pipe is closed."""
    import torch

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # whoever asks says when it is over
    torch.set_num_threads(1)
    with os.fdopen(os.dup(1), "wb") as out, os.fdopen(os.dup(0), "rb") as asked:
        os.dup2(2, 1)  # what is printed must not get between the answers
        nice, recognizer, options = pickle.load(asked)
        if nice and hasattr(os, "nice"):
            os.nice(nice)
        crowd = Crowd(recognizer, **options)
        with suppress(EOFError):
            while True:
                method, given = pickle.load(asked)
                _answer(out, crowd, method, given)


def _answer(out: IO[bytes], crowd: Crowd, method: str, given: Any) -> None:
    try:
        answer = getattr(crowd, method)(*given)
    except KinegraphError as error:
        answer = error
    except Exception as error:  # told by the one that asked
        answer = RuntimeError(f"{type(error).__name__}: {error}")
    pickle.dump(answer, out, pickle.HIGHEST_PROTOCOL)
    out.flush()
