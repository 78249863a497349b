"""Conversion of clips to another skeleton layout."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from annotated_types import Interval

from kinegraph.clips.clip import Clip
from kinegraph.errors import LayoutError, SpaceError, TransformError, UnknownNameError
from kinegraph.skeleton.joint_mapping import convert_joints
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout, parse_layout
from kinegraph.skeleton.projection import CameraProjection
from kinegraph.skeleton.space import Space
from kinegraph.transforms.registry import transform
from kinegraph.transforms.validation import MAX_NUMBER, LayoutChoice, NonNegative

DEFAULT_LAYOUT = "coco17"


def convert_layout(
    clip: Clip, to: str | SkeletonLayout, camera: str | CameraProjection | None = None
) -> Clip:
    """Convert a clip to another layout; joints that the clip's layout lacks are absent.

    Args:
        clip: a clip of any layout.
        to: the layout to convert to, or its name.
        camera: how a 3D clip becomes flat: ``front`` (orthographic), ``pinhole``, or a
            `CameraProjection`; None keeps the coordinates. With a camera y grows downwards, as in
            images.

    Raises:
        UnknownNameError: no layout or camera has that name.
        LayoutError: the layouts have no joint in common; the target needs a depth that the clip
            lacks; a camera was given for a flat clip.
        SpaceError: a camera was given, but the axes of the clip are not stated.
    """
    target = get_layout(to)
    joints, confidence = convert_joints(
        clip.joints, clip.layout, target, clip.confidence, camera, clip.space
    )
    space = clip.space
    if camera is not None and space.kind == "world":
        space = Space("image", assumed=space.assumed)
    return replace(clip, joints=joints, confidence=confidence, layout=target, space=space)


@transform(scope="frame", per_person=True)
def layout(
    clip: Clip,
    *,
    to: LayoutChoice = DEFAULT_LAYOUT,
    camera: Literal["none", "front", "pinhole"] = "none",
    focal: Annotated[float, Interval(ge=1e-6, le=MAX_NUMBER)] = 1.0,
    distance: NonNegative = 0.0,
) -> Clip:
    """Convert the clip to another layout; joints that its layout lacks are absent.

    ``to`` is a layout's name or its fields; in a recipe it may be a layout file, whose fields then
    become part of the run. ``camera`` makes 3D clips flat and leaves flat clips as they are:
    ``front`` is orthographic; ``pinhole`` is at the sensor's place, moved back by ``distance``,
    with focal length ``focal``.

    Raises:
        TransformError: see `convert_layout`.
    """
    projections = {"front": CameraProjection(), "pinhole": CameraProjection(focal, distance)}
    projection = projections.get(camera) if clip.num_channels == 3 else None
    try:
        return convert_layout(clip, parse_layout(to), projection)
    except (LayoutError, SpaceError, UnknownNameError) as error:
        raise TransformError(f"transform 'layout': {error}") from error
