"""Clips of one skeleton as clips of another, so that a model can take what it was not made for."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import numpy as np

from kinegraph.clips.clip import Clip
from kinegraph.errors import LayoutError, TransformError, UnknownNameError
from kinegraph.skeleton.joint_mapping import convert_joints
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.projection import Projection
from kinegraph.transforms.validation import Bounds, LayoutName, transform

DEFAULT = "coco17"


def convert_layout(
    clip: Clip, to: str | SkeletonLayout, camera: str | Projection | None = None
) -> Clip:
    """The clip with the joints of another layout; what cannot be had is absent.

    Args:
        clip: of any layout.
        to: the layout that is wanted, or its name.
        camera: how a clip in space becomes flat: ``front`` (from infinitely far), ``pinhole``, or
            a `Projection`; None keeps the coordinates. A camera turns y downwards, as in images.

    Raises:
        UnknownNameError: no such layout or camera.
        LayoutError: no joint in common; an image that should get a depth, or be seen by a camera.
    """
    target = get_layout(to)
    joints, confidence = convert_joints(clip.joints, clip.layout, target, clip.confidence, camera)
    return replace(clip, joints=joints, confidence=confidence, layout=target)


@transform
def layout(
    clip: Clip,
    rng: np.random.Generator | None = None,
    *,
    to: Annotated[str, LayoutName()] = DEFAULT,
    camera: Literal["none", "front", "pinhole"] = "none",
    focal: Annotated[float, Bounds(1e-6)] = 1.0,
    distance: Annotated[float, Bounds(0)] = 0.0,
) -> Clip:
    """The clip with the joints of another layout; joints that cannot be had are absent.

    ``camera`` makes clips in space flat, and leaves flat ones as they are: ``front`` looks from
    infinitely far, ``pinhole`` from the sensor's place, ``distance`` farther away, with the focal
    length ``focal``.

    Raises:
        TransformError: no such layout, no joint in common, a depth that an image does not give.
    """
    views = {"front": Projection(), "pinhole": Projection(focal, distance)}
    view = views.get(camera) if clip.num_channels == 3 else None
    try:
        return convert_layout(clip, to, view)
    except (LayoutError, UnknownNameError) as error:
        raise TransformError(f"transform 'layout': {error}") from error
