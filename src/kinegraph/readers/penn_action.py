"""Reads Penn Action: one MATLAB file a clip, 13 joints that people marked in a video's frames.

Zhang, Zhu, Derpanis: From Actemes to Action: A Strongly-supervised Representation for Detailed
Action Understanding, ICCV 2013. Coordinates are pixels, x to the right and y **down**. 22 % of the
joints are marked invisible, and two fifths of those stand at a placeholder: (1, 1), or (0, 0),
times the factor by which the video was resized, so x = y < 2. No visible joint is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip, MetaValue
from kinegraph.errors import ReadError, unknown_name
from kinegraph.readers.class_names import class_names
from kinegraph.readers.coordinates import mask_zero_joints
from kinegraph.readers.filename_patterns import compile_path_pattern, find_files
from kinegraph.readers.formats.mat_file import MatFile, is_mat_file, read_mat
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask
from kinegraph.skeleton.layouts import get_layout

LAYOUT = "penn13"
INVISIBLE = ("drop", "keep")

_CLASSES = "penn_action"
_NAME = compile_path_pattern(r"(?P<number>\d{4})\.mat")
_PLACEHOLDER_BELOW = 2.0  # pixels; the largest resizing factor is 1.52
_SPLITS = {1.0: "train", -1.0: "test"}


def scan(source: Path, *, invisible: str = "drop") -> ReadPlan:
    """The files ``0001.mat`` at any depth of a folder, or a single file.

    Raises:
        ReadError: there is no such file.
        UnknownNameError: ``invisible`` is neither drop nor keep.
    """
    _check(invisible)
    tasks = [ReadTask(path) for path in find_files(source, _NAME, "0001.mat")]
    return ReadPlan(tasks, get_layout(LAYOUT), class_names(_CLASSES))


def read(task: ReadTask, *, invisible: str = "drop") -> Iterator[Clip | ReadError]:
    """The clip of one file, its confidence 1 where a joint is visible and 0 elsewhere.

    Meta: split (train or test, as the file says), view (front, back, left, right), width and
    height in pixels.

    Args:
        task: the file.
        invisible: "drop" makes invisible joints NaN, "keep" keeps the place where the annotator
            supposed them to be. Placeholders are always NaN.

    Raises:
        ReadError: no MATLAB file, or not with the variables of Penn Action.
        UnknownNameError: ``invisible`` is neither drop nor keep.
    """
    _check(invisible)
    mat = read_mat(task.path)
    joints = _joints(mat)
    visible = (_of_joints(mat, "visibility") == 1) & ~np.isnan(joints).any(axis=-1)
    hidden = ~visible if invisible == "drop" else _placeholders(joints, visible)
    joints[hidden] = np.nan
    yield Clip(
        joints[None],
        get_layout(LAYOUT),
        confidence=visible[None].astype(np.float32),
        label=_label(mat),
        id=task.path.stem,
        meta=_meta(mat),
    )


def _check(invisible: str) -> None:
    if invisible not in INVISIBLE:
        raise unknown_name("treatment of invisible joints", str(invisible), INVISIBLE)


def _joints(mat: MatFile) -> NDArray[np.float32]:
    """(T, 13, 2) pixels."""
    x, y, visibility = (_of_joints(mat, name) for name in ("x", "y", "visibility"))
    if not x.shape == y.shape == visibility.shape:
        raise ReadError(
            f"{mat.path}: expected x, y and visibility of one shape, got {x.shape}, {y.shape} "
            f"and {visibility.shape}"
        )
    if not np.isin(visibility, (0, 1)).all():
        raise ReadError(f"{mat.path}: expected visibility to be 0 or 1, got other numbers")
    return mask_zero_joints(np.stack([x, y], axis=-1), mat.path)


def _of_joints(mat: MatFile, name: str) -> NDArray[np.float64]:
    value, count = mat.array(name), get_layout(LAYOUT).num_joints
    if value.ndim != 2 or value.shape[1] != count:
        raise ReadError(
            f"{mat.path}: expected {name} of shape (frames, {count}), got {value.shape}"
        )
    return value


def _placeholders(joints: NDArray[np.float32], visible: NDArray[np.bool_]) -> NDArray[np.bool_]:
    x, y = joints[..., 0], joints[..., 1]
    return ~visible & (x == y) & (x < _PLACEHOLDER_BELOW)


def _label(mat: MatFile) -> int:
    action, classes = mat.text("action"), class_names(_CLASSES)
    if action not in classes:
        raise ReadError(f"{mat.path}: {unknown_name('action', action[:40], classes)}")
    return classes.index(action)


def _meta(mat: MatFile) -> dict[str, MetaValue]:
    split, size = _SPLITS.get(mat.number("train")), mat.array("dimensions").ravel()
    if split is None:
        raise ReadError(f"{mat.path}: expected train to be 1 or -1, got {mat.number('train'):g}")
    if size.size != 3 or not np.isfinite(size).all():
        raise ReadError(f"{mat.path}: expected dimensions to be height, width and frames")
    height, width = int(size[0]), int(size[1])
    return {"split": split, "view": mat.text("pose"), "width": width, "height": height}


def _matches(path: Path) -> bool:
    return _NAME.fullmatch(path.name) is not None and is_mat_file(path)


READER = Reader(
    name="penn_action",
    summary="a folder of Penn Action's label files (0001.mat), 13 joints in pixels",
    scan=scan,
    read=read,
    matches=_matches,
    options={"invisible": "joints marked invisible: drop (NaN, the default) or keep where marked"},
    protocols=("official",),
)
