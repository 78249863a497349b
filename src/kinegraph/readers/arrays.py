"""Reader of a user's own data: a folder of .npy, .npz or .csv files, labeled by clips.csv."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError, ReadError
from kinegraph.readers.formats.csv_file import read_frame_table
from kinegraph.readers.formats.numpy_file import open_npy, read_npy_shape, read_npz, to_float32
from kinegraph.readers.formats.raw_file import read_head
from kinegraph.readers.label_csv import CLIPS_FILE, read_clip_list
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask
from kinegraph.readers.stacked import validate_confidence
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout, list_layouts, read_layout

_CLIP_SUFFIXES = (".npy", ".npz", ".csv")
_LAYOUT_SUFFIXES = (".yaml", ".yml", ".json")
_HEAD_BYTES = 8192


def _scan(
    source: Path,
    layout: str | SkeletonLayout = "",
    fps: float | None = None,
    zeros_absent: bool = True,
    confidence: bool = False,
) -> ReadPlan:
    """Scan a folder of array files, or one file.

    Without ``clips.csv`` (see `read_clip_list`) every array file below the folder is a clip
    without a label. ``layout`` names a registered layout or a layout file; the default is the
    file ``layout.yaml`` (.yml, .json) beside the clips.
    """
    folder = source.parent if source.is_file() else source
    chosen = _choose_layout(folder, layout)
    _check_fps(fps)
    if source.is_dir() and (source / CLIPS_FILE).is_file():
        plan = read_clip_list(source, _CLIP_SUFFIXES, chosen)
    else:
        plan = _list_clips(source, chosen)
    options = {"layout": chosen, "fps": fps, "zeros_absent": zeros_absent, "confidence": confidence}
    tasks = []
    for task in plan.tasks:
        name = task.path.relative_to(folder).with_suffix("").as_posix()
        tasks.append(ReadTask(task.path, {"id": name, **task.info, **options}))
    return replace(plan, tasks=tasks)


def _read(task: ReadTask) -> Iterator[Clip | ReadError]:
    layout, listed_fps = task.info["layout"], task.info.get("meta", {}).get("fps")
    points, score, stated_fps = _read_file(task.path, layout.num_joints)
    try:
        _check_fps(listed_fps)
        joints, score = _check_content(points, score, layout, task.info["confidence"])
        if task.info["zeros_absent"]:
            absent = (joints == 0).all(axis=-1, keepdims=True)
            joints = np.where(absent, np.float32(np.nan), joints)
        if np.isnan(joints).any(axis=-1).all():
            raise ReadError("no joint was seen in any frame")
        fps = stated_fps or (listed_fps and float(listed_fps)) or task.info["fps"]
        yield task.make_clip(joints, layout, confidence=score, fps=fps)
    except (ReadError, ClipError) as error:
        raise ReadError(f"{task.path}: {error}") from error


def _list_clips(source: Path, layout: SkeletonLayout) -> ReadPlan:
    """Return the array files of a source without clips.csv, and those whose name is taken."""
    files = [source] if source.is_file() else sorted(source.rglob("*"))
    files = [f for f in files if f.suffix in _CLIP_SUFFIXES and f.is_file()]
    if not files:
        raise ReadError(f"{source}: expected {', '.join(_CLIP_SUFFIXES)} files, found none")
    tasks: dict[Path, ReadTask] = {}
    refused = []
    for file in files:
        first = tasks.setdefault(file.with_suffix(""), ReadTask(file)).path
        if first != file:
            refused.append((file, f"a clip of this name is already in {first.name}"))
    return ReadPlan([*tasks.values()], layout, refused=tuple(refused))


def _choose_layout(folder: Path, layout: str | SkeletonLayout) -> SkeletonLayout:
    if isinstance(layout, str) and Path(layout).suffix in _LAYOUT_SUFFIXES:
        return read_layout(layout)
    if layout:
        return get_layout(layout)
    beside = [folder / f"layout{suffix}" for suffix in _LAYOUT_SUFFIXES]
    found = [file for file in beside if file.is_file()]
    if len(found) != 1:
        raise ReadError(
            f"{folder}: name the layout of your arrays (--layout), or put one layout.yaml there; "
            f"registered layouts: {', '.join(list_layouts())}"
        )
    return read_layout(found[0])


def _check_fps(fps: Any) -> None:
    if fps is not None and not (isinstance(fps, int | float) and 0 < fps < math.inf):
        raise ReadError(f"expected fps to be frames per second above 0, got {fps!r}")


def _read_file(
    path: Path, num_joints: int
) -> tuple[NDArray[Any], NDArray[Any] | None, float | None]:
    """Return coordinates, confidence and fps, before they are checked against the layout."""
    if path.suffix == ".npy":
        return open_npy(path), None, None
    if path.suffix == ".csv":
        return read_frame_table(path, num_joints), None, None
    if path.suffix != ".npz":
        raise ReadError(f"{path}: expected a file of type {', '.join(_CLIP_SUFFIXES)}")
    arrays = read_npz(path, ("joints", "confidence", "fps"))
    if "joints" not in arrays:
        raise ReadError(f"{path}: expected an array named 'joints'")
    fps = arrays.get("fps", np.empty(0)).ravel().tolist()
    if "fps" in arrays and (len(fps) != 1 or not 0 < fps[0] < math.inf):
        raise ReadError(f"{path}: expected fps to be one number above 0")
    return arrays["joints"], arrays.get("confidence"), float(fps[0]) if fps else None


def _check_content(
    points: NDArray[Any], score: NDArray[Any] | None, layout: SkeletonLayout, confidence: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Return joints (M, T, V, D) and confidence (M, T, V) of the layout."""
    if confidence and score is not None:
        raise ReadError("the file has an array 'confidence', so leave out the option confidence")
    width = "2 or 3 coordinates and a confidence" if confidence else "2 or 3 coordinates"
    wanted = (3, 4) if confidence else (2, 3)
    if points.ndim not in (3, 4) or points.shape[-1] not in wanted:
        hint = "; is the last a confidence (confidence=true)?" if points.shape[-1:] == (4,) else ""
        raise ReadError(
            f"expected an array (frames, joints, {width}) or (persons, frames, joints, {width}), "
            f"got the shape {points.shape}{hint}"
        )
    if points.shape[-2] != layout.num_joints:
        raise ReadError(
            f"layout {layout.name!r} has {layout.num_joints} joints, the array of shape "
            f"{points.shape} has {points.shape[-2]} on its last axis but one"
        )
    values = to_float32(points)
    values = values[None] if values.ndim == 3 else values
    if confidence:
        return values[..., :-1], validate_confidence(values[..., -1])
    if score is not None:
        score = validate_confidence(to_float32(score))
        if score.shape == values.shape[1:3] and len(values) == 1:
            score = score[None]
    return values, score


def _matches(path: Path) -> bool:
    if path.suffix == ".npz":
        return path.is_file() and zipfile.is_zipfile(path)
    if path.suffix == ".csv":
        return path.is_file() and (path.name == CLIPS_FILE or _is_frame_table(path))
    shape = read_npy_shape(path) or ()
    return len(shape) in (3, 4) and shape[-1] in (2, 3, 4)


def _is_frame_table(path: Path) -> bool:
    lines = read_head(path, _HEAD_BYTES).decode("utf-8-sig", errors="replace").splitlines()
    if len(lines) < 2 or lines[0].count(",") < 3:
        return False
    cells = [cell.strip() for cell in lines[1].split(",")[:-1]]
    return sum(not cell or cell.replace(".", "").lstrip("-").isdigit() for cell in cells) >= 3


READER = Reader(
    name="arrays",
    summary="your own .npy, .npz or .csv files, labeled by clips.csv",
    scan=_scan,
    read=_read,
    matches=_matches,
    options={
        "layout": "a registered layout, or a layout file (default: layout.yaml beside the clips)",
        "fps": "frames per second of clips that do not state it",
        "zeros_absent": "false if a joint at exactly zero was tracked (default true)",
        "confidence": "true if the last coordinate is a confidence",
    },
    protocols=("holdout", "official"),
)
