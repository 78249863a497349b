"""Made-up recordings to measure with, where the user names none: long and full as NTU's are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.clips.store import StoreWriter
from kinegraph.errors import BenchError
from kinegraph.readers.ntu.skeleton_file import Body, SkeletonRecording, write_skeleton
from kinegraph.skeleton.layouts import get_layout

CLIPS = 1000
FILES = 16

_MEDIAN, _SPREAD, _SHORTEST, _LONGEST = 74, 0.4, 20, 300  # frames
_TWO_BODIES = 0.1
_BODY_ID = 72057594037944738


def made_up_store(path: Path, clips: int = CLIPS, seed: int = 0) -> Path:
    """A store of wandering joints: median 74 frames, a tenth of the clips with two persons."""
    rng, layout = np.random.default_rng(seed), get_layout("ntu25")
    provenance = {"reader": "synthetic", "options": {}}
    with StoreWriter(path, layout, None, provenance) as writer:
        for i in range(clips):
            persons = 1 + int(rng.random() < _TWO_BODIES)
            joints = _wandering(rng, (persons, _length(rng), layout.num_joints, 3))
            writer.write(Clip(joints, layout, label=i % 60, id=f"clip{i:06d}"))
    return path


def made_up_texts(folder: Path, files: int = FILES, seed: int = 0) -> list[Path]:
    """`.skeleton` files in which every column of every joint is a number of full length."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, paths = np.random.default_rng(seed), []
    for i in range(files):
        values = _wandering(rng, (_length(rng), 25, 12)).astype("U32").astype(np.float64)
        values[..., -1] = 2.0
        state = (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 2.0)
        frames = [[Body(str(_BODY_ID + i), state, frame)] for frame in values]
        paths.append(folder / f"S001C001P{i % 40 + 1:03d}R001A{i % 60 + 1:03d}.skeleton")
        write_skeleton(paths[-1], SkeletonRecording(frames))
    return paths


def skeleton_files(folder: Path) -> list[Path]:
    """The `.skeleton` files of a folder, sorted.

    Raises:
        BenchError: there are none.
    """
    files = sorted(folder.rglob("*.skeleton"))
    if not files:
        raise BenchError(f"{folder}: expected .skeleton files, found none")
    return files


def _length(rng: np.random.Generator) -> int:
    frames = rng.lognormal(np.log(_MEDIAN), _SPREAD)
    return int(np.clip(frames, _SHORTEST, _LONGEST))


def _wandering(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Steps along the axis of frames, which is the one before the last two."""
    steps = rng.normal(scale=0.02, size=shape)
    return (rng.normal(size=(*shape[:-3], 1, *shape[-2:])) + steps.cumsum(axis=-3)).astype("f4")
