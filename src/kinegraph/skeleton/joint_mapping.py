"""Conversion of joints from one layout to another.

A target joint is a joint of the source or the midpoint of two, as declared below; else it is
absent.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import LayoutError
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.projection import CameraProjection, get_projection

Array = NDArray[np.float32]
Parts = dict[str, tuple[str, ...]]


def _add_right_side(parts: Parts) -> Parts:
    """Add the same entries for the right side."""
    return parts | {
        joint.replace("left_", "right_"): tuple(part.replace("left_", "right_") for part in own)
        for joint, own in parts.items()
    }


_KINECT_FOOT: Parts = {"left_foot": ("left_foot", "left_toe")}  # close to the toes
_KINECT1: Parts = {
    "hip_center": ("mid_hip",),
    "spine": ("spine_mid",),
    "shoulder_center": ("neck",),
}
_KINECT1 |= _add_right_side(_KINECT_FOOT)
_KINECT2: Parts = {"spine_base": ("mid_hip",), "spine_shoulder": ("neck",), "neck": ("throat",)}
_KINECT2 |= _add_right_side(_KINECT_FOOT | {"left_thumb": ("left_thumb_tip",)})

#: Layout -> joint -> the body part that it marks, followed by the parts that it may stand for where
#: the layout does not mark them. A joint that is not listed marks the part of its own name. "neck"
#: is the point between the shoulders.
BODY_PARTS: dict[str, Parts] = {
    "ntu25": _KINECT2,
    "ntu25_pyskl": _KINECT2,
    "kinect20": _KINECT1,
    "utd_mhad20": _KINECT1,
    "msr20": _KINECT1,
    "florence15": {"spine": ("spine_mid",)},
    # OpenNI marks the ends of arms and legs, but neither wrists nor ankles
    "sbu15": {
        "torso": ("spine_mid",),
        **_add_right_side(
            {"left_hand": ("left_hand", "left_wrist"), "left_foot": ("left_foot", "left_ankle")}
        ),
    },
    "jhmdb15": {"belly": ("spine_mid",), "face": ("head",)},
    "body25": _add_right_side({"left_big_toe": ("left_toe",)}),
    "mediapipe33": _add_right_side(
        {
            "left_foot_index": ("left_toe",),
            "left_thumb": ("left_thumb_knuckle",),
            "left_index": ("left_index_knuckle",),
            "left_pinky": ("left_pinky_knuckle",),
        }
    ),
}

#: Parts that are the midpoint of two others, for layouts that do not mark them.
MIDPOINTS: Parts = {
    "mid_hip": ("left_hip", "right_hip"),
    "neck": ("left_shoulder", "right_shoulder"),
    "head": ("left_ear", "right_ear"),
    **_add_right_side({"left_hand": ("left_index_knuckle", "left_pinky_knuckle")}),
}

#: Layouts of depth sensors: their joints have a depth, which joints of an image lack.
DEPTH_LAYOUTS = frozenset({"ntu25", "ntu25_pyskl", "ntu_edge24", "kinect20", "utd_mhad20", "msr20"})
DEPTH_LAYOUTS |= {"sbu15", "florence15"}


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
    if source.joints == target.joints:
        return tuple((joint,) for joint in range(source.num_joints))
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


def convert_joints(
    joints: Array,
    source: str | SkeletonLayout,
    target: str | SkeletonLayout,
    confidence: Array | None = None,
    camera: str | CameraProjection | None = None,
) -> tuple[Array, Array | None]:
    """Convert joints of one layout into joints of another.

    Args:
        joints: (..., V, D), NaN where a joint is absent.
        source: the layout of the joints.
        target: the layout to convert to.
        confidence: (..., V).
        camera: how 3D joints become flat (a `CameraProjection` or its name, ``front`` or
            ``pinhole``); None keeps their coordinates.

    Returns:
        joints (..., V', D'), NaN where the source has no such joint, or where one of the joints
        whose mean it is is absent; and confidence (..., V'), the smallest of the joints used, 0
        where the joint is absent (None if none was given).

    Raises:
        UnknownNameError: no layout or camera has that name.
        LayoutError: the number of joints is wrong; the layouts have no joint in common; the target
            needs a depth that the source lacks; a camera was given for flat joints.
    """
    source, target = get_layout(source), get_layout(target)
    _require_convertible(joints, source, target)
    if camera is not None:
        joints = get_projection(camera)(joints)
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


#: The layouts that `conversion_table` compares; the others differ from them in bones or order only.
COMPARED_LAYOUTS: tuple[str, ...] = (
    *("coco17", "openpose18", "body25", "mediapipe33", "penn13", "jhmdb15"),
    *("ntu25", "kinect20", "florence15", "sbu15"),
)


def conversion_table() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return (columns, rows): how many joints of each column's layout each row's layout gives."""
    rows = []
    for source in COMPARED_LAYOUTS:
        row = [source]
        for target in COMPARED_LAYOUTS:
            lacks_depth = target in DEPTH_LAYOUTS and source not in DEPTH_LAYOUTS
            found = sum(map(bool, map_joints(source, target)))
            row.append("–" if lacks_depth else f"{found}/{get_layout(target).num_joints}")
        rows.append(tuple(row))
    return COMPARED_LAYOUTS, rows


def _require_convertible(joints: Array, source: SkeletonLayout, target: SkeletonLayout) -> None:
    if joints.ndim < 2 or joints.shape[-2] != source.num_joints:
        raise LayoutError(
            f"expected joints (..., {source.num_joints}, D) of layout {source.name!r}, "
            f"got an array {joints.shape}"
        )
    lacks_depth = target.name in DEPTH_LAYOUTS and source.name not in DEPTH_LAYOUTS
    if joints.shape[-1] == 2 and lacks_depth:
        raise LayoutError(
            f"joints of an image ({source.name!r}) cannot become {target.name!r}, whose joints "
            "have a depth; choose a layout of images, such as penn13 or coco17"
        )


def _body_parts(layout: SkeletonLayout, joint: str) -> tuple[str, ...]:
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
