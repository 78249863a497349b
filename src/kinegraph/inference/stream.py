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
from kinegraph.errors import ClipError, ModelError, unknown_name
from kinegraph.inference.scores import Scores
from kinegraph.models.plain import plain
from kinegraph.models.plain_network import PlainNetwork
from kinegraph.models.stream import Mode, open_streams
from kinegraph.models.streamed import Streamed
from kinegraph.transforms import Pipeline, to_array
from kinegraph.transforms.streams import stream_parts

if TYPE_CHECKING:
    from torch import nn

    from kinegraph.inference.recognizer import Answer, Recognizer

Array = NDArray[np.float32]
OWN = frozenset({"frames", "latest"})  # names of the stream itself in a state
RAW = frozenset({"joints", "confidence"})  # names of raw frames in a state
WINDOW = 100  # raw frames, where nothing else is asked for


def frame_shape(recognizer: Recognizer) -> tuple[int, int]:
    """(V, D): how many joints a person of a raw frame has, and coordinates a joint."""
    header = recognizer.header
    channels = header.in_channels - header.confidence
    return recognizer.layout.num_joints, channels // len(stream_parts(header.stream))


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
        self._latest: Answer | None = None
        # a transform that chooses among persons has to see all of them
        self._all_persons = any(name == "persons" for name, _ in recognizer.pipeline.steps)

    @property
    def mode(self) -> Mode:
        """How frames are worked on: ``step`` or ``window``."""
        return self._ahead.mode

    def push(self, joints: Array, confidence: Array | None = None) -> Answer | None:
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
            logits = self._ahead.push(self._frame(joints, confidence), due)
        self.frames += 1
        if due:
            self._latest = self._answer(logits)
        return self._latest

    def flush(self) -> Answer | None:
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

    def _frame(self, joints: Array, confidence: Array | None) -> Clip:
        """A clip of one frame, with at least as many persons as the model takes."""
        name = f"frame {self.frames}"
        shape = frame_shape(self.recognizer)
        given = _persons(joints, shape, f"{name}, joints (persons, joints, coordinates)")
        persons = self.recognizer.header.persons
        persons = max(persons, len(given)) if self._all_persons else persons
        held = np.full((persons, 1, *shape), np.nan, np.float32)
        held[: len(given), 0] = given[:persons]
        stated = None
        if confidence is not None:
            sure = _confidence(confidence, given, name)
            stated = np.zeros(held.shape[:3], np.float32)
            stated[: len(sure), 0] = sure[:persons]
        return Clip(held, self.recognizer.layout, stated, id=name, meta=self.meta)

    def _answer(self, logits: Tensor | None) -> Answer | None:
        if logits is None:
            return None
        values = logits.float().cpu().numpy()[None]
        return self.recognizer.answers(Scores(("stream",), np.array([-1]), values))[0]


def _persons(given: Any, shape: tuple[int, ...], what: str) -> Array:
    """(M, *shape) of an array of that shape, or of one person; an empty list is nobody.

    Raises:
        ClipError: something else.
    """
    try:
        array = np.asarray(given, np.float32)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ClipError(f"{what}: expected an array of numbers: {error}") from error
    if array.shape == (0,):
        return array.reshape(0, *shape)
    if array.shape[-len(shape) :] != shape or array.ndim - len(shape) not in (0, 1):
        one = ", ".join(map(str, shape))
        raise ClipError(f"{what}: expected (M, {one}), or ({one}) of one person, got {array.shape}")
    return array.reshape(-1, *shape)


def _confidence(given: Any, joints: Array, name: str) -> Array:
    """(M, V), a number for every joint that is seen.

    Raises:
        ClipError: of other persons or joints, or not finite.
    """
    stated = _persons(given, joints.shape[1:2], f"{name}, confidences (persons, joints)")
    if stated.shape != joints.shape[:2]:
        raise ClipError(
            f"{name}: expected confidences {joints.shape[:2]} for as many persons and joints, "
            f"got {stated.shape}"
        )
    if not np.isfinite(stated[~np.isnan(joints[..., 0])]).all():
        raise ClipError(f"{name}: the confidence of a joint that is seen is not a finite number")
    return stated


def _ahead(
    recognizer: Recognizer, mode: Mode, window: int | None, *, at_once: bool
) -> _Steps | _Windows:
    if mode == "step":
        return _Steps(recognizer, recognizer.model, window, at_once=at_once)
    if mode == "auto" and (network := _step_network(recognizer)):
        return _Steps(recognizer, network, window, at_once=at_once)
    return _Windows(recognizer, WINDOW if window is None else window)


def _step_network(recognizer: Recognizer) -> PlainNetwork | None:
    """The network that takes frames one by one, if transforms and model allow that."""
    model = recognizer.model
    if recognizer.pipeline.whole_clip_steps() or not isinstance(model, Streamed):
        return None  # exported files, which answer for whole clips, are not `Streamed`
    network = plain(model)
    return network if isinstance(network, PlainNetwork) else None


class _Steps:
    """Each frame once: made ready by what is known of those before, then pushed.

    Args:
        recognizer: whose transforms.
        model: of the recogniser, or its plain network.
        window: frames that count, None for all.
        at_once: answers that are due are about all frames.
    """

    mode: Mode = "step"

    def __init__(
        self, recognizer: Recognizer, model: nn.Module, window: int | None, *, at_once: bool
    ) -> None:
        if whole := recognizer.pipeline.whole_clip_steps():
            raise ModelError(
                f"mode 'step' takes frames one by one, but the transforms {', '.join(whole)} of "
                "this run look at the whole clip; take mode 'window'"
            )
        self._recognizer = recognizer
        self._at_once = at_once
        self._transforms = _causal(recognizer)
        self._streams = open_streams(model, "step", window=window)
        self._key = self._streams.open()

    def push(self, frame: Clip, due: bool) -> Tensor | None:
        sightings = []
        for transform in self._transforms:
            frame, seen = transform(frame)
            sightings.append(seen)
        header = self._recognizer.header
        x = np.ascontiguousarray(to_array(frame, header.persons, header.confidence)[:, 0])
        pushed = torch.from_numpy(x).to(self._recognizer.device)
        logits = self._streams.push({self._key: pushed})[self._key]
        for transform, seen in zip(self._transforms, sightings, strict=True):
            transform.seen = seen
        return self.flush() if due and self._at_once else logits

    def flush(self) -> Tensor | None:
        return self._streams.flush(self._key)

    def state_dict(self) -> dict[str, Tensor]:
        own = {name: torch.from_numpy(t.seen.copy()) for name, t in self._looking_back().items()}
        return {**self._streams.state_dict(self._key), **own}

    def load_state_dict(self, state: Mapping[str, Tensor], _: Mapping[str, MetaValue]) -> None:
        looking = self._looking_back()
        seen = {name: _stored(state, name, t.seen.shape) for name, t in looking.items()}
        rest = {k: v for k, v in state.items() if k not in looking}
        self._streams.load_state_dict(self._key, rest)
        for name, transform in looking.items():
            transform.seen = seen[name]

    def _looking_back(self) -> dict[str, _Causal]:
        numbered = enumerate(self._transforms)
        return {f"seen.{i}": t for i, t in numbered if t.pipeline.looks_back}


class _Causal:
    """One transform, frame by frame: it sees where each joint was seen first and last, and now.

    Attributes:
        pipeline: of that one transform.
        seen: (M, 2, V, D) what it was given: the first and the last sighting of each joint of
            each person, NaN before it; M = 0 for a transform that does not look back.
    """

    def __init__(self, pipeline: Pipeline, shape: tuple[int, int, int]) -> None:
        M, V, D = shape
        self.pipeline = pipeline
        self.seen = np.full((M if pipeline.looks_back else 0, 2, V, D), np.nan, np.float32)

    def __call__(self, frame: Clip) -> tuple[Clip, Array]:
        """The frame as it should be, and what will have been seen with it."""
        if not self.pipeline.looks_back:
            return self.pipeline(frame), self.seen
        now, first, last = frame.joints, self.seen[:, :1], self.seen[:, 1:]
        ready = self.pipeline(frame.with_joints(np.concatenate([first, last, now], axis=1)))
        first, last = np.where(np.isnan(first), now, first), np.where(np.isnan(now), last, now)
        return frame.with_joints(ready.joints[:, -1:]), np.concatenate([first, last], axis=1)


def _causal(recognizer: Recognizer) -> list[_Causal]:
    V, D = frame_shape(recognizer)
    made = []
    for pipeline in recognizer.pipeline.of_unknown_length().single_steps():
        made.append(_Causal(pipeline, (recognizer.header.persons, V, D)))
        D *= len(stream_parts(pipeline.stream))
    return made


class _Windows:
    """The latest frames as a clip of their own, whenever an answer is due."""

    mode: Mode = "window"

    def __init__(self, recognizer: Recognizer, window: int) -> None:
        if window < 1:
            raise ModelError(f"expected a window of at least one frame, got {window}")
        self._recognizer = recognizer
        self._frames: deque[Clip] = deque(maxlen=window)

    def push(self, frame: Clip, due: bool) -> Tensor | None:
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
        clip = _joined(self._frames)
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
        joints = _stored(state, "joints", (None, None, *frame_shape(self._recognizer)))
        stated: Sequence[Array | None] = [None] * joints.shape[1]
        if "confidence" in state:
            stated = np.split(_stored(state, "confidence", joints.shape[:3]), joints.shape[1], 1)
        frames = np.split(joints, joints.shape[1], axis=1)
        layout = self._recognizer.layout
        return [Clip(f, layout, c, meta=meta) for f, c in zip(frames, stated, strict=True)]

    def _logits(self, frames: Sequence[Clip]) -> Tensor | None:
        if not any(frame.valid.any() for frame in frames):
            return None
        batch = self._recognizer.batch(_joined(frames))
        return torch.from_numpy(self._recognizer.logits(batch)[0])


def _joined(frames: Sequence[Clip]) -> Clip:
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
