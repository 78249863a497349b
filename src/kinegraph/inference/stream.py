"""Streams of raw frames: a recogniser that answers while the action is going on."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError, ModelError, unknown_name
from kinegraph.inference.scores import Scores
from kinegraph.models.stream import Mode, open_streams
from kinegraph.transforms import to_array

if TYPE_CHECKING:
    from kinegraph.inference.recognizer import Answer, Recognizer

Array = NDArray[np.float32]
RAW = frozenset({"joints", "confidence"})  # names of raw frames in a state
WINDOW = 100  # raw frames, where nothing else is asked for


class ActionStream:
    """Raw frames in, answers out, see `Recognizer.stream`.

    Attributes:
        mode: ``step`` or ``window``.
        frames: how many have been pushed.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        mode: Mode = "auto",
        window: int | None = None,
        every: int | None = None,
    ) -> None:
        if mode not in get_args(Mode):
            raise unknown_name("stream mode", mode, get_args(Mode))
        if every is not None and every < 1:
            raise ModelError(f"expected an answer every 1 or more frames, got every={every}")
        self.recognizer = recognizer
        self.every = every
        self.frames = 0
        self._ahead = _ahead(recognizer, mode, window)
        self._latest: Answer | None = None

    @property
    def mode(self) -> Mode:
        """How frames are worked on: ``step`` or ``window``."""
        return self._ahead.mode

    def push(self, joints: Array, confidence: Array | None = None) -> Answer | None:
        """The next frame.

        Args:
            joints: (M, V, D), or (V, D) of one person; NaN where a joint is not seen. A person
                keeps its place from frame to frame; absent ones are all NaN, or missing at the end.
            confidence: (M, V) or (V,) in [0, 1].

        Returns:
            the answer by now; None while there is nothing to say yet.

        Raises:
            ClipError: an array of another shape than the model's skeleton.
        """
        logits = self._ahead.push(self._frame(joints, confidence))
        self.frames += 1
        if self.every is None:
            return self._answer(logits)
        if self.frames % self.every == 0:
            self._latest = self.flush()
        return self._latest

    def flush(self) -> Answer | None:
        """The answer to all that was pushed, as if it ended here; the stream may go on."""
        return self._answer(self._ahead.flush()) if self.frames else None

    def state_dict(self) -> dict[str, Tensor]:
        """All that the stream is, to go on with it later or elsewhere."""
        return {"frames": torch.tensor(self.frames), **self._ahead.state_dict()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on with another stream of the same model and mode.

        Raises:
            ModelError: a state of another model or kind of stream.
        """
        if "frames" not in state:
            raise ModelError("this is no state of a stream of raw frames")
        self._ahead.load_state_dict({k: v for k, v in state.items() if k != "frames"})
        self.frames = int(state["frames"])

    def _frame(self, joints: Array, confidence: Array | None) -> Clip:
        """A clip of one frame, with as many persons as the model takes."""
        joints = np.asarray(joints, np.float32)
        joints = joints[None] if joints.ndim == 2 else joints
        if joints.ndim != 3:
            raise ClipError(f"expected a frame (persons, joints, coordinates), got {joints.shape}")
        persons = self.recognizer.header.persons
        shape = (persons, 1, *joints.shape[1:])
        held = np.full(shape, np.nan, np.float32)
        held[: len(joints), 0] = joints[:persons]
        stated = None
        if confidence is not None:
            stated = np.zeros(shape[:3], np.float32)
            given = np.asarray(confidence, np.float32).reshape(-1, joints.shape[1])
            stated[: len(given), 0] = given[:persons]
        return Clip(held, self.recognizer.layout, stated, id=f"frame {self.frames}")

    def _answer(self, logits: Tensor | None) -> Answer | None:
        if logits is None:
            return None
        values = logits.float().cpu().numpy()[None]
        return self.recognizer.answers(Scores(("stream",), np.array([-1]), values))[0]


def _ahead(recognizer: Recognizer, mode: Mode, window: int | None) -> _Steps | _Windows:
    if mode != "window":
        try:
            return _Steps(recognizer, window)
        except ModelError:
            if mode == "step" or (window is not None and window < 1):
                raise
    return _Windows(recognizer, WINDOW if window is None else window)


class _Steps:
    """Each frame once: made ready with the first frame and the one before, then pushed."""

    mode: Mode = "step"

    def __init__(self, recognizer: Recognizer, window: int | None) -> None:
        if whole := recognizer.pipeline.whole_clip_steps():
            raise ModelError(
                f"mode 'step' takes frames one by one, but the transforms {', '.join(whole)} of "
                "this run look at the whole clip; take mode 'window'"
            )
        self._recognizer = recognizer
        self._pipeline = recognizer.pipeline.of_unknown_length()
        self._streams = open_streams(recognizer.model, "step", window=window)
        self._key = self._streams.open()
        self._context: list[Clip] = []  # the first frame with somebody in it, and the latest

    def push(self, frame: Clip) -> Tensor | None:
        ready = self._pipeline(_joined([*self._context, frame]))
        header = self._recognizer.header
        x = to_array(ready, header.persons, header.confidence)[:, -1]
        if frame.valid.any():
            self._context = [*self._context[:1], frame]
        pushed = torch.from_numpy(np.ascontiguousarray(x)).to(self._recognizer.device)
        return self._streams.push({self._key: pushed})[self._key]

    def flush(self) -> Tensor | None:
        return self._streams.flush(self._key)

    def state_dict(self) -> dict[str, Tensor]:
        return {**self._streams.state_dict(self._key), **_stored(self._context)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        own = {k: v for k, v in state.items() if k not in RAW}
        self._streams.load_state_dict(self._key, own)
        self._context = _restored(state, self._recognizer)


class _Windows:
    """The latest frames as a clip of their own, with every frame."""

    mode: Mode = "window"

    def __init__(self, recognizer: Recognizer, window: int) -> None:
        if window < 1:
            raise ModelError(f"expected a window of at least one frame, got {window}")
        self._recognizer = recognizer
        self._frames: deque[Clip] = deque(maxlen=window)

    def push(self, frame: Clip) -> Tensor | None:
        self._frames.append(frame)
        return self.flush()

    def flush(self) -> Tensor | None:
        if not any(frame.valid.any() for frame in self._frames):
            return None
        batch = self._recognizer.batch(_joined(list(self._frames)))
        return torch.from_numpy(self._recognizer.logits(batch)[0])

    def state_dict(self) -> dict[str, Tensor]:
        return _stored(list(self._frames))

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        if set(state) - RAW:
            raise ModelError("this is a state of a stream of steps, not of windows")
        frames = _restored(state, self._recognizer)
        self._frames = deque(frames, maxlen=self._frames.maxlen)


def _joined(frames: list[Clip]) -> Clip:
    """Clips of one frame each as one clip."""
    last = frames[-1]
    stated = [f.confidence for f in frames if f.confidence is not None]
    joints = np.concatenate([f.joints for f in frames], axis=1)
    confidence = np.concatenate(stated, axis=1) if len(stated) == len(frames) else None
    return Clip(joints, last.layout, confidence, id=last.id)


def _stored(frames: list[Clip]) -> dict[str, Tensor]:
    if not frames:
        return {}
    clip = _joined(frames)
    stored = {"joints": torch.from_numpy(np.array(clip.joints))}
    if clip.confidence is not None:
        stored["confidence"] = torch.from_numpy(np.array(clip.confidence))
    return stored


def _restored(state: Mapping[str, Tensor], recognizer: Recognizer) -> list[Clip]:
    if "joints" not in state:
        return []
    joints = state["joints"].numpy()
    confidence = state["confidence"].numpy() if "confidence" in state else None
    return [
        Clip(
            joints[:, t : t + 1],
            recognizer.layout,
            None if confidence is None else confidence[:, t : t + 1],
        )
        for t in range(joints.shape[1])
    ]
