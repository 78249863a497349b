"""Division of a skeleton into parts of equally many joints, for attention within and between parts.

Arms, legs and trunk are found by the names of joints (body_parts.yaml), other skeletons are cut at
their branches.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from kinegraph.skeleton.joint_mapping import TRUNK, find_side, group_joints
from kinegraph.skeleton.layout import SkeletonLayout

#: Numbers of joints of a part, the preferred one first.
PART_SIZES = (4, 3, 5)

Joints = tuple[int, ...]


@cache
def divide_into_parts(layout: SkeletonLayout) -> tuple[Joints, ...]:
    """Return parts of equally many joints; each limb is cut from the center outwards.

    The number of joints is that of `PART_SIZES` that needs the fewest places. A part that a limb
    does not fill repeats its last joint.

    >>> from kinegraph.skeleton.layouts import get_layout
    >>> divide_into_parts(get_layout("penn13"))
    ((1, 3, 5), (7, 9, 11), (2, 4, 6), (8, 10, 12), (0, 0, 0))
    """
    limbs = find_limbs(layout)
    size = min(PART_SIZES, key=lambda size: sum(-(-len(limb) // size) * size for limb in limbs))
    cut = [limb[start : start + size] for limb in limbs for start in range(0, len(limb), size)]
    return tuple(part + part[-1:] * (size - len(part)) for part in cut)


def find_limbs(layout: SkeletonLayout) -> list[Joints]:
    """Return the joints of each limb, from the center outwards; the trunk comes last.

    A limb begins with the joint of its side that holds it, such as the shoulder. A skeleton
    without arms and legs, such as a hand, is cut wherever its bones branch.
    """
    groups = group_joints(layout)
    sides = [find_side(layout, joint) for joint in layout.joints]
    limb_of = {
        joint: (limb, sides[joint])
        for limb, joints in groups.items()
        for joint in joints
        if limb != TRUNK
    }
    if len({side for _, side in limb_of.values()}) < 2:
        return _cut_at_branches(layout)
    queue = list(limb_of)
    for joint in queue:  # grows while it is read
        parent = layout.parents[joint]
        if parent not in limb_of and sides[parent] == sides[joint]:
            limb_of[parent] = limb_of[joint]
            queue.append(parent)
    limbs: dict[tuple[str, str] | None, list[int]] = {}
    for joint in _from_center(layout, layout.center):
        limbs.setdefault(limb_of.get(joint), []).append(joint)
    limbs[None] = limbs.pop(None, [])
    return [tuple(limb) for limb in limbs.values() if limb]


def _cut_at_branches(layout: SkeletonLayout) -> list[Joints]:
    """Return chains of joints; a new one begins after each joint with several outer neighbors."""
    chains: list[list[int]] = []
    for joint in _from_center(layout, layout.center):
        parent = layout.parents[joint]
        if joint != layout.center and len(_children(layout, parent)) == 1:
            chains[-1].append(joint)
        else:
            chains.append([joint])
    return [tuple(chain) for chain in chains]


def _from_center(layout: SkeletonLayout, joint: int) -> Iterator[int]:
    """Yield a joint and those farther from the center, one branch after the other."""
    yield joint
    for child in _children(layout, joint):
        yield from _from_center(layout, child)


def _children(layout: SkeletonLayout, joint: int) -> list[int]:
    parents = enumerate(layout.parents)
    return [child for child, parent in parents if parent == joint != child]
