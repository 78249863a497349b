"""Skeletons into one another: which joints of one layout are, or lie between, those of another.

A joint that cannot be had is absent. What may be made of several joints is declared below, and
nothing else is.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import LayoutError
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.projection import Projection, get_projection

Array = NDArray[np.float32]
Parts = dict[str, tuple[str, ...]]


def _both_sides(parts: Parts) -> Parts:
    """The same for the right side."""

    def right(name: str) -> str:
        return name.replace("left_", "right_")

    return parts | {right(k): tuple(map(right, v)) for k, v in parts.items()}


_KINECT_FOOT: Parts = {"left_foot": ("left_foot", "left_toe")}  # it is near the toes
_KINECT1: Parts = {
    "hip_center": ("mid_hip",),
    "spine": ("spine_mid",),
    "shoulder_center": ("neck",),
}
_KINECT1 |= _both_sides(_KINECT_FOOT)
_KINECT2: Parts = {"spine_base": ("mid_hip",), "spine_shoulder": ("neck",), "neck": ("throat",)}
_KINECT2 |= _both_sides(_KINECT_FOOT | {"left_thumb": ("left_thumb_tip",)})

#: Layout -> joint -> the part of the body that it marks, and after it the parts that it may stand
#: for where they are not marked. A joint that is not listed marks the part of its own name; "neck"
#: is where the neck meets the shoulders.
BODY_PARTS: dict[str, Parts] = {
    "ntu25": _KINECT2,
    "ntu25_pyskl": _KINECT2,
    "kinect20": _KINECT1,
    "utd_mhad20": _KINECT1,
    "msr20": _KINECT1,
    "florence15": {"spine": ("spine_mid",)},
    # OpenNI marks the ends of arms and legs, and neither wrists nor ankles
    "sbu15": {
        "torso": ("spine_mid",),
        **_both_sides(
            {"left_hand": ("left_hand", "left_wrist"), "left_foot": ("left_foot", "left_ankle")}
        ),
    },
    "jhmdb15": {"belly": ("spine_mid",), "face": ("head",)},
    "body25": _both_sides({"left_big_toe": ("left_toe",)}),
    "mediapipe33": _both_sides(
        {
            "left_foot_index": ("left_toe",),
            "left_thumb": ("left_thumb_knuckle",),
            "left_index": ("left_index_knuckle",),
            "left_pinky": ("left_pinky_knuckle",),
        }
    ),
}

#: Parts that lie midway between others, for layouts that do not mark them.
MIDPOINTS: Parts = {
    "mid_hip": ("left_hip", "right_hip"),
    "neck": ("left_shoulder", "right_shoulder"),
    "head": ("left_ear", "right_ear"),
    **_both_sides({"left_hand": ("left_index_knuckle", "left_pinky_knuckle")}),
}

#: Layouts of depth sensors: their joints have a depth, which no image gives.
DEPTH_LAYOUTS = frozenset({"ntu25", "ntu25_pyskl", "ntu_edge24", "kinect20", "utd_mhad20", "msr20"})
DEPTH_LAYOUTS |= {"sbu15", "florence15"}


@cache
def map_joints(
    source: str | SkeletonLayout, target: str | SkeletonLayout
) -> tuple[tuple[int, ...], ...]:
    """For each joint of the target the joints of the source whose middle it is; () for none.

    >>> map_joints("coco17", "openpose18")[:3]  # nose, neck, right shoulder
    ((0,), (5, 6), (6,))

    Raises:
        UnknownNameError: a layout of that name does not exist.
        LayoutError: the layouts have no joint in common.
    """
    source, target = get_layout(source), get_layout(target)
    if source.joints == target.joints:
        return tuple((joint,) for joint in range(source.num_joints))
    marked = _marked(source)
    found = tuple(_found(_parts(target, joint), marked) for joint in target.joints)
    if not any(found):
        raise LayoutError(
            f"layouts {source.name!r} and {target.name!r} have no joint in common: neither can "
            "become the other"
        )
    return found


def convert_joints(
    joints: Array,
    source: str | SkeletonLayout,
    target: str | SkeletonLayout,
    confidence: Array | None = None,
    camera: str | Projection | None = None,
) -> tuple[Array, Array | None]:
    """Joints of one layout as those of another.

    Args:
        joints: (..., V, D), NaN where a joint is not seen.
        source: their layout.
        target: the layout that is wanted.
        confidence: (..., V).
        camera: how joints in space become flat (a `Projection` or its
            name, ``front`` or ``pinhole``); None keeps their coordinates.

    Returns:
        (..., V', D') joints, NaN where a joint cannot be had: the source does not mark it, or one
        of those that it lies between is not seen. And (..., V') confidence, the least of those
        that a joint is made of, 0 where it is absent; None where none was given.

    Raises:
        UnknownNameError: no such layout or camera.
        LayoutError: another number of joints; no joint in common; depth that nobody measured; a
            camera for what is flat already.
    """
    source, target = get_layout(source), get_layout(target)
    _check(joints, source, target)
    if camera is not None:
        joints = get_projection(camera)(joints)
    if source.joints == target.joints:
        seen = ~np.isnan(joints[..., 0])
        return joints, None if confidence is None else np.where(seen, confidence, np.float32(0))
    made = np.full((*joints.shape[:-2], target.num_joints, joints.shape[-1]), np.nan, np.float32)
    sure = None if confidence is None else np.zeros(made.shape[:-1], np.float32)
    for places, origins in _alike(map_joints(source, target)):
        made[..., places, :] = joints[..., origins, :].mean(axis=-2)
        if sure is not None and confidence is not None:
            seen = ~np.isnan(made[..., places, 0])
            sure[..., places] = np.where(seen, confidence[..., origins].min(axis=-1), 0)
    return made, sure


@cache
def _alike(origins: tuple[tuple[int, ...], ...]) -> list[tuple[list[int], NDArray[np.intp]]]:
    """(joints that are made of n others, (joints, n) which these are) for each n."""
    places: dict[int, list[int]] = {}
    for joint, own in enumerate(origins):
        if own:
            places.setdefault(len(own), []).append(joint)
    return [(own, np.array([origins[joint] for joint in own])) for own in places.values()]


#: The layouts that `conversion_table` compares; others differ from them in bones or order only.
COMPARED_LAYOUTS: tuple[str, ...] = (
    "coco17",
    "openpose18",
    "body25",
    "mediapipe33",
    "penn13",
    "jhmdb15",
)
COMPARED_LAYOUTS += ("ntu25", "kinect20", "florence15", "sbu15")


def conversion_table() -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """(columns, rows): how many joints of each column's layout can be had from each row's."""
    rows = []
    for source in COMPARED_LAYOUTS:
        row = [source]
        for target in COMPARED_LAYOUTS:
            flat_to_depth = target in DEPTH_LAYOUTS and source not in DEPTH_LAYOUTS
            found = sum(map(bool, map_joints(source, target)))
            row.append("–" if flat_to_depth else f"{found}/{get_layout(target).num_joints}")
        rows.append(tuple(row))
    return COMPARED_LAYOUTS, rows


def _check(joints: Array, source: SkeletonLayout, target: SkeletonLayout) -> None:
    if joints.ndim < 2 or joints.shape[-2] != source.num_joints:
        raise LayoutError(
            f"expected joints (..., {source.num_joints}, D) of layout {source.name!r}, "
            f"got an array {joints.shape}"
        )
    if joints.shape[-1] == 2 and target.name in DEPTH_LAYOUTS and source.name not in DEPTH_LAYOUTS:
        raise LayoutError(
            f"joints of an image ({source.name!r}) cannot become {target.name!r}, whose joints "
            "have a depth: choose a layout of images, such as penn13 or coco17"
        )


def _parts(layout: SkeletonLayout, joint: str) -> tuple[str, ...]:
    return BODY_PARTS.get(layout.name, {}).get(joint, (joint,))


def _marked(layout: SkeletonLayout) -> dict[str, int]:
    """Part -> the joint that marks it, or else may stand for it."""
    parts = [_parts(layout, joint) for joint in layout.joints]
    stand_ins = {part: joint for joint, own in enumerate(parts) for part in own[1:]}
    return stand_ins | {own[0]: joint for joint, own in enumerate(parts)}


def _found(parts: tuple[str, ...], marked: dict[str, int]) -> tuple[int, ...]:
    for part in parts:
        if part in marked:
            return (marked[part],)
        ends = MIDPOINTS.get(part, ())
        if ends and all(end in marked for end in ends):
            return tuple(marked[end] for end in ends)
    return ()
