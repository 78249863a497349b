"""Streams of raw frames: a recogniser that answers while the action is going on."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinegraph.clips.clip import Clip, MetaValue
from kinegraph.errors import ModelError, unknown_name
from kinegraph.inference.backends.exported_model import ExportedModel
from kinegraph.inference.online_preprocessing import (
    FrameValidator,
    OnlinePreprocessor,
    ValidatedFrame,
    input_frame_shape,
)
from kinegraph.inference.scores import Scores
from kinegraph.runtime.fuse import fast
from kinegraph.runtime.network import FastNetwork
from kinegraph.runtime.streams import Mode, open_streams

if TYPE_CHECKING:
    from torch import nn

    from kinegraph.inference.answer import Prediction
    from kinegraph.inference.recognizer import Recognizer

Array = NDArray[np.float32]
OWN = frozenset({"frames", "latest"})  # names of the stream itself in a state
RAW = frozenset({"joints", "confidence"})  # names of raw frames in a state
WINDOW = 100  # raw frames, where nothing else is asked for


class StreamingSession:
    """Raw frames in, answers out, see `open_session`.

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
        meta: Mapping[str, MetaValue] | None = None,
    ) -> None:
        if mode not in get_args(Mode):
            raise unknown_name("stream mode", mode, get_args(Mode))
        if every is not None and every < 1:
            raise ModelError(f"expected an answer every 1 or more frames, got every={every}")
        self.recognizer = recognizer
        self.every = every
        self.meta = dict(meta or {})
        self.frames = 0
        self._ahead = _ahead(recognizer, mode, window, at_once=every is not None)
        self._latest: Prediction | None = None
        self._raw = FrameValidator(recognizer)

    @property
    def mode(self) -> Mode:
        """How frames are worked on: ``step`` or ``window``."""
        return self._ahead.mode

    def push(self, joints: Array, confidence: Array | None = None) -> Prediction | None:
        """The next frame; one that is refused leaves the stream as it was.

        Args:
            joints: (M, V, D), or (V, D) of one person; NaN where a joint is not seen. A person
                keeps its place from frame to frame; absent ones are all NaN, or missing at the end.
            confidence: (M, V), or (V,) of one person, in [0, 1].

        Returns:
            the answer by now; None while there is nothing to say yet.

        Raises:
            ClipError: an array of another shape than the model's skeleton, or infinite values.
            TransformError: the run's transforms do not fit the frame.
        """
        due = (self.frames + 1) % (self.every or 1) == 0
        with np.errstate(over="ignore"):  # what overflows is infinite, and refused as that
            frame = self._raw(joints, confidence, f"frame {self.frames}", self.meta)
            logits = self._ahead.push(frame, due)
        self.frames += 1
        if due:
            self._latest = self._answer(logits)
        return self._latest

    def flush(self) -> Prediction | None:
        """The answer to all that was pushed, as if it ended here; the stream may go on."""
        return self._answer(self._ahead.flush()) if self.frames else None

    def state_dict(self) -> dict[str, Tensor]:
        """All that the stream is, to go on with it later or elsewhere."""
        state = {"frames": torch.tensor(self.frames), **self._ahead.state_dict()}
        if self._latest is not None:
            state["latest"] = torch.from_numpy(np.array(self._latest.logits))
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on with another stream of the same model and mode.

        Raises:
            ModelError: a state of another model or kind of stream; this one stays as it was.
        """
        frames = _stored(state, "frames", ())
        if frames.dtype.kind != "i" or frames < 0:
            raise ModelError("'frames' in the state of a stream is not a number of frames")
        latest, classes = None, self.recognizer.header.num_classes
        if "latest" in state:
            latest = torch.from_numpy(_stored(state, "latest", (classes,)))
        self._ahead.load_state_dict({k: v for k, v in state.items() if k not in OWN}, self.meta)
        self.frames = int(frames)
        self._latest = self._answer(latest)

    def _answer(self, logits: Tensor | None) -> Prediction | None:
        if logits is None:
            return None
        values = logits.float().cpu().numpy()[None]
        return self.recognizer.decode(Scores(("stream",), np.array([-1]), values))[0]


def _ahead(
    recognizer: Recognizer, mode: Mode, window: int | None, *, at_once: bool
) -> _Steps | _Windows:
    if mode == "step":
        return _Steps(recognizer, recognizer.model, window, at_once=at_once)
    if mode == "auto" and (network := step_network(recognizer)):
        return _Steps(recognizer, network, window, at_once=at_once)
    return _Windows(recognizer, WINDOW if window is None else window)


def step_network(recognizer: Recognizer) -> FastNetwork | None:
    """The network that takes frames one by one, if transforms and model allow that."""
    model = recognizer.model
    if recognizer.pipeline.whole_clip_steps() or isinstance(model, ExportedModel):
        return None  # exported files answer for whole clips
    network = fast(model)
    return network if isinstance(network, FastNetwork) else None


class _Steps:
    """Each frame once: made ready by what is known of those before, then pushed.

    Args:
        recognizer: whose transforms.
        model: of the recogniser, or its fast network.
        window: frames that count, None for all.
        at_once: answers that are due are about all frames.
    """

    mode: Mode = "step"

    def __init__(
        self, recognizer: Recognizer, model: nn.Module, window: int | None, *, at_once: bool
    ) -> None:
        self._device = recognizer.device
        self._at_once = at_once
        self._ready = OnlinePreprocessor(recognizer)
        self._seen = self._ready.blank()
        self._streams = open_streams(model, "step", window=window)
        self._key = self._streams.open()

    def push(self, frame: ValidatedFrame, due: bool) -> Tensor | None:
        (x,), (seen,) = self._ready([frame], [self._seen])
        pushed = torch.from_numpy(x).to(self._device)
        logits = self._streams.push({self._key: pushed})[self._key]
        self._seen = seen
        return self.flush() if due and self._at_once else logits

    def flush(self) -> Tensor | None:
        return self._streams.flush(self._key)

    def state_dict(self) -> dict[str, Tensor]:
        own = {f"seen.{i}": self._seen[i].copy() for i in self._ready.looking_back()}
        rest = self._streams.state_dict(self._key)
        return {**rest, **{name: torch.from_numpy(seen) for name, seen in own.items()}}

    def load_state_dict(self, state: Mapping[str, Tensor], _: Mapping[str, MetaValue]) -> None:
        fresh, own = self._ready.blank(), {f"seen.{i}": i for i in self._ready.looking_back()}
        for name, i in own.items():
            fresh[i] = _stored(state, name, fresh[i].shape)
        rest = {k: v for k, v in state.items() if k not in own}
        self._streams.load_state_dict(self._key, rest)
        self._seen = fresh


class _Windows:
    """The latest frames as a clip of their own, whenever an answer is due."""

    mode: Mode = "window"

    def __init__(self, recognizer: Recognizer, window: int) -> None:
        if window < 1:
            raise ModelError(f"expected a window of at least one frame, got {window}")
        self._recognizer = recognizer
        self._raw = FrameValidator(recognizer)
        self._frames: deque[Clip] = deque(maxlen=window)

    def push(self, given: ValidatedFrame, due: bool) -> Tensor | None:
        frame = self._raw.clip(given)
        frames = deque([*self._frames, frame], self._frames.maxlen)
        # what transforms refuse is refused now, not when an answer is due
        logits = self._logits(frames) if due else None
        if not due and frame.valid.any():
            self._recognizer.batch(frame)
        self._frames = frames
        return logits

    def flush(self) -> Tensor | None:
        return self._logits(self._frames)

    def state_dict(self) -> dict[str, Tensor]:
        if not self._frames:
            return {}
        clip = joined(self._frames)
        state = {"joints": torch.from_numpy(np.array(clip.joints))}
        if clip.confidence is not None:
            state["confidence"] = torch.from_numpy(np.array(clip.confidence))
        return state

    def load_state_dict(self, state: Mapping[str, Tensor], meta: Mapping[str, MetaValue]) -> None:
        if set(state) - RAW:
            raise ModelError("this is a state of a stream of steps, not of windows")
        frames = self._restored(state, meta) if state else []
        self._frames = deque(frames, self._frames.maxlen)

    def _restored(self, state: Mapping[str, Tensor], meta: Mapping[str, MetaValue]) -> list[Clip]:
        joints = _stored(state, "joints", (None, None, *input_frame_shape(self._recognizer)))
        stated: Sequence[Array | None] = [None] * joints.shape[1]
        if "confidence" in state:
            stated = np.split(_stored(state, "confidence", joints.shape[:3]), joints.shape[1], 1)
        frames = np.split(joints, joints.shape[1], axis=1)
        layout = self._recognizer.layout
        return [Clip(f, layout, c, meta=meta) for f, c in zip(frames, stated, strict=True)]

    def _logits(self, frames: Sequence[Clip]) -> Tensor | None:
        if not any(frame.valid.any() for frame in frames):
            return None
        batch = self._recognizer.batch(joined(frames))
        return torch.from_numpy(self._recognizer.logits(batch)[0])


def joined(frames: Sequence[Clip]) -> Clip:
    """Clips of one frame each as one clip; who is missing at the end is absent."""
    last = frames[-1]
    persons = max(frame.num_persons for frame in frames)
    joints = np.full((persons, len(frames), *last.joints.shape[2:]), np.nan, np.float32)
    stated = np.zeros(joints.shape[:3], np.float32)
    for t, frame in enumerate(frames):
        here = slice(frame.num_persons)
        joints[here, t] = frame.joints[:, 0]
        stated[here, t] = 1 if frame.confidence is None else frame.confidence[:, 0]
    known = any(frame.confidence is not None for frame in frames)
    return Clip(joints, last.layout, stated if known else None, id=last.id, meta=last.meta)


def _stored(state: Mapping[str, Tensor], name: str, shape: Sequence[int | None]) -> NDArray[Any]:
    """A copy of a tensor of a state; None in the shape is any number but 0.

    Raises:
        ModelError: it is missing, or has another shape.
    """
    if not isinstance(tensor := state.get(name), Tensor):
        raise ModelError(f"this is no state of such a stream of raw frames: it has no {name!r}")
    fits = tensor.ndim == len(shape) and all(
        given == wanted if wanted is not None else given
        for given, wanted in zip(tensor.shape, shape, strict=True)
    )
    if not fits:
        raise ModelError(
            f"this state is of another model: {name!r} has the shape {tuple(tensor.shape)}, "
            f"expected {tuple('any' if n is None else n for n in shape)}"
        )
    return np.array(tensor.detach().cpu().numpy())
