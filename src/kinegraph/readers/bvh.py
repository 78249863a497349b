"""Reader of motion capture in .bvh files; positions come from the rotations of the hierarchy.

A clip's layout is the hierarchy of its file. Names of bones become the names of the joints at
which they begin (LeftUpLeg is the left hip, LeftForeArm the left elbow), so that clips can be
converted into other layouts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.clip_list import list_clip_files, plan_clip_files
from kinegraph.readers.formats.bvh_file import BvhJoint, BvhMotion, read_bvh
from kinegraph.readers.formats.numpy_file import to_float32
from kinegraph.readers.formats.raw_file import read_head
from kinegraph.readers.reader import Reader, ReadPlan, ReadResults, ReadTask
from kinegraph.readers.space_options import SPACE_OPTIONS, SpaceOptions
from kinegraph.skeleton.body_axes import find_up_axis
from kinegraph.skeleton.joint_names import split_side
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.space import Space

# the joint at which a bone begins, by the bone's name without its side
_BONES = {
    "hips": "mid_hip", "hip": "mid_hip", "pelvis": "mid_hip", "root": "mid_hip",
    "upleg": "hip", "upperleg": "hip", "thigh": "hip", "femur": "hip",
    "lowleg": "knee", "lowerleg": "knee", "shin": "knee", "calf": "knee", "tibia": "knee",
    "leg": "knee", "foot": "ankle", "toebase": "toe", "toes": "toe", "ball": "toe",
    "uparm": "shoulder", "upperarm": "shoulder", "arm": "shoulder", "humerus": "shoulder",
    "forearm": "elbow", "lowarm": "elbow", "lowerarm": "elbow", "radius": "elbow",
    "hand": "wrist", "shoulder": "collar", "clavicle": "collar",
}  # fmt: skip


_SUFFIXES = (".bvh",)
# mixamorig:LeftArm, Bip01 L Thigh
_PREFIX = re.compile(r"^.*[:|]|^Bip0*1[ _]+")


def _scan(source: Path, *, ends: bool = False, **stated: str) -> ReadPlan:
    motion = read_bvh(list_clip_files(source, _SUFFIXES)[0])
    layout = make_layout(motion.joints, ends)
    space = _find_world(_select(motion, ends), layout, stated)
    facts = {"ends": ends, "space": space, "layout": layout}
    return plan_clip_files(source, _SUFFIXES, layout, facts)


def _select(motion: BvhMotion, ends: bool) -> NDArray[np.float32]:
    """Return the positions (T, V, 3) of the joints, with the end sites if ``ends``."""
    kept = [i for i, joint in enumerate(motion.joints) if joint.name or ends]
    return to_float32(motion.positions[:, kept])


def _find_world(
    joints: NDArray[np.float32], layout: SkeletonLayout, stated: Mapping[str, str]
) -> Space:
    """Return the space that is stated, else a world in which the bodies stand upright.

    Bodies without shoulders and hips are taken to stand along y, and bodies along y to face z, as
    most programs write them.
    """
    facts = {"space": "world", "up": find_up_axis(joints, layout) or "y", **stated}
    if facts["up"] == "y":
        facts.setdefault("away", "-z")
    space = SpaceOptions(**facts).resolve(joints, layout)
    return replace(space, assumed=not {"up", "unit"} <= set(stated))


def _read(task: ReadTask) -> ReadResults:
    motion, wanted = read_bvh(task.path), task.info["layout"]
    layout = make_layout(motion.joints, task.info["ends"])
    if layout != wanted:
        known, own = _list_bones(wanted), _list_bones(layout)
        differing = [bone for bone in own if bone not in known] or own
        raise ReadError(
            f"{task.path}: expected the hierarchy of the first file ({len(known)} joints), got "
            f"{len(own)} joints, among them {', '.join(differing[:3])}; convert it by itself"
        )
    joints = task.to_joints(_select(motion, task.info["ends"]), zeros_absent=False)
    yield task.make_clip(joints[None], layout, fps=motion.fps)


def _list_bones(layout: SkeletonLayout) -> list[str]:
    names = layout.joints
    return [f"{names[joint]} at {names[parent]}" for joint, parent in enumerate(layout.parents)]


def make_layout(joints: Sequence[BvhJoint], ends: bool = False) -> SkeletonLayout:
    """Return the hierarchy of a file as a layout; ``ends`` includes the end sites."""
    names = name_joints(joints)
    kept = [i for i, joint in enumerate(joints) if joint.name or ends]
    bones = [(names[i], names[joints[i].parent]) for i in kept if joints[i].parent >= 0]
    own = [names[i] for i in kept]
    mirrors = [(name, name.replace("left_", "right_", 1)) for name in own if name[:5] == "left_"]
    return SkeletonLayout.from_dict(
        {
            "name": f"bvh{len(own)}",
            "joints": own,
            "bones": bones,
            "center": own[0],
            "mirror_pairs": [pair for pair in mirrors if pair[1] in own],
            "source": "the hierarchy of a .bvh file",
        }
    )


def name_joints(joints: Sequence[BvhJoint]) -> list[str]:
    """Return distinct joint names in the style of the registered layouts; an end is x_end.

    >>> name_joints([BvhJoint("mixamorig:LeftUpLeg", -1), BvhJoint("mixamorig:LeftLeg", 0)])
    ['left_hip', 'left_knee']
    """
    parts = [_split_name(joint.name) for joint in joints]
    keys = {"".join(words) for _, words in parts}
    names: list[str] = []
    for joint, (side, words) in zip(joints, parts, strict=True):
        if not joint.name:
            name = f"{names[joint.parent]}_end"
        else:
            rest = _name_joint("".join(words), side, keys) or "_".join(words)
            rest = re.sub(r"_(?=\d)", "", rest) or "joint"
            name = f"{side}_{rest}" if side else rest
        repeated = sum(re.fullmatch(rf"{name}(_no\d+)?", other) is not None for other in names)
        names.append(f"{name}_no{repeated + 1}" if repeated else name)
    return names


def _split_name(name: str) -> tuple[str, list[str]]:
    side, words = split_side(_PREFIX.sub("", name))
    if not side and len(words) == 1 and words[0][:1] in ("l", "r") and words[0][1:] in _BONES:
        return {"l": "left", "r": "right"}[words[0][0]], [words[0][1:]]  # lfemur
    return side, words


def _name_joint(key: str, side: str, keys: set[str]) -> str:
    """Return the joint at which a bone begins, "" if it is not known."""
    if key == "leg" and not keys & {"upleg", "upperleg", "thigh", "femur", "hip"}:
        return "hip"
    if key == "shoulder" and not keys & {"arm", "uparm", "upperarm", "humerus"}:
        return "shoulder"
    if key == "hip" and side:
        return key
    if key in ("root", "hip") and keys & {"hips", "pelvis"}:
        return ""
    return _BONES.get(key, "")


READER = Reader(
    name="bvh",
    summary="motion capture in .bvh files; the layout is that of the file's hierarchy",
    scan=_scan,
    read=_read,
    matches=lambda path: (
        path.suffix.lower() == ".bvh" and read_head(path).lstrip().upper().startswith(b"HIERARCHY")
    ),
    options={"ends": "true to include the ends of the last bones (default false)", **SPACE_OPTIONS},
    protocols=("holdout",),
)
