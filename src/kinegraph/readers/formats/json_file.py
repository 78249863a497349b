"""JSON files of poses, with every value checked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.plain_text import PlainTextError, parse_json
from kinegraph.readers.formats.numpy_file import to_float32
from kinegraph.readers.formats.raw_file import describe, read_bytes

MAX_FRAMES = 36_000
"""Maximum frames of a clip (20 minutes at 30 frames/s): a small file can state any frame number."""


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        ReadError: the file cannot be opened or is not JSON; the message names the line.
    """
    try:
        return parse_json(read_bytes(path))
    except PlainTextError as error:
        raise ReadError(f"{path}: {error}") from error


def parse_numbers(value: Any, where: str) -> NDArray[np.float32]:
    """Return a list of finite numbers as a float32 array.

    Raises:
        ReadError: the value is not such a list; the message begins with ``where``.
    """
    if not isinstance(value, list) or not all(type(v) in (int, float) for v in value):
        raise ReadError(f"{where}: expected a list of numbers, got {describe(value)}")
    try:
        array = to_float32(np.array(value, dtype=np.float64))
    except OverflowError:
        array = np.array([np.inf], dtype=np.float32)
    if not np.isfinite(array).all():
        raise ReadError(f"{where}: expected finite numbers, got {describe(value)}")
    return array


def parse_pose(values: Any, where: str) -> NDArray[np.float32]:
    """Return a list of x, y, score per joint as a pose (V, 3); see `mask_unscored_joints`.

    NaN counts as not seen; an empty list is a pose of no joints.

    Raises:
        ReadError: the value is not such a list.
    """
    if isinstance(values, list):
        values = [0.0 if v is None or (type(v) is float and v != v) else v for v in values]
    numbers = parse_numbers(values, where)
    if len(numbers) % 3:
        raise ReadError(f"{where}: expected x, y, score of each joint, got {len(numbers)} numbers")
    joints = numbers.reshape(-1, 3)
    return mask_unscored_joints(joints[:, :2], joints[:, 2])


def parse_points(value: Any, where: str) -> NDArray[np.float32]:
    """Return a list of equally long lists of numbers as an array (V, D); NaN and null are kept.

    Raises:
        ReadError: the value is not such a list.
    """
    try:
        array = np.array(value if isinstance(value, list) else [], dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0)
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    if array.ndim != 2 or not len(array):
        raise ReadError(f"{where}: expected [[x, y], ...], got {describe(value)}")
    points = to_float32(array)
    if np.isinf(points).any():
        raise ReadError(f"{where}: expected finite numbers, got {describe(value)}")
    return points


def mask_unscored_joints(
    xy: NDArray[np.float32], score: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return a pose (V, D + 1) of coordinates and score; NaN where the score is 0 or NaN.

    Args:
        xy: (V, D); a joint that is NaN gets the score 0.
        score: (V,) of the pose estimator; OpenPose's scores sometimes exceed 1.
    """
    known = ~np.isnan(xy).any(axis=1)
    score = np.where(known, np.fmax(score, np.float32(0)), np.float32(0))[:, None]
    return np.concatenate([np.where(score > 0, xy, np.float32(np.nan)), score], axis=1)
