"""Axes of a user's arrays, brought to (persons, frames, joints, numbers of a joint)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.frame_columns import COORDINATE_NAMES, describe_order
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import suggest_layouts

MAX_PERSONS_IN_FRAME = 8  # on the second axis of (frames, persons, joints, coordinates)
MIN_FRAMES_ON_AXIS = 16  # on its first axis
MAX_RATIO = 0.7  # of the variation of bones in the right order of axes to that in a wrong one


def arrange_axes(
    points: NDArray[Any], layout: SkeletonLayout, confidence: bool
) -> tuple[NDArray[Any], list[str]]:
    """Return an array as (M, T, V, width), and a note if its axes were guessed.

    Arrays (T, V, width) and (M, T, V, width) are as documented. Guessed are (T, V * width),
    (M, T, V * width), (T, M, V, width), (T, width, V), (width, T, V) and (width, T, V, M).

    Args:
        points: the array of a file.
        layout: the layout of its V joints.
        confidence: whether the last of 3 or 4 numbers of a joint is a confidence; otherwise 2 or 3
            are expected.

    Raises:
        ReadError: the shape fits none of these.
    """
    widths, V, shape = (3, 4) if confidence else (2, 3), layout.num_joints, points.shape
    flat = [width for width in widths if points.ndim in (2, 3) and shape[-1] == V * width]
    if points.ndim in (3, 4) and shape[-1] in widths and shape[-2] == V:
        return _order_persons(points, widths, layout)
    if flat:
        parts = [*COORDINATE_NAMES[: flat[0] - confidence], *(["confidence"] if confidence else [])]
        values = points.reshape(-1, shape[-2], V, flat[0])
        return values, [f"order of {shape[-1]} numbers: {describe_order(layout, parts)} [guess]"]
    if points.ndim == 4 and shape[0] in widths and shape[2] == V:
        return points.transpose(3, 1, 2, 0), [_describe_axes(shape, "coordinates", "persons")]
    if points.ndim == 3 and shape[2] == V and shape[1] in widths:
        note = _describe_axes(shape, "frames", "joints", middle="coordinates")
        return points.transpose(0, 2, 1)[None], [note]
    if points.ndim == 3 and shape[2] == V and shape[0] in widths:
        return points.transpose(1, 2, 0)[None], [_describe_axes(shape, "coordinates", "joints")]
    raise ReadError(_explain_axes(points, layout, confidence))


def _order_persons(
    points: NDArray[Any], widths: tuple[int, int], layout: SkeletonLayout
) -> tuple[NDArray[Any], list[str]]:
    shape = points.shape
    if points.ndim == 3:
        return points[None], []
    if shape[0] >= MIN_FRAMES_ON_AXIS and shape[1] <= MAX_PERSONS_IN_FRAME:
        note = f"axes of {shape}: frames, persons, joints, coordinates [guess]"
        return points.swapaxes(0, 1), [note]
    if shape[0] in widths and shape[-1] == 2:  # 3 persons of x, y, or x, y, z of 2 persons
        other = points.transpose(3, 1, 2, 0)
        is_other = _bone_variation(other, layout) < MAX_RATIO * _bone_variation(points, layout)
        if is_other or not points[..., 1].any():
            return other, [_describe_axes(shape, "coordinates", "persons")]
        return points, [_describe_axes(shape, "persons", "coordinates")]
    return points, []


def _bone_variation(points: NDArray[Any], layout: SkeletonLayout) -> float:
    """Return how much the length of a bone changes over time, as a part of it: the median."""
    joints = np.where((points == 0).all(axis=-1, keepdims=True), np.nan, points.astype(np.float64))
    child, parent = np.array(layout.bones, dtype=np.intp).reshape(-1, 2).T
    lengths = np.linalg.norm(joints[:, :, child] - joints[:, :, parent], axis=-1)
    known = np.isfinite(lengths)
    count = np.maximum(known.sum(axis=1), 1)
    mean = np.where(known, lengths, 0).sum(axis=1) / count
    spread = np.sqrt(np.where(known, (lengths - mean[:, None]) ** 2, 0).sum(axis=1) / count)
    shares = (spread / np.where(mean > 0, mean, 1))[known.sum(axis=1) > 1]
    return float(np.median(shares)) if shares.size else np.inf


def _describe_axes(shape: tuple[int, ...], first: str, last: str, middle: str = "") -> str:
    inner = middle or ("frames, joints" if len(shape) == 4 else "frames")
    return f"axes of {shape}: {first}, {inner}, {last} [guess]"


def _explain_axes(points: NDArray[Any], layout: SkeletonLayout, confidence: bool) -> str:
    widths, V, shape = (3, 4) if confidence else (2, 3), layout.num_joints, points.shape
    width = "2 or 3 coordinates and a confidence" if confidence else "2 or 3 coordinates"
    if points.ndim in (3, 4) and shape[-1] in widths:
        return (
            f"layout {layout.name!r} has {V} joints, the array of shape {shape} has {shape[-2]} on "
            f"its last axis but one{suggest_layouts(shape[-2])}"
        )
    hint = ""
    if (len(shape) > 2 and shape[-1] == 4) or (len(shape) == 2 and shape[1] == 4 * V):
        hint = "; is the last of 4 numbers a confidence (--confidence true)?"
    elif len(shape) == 2 and shape[0] in (V * widths[0], V * widths[1]):
        hint = "; transpose it, so that a row is a frame"
    return (
        f"expected an array (frames, joints, {width}) or (persons, frames, joints, {width}) of the "
        f"{V} joints of layout {layout.name!r}, got the shape {shape}{hint}"
    )
