"""Coordinates of a raw file as joints of a clip: checked, float32, NaN where absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError

FLOAT32_MAX = float(np.finfo(np.float32).max)


def mask_zero_joints(coordinates: NDArray[Any], path: Path) -> NDArray[np.float32]:
    """Return joints as float32, NaN where a joint is exactly (0, ..., 0): not tracked.

    Args:
        coordinates: (..., T, V, D) real numbers.
        path: the file, for messages.

    Raises:
        ReadError: the array has no frame, or a number is not finite in float32.
    """
    joints = validate_joints(coordinates, path)
    joints[(joints == 0).all(axis=-1)] = np.nan
    return joints


def validate_joints(coordinates: NDArray[Any], path: Path) -> NDArray[np.float32]:
    """Return joints as `mask_zero_joints` does, but keep zeros."""
    if coordinates.size == 0:
        raise ReadError(f"{path}: expected at least one frame, got none")
    bad = ~(np.abs(coordinates) <= FLOAT32_MAX).all(axis=-1)
    if bad.any():
        frame, joint = np.argwhere(bad)[0][-2:]
        raise ReadError(f"{path}: frame {frame}, joint {joint}: expected finite coordinates")
    return coordinates.astype(np.float32)
