"""Turns the coordinates that a raw file holds into joints of a clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def mask_zero_joints(coordinates: NDArray[Any], path: Path) -> NDArray[np.float32]:
    """The joints as float32; those at exactly (0, ..., 0), a sensor's "not seen", are NaN.

    Args:
        coordinates: (..., T, V, D) of real numbers.
        path: the file, for messages.

    Raises:
        ReadError: no frame, or a number that is not finite in float32.
    """
    joints = validate_joints(coordinates, path)
    joints[(joints == 0).all(axis=-1)] = np.nan
    return joints


def validate_joints(coordinates: NDArray[Any], path: Path) -> NDArray[np.float32]:
    """As `mask_zero_joints`, with zeros left as they are."""
    if coordinates.size == 0:
        raise ReadError(f"{path}: expected at least one frame, got none")
    bad = ~(np.abs(coordinates) <= _FLOAT32_MAX).all(axis=-1)
    if bad.any():
        frame, joint = np.argwhere(bad)[0][-2:]
        raise ReadError(f"{path}: frame {frame}, joint {joint}: expected finite coordinates")
    return coordinates.astype(np.float32)
