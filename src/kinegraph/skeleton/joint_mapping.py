"""Conversion of joints from one layout to another.

A target joint is a joint of the source or the midpoint of two, as body_parts.yaml states; else it
is absent.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import LayoutError
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.projection import CameraProjection, get_projection
from kinegraph.skeleton.space import KINECT, Space

Array = NDArray[np.float32]
Parts = dict[str, tuple[str, ...]]

#: The group of all joints that belong to no limb.
TRUNK = "trunk"


def _load_parts() -> tuple[dict[str, Parts], Parts, dict[str, list[str]], tuple[str, ...]]:
    import yaml

    text = resources.files("kinegraph.skeleton").joinpath("body_parts.yaml").read_text("utf-8")
    data = yaml.safe_load(text)
    joints = {layout: _add_right_side(parts) for layout, parts in data["joints"].items()}
    midpoints = _add_right_side(data["midpoints"])
    return joints, midpoints, data["limbs"], tuple(data["compared_layouts"])


def _add_right_side(parts: Parts) -> Parts:
    return {
        joint.replace("left_", side): tuple(part.replace("left_", side) for part in own)
        for side in ("right_", "left_")
        for joint, own in parts.items()
    }


BODY_PARTS, MIDPOINTS, LIMBS, COMPARED_LAYOUTS = _load_parts()


@cache
def map_joints(
    source: str | SkeletonLayout, target: str | SkeletonLayout
) -> tuple[tuple[int, ...], ...]:
    """Return, for each target joint, the source joints whose mean it is; () if it has no source.

    >>> map_joints("coco17", "openpose18")[:3]  # nose, neck, right shoulder
    ((0,), (5, 6), (6,))

    Raises:
        UnknownNameError: no layout has that name.
        LayoutError: the layouts have no joint in common.
    """
    source, target = get_layout(source), get_layout(target)
    if set(source.joints) == set(target.joints):
        return tuple((source.index(joint),) for joint in target.joints)
    joint_of_part = _index_parts(source)
    mapping = tuple(
        _find_sources(_body_parts(target, joint), joint_of_part) for joint in target.joints
    )
    if not any(mapping):
        raise LayoutError(
            f"layouts {source.name!r} and {target.name!r} have no joint in common, so neither can "
            "be converted into the other"
        )
    return mapping


@cache
def group_joints(layout: SkeletonLayout) -> dict[str, tuple[int, ...]]:
    """Return the joints of ``arms``, ``legs`` and ``trunk``, without groups that have none.

    >>> group_joints(get_layout("penn13"))["trunk"]  # head, shoulders and hips
    (0, 1, 2, 7, 8)
    """
    groups: dict[str, list[int]] = {}
    for joint, name in enumerate(layout.joints):
        part = _body_parts(layout, name)[0].partition("_")[2]
        limbs = LIMBS.items() if find_side(layout, name) else ()
        limb = next((limb for limb, words in limbs if part.startswith(tuple(words))), TRUNK)
        groups.setdefault(limb, []).append(joint)
    return {limb: tuple(joints) for limb, joints in groups.items()}


def find_side(layout: SkeletonLayout, joint: str) -> str:
    """Return "left" or "right" if the joint marks a part of that side, else nothing."""
    side = _body_parts(layout, joint)[0].partition("_")[0]
    return side if side in ("left", "right") else ""


def missing_joints(source: SkeletonLayout, target: SkeletonLayout) -> list[str]:
    """Return the joints of the target layout that the source layout cannot give."""
    if has_depth(target) and not has_depth(source):
        return list(target.joints)
    try:
        mapping = map_joints(source, target)
    except LayoutError:
        return list(target.joints)
    return [name for name, sources in zip(target.joints, mapping, strict=True) if not sources]


def convert_joints(
    joints: Array,
    source: str | SkeletonLayout,
    target: str | SkeletonLayout,
    confidence: Array | None = None,
    camera: str | CameraProjection | None = None,
    space: Space = KINECT,
) -> tuple[Array, Array | None]:
    """Convert joints of one layout into joints of another.

    Args:
        joints: (..., V, D), NaN where a joint is absent.
        source: the layout of the joints.
        target: the layout to convert to.
        confidence: (..., V).
        camera: how 3D joints become flat (a `CameraProjection` or its name, ``front`` or
            ``pinhole``); None keeps their coordinates.
        space: the axes of the joints, for the camera.

    Returns:
        joints (..., V', D'), NaN where the source has no such joint, or where one of the joints
        whose mean it is is absent; and confidence (..., V'), the smallest of the joints used, 0
        where the joint is absent (None if none was given).

    Raises:
        UnknownNameError: no layout or camera has that name.
        LayoutError: the number of joints is wrong; the layouts have no joint in common; the target
            needs a depth that the source lacks; a camera was given for flat joints.
        SpaceError: a camera was given, but the axes of the space are not stated.
    """
    source, target = get_layout(source), get_layout(target)
    _require_convertible(joints, source, target)
    if camera is not None:
        joints = get_projection(camera)(joints, space)
    if source.joints == target.joints:
        present = ~np.isnan(joints[..., 0])
        return joints, None if confidence is None else np.where(present, confidence, np.float32(0))
    shape = (*joints.shape[:-2], target.num_joints, joints.shape[-1])
    converted = np.full(shape, np.nan, np.float32)
    new_confidence = None if confidence is None else np.zeros(shape[:-1], np.float32)
    for targets, sources in _group_by_count(map_joints(source, target)):
        converted[..., targets, :] = joints[..., sources, :].mean(axis=-2)
        if new_confidence is not None and confidence is not None:
            present = ~np.isnan(converted[..., targets, 0])
            smallest = confidence[..., sources].min(axis=-1)
            new_confidence[..., targets] = np.where(present, smallest, 0)
    return converted, new_confidence


@cache
def _group_by_count(
    mapping: tuple[tuple[int, ...], ...],
) -> list[tuple[list[int], NDArray[np.intp]]]:
    """Return (target joints that have n sources each, their (targets, n) sources) for each n."""
    groups: dict[int, list[int]] = {}
    for joint, sources in enumerate(mapping):
        if sources:
            groups.setdefault(len(sources), []).append(joint)
    return [(group, np.array([mapping[joint] for joint in group])) for group in groups.values()]


def conversion_table() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return (columns, rows): how many joints of each column's layout each row's layout gives."""
    rows = []
    for source in COMPARED_LAYOUTS:
        row = [source]
        for target in COMPARED_LAYOUTS:
            lacks_depth = has_depth(get_layout(target)) and not has_depth(get_layout(source))
            found = sum(map(bool, map_joints(source, target)))
            row.append("–" if lacks_depth else f"{found}/{get_layout(target).num_joints}")
        rows.append(tuple(row))
    return COMPARED_LAYOUTS, rows


def has_depth(layout: SkeletonLayout) -> bool:
    """Return whether the layout is that of a depth sensor, whose joints an image cannot give."""
    return layout.space is not None and layout.space.kind == "world"


def _require_convertible(joints: Array, source: SkeletonLayout, target: SkeletonLayout) -> None:
    if joints.ndim < 2 or joints.shape[-2] != source.num_joints:
        raise LayoutError(
            f"expected joints (..., {source.num_joints}, D) of layout {source.name!r}, "
            f"got an array {joints.shape}"
        )
    if joints.shape[-1] == 2 and has_depth(target) and not has_depth(source):
        raise LayoutError(
            f"joints of an image ({source.name!r}) cannot become {target.name!r}, whose joints "
            "have a depth; choose a layout of images, such as penn13 or coco17"
        )


def _body_parts(layout: SkeletonLayout, joint: str) -> tuple[str, ...]:
    """Return the part that a joint marks, followed by those that it may stand for."""
    return BODY_PARTS.get(layout.name, {}).get(joint, (joint,))


def _index_parts(layout: SkeletonLayout) -> dict[str, int]:
    """Return body part -> the joint that marks it, else the joint that may stand for it."""
    parts = [_body_parts(layout, joint) for joint in layout.joints]
    substitutes = {part: joint for joint, own in enumerate(parts) for part in own[1:]}
    return substitutes | {own[0]: joint for joint, own in enumerate(parts)}


def _find_sources(parts: tuple[str, ...], joint_of_part: dict[str, int]) -> tuple[int, ...]:
    for part in parts:
        for names in ((part,), MIDPOINTS.get(part, ())):
            if names and all(name in joint_of_part for name in names):
                return tuple(joint_of_part[name] for name in names)
    return ()
