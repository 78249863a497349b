"""Input streams of a network: joints, bones, and their motion.

Bone and motion after Shift-GCN (Cheng et al., CVPR 2020) and 2s-AGCN (Shi et al., CVPR 2019), bones
to farther ancestors after InfoGCN (Chi et al., CVPR 2022); position, velocity and bone_angles are
the three inputs of EfficientGCN (Song et al., TPAMI 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError, unknown_name
from kinegraph.skeleton.joint_names import find_body_center
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import parse_layout
from kinegraph.transforms.validation import LayoutChoice

#: Bones reach up to this ancestor: B^8 = 0 in the trees of most layouts.
MAX_ANCESTOR = 8
#: The options of the step `stream`, with their annotations.
STREAM_OPTIONS: dict[str, Any] = {
    "bones": LayoutChoice | None,
    "center": str | None,
    "mean_confidence": bool,
}


JointArray = NDArray[np.float32]

#: Added to the length of a bone before its angles are computed, in the clip's unit.
MIN_BONE_LENGTH = 1e-4


class InputStream(NamedTuple):
    """An input stream.

    Attributes:
        ancestor: k of the k-th ancestor that is subtracted from each joint; 0 for the joints.
        motion: whether each frame is then subtracted from the next.
        features: computes the stream from joints (M, T, V, D) and their tree instead.
        width: numbers for each coordinate of a joint.
    """

    ancestor: int = 0
    motion: bool = False
    features: Callable[[JointArray, SkeletonLayout], JointArray] | None = None
    width: int = 1

    @property
    def frames_ahead(self) -> int:
        """How many later frames a frame depends on."""
        return 2 if self.features is velocity else int(self.motion)


def position(joints: JointArray, tree: SkeletonLayout) -> JointArray:
    """Return each joint, and each joint minus the body's center in the same frame: 2 D numbers."""
    center = find_body_center(tree)
    return _stack([joints, joints - joints[:, :, center : center + 1]])


def velocity(joints: JointArray, _: SkeletonLayout) -> JointArray:
    """Return the way to the next frame and to the one after it, 0 in the last two: 2 D numbers."""
    ways = [joints - joints, joints - joints]  # absent ones stay absent
    last = joints.shape[1] - 2
    for way, step in zip(ways, (1, 2), strict=True):
        if last > 0:
            way[:, :last] = joints[:, step : step + last] - joints[:, :last]
    return _stack(ways)


def bone_angles(joints: JointArray, tree: SkeletonLayout) -> JointArray:
    """Return each bone and its angles to the axes, in radians: 2 D numbers.

    A bone leads from the next joint towards the body's center. The angles are
    arccos(b_c / (|b| + 0.0001)); those of a bone without length, such as the center's, are pi / 2.
    """
    b = joints - joints[:, :, np.asarray(replace(tree, center=find_body_center(tree)).parents)]
    vectors = b.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True) + MIN_BONE_LENGTH
    return np.concatenate([b, np.arccos(vectors / lengths).astype(np.float32)], axis=-1)


def _name_streams() -> dict[str, InputStream]:
    streams = {"joint": InputStream(0, False), "bone": InputStream(1, False)}
    streams |= {"joint_motion": InputStream(0, True), "bone_motion": InputStream(1, True)}
    for k in range(2, MAX_ANCESTOR + 1):
        streams |= {f"bone{k}": InputStream(k, False), f"bone{k}_motion": InputStream(k, True)}
    features = {"position": position, "velocity": velocity, "bone_angles": bone_angles}
    streams |= {name: InputStream(features=compute, width=2) for name, compute in features.items()}
    return streams


STREAMS = _name_streams()


def parse_stream(name: str) -> list[str]:
    """Return the registered streams that a stream's name joins by "+".

    >>> parse_stream("joint+joint-motion")
    ['joint', 'joint_motion']

    Raises:
        UnknownNameError: a part that is not a stream.
    """
    parts = normalize_stream_name(name).split("+")
    for part in parts:
        if part not in STREAMS:
            raise unknown_name("stream", part, STREAMS)
    return parts


def stream_width(name: str) -> int:
    """Return how many numbers a stream has for each coordinate of a joint.

    >>> stream_width("joint+velocity")
    3

    Raises:
        UnknownNameError: a part that is not a stream.
    """
    return sum(STREAMS[part].width for part in parse_stream(name))


def count_frames_ahead(name: str) -> int:
    """Return how many later frames a frame of a stream depends on.

    >>> count_frames_ahead("joint"), count_frames_ahead("joint+joint_motion")
    (0, 1)

    Raises:
        UnknownNameError: a part that is not a stream.
    """
    return max(STREAMS[part].frames_ahead for part in parse_stream(name))


def normalize_stream_name(name: str) -> str:
    """Return a stream's name without spaces, and with underscores instead of hyphens."""
    return "+".join(part.strip().replace("-", "_") for part in name.split("+"))


def to_stream(
    clip: Clip,
    name: str,
    *,
    bones: str | dict[str, Any] | None = None,
    center: str | None = None,
    mean_confidence: bool = False,
) -> Clip:
    """Return the named stream of a clip; ``a+b`` stacks the channels of a and b.

    A bone is a joint minus its parent: 0 for the center, absent if either is absent. Bone k is a
    joint minus its k-th ancestor, ``(I - B^k) x`` (InfoGCN); a joint without one keeps its
    position. Motion is the next frame minus this one: 0 in the last frame, absent if absent in
    either. In a stack a joint is present where any part is, and an absent part of it (the motion
    of a joint that is absent in the next frame) is 0.

    Args:
        clip: a clip of joints.
        name: names of `STREAMS`, joined by "+".
        bones: a layout of the same joints whose bones are taken instead of the clip's.
        center: the joint where bones start; None for the layout's center.
        mean_confidence: give a bone the mean confidence of its ends, and a motion that of its
            frames, 0 in the last frame (PYSKL's GenSkeFeat for 2D); otherwise each joint keeps its
            own.

    Raises:
        UnknownNameError: a name or part that is not a stream; no such center.
        TransformError: the layout of ``bones`` has other joints.
    """
    layout = _tree(clip.layout, bones, center)
    parts = [_compute(clip, STREAMS[p], layout, mean_confidence) for p in parse_stream(name)]
    if len(parts) == 1:
        return parts[0]
    return parts[0].with_joints(_stack([part.joints for part in parts]))


def _tree(
    layout: SkeletonLayout, bones: str | dict[str, Any] | None, center: str | None
) -> SkeletonLayout:
    tree = layout if bones is None else parse_layout(bones)
    if tree.joints != layout.joints:
        raise TransformError(
            f"step 'stream': bones must name a layout with the joints of {layout.name!r} in their "
            f"order, got {tree.name!r}"
        )
    return tree if center is None else _move_center(tree, center)


@cache
def _move_center(layout: SkeletonLayout, center: str) -> SkeletonLayout:
    return replace(layout, center=layout.index(center))


def _compute(
    clip: Clip, stream: InputStream, layout: SkeletonLayout, mean_confidence: bool
) -> Clip:
    if stream.features is not None:
        return clip.with_joints(stream.features(clip.joints, layout))
    joints, confidence = clip.joints, clip.confidence if mean_confidence else None
    if stream.ancestor:
        order, has_none = _find_ancestors(layout, stream.ancestor)
        joints = joints - joints[:, :, order]
        joints[:, :, has_none] = clip.joints[:, :, has_none]
        if confidence is not None:
            confidence = (confidence + confidence[:, :, order]) * np.float32(0.5)
    if stream.motion:
        joints = _difference(joints)
        if confidence is not None:
            confidence = np.asarray(confidence + np.roll(confidence, -1, axis=1)) * np.float32(0.5)
            confidence[:, -1] = 0
    return clip if joints is clip.joints else clip.with_joints(joints, confidence)


@cache
def _find_ancestors(layout: SkeletonLayout, k: int) -> tuple[NDArray[np.intp], list[int]]:
    """Return the k-th ancestor of each joint, and the joints that have none if k is above 1."""
    parents = np.asarray(layout.parents)
    order, has_none = np.arange(layout.num_joints), np.zeros(layout.num_joints, dtype=np.bool_)
    for _ in range(k):
        has_none |= order == layout.center
        order = parents[order]
    return order, np.flatnonzero(has_none).tolist() if k > 1 else []


def _difference(joints: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subtract each frame from the next; 0 in the last one, absent if absent in either frame."""
    motion = np.empty_like(joints)
    np.subtract(joints[:, 1:], joints[:, :-1], out=motion[:, :-1])
    np.subtract(joints[:, -1], joints[:, -1], out=motion[:, -1])
    return motion


def _stack(parts: list[JointArray]) -> JointArray:
    """Put numbers side by side; an absent part of a joint that has others is 0."""
    known = np.any([~np.isnan(part[..., 0]) for part in parts], axis=0)
    stacked = np.concatenate(parts, axis=-1)
    unknown = np.isnan(stacked) & known[..., None]
    return np.where(unknown, np.float32(0), stacked)
