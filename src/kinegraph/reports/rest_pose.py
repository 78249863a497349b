"""Where to draw the joints of a layout, which holds names and bones but no coordinates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kinegraph.reports.style import HUES, SIDE_COLORS, SLATE
from kinegraph.skeleton import SkeletonLayout

# Distance from the body's middle and height of a standing figure (10 high) by what a joint's name
# contains; the first that fits counts. Arms hang outwards so that no two joints share a height.
_PAIRED = (
    (("eye", "inner"), (0.45, 10.2)),
    (("eye", "outer"), (1.25, 10.2)),
    (("eye",), (0.85, 10.4)),
    (("ear",), (1.65, 9.7)),
    (("mouth",), (0.5, 8.7)),
    (("toe", "big"), (1.8, -0.4)),
    (("toe", "small"), (2.5, 0.1)),
    (("foot",), (1.9, -0.3)),
    (("toe",), (2.0, -0.4)),
    (("heel",), (0.9, -0.5)),
    (("ankle",), (1.25, 0.6)),
    (("knee",), (1.15, 2.6)),
    (("hip",), (0.85, 4.5)),
    (("shoulder",), (1.5, 7.2)),
    (("elbow",), (2.2, 5.9)),
    (("wrist",), (2.75, 4.75)),
    (("thumb",), (2.5, 3.3)),
    (("tip",), (3.5, 2.7)),
    (("index",), (3.3, 3.0)),
    (("pinky",), (3.9, 3.7)),
    (("hand",), (3.2, 3.8)),
)
_MIDDLE = (
    (("head",), (0.0, 9.3)),
    (("face",), (0.0, 9.3)),
    (("nose",), (0.0, 9.5)),
    (("neck",), (0.0, 8.1)),
    (("shoulder",), (0.0, 7.5)),
    (("hip",), (0.0, 4.8)),
    (("base",), (0.0, 4.8)),
    (("pelvis",), (0.0, 4.8)),
    (("belly",), (0.0, 5.6)),
    (("spine",), (0.0, 6.1)),
    (("torso",), (0.0, 6.1)),
    (("chest",), (0.0, 6.8)),
)
_FAN = (np.radians(170.0), np.radians(10.0))


def rest_pose(layout: SkeletonLayout) -> NDArray[np.float64]:
    """A pose to draw a layout in: x to the right, y up, left joints on the left.

    A body is recognized by its mirror pairs and by the names of its joints (head above, arms to
    the sides, legs below); joints with other names follow their neighbours. Where fewer than two
    thirds of the joints are recognized, as in a hand, the tree is fanned out from the center.

    Returns:
        (V, 2), about ten units high.
    """
    places = [_place(layout, joint) for joint in range(layout.num_joints)]
    known = [place for place in places if place is not None]
    if not layout.mirror_pairs or len(known) < 2 * layout.num_joints / 3:
        return _fan_out(layout)
    pose = np.array([(np.nan, np.nan) if place is None else place for place in places])
    return _separate(_place_unrecognized(layout, pose))


def joint_sides(layout: SkeletonLayout) -> tuple[str, ...]:
    """Per joint "left", "right" or "trunk"."""
    sides = ["trunk"] * layout.num_joints
    for left, right in layout.mirror_pairs:
        sides[left], sides[right] = "left", "right"
    return tuple(sides)


def bone_sides(layout: SkeletonLayout) -> tuple[str, ...]:
    """Per bone "left" or "right" if one end is on that side and none on the other, else "trunk"."""
    sides = joint_sides(layout)
    ends = [{sides[child], sides[parent]} - {"trunk"} for child, parent in layout.bones]
    return tuple(found.pop() if len(found) == 1 else "trunk" for found in ends)


def joint_colors(layout: SkeletonLayout) -> tuple[str, ...]:
    """Per joint a color: by side or, where no joint has a mirror joint, by branch of the tree."""
    if layout.mirror_pairs:
        return tuple(SIDE_COLORS[side] for side in joint_sides(layout))
    branches = _branches(layout)
    order = sorted(set(branches) - {layout.center})
    hues = {branch: HUES[i % len(HUES)] for i, branch in enumerate(order)}
    return tuple(hues.get(branch, SLATE) for branch in branches)


def bone_colors(layout: SkeletonLayout) -> tuple[str, ...]:
    """Per bone a color that agrees with `joint_colors`."""
    if layout.mirror_pairs:
        return tuple(SIDE_COLORS[side] for side in bone_sides(layout))
    colors = joint_colors(layout)
    return tuple(
        colors[parent if child == layout.center else child] for child, parent in layout.bones
    )


def _branches(layout: SkeletonLayout) -> list[int]:
    """Per joint, the neighbour of the center that it hangs from; the center for itself."""
    branches = []
    for joint in range(layout.num_joints):
        while layout.parents[joint] != layout.center:
            joint = layout.parents[joint]
        branches.append(joint)
    return branches


def _place(layout: SkeletonLayout, joint: int) -> tuple[float, float] | None:
    side = joint_sides(layout)[joint]
    name = layout.joints[joint].lower()
    for words, (x, y) in _MIDDLE if side == "trunk" else _PAIRED:
        if all(word in name for word in words):
            return (-x if side == "left" else x), y
    return None


def _place_unrecognized(layout: SkeletonLayout, pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unrecognized joints one step beyond their parent, or between their placed neighbours."""
    if np.isnan(pose[layout.center]).any():
        pose[layout.center] = (0.0, 6.1)
    for joint in _breadth_first(layout):
        if np.isnan(pose[joint]).any():
            parent = layout.parents[joint]
            step = pose[parent] - pose[layout.parents[parent]]
            length = float(np.linalg.norm(step))
            pose[joint] = pose[parent] + (step / length if length else np.array([0.0, -1.0]))
    return pose


def _separate(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """Joints that fell on the same spot, moved down a little, one after another."""
    for joint in range(1, len(pose)):
        while (np.linalg.norm(pose[:joint] - pose[joint], axis=1) < 0.3).any():
            pose[joint, 1] -= 0.45
    return pose


def _breadth_first(layout: SkeletonLayout) -> list[int]:
    """All joints, each after its parent; children in drawing order, left before right."""
    rank = {"left": 0, "trunk": 1, "right": 2}
    sides = joint_sides(layout)
    order = [layout.center]
    for joint in order:
        children = [
            child
            for child, parent in enumerate(layout.parents)
            if parent == joint and child != layout.center
        ]
        order += sorted(children, key=lambda child: (rank[sides[child]], child))
    return order


def _fan_out(layout: SkeletonLayout) -> NDArray[np.float64]:
    """The tree around its center: depth outwards, the leaves at even angles over the top."""
    depth, angle = np.zeros(layout.num_joints), np.full(layout.num_joints, np.nan)
    order = _breadth_first(layout)
    for joint in order[1:]:
        depth[joint] = depth[layout.parents[joint]] + 1
    leaves = _leaves(layout, order)
    angle[leaves] = np.linspace(*_FAN, len(leaves)) if len(leaves) > 1 else np.pi / 2
    for joint in reversed(order):
        if np.isnan(angle[joint]):
            angle[joint] = np.mean([angle[c] for c in order[1:] if layout.parents[c] == joint])
    radius = 10 * depth / max(1.0, float(depth.max()))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _leaves(layout: SkeletonLayout, order: list[int]) -> list[int]:
    """The joints without children, branch after branch, so that no two branches cross."""
    inner = {layout.parents[joint] for joint in order[1:]}
    position = {joint: i for i, joint in enumerate(order)}

    def path(joint: int) -> tuple[int, ...]:
        step = () if joint == layout.center else path(layout.parents[joint])
        return (*step, position[joint])

    return sorted((joint for joint in order if joint not in inner), key=path)
