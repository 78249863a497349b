"""Reader of Florence 3D Actions: one text file per clip, 15 joints in millimeters.

Seidenari, Varano, Berretti, Del Bimbo, Pala: Recognizing Actions from Depth Cameras as Weakly
Aligned Multi-Part Bag-of-Poses, CVPR Workshops 2013. None of its 57,030 joints is at (0, 0, 0).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kinegraph.errors import ReadError
from kinegraph.readers.filename_patterns import compile_path_pattern, plan_named_files
from kinegraph.readers.formats.table_file import is_number_table, read_table
from kinegraph.readers.reader import Reader, ReadPlan, ReadResults, ReadTask
from kinegraph.skeleton.space import KINECT

_NUM_JOINTS, _COLUMNS = 15, 3
_NAME = compile_path_pattern(
    r"a(?P<action>\d\d)_s(?P<subject>\d{1,2})_id(?P<recording>\d{1,4})\.txt"
)


def _scan(source: Path) -> ReadPlan:
    return plan_named_files(source, _NAME, "a01_s1_id1.txt", "florence15", "florence3d")


def _read(task: ReadTask) -> ReadResults:
    """Yield the clip of a file, with meta subject and recording (the number after "id")."""
    table = read_table(task.path, _COLUMNS)
    if rest := len(table) % _NUM_JOINTS:
        raise ReadError(
            f"{task.path}: expected {_NUM_JOINTS} lines for every frame, got {len(table)} lines, "
            f"which leaves {rest} for the last frame"
        )
    joints = task.to_joints(table.reshape(-1, _NUM_JOINTS, _COLUMNS))
    yield task.make_clip(joints[None], "florence15", space=READER.space)


READER = Reader(
    name="florence3d",
    summary="a folder of Florence 3D Actions' text files (a01_s1_id1.txt), 15 joints in mm",
    scan=_scan,
    read=_read,
    matches=lambda path: bool(_NAME.fullmatch(path.name)) and is_number_table(path, _COLUMNS),
    protocols=("odd-even-subjects",),
    space=replace(KINECT, unit="mm"),
)
