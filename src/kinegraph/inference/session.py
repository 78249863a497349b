"""Many streams of raw frames of one recogniser: whoever has a frame is worked on together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np

from kinegraph.clips.clip import MetaValue
from kinegraph.errors import ClipError, KinegraphError, ModelError, unknown_name
from kinegraph.inference.crowd_ways import Logits, Pushed, way_of
from kinegraph.inference.online_preprocessing import Raw, RawFrames
from kinegraph.inference.scores import Scores
from kinegraph.runtime.step_work import Stop, never
from kinegraph.runtime.streams import Mode

if TYPE_CHECKING:
    from kinegraph.inference.recognizer import Answer, Recognizer

EVERY = 10  # frames between the answers of a stream of windows


class Frame(NamedTuple):
    """A raw frame, see `ActionStream.push`."""

    joints: Any
    confidence: Any = None


class Told(NamedTuple):
    """What is known of a stream.

    Attributes:
        answer: the latest; None while there is nothing to say.
        frames: after how many of its frames a stream whose work is not spread says the same. An
            answer lags behind the frames that were pushed while these are worked on.
    """

    answer: Answer | None
    frames: int


NOTHING = Told(None, 0)


class Ending(NamedTuple):
    """A stream as it was at a time; None if it had no frames."""

    state: Any


class Crowd:
    """Streams of raw frames, worked on together; each answers as an `ActionStream` of its own.

    In ``step`` mode an answer is about the frames whose neighbours in time are known, as that of
    ``Recognizer.stream()``. In ``window`` mode it is that of ``Recognizer.stream("window")``, given
    every so many frames.

    Args:
        recognizer: who answers.
        mode: as for `Recognizer.stream`.
        window: as for `Recognizer.stream`.
        every: frames between the answers of a stream of windows.

    Raises:
        ModelError: a mode that this run cannot have, a window without frames.
        UnknownNameError: no such mode.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        mode: Mode = "auto",
        window: int | None = None,
        every: int = EVERY,
    ) -> None:
        if mode not in get_args(Mode):
            raise unknown_name("stream mode", mode, get_args(Mode))
        if every < 1:
            raise ModelError(f"expected an answer every 1 or more frames, got every={every}")
        self.recognizer = recognizer
        self._raw = RawFrames(recognizer)
        self._way = way_of(recognizer, mode, window, every)
        self._numbers = count()
        self._lines: dict[int, _Line] = {}
        self._told: dict[int, Told] = {}

    @property
    def mode(self) -> Mode:
        """How frames are worked on: ``step`` or ``window``."""
        return self._way.mode

    def __len__(self) -> int:
        return len(self._lines)

    def open(self, meta: Mapping[str, MetaValue] | None = None) -> int:
        """Begin a stream; the key to it. ``meta`` is as for `Recognizer.stream`."""
        key = next(self._numbers)
        self._lines[key] = _Line(self._way.open(key), dict(meta or {}))
        return key

    def push_many(self, frames: Mapping[int, Frame]) -> dict[int, Told | KinegraphError]:
        """The next frame of some streams -> what is known of each of these.

        A frame that is refused gives its error and leaves its stream as it was; the others go on.

        Raises:
            ModelError: no stream has that key.
        """
        refused = self.take(frames)
        self.go_on()
        return self.tell(self.news(frames, refused))

    def take(self, frames: Mapping[int, Frame]) -> dict[int, KinegraphError]:
        """The first part of `push_many`: take note of the next frames -> which are refused."""
        refused: dict[int, KinegraphError] = {}
        raw: dict[int, Raw] = {}
        with np.errstate(over="ignore", invalid="ignore"):
            for key, frame in frames.items():
                line = self._of(key)
                try:
                    raw[key] = self._raw(*frame, f"frame {line.frames}", line.meta)
                except ClipError as error:
                    refused[key] = error
            refused |= self._way.take({k: (self._lines[k].own, one) for k, one in raw.items()})
        for key in frames:
            self._lines[key].frames += key not in refused
        return refused

    def go_on(self, stop: Stop = never) -> None:
        """The second part: do the work that falls to what was taken; see `StepStreams.go_on`."""
        self._way.go_on(stop)

    def news(
        self, keys: Iterable[int], refused: Mapping[int, KinegraphError]
    ) -> dict[int, Pushed | KinegraphError]:
        """The third part: what is new of some streams, or why their frames were refused."""
        return {key: refused.get(key) or self._way.news(self._of(key).own) for key in keys}

    def tell(
        self, found: Mapping[int, Pushed | KinegraphError]
    ) -> dict[int, Told | KinegraphError]:
        """The last part: what is known by now, in names and probabilities."""
        fresh = [
            (key, one.frames, one.logits)
            for key, one in found.items()
            if isinstance(one, Pushed) and one.logits is not None
        ]
        answers = self._answers([logits for _, _, logits in fresh])
        for (key, frames, _), answer in zip(fresh, answers, strict=True):
            self._told[key] = Told(answer, frames)
        return {
            key: one if isinstance(one, KinegraphError) else self._told.get(key, NOTHING)
            for key, one in found.items()
        }

    def flush(self, key: int) -> Answer | None:
        """The answer to all that was pushed, as if it ended here; the stream may go on."""
        return self.answer_to(self.ending(key))

    def ending(self, key: int) -> Ending:
        """What `answer_to` needs to know of a stream, as it is now."""
        line = self._of(key)
        return Ending(self._way.ending(line.own) if line.frames else None)

    def answer_to(self, ending: Ending) -> Answer | None:
        """The answer to all that was pushed by then; any thread may ask, whatever comes meanwhile.

        It takes as long as many frames.
        """
        logits = None if ending.state is None else self._way.ended(ending.state)
        return None if logits is None else self._answers([logits])[0]

    def close(self, key: int) -> None:
        """End a stream and forget its frames."""
        self._way.close(self._of(key).own)
        del self._lines[key]
        self.forget(key)

    def forget(self, key: int) -> None:
        """Forget what was told of a stream."""
        self._told.pop(key, None)

    def _answers(self, logits: list[Logits]) -> list[Answer]:
        if not logits:
            return []
        names = ("stream",) * len(logits)
        return self.recognizer.answers(Scores(names, np.full(len(logits), -1), np.stack(logits)))

    def _of(self, key: int) -> _Line:
        if key not in self._lines:
            raise ModelError(f"no stream has the key {key!r}: open one first")
        return self._lines[key]


@dataclass
class _Line:
    """A stream: what its way of working keeps of it, and how many frames it was given."""

    own: Any
    meta: dict[str, MetaValue]
    frames: int = 0
