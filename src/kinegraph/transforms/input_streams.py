"""Input streams of a network: joints, bones, and their motion.

Bone and motion after Shift-GCN (Cheng et al., CVPR 2020) and 2s-AGCN (Shi et al., CVPR 2019).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import unknown_name


def bone(clip: Clip) -> Clip:
    """Subtract its parent from each joint; 0 for the center, absent if either is absent."""
    parents = np.asarray(clip.layout.parents)
    return clip.with_joints(clip.joints - clip.joints[:, :, parents])


def joint_motion(clip: Clip) -> Clip:
    """Subtract each frame from the next; 0 in the last one, absent if absent in either frame."""
    joints = clip.joints
    motion = np.empty_like(joints)
    np.subtract(joints[:, 1:], joints[:, :-1], out=motion[:, :-1])
    np.subtract(joints[:, -1], joints[:, -1], out=motion[:, -1])
    return clip.with_joints(motion)


STREAMS: dict[str, Callable[[Clip], Clip]] = {
    "joint": lambda clip: clip,
    "bone": bone,
    "joint_motion": joint_motion,
    "bone_motion": lambda clip: joint_motion(bone(clip)),
}


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


def normalize_stream_name(name: str) -> str:
    """Return a stream's name without spaces, and with underscores instead of hyphens."""
    return "+".join(part.strip().replace("-", "_") for part in name.split("+"))


def to_stream(clip: Clip, name: str) -> Clip:
    """Return the named stream of a clip; ``a+b`` stacks the channels of a and b.

    In a stack a joint is present where any part is, and an absent part of it (the motion of a
    joint that is absent in the next frame) is 0.

    Raises:
        UnknownNameError: a name or part that is not a stream.
    """
    parts = [STREAMS[part](clip) for part in parse_stream(name)]
    return parts[0] if len(parts) == 1 else clip.with_joints(_stack(parts))


def _stack(parts: list[Clip]) -> NDArray[np.float32]:
    known = np.any([part.valid for part in parts], axis=0)
    stacked = np.concatenate([part.joints for part in parts], axis=-1)
    unknown = np.isnan(stacked) & known[..., None]
    return np.where(unknown, np.float32(0), stacked)
