"""What a body is: the named joints of each skeleton convention and the bones between them.

A layout states names and bones once; parents, edges, hop distances and the mirror permutation
are derived from them. This is the only statement of joints in the project.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from kinegraph.errors import LayoutError, unknown_name


@dataclass(frozen=True)
class SkeletonLayout:
    """The joints of a body and how they hang together (V joints).

    Attributes:
        name: what recipes and files call it.
        joints: V joint names, in the order of the arrays.
        bones: (child, parent) joint indices; self-links are never listed. Usually a tree, but a
            convention that closes cycles may list more than V-1 bones.
        centre: index of the joint that distances are counted from.
        mirror_pairs: (left, right) joint indices.
        source: where the convention comes from.

    Raises:
        LayoutError: an index out of range, a repeated joint name or bone, joints that no bone
            connects with the centre.
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[int, int], ...]
    centre: int
    mirror_pairs: tuple[tuple[int, int], ...] = ()
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        _check(self)

    @property
    def num_joints(self) -> int:
        """V."""
        return len(self.joints)

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """Per joint, the next joint on the way to the centre; the centre is its own parent."""
        return _parents(self)

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """The permutation that swaps left and right."""
        order = list(range(self.num_joints))
        for left, right in self.mirror_pairs:
            order[left], order[right] = right, left
        return tuple(order)

    def index(self, joint: str) -> int:
        """The index of a named joint.

        Raises:
            UnknownNameError: this layout has no such joint.
        """
        if joint not in self.joints:
            raise unknown_name(f"joint of layout {self.name!r}", joint, self.joints)
        return self.joints.index(joint)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for stores, checkpoints and layout files."""
        return {
            "name": self.name,
            "joints": list(self.joints),
            "bones": [list(bone) for bone in self.bones],
            "centre": self.centre,
            "mirror_pairs": [list(pair) for pair in self.mirror_pairs],
            "source": self.source,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SkeletonLayout:
        """The inverse of `to_dict`; bones, centre and pairs may name joints instead of indices.

        Raises:
            LayoutError: a field is missing, unknown or of the wrong kind.
        """
        raise NotImplementedError
