"""Reads numbers out of JSON files of poses, never trusting what they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError

MAX_FRAMES = 36_000
"""Twenty minutes at 30 frames a second: a file of one frame may name any frame number."""

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ReadError: the file cannot be opened or is no JSON; the message names the line.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ReadError(f"{path}: cannot be opened: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise ReadError(f"{path}:{error.lineno}: expected JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise ReadError(f"{path}: expected JSON text, found binary data") from error
    except (RecursionError, ValueError) as error:
        raise ReadError(f"{path}: expected JSON of poses: {error}") from error


def numbers(value: Any, where: str) -> NDArray[np.float32]:
    """A flat list of finite numbers as float32.

    Raises:
        ReadError: something else than a list of numbers; the message begins with ``where``.
    """
    if not isinstance(value, list) or not all(type(v) in (int, float) for v in value):
        raise ReadError(f"{where}: expected a list of numbers, got {shown(value)}")
    try:
        array = np.array(value, dtype=np.float64)
    except OverflowError:
        array = np.array([np.inf])
    if not (np.abs(array) <= _FLOAT32_MAX).all():
        raise ReadError(f"{where}: expected finite numbers, got {shown(value)}")
    return array.astype(np.float32)


def mask_unscored_joints(
    xy: NDArray[np.float32], score: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(V, 3) of x, y and score; x and y are NaN where the score is 0.

    Args:
        xy: (V, 2).
        score: (V,) as the pose estimator gave it; OpenPose's exceeds 1 now and then.
    """
    score = np.maximum(score, 0.0)[:, None]
    return np.concatenate([np.where(score > 0, xy, np.float32(np.nan)), score], axis=1)


def shown(value: Any) -> str:
    """A value, short enough for a message."""
    if isinstance(value, list | dict):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 128:
        return "a huge number"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
