"""Many streams of raw frames of one recogniser: whoever has a frame is worked on together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np

from kinegraph.clips.clip import MetaValue
from kinegraph.errors import ClipError, KinegraphError, ModelError, unknown_name
from kinegraph.inference.crowd_ways import Logits, Update, select_backend
from kinegraph.inference.online_preprocessing import FrameValidator, ValidatedFrame
from kinegraph.inference.scores import Scores
from kinegraph.inference.stream import StreamingSession
from kinegraph.runtime.step_work import Stop, never
from kinegraph.runtime.streams import Mode

if TYPE_CHECKING:
    from kinegraph.inference.answer import Prediction
    from kinegraph.inference.recognizer import Recognizer

EVERY = 10  # frames between the answers of a stream of windows


class RawFrame(NamedTuple):
    """A raw frame, see `StreamingSession.push`."""

    joints: Any
    confidence: Any = None


class StreamResult(NamedTuple):
    """What is known of a stream.

    Attributes:
        prediction: the latest; None while there is nothing to say.
        frames: after how many of its frames a stream whose work is not spread says the same. An
            answer lags behind the frames that were pushed while these are worked on.
    """

    prediction: Prediction | None
    frames: int


NO_RESULT = StreamResult(None, 0)


class StreamSnapshot(NamedTuple):
    """A stream as it was at a time; None if it had no frames."""

    state: Any


class SessionPool:
    """Streams of raw frames, worked on together; each answers as a `StreamingSession` of its own.

    In ``step`` mode an answer is about the frames whose neighbours in time are known, as that of
    ``open_session(recognizer)``. In ``window`` mode it is that of
    ``open_session(recognizer, "window")``, given every so many frames.

    Args:
        recognizer: who answers.
        mode: as for `open_session`.
        window: as for `open_session`.
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
        self._raw = FrameValidator(recognizer)
        self._backend = select_backend(recognizer, mode, window, every)
        self._numbers = count()
        self._lines: dict[int, _Line] = {}
        self._told: dict[int, StreamResult] = {}

    @property
    def mode(self) -> Mode:
        """How frames are worked on: ``step`` or ``window``."""
        return self._backend.mode

    def __len__(self) -> int:
        return len(self._lines)

    def open(self, meta: Mapping[str, MetaValue] | None = None) -> int:
        """Begin a stream; the key to it. ``meta`` is as for `open_session`."""
        key = next(self._numbers)
        self._lines[key] = _Line(self._backend.open(key), dict(meta or {}))
        return key

    def push_many(self, frames: Mapping[int, RawFrame]) -> dict[int, StreamResult | KinegraphError]:
        """The next frame of some streams -> what is known of each of these.

        A frame that is refused gives its error and leaves its stream as it was; the others go on.

        Raises:
            ModelError: no stream has that key.
        """
        refused = self.enqueue(frames)
        self.step()
        return self.decode(self.poll(frames, refused))

    def enqueue(self, frames: Mapping[int, RawFrame]) -> dict[int, KinegraphError]:
        """The first part of `push_many`: take note of the next frames -> which are refused."""
        refused: dict[int, KinegraphError] = {}
        raw: dict[int, ValidatedFrame] = {}
        with np.errstate(over="ignore", invalid="ignore"):
            for key, frame in frames.items():
                line = self._of(key)
                try:
                    raw[key] = self._raw(*frame, f"frame {line.frames}", line.meta)
                except ClipError as error:
                    refused[key] = error
            refused |= self._backend.enqueue(
                {k: (self._lines[k].own, one) for k, one in raw.items()}
            )
        for key in frames:
            self._lines[key].frames += key not in refused
        return refused

    def step(self, stop: Stop = never) -> None:
        """The second part: do the work that falls to what was taken; see `StepStreams.go_on`."""
        self._backend.step(stop)

    def poll(
        self, keys: Iterable[int], refused: Mapping[int, KinegraphError]
    ) -> dict[int, Update | KinegraphError]:
        """The third part: what is new of some streams, or why their frames were refused."""
        return {key: refused.get(key) or self._backend.poll(self._of(key).own) for key in keys}

    def decode(
        self, found: Mapping[int, Update | KinegraphError]
    ) -> dict[int, StreamResult | KinegraphError]:
        """The last part: what is known by now, in names and probabilities."""
        fresh = [
            (key, one.frames, one.logits)
            for key, one in found.items()
            if isinstance(one, Update) and one.logits is not None
        ]
        answers = self._answers([logits for _, _, logits in fresh])
        for (key, frames, _), answer in zip(fresh, answers, strict=True):
            self._told[key] = StreamResult(answer, frames)
        return {
            key: one if isinstance(one, KinegraphError) else self._told.get(key, NO_RESULT)
            for key, one in found.items()
        }

    def flush(self, key: int) -> Prediction | None:
        """The answer to all that was pushed, as if it ended here; the stream may go on."""
        return self.decode_snapshot(self.snapshot(key))

    def snapshot(self, key: int) -> StreamSnapshot:
        """What `decode_snapshot` needs to know of a stream, as it is now."""
        line = self._of(key)
        return StreamSnapshot(self._backend.snapshot(line.own) if line.frames else None)

    def decode_snapshot(self, snapshot: StreamSnapshot) -> Prediction | None:
        """The answer to all that was pushed by then; any thread may ask, whatever comes meanwhile.

        It takes as long as many frames.
        """
        logits = None if snapshot.state is None else self._backend.flush_snapshot(snapshot.state)
        return None if logits is None else self._answers([logits])[0]

    def close(self, key: int) -> None:
        """End a stream and forget its frames."""
        self._backend.close(self._of(key).own)
        del self._lines[key]
        self.drop(key)

    def drop(self, key: int) -> None:
        """Forget what was told of a stream."""
        self._told.pop(key, None)

    def _answers(self, logits: list[Logits]) -> list[Prediction]:
        if not logits:
            return []
        names = ("stream",) * len(logits)
        return self.recognizer.decode(Scores(names, np.full(len(logits), -1), np.stack(logits)))

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


def open_session(
    recognizer: Recognizer,
    mode: Mode = "auto",
    window: int | None = None,
    every: int | None = None,
    meta: Mapping[str, MetaValue] | None = None,
) -> StreamingSession:
    """Open a stream of raw frames, answered while they come.

    Args:
        recognizer: names the actions.
        mode: ``step``: each frame is worked on once; for transforms that treat frames one by
            one and models that are local in time. What brings clips to a length is left out,
            so that the answer is about the frames that were seen, without padding.
            ``window``: the latest frames are answered as a clip, anew with every frame.
            ``auto``: the first where it can be had.
        window: how many of the latest frames count, in ``step`` rounded up to whole hops (of
            4 frames for ST-GCN); None for all (``step``) or 100.
        every: frames between answers that are about all frames so far. In ``step`` an answer
            is about the frames whose neighbours in time are known too, which lags behind (by
            76 frames for ST-GCN as published); to answer at once is the work of so many more
            frames; in ``window`` the network runs only then. None: an answer with every
            frame, without that work.
        meta: facts about the recording that transforms ask for, as in `Clip.meta`: ``width``
            and ``height`` of its images.

    Raises:
        ModelError: a mode that this run cannot have, a window without frames.
        UnknownNameError: no such mode.
    """
    return StreamingSession(recognizer, mode, window, every, meta)
