"""What a skeleton layout is: named joints, the bones between them, and the checks both must pass.

A layout states names and bones once; parents, edges, hop distances and the mirror permutation
are derived from them.
"""

from __future__ import annotations

import operator
import reprlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kinegraph.errors import LayoutError, unknown_name

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from kinegraph.skeleton.projection import Projection

Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class SkeletonLayout:
    """The joints of a body and how they hang together (V joints).

    Attributes:
        name: what recipes and files call it.
        joints: V joint names, in the order of the arrays.
        bones: (child, parent) joint indices, in the order and the direction of the source;
            self-links are never listed. Usually a tree, but a convention that closes cycles may
            list more than V-1 bones. Some sources point bones away from the center, so ask
            `parents`, not this list, which end is nearer to it.
        center: index of the joint that distances are counted from.
        mirror_pairs: (left, right) joint indices.
        source: where the convention comes from.

    Bones, center and pairs may name joints instead of indices; they are stored as indices.

    Raises:
        LayoutError: an index out of range, a repeated joint name or bone, joints that no bone
            connects with the center.
    """

    name: str
    joints: tuple[str, ...]
    bones: Pairs
    center: int
    mirror_pairs: Pairs = ()
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        _check(self)

    @property
    def num_joints(self) -> int:
        """V."""
        return len(self.joints)

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """Per joint, the next joint on the way to the center; the center is its own parent.

        Where two ways are equally short, the one whose bone is listed first is taken.
        """
        reached = _parents(self)
        return tuple(reached[joint] for joint in range(self.num_joints))

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

    def convert(
        self,
        joints: NDArray[np.float32],
        to: str | SkeletonLayout,
        confidence: NDArray[np.float32] | None = None,
        camera: str | Projection | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Joints (..., V, D) of this layout as those of another, see `convert_joints`."""
        from kinegraph.skeleton.joint_mapping import convert_joints

        return convert_joints(joints, self, to, confidence, camera)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for stores, checkpoints and layout files."""
        return {
            "name": self.name,
            "joints": list(self.joints),
            "bones": [list(bone) for bone in self.bones],
            "center": self.center,
            "mirror_pairs": [list(pair) for pair in self.mirror_pairs],
            "source": self.source,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SkeletonLayout:
        """The inverse of `to_dict`; bones, center and pairs may name joints instead of indices.

        Raises:
            LayoutError: a field is missing, unknown or of the wrong kind.
        """
        if not isinstance(data, Mapping):
            raise LayoutError(f"expected the fields of a layout, got {type(data).__name__}")
        known = [f.name for f in fields(cls)]
        if unknown := sorted(str(key) for key in data if key not in known):
            raise LayoutError(
                f"unknown layout field {unknown[0]!r}; a layout has {', '.join(known)}"
            )
        missing = [key for key in ("name", "joints", "bones", "center") if key not in data]
        if missing:
            raise LayoutError(f"layout {data.get('name', '')!r}: field {missing[0]!r} is missing")
        return cls(**data)


def _check(layout: SkeletonLayout) -> None:
    """Refuse what is no layout; store lists as tuples and named joints as indices."""
    for text in ("name", "source"):
        if not isinstance(getattr(layout, text), str):
            shown = reprlib.repr(getattr(layout, text))
            raise LayoutError(f"layout field {text!r}: expected text, got {shown}")
    if not layout.name:
        raise LayoutError("layout field 'name': expected a name, got an empty text")
    object.__setattr__(layout, "joints", _checked_joints(layout))
    object.__setattr__(layout, "bones", _checked_pairs(layout, "bones"))
    object.__setattr__(layout, "mirror_pairs", _checked_pairs(layout, "mirror_pairs"))
    object.__setattr__(layout, "center", _checked_joint(layout, "center", layout.center))
    _refuse_repeats(layout)
    reached = _parents(layout)
    if lost := [name for i, name in enumerate(layout.joints) if i not in reached]:
        raise LayoutError(
            f"layout {layout.name!r}: no bones connect {', '.join(lost)} with the center "
            f"{layout.joints[layout.center]}"
        )


def _wrong(layout: SkeletonLayout, where: str, what: str) -> LayoutError:
    return LayoutError(f"layout {layout.name!r}: {where}: {what}")


def _checked_joints(layout: SkeletonLayout) -> tuple[str, ...]:
    joints = layout.joints
    if not isinstance(joints, list | tuple) or not joints:
        raise _wrong(layout, "joints", f"expected a list of names, got {reprlib.repr(joints)}")
    seen: set[str] = set()
    for i, joint in enumerate(joints):
        if not isinstance(joint, str) or not joint:
            raise _wrong(layout, f"joints[{i}]", f"expected a name, got {reprlib.repr(joint)}")
        if joint in seen:
            raise _wrong(layout, f"joints[{i}]", f"{joint!r} is listed twice")
        seen.add(joint)
    return tuple(joints)


def _checked_pairs(layout: SkeletonLayout, key: str) -> Pairs:
    pairs = getattr(layout, key)
    if not isinstance(pairs, list | tuple):
        raise _wrong(layout, key, f"expected a list of pairs, got {reprlib.repr(pairs)}")
    return tuple(_checked_pair(layout, f"{key}[{i}]", pair) for i, pair in enumerate(pairs))


def _checked_pair(layout: SkeletonLayout, where: str, pair: Any) -> tuple[int, int]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise _wrong(layout, where, f"expected a pair of joints, got {reprlib.repr(pair)}")
    first, second = (_checked_joint(layout, where, joint) for joint in pair)
    if first == second:
        raise _wrong(layout, where, f"pairs {layout.joints[first]} with itself")
    return first, second


def _checked_joint(layout: SkeletonLayout, where: str, joint: Any) -> int:
    if isinstance(joint, str):
        if joint not in layout.joints:
            raise _wrong(layout, where, f"no joint is named {reprlib.repr(joint)}")
        return layout.joints.index(joint)
    if isinstance(joint, bool) or not hasattr(joint, "__index__"):
        raise _wrong(layout, where, f"expected a joint's name or index, got {reprlib.repr(joint)}")
    index, last = operator.index(joint), layout.num_joints - 1
    if not 0 <= index <= last:
        raise _wrong(layout, where, f"joint {index} is out of range, joints are 0 to {last}")
    return index


def _refuse_repeats(layout: SkeletonLayout) -> None:
    linked: set[frozenset[int]] = set()
    for i, (child, parent) in enumerate(layout.bones):
        bone = frozenset((child, parent))
        if bone in linked:
            ends = f"{layout.joints[child]} to {layout.joints[parent]}"
            raise _wrong(layout, f"bones[{i}]", f"{ends} is listed twice")
        linked.add(bone)
    mirrored: set[int] = set()
    for i, pair in enumerate(layout.mirror_pairs):
        for joint in pair:
            if joint in mirrored:
                what = f"{layout.joints[joint]} already has a mirror joint"
                raise _wrong(layout, f"mirror_pairs[{i}]", what)
            mirrored.add(joint)


def _parents(layout: SkeletonLayout) -> dict[int, int]:
    """Breadth-first from the center: the parent of every joint that can be reached."""
    linked: dict[int, list[int]] = {joint: [] for joint in range(layout.num_joints)}
    for child, parent in layout.bones:
        linked[child].append(parent)
        linked[parent].append(child)
    reached = {layout.center: layout.center}
    queue = deque([layout.center])
    while queue:
        joint = queue.popleft()
        for other in linked[joint]:
            if other not in reached:
                reached[other] = joint
                queue.append(other)
    return reached
