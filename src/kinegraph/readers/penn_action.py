"""Reader of Penn Action: one MATLAB file per clip, 13 joints annotated in the frames of a video.

Zhang, Zhu, Derpanis: From Actemes to Action: A Strongly-supervised Representation for Detailed
Action Understanding, ICCV 2013. Coordinates are pixels, x to the right and y **down**. 22 % of the
joints are marked invisible, and two fifths of those are at a placeholder: (1, 1), or (0, 0),
times the factor by which the video was resized, so x = y < 2. No visible joint is there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import MetaValue
from kinegraph.errors import ReadError, unknown_name
from kinegraph.readers.class_names import class_names
from kinegraph.readers.filename_patterns import compile_path_pattern, find_files
from kinegraph.readers.formats.mat_file import MatFile, is_mat_file, read_mat
from kinegraph.readers.reader import Reader, ReadPlan, ReadResults, ReadTask, check_choice
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import Space

_INVISIBLE_CHOICES = ("drop", "keep")
_NUM_JOINTS = 13
_NAME = compile_path_pattern(r"(?P<number>\d{4})\.mat")
_PLACEHOLDER_LIMIT = 2.0  # pixels; the largest resizing factor is 1.52
_SPLIT_BY_VALUE = {1.0: "train", -1.0: "test"}


def _scan(source: Path, *, invisible: str = "drop") -> ReadPlan:
    check_choice("treatment of invisible joints", invisible, _INVISIBLE_CHOICES)
    files = find_files(source, _NAME, "0001.mat")
    tasks = [ReadTask(path, {"invisible": invisible}) for path in files]
    return ReadPlan(tasks, get_layout("penn13"), class_names("penn_action"))


def _read(task: ReadTask) -> ReadResults:
    """Yield the clip of a file; its confidence is 1 where a joint is visible, else 0.

    Meta: split (train or test, as the file states), view (front, back, left, right), width and
    height in pixels. ``invisible="keep"`` keeps the positions that the annotators assumed for
    invisible joints; placeholders are always NaN.
    """
    mat = read_mat(task.path)
    x, y, visibility = (_read_joint_values(mat, name) for name in ("x", "y", "visibility"))
    if not x.shape == y.shape == visibility.shape:
        raise ReadError(
            f"{mat.path}: expected x, y and visibility of one shape, got {x.shape}, {y.shape} "
            f"and {visibility.shape}"
        )
    if not np.isin(visibility, (0, 1)).all():
        raise ReadError(f"{mat.path}: expected visibility to be 0 or 1, got other numbers")
    joints = task.to_joints(np.stack([x, y], axis=-1))
    visible = (visibility == 1) & ~np.isnan(joints).any(axis=-1)
    placeholder = ~visible & (joints[..., 0] == joints[..., 1])
    placeholder &= joints[..., 0] < _PLACEHOLDER_LIMIT
    joints[~visible if task.info["invisible"] == "drop" else placeholder] = np.nan
    yield task.make_clip(
        joints[None],
        "penn13",
        confidence=visible[None].astype(np.float32),
        label=_read_label(mat),
        meta=_read_meta(mat),
        space=READER.space,
    )


def _read_joint_values(mat: MatFile, name: str) -> NDArray[np.float64]:
    value = mat.array(name)
    if value.ndim != 2 or value.shape[1] != _NUM_JOINTS:
        raise ReadError(
            f"{mat.path}: expected {name} of shape (frames, {_NUM_JOINTS}), got {value.shape}"
        )
    return value


def _read_label(mat: MatFile) -> int:
    action, classes = mat.text("action"), class_names("penn_action")
    if action not in classes:
        raise ReadError(f"{mat.path}: {unknown_name('action', action[:40], classes)}")
    return classes.index(action)


def _read_meta(mat: MatFile) -> dict[str, MetaValue]:
    split, size = _SPLIT_BY_VALUE.get(mat.number("train")), mat.array("dimensions").ravel()
    if split is None:
        raise ReadError(f"{mat.path}: expected train to be 1 or -1, got {mat.number('train'):g}")
    if size.size != 3 or not np.isfinite(size).all():
        raise ReadError(f"{mat.path}: expected dimensions to be height, width and frames")
    height, width = int(size[0]), int(size[1])
    return {"split": split, "view": mat.text("pose"), "width": width, "height": height}


READER = Reader(
    name="penn_action",
    summary="a folder of Penn Action's label files (0001.mat), 13 joints in pixels",
    scan=_scan,
    read=_read,
    matches=lambda path: _NAME.fullmatch(path.name) is not None and is_mat_file(path),
    options={"invisible": "invisible joints: drop (NaN, default) or keep (as annotated)"},
    protocols=("official",),
    space=Space("image", unit="pixel"),
)
