"""Rest poses: coordinates and colors for drawing a layout, which has only names and bones."""

from __future__ import annotations

from importlib import resources

import numpy as np
import yaml
from numpy.typing import NDArray

from kinegraph.reports.style import HUES, SIDE_COLORS, SLATE
from kinegraph.skeleton import SkeletonLayout, hop_distance

_PLACES: dict[str, dict[str, tuple[float, float]]] = yaml.safe_load(
    resources.files("kinegraph.reports").joinpath("rest_poses.yaml").read_text("utf-8")
)
_FAN = (np.radians(170.0), np.radians(10.0))


def rest_pose(layout: SkeletonLayout) -> NDArray[np.float64]:
    """Return coordinates to draw a layout with: x to the right, y up, left joints on the left.

    A body is recognized by its mirror pairs and by the names of its joints (head above, arms to
    the sides, legs below); joints with other names are placed next to their neighbors. If fewer
    than two thirds of the joints are recognized, as in a hand, the tree fans out from the center.

    Returns:
        (V, 2), about ten units high; five more if the layout has the points of a face.
    """
    places = [_place(layout, joint) for joint in range(layout.num_joints)]
    known = [place for place in places if place is not None]
    if not layout.mirror_pairs or len(known) < 2 * layout.num_joints / 3:
        return _fan_out(layout)
    pose = np.array([(np.nan, np.nan) if place is None else place for place in places])
    return _separate(_place_remaining(layout, pose))


def joint_sides(layout: SkeletonLayout) -> tuple[str, ...]:
    """Return "left", "right" or "trunk" for each joint."""
    sides = ["trunk"] * layout.num_joints
    for left, right in layout.mirror_pairs:
        sides[left], sides[right] = "left", "right"
    return tuple(sides)


def bone_sides(layout: SkeletonLayout) -> tuple[str, ...]:
    """Return the side of each bone: "trunk" if its ends are on both sides or on neither."""
    sides = joint_sides(layout)
    ends = [{sides[child], sides[parent]} - {"trunk"} for child, parent in layout.bones]
    return tuple(found.pop() if len(found) == 1 else "trunk" for found in ends)


def joint_colors(layout: SkeletonLayout) -> tuple[str, ...]:
    """Return a color for each joint: by side or, without mirror pairs, by branch of the tree."""
    if layout.mirror_pairs:
        return tuple(SIDE_COLORS[side] for side in joint_sides(layout))
    branches = _branches(layout)
    order = sorted(set(branches) - {layout.center})
    hues = {branch: HUES[i % len(HUES)] for i, branch in enumerate(order)}
    return tuple(hues.get(branch, SLATE) for branch in branches)


def bone_colors(layout: SkeletonLayout) -> tuple[str, ...]:
    """Return a color for each bone that agrees with `joint_colors`."""
    if layout.mirror_pairs:
        return tuple(SIDE_COLORS[side] for side in bone_sides(layout))
    colors = joint_colors(layout)
    return tuple(
        colors[parent if child == layout.center else child] for child, parent in layout.bones
    )


def _branches(layout: SkeletonLayout) -> list[int]:
    """Return for each joint the neighbor of the center in its branch; the center for itself."""
    branches = []
    for joint in range(layout.num_joints):
        while layout.parents[joint] != layout.center:
            joint = layout.parents[joint]
        branches.append(joint)
    return branches


def _place(layout: SkeletonLayout, joint: int) -> tuple[float, float] | None:
    side = joint_sides(layout)[joint]
    name = layout.joints[joint].lower()
    for words, (x, y) in _PLACES["middle" if side == "trunk" else "paired"].items():
        if all(word in name for word in words.split()):
            return (-x if side == "left" else x), y
    return None


def _place_remaining(layout: SkeletonLayout, pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """Place the remaining joints one step beyond their parent."""
    if np.isnan(pose[layout.center]).any():
        pose[layout.center] = (0.0, 6.1)
    for joint in _preorder(layout):
        if np.isnan(pose[joint]).any():
            parent = layout.parents[joint]
            step = pose[parent] - pose[layout.parents[parent]]
            length = float(np.linalg.norm(step))
            pose[joint] = pose[parent] + (step / length if length else np.array([0.0, -1.0]))
    return pose


def _separate(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move down joints that are at the same place."""
    for joint in range(1, len(pose)):
        while (np.linalg.norm(pose[:joint] - pose[joint], axis=1) < 0.3).any():
            pose[joint, 1] -= 0.45
    return pose


def _preorder(layout: SkeletonLayout) -> list[int]:
    """Return all joints depth first, each after its parent; siblings from left to right."""
    rank = {"left": 0, "trunk": 1, "right": 2}
    sides = joint_sides(layout)
    order, stack = [], [layout.center]
    while stack:
        order.append(stack.pop())
        children = [
            child
            for child, parent in enumerate(layout.parents)
            if parent == order[-1] and child != layout.center
        ]
        stack += sorted(children, key=lambda child: (rank[sides[child]], child), reverse=True)
    return order


def _fan_out(layout: SkeletonLayout) -> NDArray[np.float64]:
    """Place the tree around its center: radius by depth, leaves at even angles over the top."""
    depth, angle = hop_distance(layout)[layout.center], np.full(layout.num_joints, np.nan)
    order = _preorder(layout)
    inner = {layout.parents[joint] for joint in order[1:]}
    leaves = [joint for joint in order if joint not in inner]
    angle[leaves] = np.linspace(*_FAN, len(leaves)) if len(leaves) > 1 else np.pi / 2
    for joint in reversed(order):
        if np.isnan(angle[joint]):
            angle[joint] = np.mean([angle[c] for c in order[1:] if layout.parents[c] == joint])
    radius = 10 * depth / max(1.0, float(depth.max()))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
