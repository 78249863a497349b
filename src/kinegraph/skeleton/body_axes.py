"""Direction and size of bodies: which axis points up, and how long a trunk is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import LayoutError
from kinegraph.skeleton.joint_mapping import map_joints
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout

#: A layout that names shoulders and hips; other layouts are mapped to it.
_REFERENCE = "penn13"
MAX_OFFSET = 0.1  # of hips at the origin, in trunks
MIN_ALIGNMENT = 0.7  # cosine between a trunk and an axis, below which the axis is unclear


def trunk_vectors(joints: NDArray[np.float32], layout: SkeletonLayout) -> NDArray[np.float32]:
    """Return (n, D): the vectors from hips to shoulders of joints (..., V, D), where present.

    n is 0 if the layout has no shoulders or hips.
    """
    hips, shoulders = _trunk_ends(joints, layout)
    return shoulders - hips


def hips_at_origin(joints: NDArray[np.float32], layout: SkeletonLayout) -> bool:
    """Return whether the middle of the hips is at the origin in most frames."""
    hips, shoulders = _trunk_ends(joints, layout)
    if not len(hips):
        return False
    lengths = np.linalg.norm(shoulders - hips, axis=1)
    return bool(np.median(np.linalg.norm(hips, axis=1)) < MAX_OFFSET * np.median(lengths))


def _trunk_ends(
    joints: NDArray[np.float32], layout: SkeletonLayout
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the middles of hips and shoulders, (n, D) each, where both are present."""
    empty = np.zeros((0, joints.shape[-1]), np.float32)
    try:
        mapping = map_joints(layout, _REFERENCE)
    except LayoutError:
        return empty, empty
    reference = get_layout(_REFERENCE)
    ends = []
    for part in ("hip", "shoulder"):
        sources = [mapping[reference.index(f"{side}_{part}")] for side in ("left", "right")]
        if not all(sources):
            return empty, empty
        own = [joint for pair in sources for joint in pair]
        ends.append(joints[..., own, :].mean(axis=-2).reshape(-1, joints.shape[-1]))
    present = np.isfinite(ends).all(axis=(0, 2))
    return ends[0][present], ends[1][present]


def find_up_axis(joints: NDArray[np.float32], layout: SkeletonLayout) -> str | None:
    """Return the axis, such as ``-y``, along which trunks point in most frames; None if unclear."""
    vectors = trunk_vectors(joints, layout)
    if not len(vectors) or vectors.shape[1] > 3:
        return None
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    mean = np.median(vectors / np.where(lengths > 0, lengths, 1), axis=0)
    axis = int(np.abs(mean).argmax())
    if abs(mean[axis]) < MIN_ALIGNMENT:
        return None
    return ("-" if mean[axis] < 0 else "") + "xyz"[axis]


def trunk_length(joints: NDArray[np.float32], layout: SkeletonLayout) -> float:
    """Return the median length from hips to shoulders, NaN if none is present."""
    vectors = trunk_vectors(joints, layout)
    return float(np.median(np.linalg.norm(vectors, axis=1))) if len(vectors) else float("nan")
