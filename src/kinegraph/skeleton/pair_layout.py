"""Layouts of two bodies as one skeleton: twice the joints, with a bone between the centers."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

from kinegraph.errors import LayoutError
from kinegraph.skeleton.layout import SkeletonLayout

PAIR_NAME = re.compile(r"pair\((.+)\)")
BODY_PREFIXES = ("person1_", "person2_")


@cache
def pair_layout(layout: SkeletonLayout) -> SkeletonLayout:
    """Return the layout of two bodies of V joints as one skeleton of 2V joints.

    Joints 0 to V-1 are those of the first body, V to 2V-1 those of the second. A bone connects the
    second center with the first one, which is the center of the pair.

    Raises:
        LayoutError: the layout is a pair already.
    """
    if is_pair(layout):
        raise LayoutError(f"layout {layout.name!r} is a pair already; a pair of pairs is not one")
    V = layout.num_joints
    bodies = [[(a + start, b + start) for a, b in layout.bones] for start in (0, V)]
    sides = [[(a + start, b + start) for a, b in layout.mirror_pairs] for start in (0, V)]
    return replace(
        layout,
        name=f"pair({layout.name})",
        joints=tuple(f"{prefix}{joint}" for prefix in BODY_PREFIXES for joint in layout.joints),
        bones=(*bodies[0], *bodies[1], (layout.center + V, layout.center)),
        mirror_pairs=(*sides[0], *sides[1]),
        source=f"two bodies of {layout.name}",
    )


def is_pair(layout: SkeletonLayout) -> bool:
    """Return whether a layout is one of `pair_layout`."""
    return PAIR_NAME.fullmatch(layout.name) is not None


@cache
def single_layout(pair: SkeletonLayout) -> SkeletonLayout:
    """Return the layout of one body of a pair: the inverse of `pair_layout`.

    Raises:
        LayoutError: the layout is not a pair.
    """
    found = PAIR_NAME.fullmatch(pair.name)
    if found is None:
        raise LayoutError(f"layout {pair.name!r} is not a pair of two bodies")
    V = pair.num_joints // 2
    return replace(
        pair,
        name=found[1],
        joints=tuple(joint.removeprefix(BODY_PREFIXES[0]) for joint in pair.joints[:V]),
        bones=tuple(bone for bone in pair.bones if max(bone) < V),
        mirror_pairs=tuple(sides for sides in pair.mirror_pairs if max(sides) < V),
        source="",
    )
