"""Reads the user's own data: a folder of .npy, .npz or .csv files, labelled by clips.csv."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError, ReadError
from kinegraph.readers.formats.csv_file import read_frame_table
from kinegraph.readers.formats.numpy_file import open_npy, read_npy_shape, read_npz, to_float32
from kinegraph.readers.label_csv import NAME, ListedClip, read_clip_list
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask
from kinegraph.readers.stacked import validate_confidence
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout, list_layouts, read_layout

SUFFIXES = (".npy", ".npz", ".csv")
"""The kinds of files that hold a clip."""
LAYOUT_SUFFIXES = (".yaml", ".yml", ".json")
"""The kinds of files that hold a layout."""

_HEAD_BYTES = 8192


@dataclass(frozen=True)
class _Content:
    """What a file holds before it is checked against the layout."""

    points: NDArray[Any]
    confidence: NDArray[Any] | None = None
    fps: float | None = None


def scan(
    source: Path,
    layout: str | SkeletonLayout = "",
    fps: float | None = None,
    zeros_absent: bool = True,
    confidence: bool = False,
) -> ReadPlan:
    """A folder with array files and ``clips.csv``, a folder with array files, or one file.

    Without ``clips.csv`` every array file below the folder is a clip without label; see
    `kinegraph.readers.label_csv.read_clip_list` for what it holds.

    Args:
        source: the folder or file.
        layout: a registered layout or the path of a layout file; by default the file
            ``layout.yaml`` (.yml, .json) beside the clips.
        fps: frames per second of clips that tell it neither in their .npz nor in a column ``fps``.
        zeros_absent: a joint whose coordinates are all zero was not seen.
        confidence: the last coordinate is a confidence in [0, 1].

    Raises:
        ReadError: no array file, no layout, a clips.csv that is no table.
        UnknownNameError: no such layout.
        LayoutError: a damaged layout file.
    """
    folder = source.parent if source.is_file() else source
    chosen = _chosen_layout(folder, layout)
    _check_fps(fps)
    classes, refused = None, []
    if source.is_dir() and (source / NAME).is_file():
        listed = read_clip_list(source, SUFFIXES)
        clips, classes, refused = listed.clips, listed.classes, listed.refused
    else:
        clips, refused = _unlisted(source)
    tasks = [_make_task(folder, clip, chosen) for clip in clips]
    return ReadPlan(tasks, chosen, classes, tuple(refused))


def read(
    task: ReadTask,
    layout: str | SkeletonLayout = "",
    fps: float | None = None,
    zeros_absent: bool = True,
    confidence: bool = False,
) -> Iterator[Clip | ReadError]:
    """The clip of one array file; options as for `scan`.

    Raises:
        ReadError: a damaged file, or an array that does not fit the layout.
    """
    chosen = task.info.get("layout") or _chosen_layout(task.path.parent, layout)
    content = _content(task.path, chosen.num_joints)
    try:
        joints, score = _checked(content, chosen, confidence)
        joints = _seen(joints, zeros_absent)
        yield Clip(
            joints,
            chosen,
            score,
            label=task.info.get("label"),
            id=task.info.get("id", task.path.stem),
            fps=content.fps or _listed_fps(task) or fps,
            meta=task.info.get("meta", {}),
        )
    except (ReadError, ClipError) as error:
        raise ReadError(f"{task.path}: {error}") from error


def _unlisted(source: Path) -> tuple[list[ListedClip], list[tuple[Path, str]]]:
    """The array files of a source without clips.csv, and those whose name is taken."""
    files = [source] if source.is_file() else sorted(source.rglob("*"))
    files = [f for f in files if f.suffix in SUFFIXES and f.is_file()]
    if not files:
        raise ReadError(f"{source}: expected {', '.join(SUFFIXES)} files, found none")
    first: dict[Path, Path] = {}
    for file in files:
        first.setdefault(file.with_suffix(""), file)
    refused = [
        (file, f"a clip of this name is already in {first[file.with_suffix('')].name}")
        for file in files
        if first[file.with_suffix("")] != file
    ]
    return [ListedClip(file, None, {}) for file in first.values()], refused


def _make_task(folder: Path, clip: ListedClip, layout: SkeletonLayout) -> ReadTask:
    name = clip.path.relative_to(folder).with_suffix("").as_posix()
    facts = {"id": name, "label": clip.label, "meta": clip.meta, "layout": layout}
    return ReadTask(clip.path, facts)


def _chosen_layout(folder: Path, layout: str | SkeletonLayout) -> SkeletonLayout:
    if isinstance(layout, str) and Path(layout).suffix in LAYOUT_SUFFIXES:
        return read_layout(layout)
    if layout:
        return get_layout(layout)
    beside = [folder / f"layout{suffix}" for suffix in LAYOUT_SUFFIXES]
    found = [file for file in beside if file.is_file()]
    if len(found) != 1:
        raise ReadError(
            f"{folder}: name the layout of your arrays (--layout), or put one layout.yaml there; "
            f"registered layouts: {', '.join(list_layouts())}"
        )
    return read_layout(found[0])


def _check_fps(fps: float | None) -> None:
    if fps is not None and not (isinstance(fps, int | float) and 0 < fps < math.inf):
        raise ReadError(f"expected fps to be frames per second above 0, got {fps!r}")


def _listed_fps(task: ReadTask) -> float | None:
    fps = task.info.get("meta", {}).get("fps")
    _check_fps(fps)
    return fps if fps is None else float(fps)


def _content(path: Path, num_joints: int) -> _Content:
    if path.suffix == ".npy":
        return _Content(open_npy(path))
    if path.suffix == ".csv":
        return _Content(read_frame_table(path, num_joints))
    if path.suffix != ".npz":
        raise ReadError(f"{path}: expected a file of type {', '.join(SUFFIXES)}")
    arrays = read_npz(path, ("joints", "confidence", "fps"))
    if "joints" not in arrays:
        raise ReadError(f"{path}: expected an array named 'joints'")
    fps = arrays.get("fps")
    if fps is not None and (fps.size != 1 or not 0 < float(fps.ravel()[0]) < math.inf):
        raise ReadError(f"{path}: expected fps to be one number above 0")
    rate = None if fps is None else float(fps.ravel()[0])
    return _Content(arrays["joints"], arrays.get("confidence"), rate)


def _checked(
    content: _Content, layout: SkeletonLayout, confidence: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Joints (M, T, V, D) and confidence (M, T, V) of the layout, or an error that says why not."""
    points, score = content.points, content.confidence
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
    return values, None if score is None else _own_confidence(score, values)


def _own_confidence(score: NDArray[Any], values: NDArray[np.float32]) -> NDArray[np.float32]:
    score = validate_confidence(to_float32(score))
    return score[None] if score.shape == values.shape[1:3] and len(values) == 1 else score


def _seen(joints: NDArray[np.float32], zeros_absent: bool) -> NDArray[np.float32]:
    if zeros_absent:
        absent = (joints == 0).all(axis=-1, keepdims=True)
        joints = np.where(absent, np.float32(np.nan), joints)
    if np.isnan(joints).any(axis=-1).all():
        raise ReadError("no joint was seen in any frame")
    return joints


def _matches(path: Path) -> bool:
    if path.suffix == ".npz":
        return path.is_file() and zipfile.is_zipfile(path)
    if path.suffix == ".csv":
        return path.is_file() and (path.name == NAME or _is_frame_table(path))
    shape = read_npy_shape(path) or ()
    return len(shape) in (3, 4) and shape[-1] in (2, 3, 4)


def _is_frame_table(path: Path) -> bool:
    """Whether a line of names is followed by a line of numbers."""
    with path.open("rb") as file:
        lines = file.read(_HEAD_BYTES).decode("utf-8-sig", errors="replace").splitlines()
    if len(lines) < 2 or lines[0].count(",") < 3:
        return False
    cells = [cell.strip() for cell in lines[1].split(",")[:-1]]
    return sum(not cell or cell.replace(".", "").lstrip("-").isdigit() for cell in cells) >= 3


READER = Reader(
    name="arrays",
    summary="your own .npy, .npz or .csv files, labelled by clips.csv",
    scan=scan,
    read=read,
    matches=_matches,
    options={
        "layout": "a registered layout, or a layout file (default: layout.yaml beside the clips)",
        "fps": "frames per second of clips that do not tell theirs",
        "zeros_absent": "false if a joint at exactly zero was seen there (default true)",
        "confidence": "true if the last coordinate is a confidence",
    },
    protocols=("holdout", "official"),
)
