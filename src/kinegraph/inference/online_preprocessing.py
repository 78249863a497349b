"""Online preprocessing: validation of raw frames, and their conversion to network input.

Shapes: S streams, M persons, V joints, D coordinates, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip, MetaValue
from kinegraph.errors import ClipError, ModelError
from kinegraph.inference.trained_model import TrainedModel
from kinegraph.skeleton.layouts import suggest_layouts
from kinegraph.skeleton.space import Space
from kinegraph.transforms import TRANSFORMS, Pipeline, to_array

Array = NDArray[np.float32]
#: For each transform (M, 2, V, D): where each joint was visible first and last, NaN before that.
JointHistory = list[Array]


def input_frame_shape(model: TrainedModel) -> tuple[int, int]:
    """Return (V, D): joints of a person in a raw frame, and coordinates of a joint."""
    channels = model.header.in_channels - model.header.confidence
    pipeline = model.pipeline
    fitting = (D for D in range(1, channels) if pipeline.output_channels(D) == channels)
    return model.layout.num_joints, next(fitting, channels)


class ValidatedFrame(NamedTuple):
    """A raw frame of valid shapes: joints (M, 1, V, D), confidence (M, 1, V) or None."""

    joints: Array
    confidence: Array | None
    name: str
    meta: Mapping[str, MetaValue]
    space: Space


class FrameValidator:
    """A check of raw frames that brings them to one shape; see `StreamingSession.push`."""

    def __init__(self, model: TrainedModel) -> None:
        self._shape = input_frame_shape(model)
        self._persons = model.persons
        # a transform that chooses among persons needs all of them
        self._keeps_all_persons = any(name == "persons" for name, _ in model.pipeline.steps)

    def __call__(
        self, joints: Any, confidence: Any, name: str, meta: Mapping[str, MetaValue], space: Space
    ) -> ValidatedFrame:
        """Return the frame, filled up to as many persons as the model takes.

        Raises:
            ClipError: arrays of another shape.
        """
        given = to_persons(joints, self._shape, f"{name}, joints (persons, joints, coordinates)")
        M = max(self._persons, len(given)) if self._keeps_all_persons else self._persons
        padded = np.full((M, 1, *self._shape), np.nan, np.float32)
        padded[: len(given), 0] = given[:M]
        if confidence is None:
            return ValidatedFrame(padded, None, name, meta, space)
        stated = np.zeros(padded.shape[:3], np.float32)
        stated[: len(given), 0] = to_confidence(confidence, given, name)[:M]
        return ValidatedFrame(padded, stated, name, meta, space)


def merge_frames(
    frames: Sequence[ValidatedFrame], model: TrainedModel, fps: float | None = None
) -> Clip:
    """Return frames of S streams, of ``fps`` frames per second, as one clip (S * M, 1, V, D).

    Raises:
        ClipError: infinite coordinates.
    """
    joints, confidence = _concatenate(frames)
    _, _, name, meta, space = frames[0]
    return Clip(joints, model.layout, confidence, id=name, fps=fps, meta=meta, space=space)


class OnlinePreprocessor:
    """The transforms of a run applied frame by frame, with the history that they need.

    Raises:
        ModelError: a transform that needs the whole clip.
    """

    def __init__(self, model: TrainedModel) -> None:
        if whole := model.pipeline.whole_clip_steps():
            raise ModelError(
                f"mode 'step' takes frames one by one, but the transforms {', '.join(whole)} of "
                "this run need the whole clip; use mode 'window'"
            )
        self._model = model
        self._persons = model.header.persons
        self._confidence = model.header.confidence
        self._transforms = list(_causal_transforms(model))

    def initial_history(self) -> JointHistory:
        """Return the history of a stream without frames."""
        return [transform.initial_history() for transform in self._transforms]

    def stateful_steps(self) -> list[int]:
        """Return the indices of the transforms that need history."""
        return [i for i, t in enumerate(self._transforms) if t.pipeline.uses_history]

    def __call__(
        self, frames: Sequence[ValidatedFrame], histories: Sequence[JointHistory]
    ) -> tuple[list[Array], list[JointHistory]]:
        """Return the network input (C, V, M) and the new history of each of S streams.

        Args:
            frames: one of each stream, all with or all without confidence, and with the same meta.
            histories: of each stream before this frame.

        Raises:
            ClipError, TransformError: a frame is not finite, or the transforms do not fit it.
        """
        clip, updated = self.transform(frames, histories)
        array = to_array(clip, self._persons, self._confidence)
        return [np.ascontiguousarray(array[:, t]) for t in range(len(frames))], updated

    def transform(
        self, frames: Sequence[ValidatedFrame], histories: Sequence[JointHistory]
    ) -> tuple[Clip, list[JointHistory]]:
        """Return the transformed frames of S streams, one after another, and the new histories.

        Arguments and errors are those of a call.
        """
        clip = merge_frames(frames, self._model)
        updated = []
        for transform, *history in zip(self._transforms, *histories, strict=True):
            clip, new = transform(clip, history)
            updated.append(new)
        S = len(frames)
        by_frame = _map_arrays(  # (S * M, 1, V, D) -> (M, S, V, D)
            clip, lambda array: np.moveaxis(array.reshape(S, -1, *array.shape[2:]), 0, 1)
        )
        return by_frame, [[one[i] for one in updated] for i in range(S)]


class CausalTransform:
    """One transform applied frame by frame, given each joint's first, last and current position.

    The history is (M, 2, V, D), see `JointHistory`; M = 0 for a transform that needs none.
    """

    def __init__(self, pipeline: Pipeline, shape: tuple[int, int, int]) -> None:
        M, V, D = shape
        per_person = _per_person_step(pipeline, M) if pipeline.uses_history else None
        self.pipeline = per_person or pipeline
        self._is_per_person = per_person is not None
        self._shape = (M if pipeline.uses_history else 0, 2, V, D)

    def initial_history(self) -> Array:
        """Return the history of a stream without frames."""
        return np.full(self._shape, np.nan, np.float32)

    def __call__(self, clip: Clip, histories: Sequence[Array]) -> tuple[Clip, Sequence[Array]]:
        """Return the transformed frames (S * M, 1, V, D) and the new histories of S streams."""
        S = len(histories)
        if not self.pipeline.uses_history:
            if self.pipeline.is_per_person:
                return self.pipeline(clip), histories
            joined = [self.pipeline(own) for own in _split_streams(clip, S)]
            return joined[0].with_checked_joints(*_concatenate(joined)), histories
        if self._is_per_person:
            transformed, updated = self._transform(clip, np.concatenate(histories))
            return transformed, np.split(updated, S)
        pairs = zip(_split_streams(clip, S), histories, strict=True)
        clips, single = zip(*(self._transform(*pair) for pair in pairs), strict=True)
        return clips[0].with_checked_joints(*_concatenate(clips)), single

    def _transform(self, frame: Clip, history: Array) -> tuple[Clip, Array]:
        now, first, last = frame.joints, history[:, :1], history[:, 1:]
        stated = None
        if frame.confidence is not None:
            before = np.zeros((len(now), 2, now.shape[2]), np.float32)
            stated = np.concatenate([before, frame.confidence], axis=1)
        joints = np.concatenate([history, now], axis=1)
        result = self.pipeline(frame.with_checked_joints(joints, stated))
        updated = np.concatenate(
            [np.where(np.isnan(first), now, first), np.where(np.isnan(now), last, now)], axis=1
        )
        return _map_arrays(result, lambda array: array[:, -1:]), updated


def _per_person_step(pipeline: Pipeline, persons: int) -> Pipeline | None:
    """Return the step in a form that treats each person alone, None if it needs the others.

    The persons of all streams then fit in one call.
    """
    ((name, options),) = pipeline.steps
    if name == "center" and (persons == 1 or options.get("person") == "own"):
        return Pipeline([(name, {**options, "person": "own"})])
    return pipeline if TRANSFORMS[name].per_person else None


def _causal_transforms(model: TrainedModel) -> Iterator[CausalTransform]:
    _, D = input_frame_shape(model)
    layout, persons = model.layout, model.persons
    steps = model.pipeline.without_length_steps().isolate_history_steps()
    for pipeline in steps:
        yield CausalTransform(pipeline, (persons, layout.num_joints, D))
        layout, persons = pipeline.output_layout(layout), pipeline.output_persons(persons)
        D = pipeline.output_channels(D)


def _split_streams(clip: Clip, streams: int) -> Iterator[Clip]:
    """Yield (M, 1, V, D) of each stream of (S * M, 1, V, D)."""
    M = clip.num_persons // streams
    for i in range(0, clip.num_persons, M):
        yield _map_arrays(clip, itemgetter(slice(i, i + M)))


def _concatenate(parts: Sequence[Clip | ValidatedFrame]) -> tuple[Array, Array | None]:
    """Return joints and confidence of all persons of several streams."""
    stated = [part.confidence for part in parts if part.confidence is not None]
    joints = np.concatenate([part.joints for part in parts])
    return joints, np.concatenate(stated) if stated else None


def _map_arrays(clip: Clip, function: Callable[[Array], Array]) -> Clip:
    """Apply a function to joints and confidence; unlike `Clip.map_arrays`, validate nothing."""
    confidence = None if clip.confidence is None else function(clip.confidence)
    return clip.with_checked_joints(function(clip.joints), confidence)


def to_persons(given: Any, shape: tuple[int, ...], what: str) -> Array:
    """Return (M, *shape) of an array of that shape, or of one person; an empty list has M = 0.

    Raises:
        ClipError: another shape.
    """
    try:
        array = np.asarray(given, np.float32)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise ClipError(f"{what}: expected an array of numbers: {error}") from error
    if array.shape == (0,):
        return array.reshape(0, *shape)
    if array.shape[-len(shape) :] != shape or array.ndim - len(shape) not in (0, 1):
        one = ", ".join(map(str, shape))
        hint = _explain_shape(array.shape, shape)
        raise ClipError(
            f"{what}: expected (M, {one}), or ({one}) of one person, got {array.shape}{hint}"
        )
    return array.reshape(-1, *shape)


def _explain_shape(given: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Return a hint for frames of another layout, or with a third number per joint."""
    if len(given) < 2 or len(wanted) < 2 or given[-1] not in (2, 3):
        return ""
    if given[-2] != wanted[-2]:
        return suggest_layouts(given[-2])
    return (
        "; give a confidence apart from the coordinates, leave out the depth of an image, and "
        "state the space of other joints in 3D"
    )


def to_confidence(given: Any, joints: Array, name: str) -> Array:
    """Return (M, V), finite for every visible joint.

    Raises:
        ClipError: another shape, or a value that is not finite.
    """
    stated = to_persons(given, joints.shape[1:2], f"{name}, confidences (persons, joints)")
    if stated.shape != joints.shape[:2]:
        raise ClipError(
            f"{name}: expected confidences {joints.shape[:2]} for as many persons and joints, "
            f"got {stated.shape}"
        )
    if not np.isfinite(stated[~np.isnan(joints[..., 0])]).all():
        raise ClipError(f"{name}: the confidence of a visible joint is not finite")
    return stated
