"""Synthetic recordings to measure with, as long and as full as those of NTU RGB+D."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.clips.writer import StoreWriter
from kinegraph.errors import BenchError
from kinegraph.readers.ntu.skeleton_file import Body, SkeletonRecording, write_skeleton
from kinegraph.skeleton.layouts import get_layout

NUM_CLIPS = 1000
NUM_FILES = 16

_MEDIAN_FRAMES, _FRAMES_SIGMA, _MIN_FRAMES, _MAX_FRAMES = 74, 0.4, 20, 300
_TWO_PERSONS_SHARE = 0.1
_BODY_ID_BASE = 72057594037944738


def write_synthetic_store(path: Path, clips: int = NUM_CLIPS) -> Path:
    """Write a store of random walks: median 74 frames, a tenth of the clips with two persons."""
    rng, layout = np.random.default_rng(0), get_layout("ntu25")
    provenance = {"reader": "synthetic", "options": {}}
    with StoreWriter(path, layout, None, provenance) as writer:
        for i in range(clips):
            persons = 1 + int(rng.random() < _TWO_PERSONS_SHARE)
            joints = _random_walk(rng, (persons, _draw_length(rng), layout.num_joints, 3))
            writer.write(Clip(joints, layout, label=i % 60, id=f"clip{i:06d}"))
    return path


def write_synthetic_ntu_files(folder: Path, files: int = NUM_FILES) -> list[Path]:
    """Write `.skeleton` files in which every column of every joint is a number of full length."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, paths = np.random.default_rng(0), []
    for i in range(files):
        values = _random_walk(rng, (_draw_length(rng), 25, 12)).astype("U32").astype(np.float64)
        values[..., -1] = 2.0
        state = (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 2.0)
        frames = [[Body(str(_BODY_ID_BASE + i), state, frame)] for frame in values]
        paths.append(folder / f"S001C001P{i % 40 + 1:03d}R001A{i % 60 + 1:03d}.skeleton")
        write_skeleton(paths[-1], SkeletonRecording(frames))
    return paths


def find_skeleton_files(folder: Path) -> list[Path]:
    """Return the `.skeleton` files of a folder, sorted.

    Raises:
        BenchError: there are none.
    """
    files = sorted(folder.rglob("*.skeleton"))
    if not files:
        raise BenchError(f"{folder}: expected .skeleton files, found none")
    return files


def _draw_length(rng: np.random.Generator) -> int:
    frames = rng.lognormal(np.log(_MEDIAN_FRAMES), _FRAMES_SIGMA)
    return int(np.clip(frames, _MIN_FRAMES, _MAX_FRAMES))


def _random_walk(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return steps summed along the frames, which are the third axis from the end."""
    steps = rng.normal(scale=0.02, size=shape)
    return (rng.normal(size=(*shape[:-3], 1, *shape[-2:])) + steps.cumsum(axis=-3)).astype("f4")
