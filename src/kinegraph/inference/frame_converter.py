"""Conversion of the frames of a stream to the layout and the space of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip, MetaValue
from kinegraph.errors import (
    ClipError,
    KinegraphError,
    LayoutError,
    ModelError,
    SpaceError,
    TransformError,
)
from kinegraph.inference.online_preprocessing import input_frame_shape, to_confidence, to_persons
from kinegraph.inference.trained_model import TrainedModel
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import PREPARATIONS, Space
from kinegraph.training.batch import Preprocessor

Array = NDArray[np.float32]
COORDINATES = (2, 3)


class FrameConverter:
    """Converts frames of another layout or space, one by one, as whole clips are converted.

    Whether that is possible is found out here, before the first frame.

    Args:
        model: the model.
        layout: the layout of the frames.
        space: what their coordinates mean; None for the usual space of the layout, for images in
            the unit of the model.
        meta: facts about the recording, as in `Clip.meta`.
        in_steps: whether the model runs frame by frame, without the clip around a frame.

    Attributes:
        space: what the coordinates of the converted frames mean.

    Raises:
        ModelError: the frames cannot be converted, or their unit is not stated.
    """

    def __init__(
        self,
        model: TrainedModel,
        layout: SkeletonLayout,
        space: Space | None,
        meta: Mapping[str, MetaValue],
        in_steps: bool,
    ) -> None:
        self._layout, self._meta, self._stated = layout, meta, space
        self._unit = model.frame_space.unit if model.frame_space.kind == "image" else None
        self._pipeline, self._fps = model.pipeline, model.header.fps
        self._preprocessor = _select_preprocessor(model, space, in_steps)
        self._refusals: dict[int, KinegraphError] = {}
        self.space = model.frame_space
        for D in COORDINATES:
            try:
                self._check(model, D)
            except (ClipError, LayoutError, ModelError, SpaceError, TransformError) as error:
                self._refusals[D] = error
        if len(self._refusals) == len(COORDINATES):
            flat = (space or layout.default_space(3)).kind != "world"
            raise ModelError(str(self._refusals[2 if flat else 3]))

    def __call__(self, joints: Any, confidence: Any, name: str) -> tuple[Any, Array | None]:
        """Return joints (M, V, D) and confidence (M, V) of the model's layout and space.

        A frame without persons gives [].

        Raises:
            ClipError, TransformError, LayoutError, SpaceError: the frame does not fit.
        """
        try:
            found = np.shape(joints)
        except ValueError:  # lists of different lengths, refused below
            found = ()
        accepted = [D for D in COORDINATES if D not in self._refusals]
        D = found[-1] if len(found) > 1 and found[-1] in COORDINATES else accepted[0]
        if D in self._refusals:
            raise ClipError(f"{name}: {self._refusals[D]}")
        shape = self._layout.num_joints, D
        given = to_persons(joints, shape, f"{name}, joints (persons, joints, coordinates)")
        if not len(given):
            return [], None
        stated = None if confidence is None else to_confidence(confidence, given, name)[:, None]
        clip = self._convert(self._make_clip(given[:, None], stated, name))
        return clip.joints[:, 0], None if clip.confidence is None else clip.confidence[:, 0]

    def _check(self, model: TrainedModel, coordinates: int) -> None:
        """Convert one frame of so many coordinates, and keep the space of the result."""
        joints = np.full((1, 1, self._layout.num_joints, coordinates), 0.5, np.float32)
        clip = self._make_clip(joints, None, "frame 0")
        _require_unit(clip.space, self._preprocessor.space or model.space, model)
        converted = self._convert(clip)
        found = converted.num_joints, converted.num_channels
        if found != (wanted := input_frame_shape(model)):
            raise ModelError(
                f"the frames have {found[1]} coordinates for each of {found[0]} joints, the model "
                f"was trained on {wanted[1]} for {wanted[0]}"
            )
        self.space = converted.space

    def _make_clip(self, joints: Array, confidence: Array | None, name: str) -> Clip:
        space = self._stated
        if space is None:
            space = self._layout.default_space(joints.shape[-1])
            space = replace(space, unit=self._unit) if space.kind == "image" else space
        facts: Any = {"id": name, "fps": self._fps, "meta": self._meta, "space": space}
        return Clip(joints, self._layout, confidence, **facts)

    def _convert(self, clip: Clip) -> Clip:
        return self._pipeline.convert_layout(self._preprocessor.fit(clip))


def open_converter(
    model: TrainedModel,
    layout: str | SkeletonLayout | None,
    space: Space | str | Mapping[str, Any] | None,
    meta: Mapping[str, MetaValue],
    in_steps: bool,
) -> FrameConverter | None:
    """Return the converter of a stream, None if its frames are as those of the model.

    Raises:
        ModelError: the frames cannot be converted, or their unit is not stated.
        SpaceError, UnknownNameError: what is stated is wrong.
    """
    chosen = model.layout if layout is None else get_layout(layout)
    stated = space if space is None or isinstance(space, Space) else Space.from_dict(space)
    if chosen.is_same(model.layout) and (stated is None or stated == model.frame_space):
        _require_unit(model.frame_space, model.frame_space, model)
        return None
    return FrameConverter(model, chosen, stated, meta, in_steps)


def _select_preprocessor(model: TrainedModel, space: Space | None, in_steps: bool) -> Preprocessor:
    """Return the model's preprocessor, or one that leaves the preparation of clips to the window.

    Raises:
        ModelError: frames as recorded cannot be prepared one by one, and the mode is ``step``.
    """
    name = model.space.prepared
    is_prepared = space is not None and space.prepared == name
    if is_prepared or model.prepares_frames:
        return model.preprocessor
    if in_steps:
        raise ModelError(
            f"the model was trained on arrays prepared as by {name!r}, which needs whole clips: "
            "open the stream with mode='window', or send frames that are prepared so"
        )
    return replace(model.preprocessor, space=PREPARATIONS[name].source)


def _require_unit(given: Space, wanted: Space, model: TrainedModel) -> None:
    """Raise ModelError if the unit of the frames matters and would be guessed in each of them."""
    if given.unit is not None or given.kind != wanted.kind:
        return
    if given.kind == "image":
        guesses = any(name == "kinetics_normalize" for name, _ in model.pipeline.steps)
        needed = wanted.unit is not None or guesses
        units = "pixel or share (of the image's width and height)"
    else:
        needed = wanted.unit is not None and "size" not in model.pipeline.cancels
        units = "m, cm or mm"
    if needed:
        raise ModelError(
            f"state the unit of the frames' coordinates, {units}: the model was trained on "
            f"{wanted.describe()}"
        )
