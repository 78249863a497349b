"""Features of two persons who act together: distances between them, and both as one body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import LayoutError, TransformError
from kinegraph.skeleton.pair_layout import pair_layout
from kinegraph.transforms.registry import transform

_TARGETS = {"joint": ("joint",), "center": ("center",), "both": ("joint", "center")}


def _count_channels(channels: int, options: Mapping[str, Any]) -> int:
    """Return the channels of `pair_offsets` by those of the clip."""
    parts = len(_TARGETS[options.get("to", "both")])
    return channels * (1 + parts) + parts * bool(options.get("distance", True))


@transform(scope="frame", coordinates=(2, 3), count_channels=_count_channels)
def pair_offsets(
    clip: Clip, *, to: Literal["joint", "center", "both"] = "both", distance: bool = True
) -> Clip:
    """Append the offset from each joint to the other of the first two persons, and its length.

    For joint v of person m, with n the other person and c the center of the layout:
    ``joint`` appends x_n,v - x_m,v and ``center`` appends x_n,c - x_m,v; ``both`` appends both, and
    then their lengths in the same order unless ``distance`` is false. The channels are 0 where the
    other joint is absent, and for clips of one person and further persons.
    """
    joints = clip.joints
    own = joints[:2]
    parts = [_offsets(own, part, clip.layout.center) for part in _TARGETS[to]]
    if distance:
        parts += [np.linalg.norm(part, axis=-1, keepdims=True) for part in parts]
    added = np.zeros((*joints.shape[:3], sum(part.shape[-1] for part in parts)), np.float32)
    added[:2] = np.nan_to_num(np.concatenate(parts, axis=-1))
    return clip.with_joints(np.concatenate([joints, added], axis=-1))


def _offsets(persons: NDArray[np.float32], to: str, center: int) -> NDArray[np.float32]:
    """Return (M, T, V, D) offsets to the other of two persons; 0 if there is only one."""
    others = persons[::-1]
    target = others[:, :, [center]] if to == "center" else others
    return target - persons if len(persons) == 2 else np.zeros_like(persons)


@transform(scope="frame", joins_persons=True)
def join_persons(clip: Clip) -> Clip:
    """Join the first two persons into one body of 2V joints, with a bone between their centers.

    The layout becomes ``pair(NAME)``; a recipe has ``persons: 1``. See `pair_layout`.

    Raises:
        TransformError: the clip has one person, or is a pair already.
    """
    if clip.num_persons < 2:
        raise TransformError(
            f"transform 'join_persons': clip {clip.id!r} has one person, it needs two"
        )
    try:
        pair = pair_layout(clip.layout)
    except LayoutError as error:
        raise TransformError(f"transform 'join_persons': {error}") from error
    return clip.map_arrays(lambda array: np.concatenate(array[:2], axis=1)[None], layout=pair)
