"""Reads SBU Kinect Interaction: one text file a clip, two persons of 15 joints each.

Yun, Honorio, Chattopadhyay, Berg, Samaras: Two-person Interaction Detection Using Body-Pose
Features and Multiple Instance Learning, CVPR Workshops 2012. The files hold normalised numbers
(nx, ny, nz); the dataset's own description undoes that by

    x = 1280 - 2560 nx,    y = 960 - 1920 ny,    z = 10000 nz / 7.8125,

which gives millimetres or nearly so, y up, z away from the sensor. None of its 204,660 joints is
at (0, 0, 0).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.coordinates import validate_joints
from kinegraph.readers.filename_patterns import compile_path_pattern, plan_named_files
from kinegraph.readers.formats.text_file import is_number_table, read_table
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask
from kinegraph.skeleton.layouts import get_layout

LAYOUT = "sbu15"
FPS = 15.0
"""As the dataset's authors state it."""
PERSONS = 2

_COLUMNS = 1 + PERSONS * 15 * 3  # the frame number, then x, y, z
_OFFSET = np.array([1280.0, 960.0, 0.0])
_SCALE = np.array([-2560.0, -1920.0, 10000.0 / 7.8125])
_NAME = compile_path_pattern(
    r"(?P<pair>s\d\ds\d\d)/(?P<action>\d\d)/(?P<replication>\d\d\d)/skeleton_pos\.txt"
)


def scan(source: Path) -> ReadPlan:
    """The files ``s01s02/01/001/skeleton_pos.txt`` below a folder, or a single file.

    Raises:
        ReadError: there is no such file.
    """
    return plan_named_files(source, _NAME, "s01s02/01/001/skeleton_pos.txt", LAYOUT, "sbu")


def read(task: ReadTask) -> Iterator[Clip | ReadError]:
    """The clip of one file, with meta pair ("s01s02") and replication.

    Raises:
        ReadError: a line that is not a frame number and 90 coordinates between commas.
    """
    table = read_table(task.path, _COLUMNS, ",")
    yield Clip(
        _joints(table[:, 1:], task.path),
        get_layout(LAYOUT),
        label=task.info.get("label"),
        id=_id(task),
        fps=FPS,
        meta=task.info.get("meta", {}),
    )


def _joints(coordinates: NDArray[np.float64], path: Path) -> NDArray[np.float32]:
    """(2, T, 15, 3) millimetres; where the file says (0, 0, 0) a joint is absent."""
    normalised = coordinates.reshape(len(coordinates), PERSONS, -1, 3).transpose(1, 0, 2, 3)
    with np.errstate(over="ignore"):
        joints = validate_joints(_OFFSET + _SCALE * normalised, path)
    joints[(normalised == 0).all(axis=-1)] = np.nan
    return joints


def _id(task: ReadTask) -> str:
    """Every file has the same name; the folders tell them apart."""
    if "meta" not in task.info:
        return task.path.stem
    meta = task.info["meta"]
    return f"{meta['pair']}_{task.info['label'] + 1:02d}_{meta['replication']:03d}"


def _matches(path: Path) -> bool:
    return path.suffix == ".txt" and is_number_table(path, _COLUMNS, ",")


READER = Reader(
    name="sbu",
    summary="SBU Kinect Interaction's folders (s01s02/01/001/skeleton_pos.txt), two persons",
    scan=scan,
    read=read,
    matches=_matches,
    protocols=tuple(f"sbu-fold{fold}" for fold in range(1, 6)),
)
