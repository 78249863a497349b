"""Raw frames made ready: checked, and turned into what the network takes of them, one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip, MetaValue
from kinegraph.errors import ClipError, ModelError
from kinegraph.transforms import Pipeline, to_array
from kinegraph.transforms.input_streams import parse_stream

if TYPE_CHECKING:
    from kinegraph.inference.recognizer import Recognizer

Array = NDArray[np.float32]
JointHistory = list[Array]

#: Steps that look back at each person alone, so that the persons of many streams can go together.
EACH_PERSON = frozenset({"body_normalize", "hold_missing", "skeleton_norm"})


def input_frame_shape(recognizer: Recognizer) -> tuple[int, int]:
    """(V, D): how many joints a person of a raw frame has, and coordinates a joint."""
    header = recognizer.header
    channels = header.in_channels - header.confidence
    return recognizer.layout.num_joints, channels // len(parse_stream(header.stream))


def parse_joints(persons: Any, shape: tuple[int, int]) -> list[list[Any]]:
    """Joints as JSON has them: a person or joint that is null gets coordinates that are no numbers.

    Args:
        persons: (M, V, D) as lists, or (V, D) of one person.
        shape: (V, D).

    Raises:
        TypeError: that is no list of persons.
    """
    joints, coordinates = shape
    absent = [float("nan")] * coordinates
    nobody = [None] * joints
    if not isinstance(persons, list):
        raise TypeError(f"a list of persons cannot be a {type(persons).__name__}")
    if len(persons) == joints and any(_is_joint(given, coordinates) for given in persons):
        persons = [persons]
    return [
        [absent if joint is None else joint for joint in (nobody if person is None else person)]
        for person in persons
    ]


def _is_joint(given: Any, coordinates: int) -> bool:
    """Whether this is a list of as many numbers."""
    numbers = isinstance(given, list) and len(given) == coordinates
    return numbers and all(isinstance(value, int | float) for value in given)


class ValidatedFrame(NamedTuple):
    """A frame whose shapes are right: joints (M, 1, V, D), confidence (M, 1, V) or None."""

    joints: Array
    confidence: Array | None
    name: str
    meta: Mapping[str, MetaValue]


class FrameValidator:
    """Frames as their senders have them, brought to one shape; see `StreamingSession.push`."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._layout = recognizer.layout
        self._shape = input_frame_shape(recognizer)
        self._persons = recognizer.header.persons
        # a transform that chooses among persons has to see all of them
        self._all_persons = any(name == "persons" for name, _ in recognizer.pipeline.steps)

    def __call__(
        self, joints: Any, confidence: Any, name: str, meta: Mapping[str, MetaValue]
    ) -> ValidatedFrame:
        """The frame with at least as many persons as the model takes.

        Raises:
            ClipError: arrays of another shape.
        """
        given = _persons(joints, self._shape, f"{name}, joints (persons, joints, coordinates)")
        persons = max(self._persons, len(given)) if self._all_persons else self._persons
        held = np.full((persons, 1, *self._shape), np.nan, np.float32)
        held[: len(given), 0] = given[:persons]
        stated = None
        if confidence is not None:
            sure = _confidence(confidence, given, name)
            stated = np.zeros(held.shape[:3], np.float32)
            stated[: len(sure), 0] = sure[:persons]
        return ValidatedFrame(held, stated, name, meta)

    def clip(self, frame: ValidatedFrame) -> Clip:
        """The frame as a clip of its own.

        Raises:
            ClipError: infinite coordinates.
        """
        joints, confidence, name, meta = frame
        return Clip(joints, self._layout, confidence, id=name, meta=meta)


class OnlinePreprocessor:
    """What the network takes of frames, each made ready by what is known of those before it.

    Raises:
        ModelError: a transform that looks at the whole clip.
    """

    def __init__(self, recognizer: Recognizer) -> None:
        if whole := recognizer.pipeline.whole_clip_steps():
            raise ModelError(
                f"mode 'step' takes frames one by one, but the transforms {', '.join(whole)} of "
                "this run look at the whole clip; take mode 'window'"
            )
        self._layout = recognizer.layout
        self._persons = recognizer.header.persons
        self._confidence = recognizer.header.confidence
        self._transforms = list(_causal(recognizer))

    def blank(self) -> JointHistory:
        """Of a stream that has not begun: what was seen, for each transform."""
        return [transform.blank() for transform in self._transforms]

    def looking_back(self) -> list[int]:
        """Which of the sightings are not empty."""
        return [i for i, t in enumerate(self._transforms) if t.pipeline.uses_history]

    def __call__(
        self, frames: Sequence[ValidatedFrame], seen: Sequence[JointHistory]
    ) -> tuple[list[Array], list[JointHistory]]:
        """The next frames of S streams that state the same things -> (C, V, M) of each.

        Args:
            frames: one of each stream; all of them have confidences or none, and the same meta.
            seen: of each stream, what was seen before.

        Returns:
            arrays, and what will have been seen with these frames.

        Raises:
            ClipError, TransformError: one of the frames is not finite, or the transforms do not
                fit it.
        """
        clip = self._rows(frames)
        noted = []
        for transform, *before in zip(self._transforms, *seen, strict=True):
            clip, now = transform(clip, before)
            noted.append(now)
        array = to_array(_as_frames(clip, len(frames)), self._persons, self._confidence)
        arrays = [np.ascontiguousarray(array[:, t]) for t in range(len(frames))]
        return arrays, [[one[i] for one in noted] for i in range(len(frames))]

    def _rows(self, frames: Sequence[ValidatedFrame]) -> Clip:
        """Frames of S streams as one clip (S * M, 1, V, D): the persons of all of them."""
        stated = [frame.confidence for frame in frames if frame.confidence is not None]
        joints = np.concatenate([frame.joints for frame in frames])
        sure = np.concatenate(stated) if stated else None
        return Clip(joints, self._layout, sure, id=frames[0].name, meta=frames[0].meta)


class CausalTransform:
    """One transform, frame by frame: it sees where each joint was seen first and last, and now.

    JointHistory are (M, 2, V, D): the first and the last of each joint of each person, NaN before
    it; M = 0 for a transform that does not look back.
    """

    def __init__(self, pipeline: Pipeline, shape: tuple[int, int, int]) -> None:
        M, V, D = shape
        own = _for_each_person(pipeline, M) if pipeline.uses_history else None
        self.pipeline = own or pipeline
        self._each_person = own is not None
        self._shape = (M if pipeline.uses_history else 0, 2, V, D)

    def blank(self) -> Array:
        return np.full(self._shape, np.nan, np.float32)

    def __call__(self, clip: Clip, seen: Sequence[Array]) -> tuple[Clip, Sequence[Array]]:
        """Frames of S streams as they should be, and what will have been seen with them.

        Args:
            clip: (S * M, 1, V, D), a frame of each.
            seen: of each.
        """
        if not self.pipeline.uses_history:  # no frame matters to another
            return self.pipeline(clip), seen
        if self._each_person:
            ready, now = self._after(clip, np.concatenate(seen))
            M = len(now) // len(seen)
            return ready, [now[i : i + M] for i in range(0, len(now), M)]
        pairs = [self._after(*pair) for pair in zip(_each(clip, len(seen)), seen, strict=True)]
        ready_ones, noted = zip(*pairs, strict=True)
        return _joined(ready_ones), noted

    def _after(self, frame: Clip, seen: Array) -> tuple[Clip, Array]:
        now, first, last = frame.joints, seen[:, :1], seen[:, 1:]
        stated = None
        if frame.confidence is not None:
            before = np.zeros((len(now), 2, now.shape[2]), np.float32)
            stated = np.concatenate([before, frame.confidence], axis=1)
        known = frame.with_checked_joints(np.concatenate([seen, now], axis=1), stated)
        ready = self.pipeline(known)
        sure = None if ready.confidence is None else ready.confidence[:, -1:]
        noted = np.concatenate(
            [np.where(np.isnan(first), now, first), np.where(np.isnan(now), last, now)], axis=1
        )
        return ready.with_checked_joints(ready.joints[:, -1:], sure), noted


def _for_each_person(pipeline: Pipeline, persons: int) -> Pipeline | None:
    """The step as one that looks at each person alone, None if it looks at others too."""
    ((name, options),) = pipeline.steps
    if name == "center" and (persons == 1 or options.get("person") == "own"):
        return Pipeline([(name, {**options, "person": "own"})])
    return pipeline if name in EACH_PERSON else None


def _causal(recognizer: Recognizer) -> Iterator[CausalTransform]:
    _, D = input_frame_shape(recognizer)
    layout = recognizer.layout
    for pipeline in (
        recognizer.pipeline.without_length_steps().for_evaluation().isolate_history_steps()
    ):
        yield CausalTransform(pipeline, (recognizer.header.persons, layout.num_joints, D))
        layout = pipeline.output_layout(layout)
        D *= len(parse_stream(pipeline.stream))


def _each(clip: Clip, streams: int) -> Iterator[Clip]:
    """(S * M, 1, V, D) -> (M, 1, V, D) of each stream."""
    M = clip.num_persons // streams
    for i in range(0, clip.num_persons, M):
        sure = None if clip.confidence is None else clip.confidence[i : i + M]
        yield clip.with_checked_joints(clip.joints[i : i + M], sure)


def _joined(clips: Sequence[Clip]) -> Clip:
    """The inverse of `_each`."""
    stated = [clip.confidence for clip in clips if clip.confidence is not None]
    joints = np.concatenate([clip.joints for clip in clips])
    return clips[0].with_checked_joints(joints, np.concatenate(stated) if stated else None)


def _as_frames(clip: Clip, streams: int) -> Clip:
    """(S * M, 1, V, D) -> (M, S, V, D)."""

    def split(array: Array) -> Array:
        return np.moveaxis(array.reshape(streams, -1, *array.shape[2:]), 0, 1)

    return clip.with_checked_joints(
        split(clip.joints), None if clip.confidence is None else split(clip.confidence)
    )


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
