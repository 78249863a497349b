"""Skeleton layouts: named joints and the bones between them, checked once.

A layout lists names and bones; parents and the mirror permutation are derived from them.
"""

from __future__ import annotations

import operator
import reprlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from kinegraph.errors import LayoutError, SpaceError, did_you_mean, unknown_name
from kinegraph.skeleton.space import Space

Pairs = tuple[tuple[int, int], ...]
MAX_JOINTS = 2000  # distances between all joints take 8 x the square of it


@dataclass(frozen=True)
class SkeletonLayout:
    """The V joints of a skeleton and the bones that connect them.

    Attributes:
        name: the name in recipes and files.
        joints: V joint names, in the order of the arrays.
        bones: (child, parent) joint indices, in the order and the direction of the source, without
            self-links. Usually a tree; a convention with cycles lists more than V-1 bones. Some
            sources list the end nearer to the center first: use `parents` to find it.
        center: index of the joint from which distances are counted.
        mirror_pairs: (left, right) joint indices.
        source: where the convention comes from.
        space: the usual space of three coordinates of such joints, or of two if it is an image;
            None if there is none.
        depth: whether the third coordinate of an image's joint is usually its depth.

    Bones, center and pairs may name joints instead of indices; they are stored as indices.

    Raises:
        LayoutError: an index out of range, a repeated joint name or bone, or a joint that no
            bones connect with the center.
    """

    name: str
    joints: tuple[str, ...]
    bones: Pairs
    center: int
    mirror_pairs: Pairs = ()
    source: str = field(default="", compare=False)
    space: Space | None = field(default=None, compare=False)
    depth: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        _validate_and_normalize(self)

    @property
    def num_joints(self) -> int:
        """V."""
        return len(self.joints)

    @cached_property
    def parents(self) -> tuple[int, ...]:
        """The next joint on the shortest path to the center, per joint; the center's is itself.

        Of two paths of equal length the one whose bone is listed first is taken.
        """
        parents = _find_parents(self)
        return tuple(parents[joint] for joint in range(self.num_joints))

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """The permutation that swaps left and right."""
        order = list(range(self.num_joints))
        for left, right in self.mirror_pairs:
            order[left], order[right] = right, left
        return tuple(order)

    def default_space(self, coordinates: int) -> Space:
        """Return the space that is assumed for joints of so many coordinates.

        Two coordinates are an image. Three coordinates of a layout of images are unstated, because
        the third may be a confidence, unless the layout has a depth.
        """
        usual = self.space or Space()
        if coordinates == 2:
            return Space("image", assumed=True)
        if coordinates == 3 and usual.kind == "image" and not self.depth:
            return Space(assumed=True)
        return replace(usual, assumed=True)

    def is_same(self, other: SkeletonLayout) -> bool:
        """Return whether joints and bones are those of another layout, whatever their names."""
        return self is other or (self.joints == other.joints and self.bones == other.bones)

    def index(self, joint: str) -> int:
        """Return the index of a named joint.

        Raises:
            UnknownNameError: this layout has no such joint.
        """
        if joint not in self.joints:
            raise unknown_name(f"joint of layout {self.name!r}", joint, self.joints)
        return self.joints.index(joint)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain containers, for stores, checkpoints and layout files."""
        usual = {"space": self.space.to_dict()} if self.space else {}
        return {
            "name": self.name,
            "joints": list(self.joints),
            "bones": [list(bone) for bone in self.bones],
            "center": self.center,
            "mirror_pairs": [list(pair) for pair in self.mirror_pairs],
            "source": self.source,
            "depth": self.depth,
            **usual,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SkeletonLayout:
        """Return the layout with these fields; the inverse of `to_dict`.

        Raises:
            LayoutError: a field is missing, unknown or of the wrong type.
        """
        if not isinstance(data, Mapping):
            raise LayoutError(f"expected the fields of a layout, got {type(data).__name__}")
        if "centre" in data:  # layout files of users have either spelling
            data = {"center" if key == "centre" else key: data[key] for key in data}
        known = [f.name for f in fields(cls)]
        if unknown := sorted(str(key) for key in data if key not in known):
            hint = did_you_mean(unknown[0], known)
            raise LayoutError(
                f"unknown layout field {unknown[0]!r}{hint}; known: {', '.join(known)}"
            )
        missing = [key for key in ("name", "joints", "bones", "center") if key not in data]
        if missing:
            raise LayoutError(f"layout {data.get('name', '')!r}: field {missing[0]!r} is missing")
        try:
            space = Space.from_dict(data["space"]) if data.get("space") else None
        except SpaceError as error:
            raise LayoutError(f"layout {data['name']!r}: {error}") from error
        return cls(**{**data, "space": space})


def _validate_and_normalize(layout: SkeletonLayout) -> None:
    """Check all fields; store lists as tuples and named joints as indices."""
    for text in ("name", "source"):
        if not isinstance(value := getattr(layout, text), str):
            raise LayoutError(f"layout field {text!r}: expected text, got {reprlib.repr(value)}")
    if not isinstance(layout.depth, bool):
        raise _type_error(layout, "depth", "true or false", layout.depth)
    if not layout.name:
        raise LayoutError("layout field 'name': expected a name, got an empty text")
    object.__setattr__(layout, "joints", _validate_names(layout))
    for key in ("bones", "mirror_pairs"):
        object.__setattr__(layout, key, _validate_pairs(layout, key))
    object.__setattr__(layout, "center", _joint_index(layout, "center", layout.center))
    _reject_repeats(layout)
    connected = _find_parents(layout)
    if lost := [name for i, name in enumerate(layout.joints) if i not in connected]:
        raise LayoutError(
            f"layout {layout.name!r}: no bones connect {', '.join(lost)} with the center "
            f"{layout.joints[layout.center]}"
        )


def _field_error(layout: SkeletonLayout, where: str, what: str) -> LayoutError:
    return LayoutError(f"layout {layout.name!r}: {where}: {what}")


def _type_error(layout: SkeletonLayout, where: str, expected: str, value: Any) -> LayoutError:
    return _field_error(layout, where, f"expected {expected}, got {reprlib.repr(value)}")


def _validate_names(layout: SkeletonLayout) -> tuple[str, ...]:
    joints = layout.joints
    if not isinstance(joints, list | tuple) or not joints:
        raise _type_error(layout, "joints", "a list of names", joints)
    for i, joint in enumerate(joints):
        if not isinstance(joint, str) or not joint:
            raise _type_error(layout, f"joints[{i}]", "a name", joint)
    if len(joints) > MAX_JOINTS:
        raise _field_error(layout, "joints", f"{len(joints)} joints; the maximum is {MAX_JOINTS}")
    if len({*joints}) < len(joints):
        i = next(i for i, joint in enumerate(joints) if joint in joints[:i])
        raise _field_error(layout, f"joints[{i}]", f"{joints[i]!r} is listed twice")
    return tuple(joints)


def _validate_pairs(layout: SkeletonLayout, key: str) -> Pairs:
    pairs = getattr(layout, key)
    if not isinstance(pairs, list | tuple):
        raise _type_error(layout, key, "a list of pairs", pairs)
    return tuple(_validate_pair(layout, f"{key}[{i}]", pair) for i, pair in enumerate(pairs))


def _validate_pair(layout: SkeletonLayout, where: str, pair: Any) -> tuple[int, int]:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise _type_error(layout, where, "a pair of joints", pair)
    first, second = (_joint_index(layout, where, joint) for joint in pair)
    if first == second:
        raise _field_error(layout, where, f"pairs {layout.joints[first]} with itself")
    return first, second


def _joint_index(layout: SkeletonLayout, where: str, joint: Any) -> int:
    if isinstance(joint, str):
        if joint not in layout.joints:
            raise _field_error(layout, where, f"no joint is named {reprlib.repr(joint)}")
        return layout.joints.index(joint)
    if isinstance(joint, bool) or not hasattr(joint, "__index__"):
        raise _type_error(layout, where, "a joint's name or index", joint)
    index, last = operator.index(joint), layout.num_joints - 1
    if not 0 <= index <= last:
        raise _field_error(layout, where, f"joint {index} is out of range, joints are 0 to {last}")
    return index


def _reject_repeats(layout: SkeletonLayout) -> None:
    bones: set[frozenset[int]] = set()
    for i, bone in enumerate(layout.bones):
        if frozenset(bone) in bones:
            child, parent = (layout.joints[joint] for joint in bone)
            raise _field_error(layout, f"bones[{i}]", f"{child} to {parent} is listed twice")
        bones.add(frozenset(bone))
    mirrored: set[int] = set()
    for i, pair in enumerate(layout.mirror_pairs):
        if repeated := mirrored.intersection(pair):
            what = f"{layout.joints[min(repeated)]} already has a mirror joint"
            raise _field_error(layout, f"mirror_pairs[{i}]", what)
        mirrored.update(pair)


def _find_parents(layout: SkeletonLayout) -> dict[int, int]:
    """Search breadth-first from the center; return the parent of every connected joint."""
    neighbors: dict[int, list[int]] = {joint: [] for joint in range(layout.num_joints)}
    for child, parent in layout.bones:
        neighbors[child].append(parent)
        neighbors[parent].append(child)
    parents = {layout.center: layout.center}
    queue = deque([layout.center])
    while queue:
        joint = queue.popleft()
        for other in neighbors[joint]:
            if other not in parents:
                parents[other] = joint
                queue.append(other)
    return parents
