"""Reader of SBU Kinect Interaction: one text file per clip, two persons of 15 joints each.

Yun, Honorio, Chattopadhyay, Berg, Samaras: Two-person Interaction Detection Using Body-Pose
Features and Multiple Instance Learning, CVPR Workshops 2012. The files hold normalized numbers
(nx, ny, nz); the dataset's own description converts them back by

    x = 1280 - 2560 nx,    y = 960 - 1920 ny,    z = 10000 nz / 7.8125,

which gives approximate millimeters, y up, z away from the sensor. None of its 204,660 joints is
at (0, 0, 0).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from kinegraph.readers.filename_patterns import compile_path_pattern, plan_named_files
from kinegraph.readers.formats.table_file import is_number_table, read_table
from kinegraph.readers.reader import Reader, ReadPlan, ReadResults, ReadTask
from kinegraph.skeleton.space import KINECT

_FPS = 15.0  # stated by the authors
_COLUMNS = 1 + 2 * 15 * 3  # the frame number, then x, y, z of each joint
_MM_OFFSET = np.array([1280.0, 960.0, 0.0])
_MM_SCALE = np.array([-2560.0, -1920.0, 10000.0 / 7.8125])
_NAME = compile_path_pattern(
    r"(?P<pair>s\d\ds\d\d)/(?P<action>\d\d)/(?P<replication>\d\d\d)/skeleton_pos\.txt"
)


def _scan(source: Path) -> ReadPlan:
    return plan_named_files(source, _NAME, "s01s02/01/001/skeleton_pos.txt", "sbu15", "sbu")


def _read(task: ReadTask) -> ReadResults:
    """Yield the clip of a file, with meta pair ("s01s02") and replication."""
    table = read_table(task.path, _COLUMNS, ",")
    normalized = table[:, 1:].reshape(len(table), 2, 15, 3).transpose(1, 0, 2, 3)
    with np.errstate(over="ignore"):
        joints = task.to_joints(_MM_OFFSET + _MM_SCALE * normalized, zeros_absent=False)
    joints[(normalized == 0).all(axis=-1)] = np.nan
    # every file has the same name: its folders' names are the id
    facts = {"id": "_".join(task.path.absolute().parts[-4:-1])} if "meta" in task.info else {}
    yield task.make_clip(joints, "sbu15", fps=_FPS, space=READER.space, **facts)


READER = Reader(
    name="sbu",
    summary="SBU Kinect Interaction's folders (s01s02/01/001/skeleton_pos.txt), two persons",
    scan=_scan,
    read=_read,
    matches=lambda path: path.suffix == ".txt" and is_number_table(path, _COLUMNS, ","),
    protocols=tuple(f"sbu-fold{fold}" for fold in range(1, 6)),
    space=replace(KINECT, unit="mm"),
)
