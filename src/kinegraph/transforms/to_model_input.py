"""Conversion of a clip to the array that models take, with absent joints as zeros."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError


def to_array(clip: Clip, persons: int, confidence: bool = False) -> NDArray[np.float32]:
    """Return the clip as (C, T, V, M) float32 with M = ``persons``; absent joints are 0.

    Further persons are left out, missing ones are zeros. With ``confidence`` the last channel is
    the confidence of the present joints (1 if the clip has none), so that C = D + 1.

    Raises:
        TransformError: ``persons`` is below 1.
    """
    if persons < 1:
        raise TransformError(f"to_array: persons must be 1 or more, got {persons}")
    kept = min(persons, clip.num_persons)
    channels = clip.num_channels
    shape = (channels + confidence, clip.num_frames, clip.num_joints, persons)
    array = np.zeros(shape, dtype=np.float32)
    joints = clip.joints[:kept]
    seen = np.where(np.isnan(joints), 0, joints)
    for person in range(kept):  # one by one: numpy copies a block of three axes much faster
        array[:channels, ..., person] = seen[person].transpose(2, 0, 1)
    if confidence:
        given = np.float32(1) if clip.confidence is None else clip.confidence
        present = np.where(clip.valid, given, np.float32(0))
        array[channels, ..., :kept] = present[:kept].transpose(1, 2, 0)
    return array
