"""Clips kept the plain way: one array (N, C, T, V, M), filled up with zeros."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.bench.baselines import FRAMES, PERSONS
from kinegraph.clips.store import ClipStore


def write_dense(store: ClipStore, path: Path) -> NDArray[np.float32]:
    """A .npy file of (N, D, 300, V, 2) float32, as released code prepares data sets; mapped."""
    shape = (len(store), store.num_channels, FRAMES, store.layout.num_joints, PERSONS)
    dense = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    for i, clip in enumerate(store):
        joints = np.nan_to_num(clip.joints[:PERSONS, :FRAMES])
        dense[i, :, : joints.shape[1], :, : joints.shape[0]] = joints.transpose(3, 1, 2, 0)
    dense.flush()
    return np.load(path, mmap_mode="r")


def dense_crops(
    dense: NDArray[np.float32], indices: Iterable[int], starts: Iterable[int], frames: int
) -> NDArray[np.float32]:
    """(n, D, frames, V, M): a piece of each of these clips."""
    pieces = [dense[i, :, t : t + frames] for i, t in zip(indices, starts, strict=True)]
    return np.stack(pieces)
