"""Recordings of given joints, to write synthetic `.skeleton` files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kinegraph.readers.ntu.skeleton_file import (
    BODY_FIELDS,
    JOINT_FIELDS,
    NUM_JOINTS,
    Body,
    SkeletonRecording,
)

TRACKED = 2.0


def recording_from_joints(joints: ArrayLike, ids: Sequence[str] | None = None) -> SkeletonRecording:
    """Return a recording of joints (M, T, 25, 3), whose values are rounded to float32.

    A person whose joints are all NaN in a frame is left out of it, a single NaN joint is written
    as "NaN". The default body ids are 72057594037927936, ...937, and so on.
    """
    # float64 numbers with the shortest text of the float32 ones (0.1, not 0.10000000149)
    values = np.asarray(joints, dtype=np.float32).astype("U32").astype(np.float64)
    assert values.shape[2:] == (NUM_JOINTS, 3)
    ids = ids or [str(2**56 + m) for m in range(len(values))]
    present = np.asarray(~np.isnan(values).all(axis=(2, 3)))
    persons = [np.flatnonzero(frame).tolist() for frame in present.T]
    return SkeletonRecording(
        [[make_body(values[m, t], ids[m]) for m in seen] for t, seen in enumerate(persons)]
    )


def make_body(joints: NDArray[np.float64], body_id: str) -> Body:
    values = np.zeros((NUM_JOINTS, len(JOINT_FIELDS)))
    values[:, :3] = joints
    values[:, -1] = TRACKED
    return Body(body_id, (*[0.0] * (len(BODY_FIELDS) - 1), TRACKED), values)
