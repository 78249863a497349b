"""Conversion of clips to the space that a model was trained in, or a refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.skeleton.space import PREPARATIONS, UNITS, Space, guess_image_unit

if TYPE_CHECKING:
    from kinegraph.transforms.pipeline import Pipeline


def fit_space(clip: Clip, wanted: Space, pipeline: Pipeline) -> Clip:
    """Return a clip whose coordinates mean what those of the training clips meant.

    World axes are permuted, units are converted, pixels become shares of the image and back. A clip
    that is not prepared gets the preparation of the training clips, unless the pipeline does it.

    Args:
        clip: a clip of any space.
        wanted: the space of the training clips.
        pipeline: the transforms that follow.

    Raises:
        TransformError: the clip cannot be converted; the message says what is missing.
    """
    have = clip.space
    if have == wanted:
        return clip
    if have.prepared != "recorded" and have.prepared != wanted.prepared:
        return _accept_prepared(clip, wanted, pipeline)
    missing = wanted.prepared != "recorded" and have.prepared == "recorded"
    target = PREPARATIONS[wanted.prepared].source if missing else wanted
    fitted = _convert(clip, target, pipeline)
    if missing and wanted.prepared not in pipeline.preparations:
        return pipeline.prepare(fitted, wanted.prepared)
    return fitted


def _accept_prepared(clip: Clip, wanted: Space, pipeline: Pipeline) -> Clip:
    """Return a prepared clip as it is if the pipeline does not depend on what was changed."""
    name = clip.space.prepared
    if name in pipeline.preparations:
        return clip
    preparation = PREPARATIONS[name]
    if lost := preparation.changes - pipeline.cancels:
        raise TransformError(
            f"the clip is prepared as by {name!r} ({preparation.about}), the model was trained on "
            f"clips {_origin(wanted)} and needs their {' and '.join(sorted(lost))}: give it the "
            "clip as recorded"
        )
    recorded = clip.with_space(replace(clip.space, prepared=wanted.prepared))
    return _convert(recorded, wanted, pipeline)


def _origin(space: Space) -> str:
    return "as recorded" if space.prepared == "recorded" else f"prepared as by {space.prepared!r}"


def _convert(clip: Clip, wanted: Space, pipeline: Pipeline) -> Clip:
    have = clip.space
    if wanted.kind == "unstated" or (have.kind == "unstated" and wanted.assumed):
        return clip  # training clips of the same origin, which state nothing either
    if have.kind == "unstated":
        raise TransformError(
            f"the clip has {clip.num_channels} numbers per joint and does not state what they "
            f"mean; the model was trained on {wanted.describe()}. If the last is a confidence, "
            "read it with --confidence true; else state --space image, or --space world and the "
            "axis that points up, such as --up=-y"
        )
    if have.kind == "world" and wanted.kind == "image" and clip.num_channels == 2:
        flat = Space("image", assumed=have.assumed)
        return replace(clip, joints=_turn_flat(clip.joints, have, flat), space=flat)
    if have.kind == "world" and wanted.kind == "image":
        if pipeline.has_camera:
            return clip  # the step 'layout' projects by the stated axes
        raise TransformError(
            f"the clip is in 3D, {have.describe()}, and the model was trained on an image: add the "
            "transform layout with a camera to its recipe, or convert the clip to 2D"
        )
    if have.kind == "image" and wanted.kind == "world":
        same_scale = have.unit is None or pipeline.cancels >= {"position", "size"}
        if pipeline.has_camera and same_scale:
            return clip  # the training clips became images too
        raise TransformError(
            f"the clip is of an image and the model was trained on {wanted.describe()}: a depth "
            "cannot be made from an image"
        )
    if have.kind == "image":
        return clip if wanted.unit is None else to_image_unit(clip, wanted.unit)
    return _convert_world(clip, wanted)


def _convert_world(clip: Clip, wanted: Space) -> Clip:
    have, joints = clip.space, clip.joints
    matrix = have.rotation_to(wanted)
    if clip.num_channels == 2:
        joints = _turn_flat(joints, have, wanted)
    elif clip.num_channels == 3 and not np.array_equal(matrix, np.eye(3)):
        joints = permute_axes(joints, matrix)
    unit = have.unit
    if have.unit and wanted.unit and have.unit != wanted.unit:
        factor = UNITS["world"][have.unit] / UNITS["world"][wanted.unit]
        joints, unit = joints * np.float32(factor), wanted.unit
    return replace(clip, joints=joints, space=replace(wanted, unit=unit, assumed=have.assumed))


def _turn_flat(joints: NDArray[np.float32], have: Space, wanted: Space) -> NDArray[np.float32]:
    """Return joints (..., x, y) of one space in another, whose x and y are in the same plane."""
    matrix = have.rotation_to(wanted)[:2, :2]
    if not (np.abs(matrix).sum(axis=1) == 1).all():
        raise TransformError(
            f"the clip has 2 coordinates, {have.describe()}, which are not x and y of "
            f"{wanted.describe()}"
        )
    return permute_axes(joints, matrix)


def permute_axes(joints: NDArray[np.float32], matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply joints (..., D) by a signed permutation (D, D), without rounding."""
    return joints[..., np.abs(matrix).argmax(axis=1)] * matrix.sum(axis=1)


def to_image_unit(clip: Clip, unit: str) -> Clip:
    """Return the clip in pixels or in shares of the image's width and height.

    A clip of unknown unit is in shares if no coordinate exceeds 2, else in pixels.

    Raises:
        TransformError: the size of the image (meta ``width`` and ``height``) is not known, or the
            clip is stated not to be of an image.
    """
    if clip.space.kind == "world" and not clip.space.assumed:
        raise TransformError(
            f"expected the coordinates of an image, got {clip.space.describe()}: convert the clip "
            "to 2D with the step layout and a camera"
        )
    have = clip.space.unit or guess_image_unit(clip.joints)
    if have == unit:
        return clip
    size = [clip.meta.get(name) for name in ("width", "height")]
    if not all(isinstance(side, int | float) and side > 0 for side in size):
        given = {"pixel": "pixels", "share": "shares of the image's width and height"}
        raise TransformError(
            f"the clip is in {given[have]}, but {given[unit]} are needed: state the size of the "
            "image (width and height in pixels: --width and --height, or meta width and height)"
        )
    sides = np.asarray(size, dtype=np.float32)
    joints = clip.joints.copy()
    joints[..., :2] = joints[..., :2] / sides if unit == "share" else joints[..., :2] * sides
    space = Space("image", unit=unit, prepared=clip.space.prepared, assumed=clip.space.assumed)
    return replace(clip, joints=joints, space=space)
