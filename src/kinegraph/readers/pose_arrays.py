"""Poses of a video in a .npz file, as Python users of pose estimators save them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.formats.json_file import mask_unscored_joints
from kinegraph.readers.formats.numpy_file import read_npz, read_npz_names, to_float32
from kinegraph.readers.pose_files import FramePoses, PoseVideo

POINT_ARRAYS = ("keypoints", "kpts", "poses", "data")
SCORE_ARRAYS = ("scores", "keypoint_scores", "confidence", "conf")
FRAME_ARRAYS = ("frame_ids", "frame_id", "frames", "frame")
ID_ARRAYS = ("track_ids", "track_id", "ids")
_NUMBERED = re.compile(r"(?:arr|frame|keypoints)_?(\d+)")


def find_point_names(names: list[str]) -> list[str]:
    """Return the arrays of a .npz file that hold poses: one for all frames, or one per frame."""
    known = [name for name in POINT_ARRAYS if name in names]
    numbered = [(int(m[1]), n) for n in names if (m := _NUMBERED.fullmatch(n))]
    return known[:1] or [name for _, name in sorted(numbered)]


def open_pose_arrays(path: Path) -> PoseVideo:
    """Return the video of a .npz file.

    The poses are an array (T, M, V, D) or (T, V, D), or one array (M, V, D) per frame, named arr_0,
    arr_1 and so on; or (N, V, D) with the frame of each pose in ``frame_ids`` (N,). Scores are an
    array without the last axis, or else the third number of each joint. Joints at (0, 0), and
    those of score 0 or NaN, are absent.

    Raises:
        ReadError: there is no such array, or the arrays do not fit.
    """
    names = read_npz_names(path)
    points = find_point_names(names)
    if not points:
        raise ReadError(
            f"{path}: expected poses in an array named {' or '.join(POINT_ARRAYS)}, found "
            f"{', '.join(names[:10]) or 'no array'}"
        )
    extra = [name for name in (*SCORE_ARRAYS, *FRAME_ARRAYS, *ID_ARRAYS) if name in names]
    arrays = read_npz(path, [*points, *extra])
    if len(points) > 1 or (arrays[points[0]].ndim == 3 and _NUMBERED.fullmatch(points[0])):
        frames = {t: _to_frame(arrays[name], None, f"{path}: {name}") for t, name in
                  enumerate(points)}  # fmt: skip
        return PoseVideo.from_frames(frames)
    return _split_frames(path, arrays[points[0]], arrays)


def _split_frames(
    path: Path, points: NDArray[Any], arrays: Mapping[str, NDArray[Any]]
) -> PoseVideo:
    scores = next((arrays[name] for name in SCORE_ARRAYS if name in arrays), None)
    if scores is not None and scores.shape != points.shape[:-1]:
        raise ReadError(
            f"{path}: expected scores of shape {points.shape[:-1]}, as the poses, got "
            f"{scores.shape}"
        )
    numbers = next((arrays[name] for name in FRAME_ARRAYS if name in arrays), None)
    ids = next((arrays[name] for name in ID_ARRAYS if name in arrays), None)
    if points.ndim == 3 and numbers is not None:
        return _group_frames(path, points, scores, numbers, ids)
    if points.ndim not in (3, 4):
        raise ReadError(
            f"{path}: expected poses of shape (frames, persons, joints, 2 or 3), or (frames, "
            f"joints, 2 or 3), got {points.shape}"
        )
    notes = ("an array of three axes is read as frames of one person",) if points.ndim == 3 else ()
    if points.ndim == 3:
        points, scores = points[:, None], None if scores is None else scores[:, None]
    frames = {
        t: _to_frame(points[t], None if scores is None else scores[t], f"{path}: frame {t}")
        for t in range(len(points))
    }
    return PoseVideo.from_frames(frames, notes=notes)


def _group_frames(
    path: Path,
    points: NDArray[Any],
    scores: NDArray[Any] | None,
    numbers: NDArray[Any],
    ids: NDArray[Any] | None,
) -> PoseVideo:
    """Return the video of poses (N, V, D) whose frames stand in another array (N,)."""
    for name, array in (("frame numbers", numbers), ("track ids", ids)):
        if array is not None and (array.shape != points.shape[:1] or array.dtype.kind not in "iu"):
            raise ReadError(f"{path}: expected {len(points)} {name} as whole numbers, one a pose")
    frames: dict[int, FramePoses] = {}
    for n, number in enumerate(numbers.tolist()):
        score = None if scores is None else scores[n : n + 1]
        poses, _ = _to_frame(points[n : n + 1], score, f"{path}: pose {n}")
        frame = frames.setdefault(number, FramePoses([], []))
        frame.poses.extend(poses)
        frame.ids.append(None if ids is None else int(ids[n]))
    return PoseVideo.from_frames(frames)


def _to_frame(points: NDArray[Any], scores: NDArray[Any] | None, where: str) -> FramePoses:
    """Return the poses (M, V, D) of a frame."""
    if points.ndim != 3 or points.shape[-1] not in (2, 3):
        raise ReadError(f"{where}: expected (persons, joints, 2 or 3 numbers), got {points.shape}")
    values = to_float32(points)
    if np.isinf(values).any():
        raise ReadError(f"{where}: expected finite coordinates")
    if scores is None:
        seen = (values[..., :2] != 0).any(axis=-1)
        scored = values.shape[-1] == 3
        scores = values[..., 2] if scored else seen.astype(np.float32)
        values = values[..., :2]
    poses = [mask_unscored_joints(pose, score) for pose, score in
             zip(values, to_float32(scores), strict=True)]  # fmt: skip
    return FramePoses(poses, [None] * len(poses))
