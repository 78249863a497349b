"""JSON files of poses, with every value checked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.formats.numpy_file import to_float32
from kinegraph.readers.formats.raw_file import read_bytes

MAX_FRAMES = 36_000
"""Maximum frames of a clip (20 minutes at 30 frames/s): a small file can state any frame number."""


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        ReadError: the file cannot be opened or is not JSON; the message names the line.
    """
    try:
        return json.loads(read_bytes(path))
    except json.JSONDecodeError as error:
        raise ReadError(f"{path}:{error.lineno}: expected JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise ReadError(f"{path}: expected JSON text, found binary data") from error
    except (RecursionError, ValueError) as error:
        raise ReadError(f"{path}: expected JSON of poses: {error}") from error


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


def mask_unscored_joints(
    xy: NDArray[np.float32], score: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return a pose (V, 3) of x, y and score; x and y are NaN where the score is 0.

    Args:
        xy: (V, 2).
        score: (V,) of the pose estimator; OpenPose's scores sometimes exceed 1.
    """
    score = np.maximum(score, 0.0)[:, None]
    return np.concatenate([np.where(score > 0, xy, np.float32(np.nan)), score], axis=1)


def describe(value: Any) -> str:
    """Return a short text for a value, for error messages."""
    if isinstance(value, list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 128:
        return "a huge number"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
