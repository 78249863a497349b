"""Reader of the JHMDB pickles that DD-Net published: 14 of the 21 classes, three splits.

Every class with an underscore in its name is missing, so results on them are not JHMDB results.
No joint of these files is at (0, 0), so they mark no joint as absent.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.formats.numpy_file import to_float32
from kinegraph.readers.formats.pickle_file import load_pickle
from kinegraph.readers.reader import Reader, ReadPlan, ReadResults, ReadTask, clip_or_error
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import Space

_LAYOUT = "jhmdb15"
_NAME = re.compile(r"GT_(train|test)_([123])\.pkl")


def _scan(source: Path) -> ReadPlan:
    """Return one task per file; classes are the label texts of all files, sorted.

    Every file holds the clips of its fold, so each clip occurs once per fold.
    """
    files = [source] if source.is_file() else sorted(source.glob("GT_*.pkl"))
    files = [file for file in files if _NAME.fullmatch(file.name)]
    if not files:
        raise ReadError(f"{source}: expected GT_train_1.pkl to GT_test_3.pkl, found none of them")
    classes = tuple(sorted({label for file in files for label in _load_poses(file)[1]}))
    tasks = [ReadTask(file, {"classes": classes}) for file in files]
    return ReadPlan(tasks, get_layout(_LAYOUT), classes)


def _read(task: ReadTask) -> ReadResults:
    """Yield the clips of a file, with meta fold (1 to 3) and split (train, test)."""
    poses, labels = _load_poses(task.path)
    classes = task.info["classes"]
    name = _NAME.fullmatch(task.path.name)
    if name is None:
        raise ReadError(f"{task.path}: expected a name as GT_train_1.pkl, with split and fold")
    split, fold = name[1], int(name[2])
    for row, (pose, label) in enumerate(zip(poses, labels, strict=True)):
        facts = {"label": classes.index(label), "meta": {"fold": fold, "split": split}}
        facts["id"] = f"{fold}-{split}-{row:04d}"
        yield clip_or_error(f"{task.path}: row {row}", _parse_pose_clip, task, pose, **facts)


def _parse_pose_clip(task: ReadTask, pose: Any, **facts: Any) -> Clip:
    if not isinstance(pose, np.ndarray) or pose.dtype.kind != "f" or pose.ndim != 3:
        raise ReadError("expected a pose of numbers (frames, joints, coordinates)")
    return task.make_clip(to_float32(pose)[None], _LAYOUT, space=READER.space, **facts)


def _load_poses(path: Path) -> tuple[list[Any], list[str]]:
    content = load_pickle(path)
    if not isinstance(content, dict) or not {"pose", "label"} <= content.keys():
        raise ReadError(f"{path}: expected a dictionary with pose and label")
    poses, labels = list(content["pose"]), list(content["label"])
    if len(poses) != len(labels) or not all(isinstance(label, str) for label in labels):
        raise ReadError(
            f"{path}: expected one label text per pose, got {len(labels)} for {len(poses)}"
        )
    return poses, labels


READER = Reader(
    name="ddnet",
    summary="DD-Net's JHMDB pickles (14 of 21 classes, 2D)",
    scan=_scan,
    read=_read,
    matches=lambda path: path.is_file() and _NAME.fullmatch(path.name) is not None,
    protocols=("ddnet-split1", "ddnet-split2", "ddnet-split3"),
    space=Space("image"),
)
