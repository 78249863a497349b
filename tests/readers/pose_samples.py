"""Poses of two people in a few frames, from which the tests of pose files write their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.readers.reader import Reader


def body(x: float, joints: int = 17) -> NDArray[np.float32]:
    """Return a pose (V, 3): joint v at (x + v, 2 x), of score 0.9."""
    pose = np.full((joints, 3), 0.9, np.float32)
    pose[:, 0], pose[:, 1] = x + np.arange(joints), 2 * x
    return pose


def write_json(path: Path, content: Any) -> Path:
    """Write a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def read(reader: Reader, source: Path, **options: Any) -> Clip:
    """Return the only clip of a source."""
    (task,) = reader.plan(source, options).tasks
    (clip,) = reader.read(task)
    assert isinstance(clip, Clip)
    return clip


def places(clip: Clip) -> list[list[float | None]]:
    """Return x of the first joint of each person and frame, None where absent."""
    return [[None if np.isnan(x) else round(float(x), 2) for x in row] for row in
            clip.joints[:, :, 0, 0]]  # fmt: skip
