"""Reads the JHMDB pickles that DD-Net published: 14 of the 21 classes, three splits.

Figures measured on them are not JHMDB figures: every class with an underscore in its name is
missing. No joint of these files is at (0, 0), so nothing in them marks a joint as absent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError, ReadError
from kinegraph.readers.formats.numpy_file import to_float32
from kinegraph.readers.formats.pickle_file import load_pickle
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask
from kinegraph.skeleton.layouts import get_layout

LAYOUT = "jhmdb15"

_NAME = re.compile(r"GT_(train|test)_([123])\.pkl")


def scan(source: Path) -> ReadPlan:
    """The files ``GT_{train,test}_{1,2,3}.pkl`` of a folder, or one of them.

    Every file holds its fold's clips, so the same clip comes once per fold. Classes are the
    label texts of all files read, sorted.

    Raises:
        ReadError: there is no such file, or it is damaged.
    """
    files = [source] if source.is_file() else sorted(source.glob("GT_*.pkl"))
    files = [file for file in files if _NAME.fullmatch(file.name)]
    if not files:
        raise ReadError(f"{source}: expected GT_train_1.pkl to GT_test_3.pkl, found none of them")
    classes = sorted({label for file in files for label in _load(file)[1]})
    tasks = [ReadTask(file, {"classes": tuple(classes)}) for file in files]
    return ReadPlan(tasks, get_layout(LAYOUT), tuple(classes))


def read(task: ReadTask) -> Iterator[Clip | ReadError]:
    """The clips of one file, with meta fold (1 to 3) and split (train, test)."""
    poses, labels = _load(task.path)
    classes = task.info.get("classes") or tuple(sorted(set(labels)))
    split, fold = _fold(task.path)
    for row, (pose, label) in enumerate(zip(poses, labels, strict=True)):
        name = f"{fold}-{split}-{row:04d}"
        try:
            yield Clip(
                _joints(pose),
                get_layout(LAYOUT),
                label=classes.index(label),
                id=name,
                meta={"fold": fold, "split": split},
            )
        except (ClipError, ReadError) as error:
            yield ReadError(f"{task.path}: row {row}: {error}")


def _fold(path: Path) -> tuple[str, int]:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ReadError(f"{path}: expected a name as GT_train_1.pkl, which tells split and fold")
    return match[1], int(match[2])


def _load(path: Path) -> tuple[list[Any], list[str]]:
    content = load_pickle(path)
    if not isinstance(content, dict) or not {"pose", "label"} <= content.keys():
        raise ReadError(f"{path}: expected a dictionary with pose and label")
    poses, labels = list(content["pose"]), list(content["label"])
    if len(poses) != len(labels) or not all(isinstance(label, str) for label in labels):
        raise ReadError(
            f"{path}: expected one label text per pose, got {len(labels)} for {len(poses)}"
        )
    return poses, labels


def _joints(pose: Any) -> NDArray[np.float32]:
    """(T, 15, 2) as one person."""
    if not isinstance(pose, np.ndarray) or pose.dtype.kind != "f" or pose.ndim != 3:
        raise ReadError("expected a pose of numbers (frames, joints, coordinates)")
    return to_float32(pose)[None]


def _matches(path: Path) -> bool:
    return path.is_file() and _NAME.fullmatch(path.name) is not None


READER = Reader(
    name="ddnet",
    summary="DD-Net's JHMDB pickles (14 of 21 classes, 2D)",
    scan=scan,
    read=read,
    matches=_matches,
    protocols=("ddnet-split1", "ddnet-split2", "ddnet-split3"),
)
