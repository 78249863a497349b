"""Reads Florence 3D Actions: one text file a clip, 15 joints in millimetres.

Seidenari, Varano, Berretti, Del Bimbo, Pala: Recognizing Actions from Depth Cameras as Weakly
Aligned Multi-Part Bag-of-Poses, CVPR Workshops 2013. None of its 57,030 joints is at (0, 0, 0).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.coordinates import mask_zero_joints
from kinegraph.readers.filename_patterns import compile_path_pattern, plan_named_files
from kinegraph.readers.formats.text_file import is_number_table, read_table
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask
from kinegraph.skeleton.layouts import get_layout

LAYOUT = "florence15"

_COLUMNS = 3
_NAME = compile_path_pattern(
    r"a(?P<action>\d\d)_s(?P<subject>\d{1,2})_id(?P<recording>\d{1,4})\.txt"
)


def scan(source: Path) -> ReadPlan:
    """The files ``a01_s1_id1.txt`` at any depth of a folder, or a single file.

    Raises:
        ReadError: there is no such file.
    """
    return plan_named_files(source, _NAME, "a01_s1_id1.txt", LAYOUT, "florence3d")


def read(task: ReadTask) -> Iterator[Clip | ReadError]:
    """The clip of one file, with meta subject and recording (the number after "id").

    Raises:
        ReadError: a line that is not x, y, z, or lines that do not make whole frames.
    """
    layout = get_layout(LAYOUT)
    table = read_table(task.path, _COLUMNS)
    if len(table) % layout.num_joints:
        raise ReadError(
            f"{task.path}: expected {layout.num_joints} lines for every frame, got {len(table)} "
            f"lines, which leaves {len(table) % layout.num_joints} for the last frame"
        )
    yield Clip(
        mask_zero_joints(table.reshape(-1, layout.num_joints, _COLUMNS), task.path)[None],
        layout,
        label=task.info.get("label"),
        id=task.path.stem,
        meta=task.info.get("meta", {}),
    )


def _matches(path: Path) -> bool:
    return _NAME.fullmatch(path.name) is not None and is_number_table(path, _COLUMNS)


READER = Reader(
    name="florence3d",
    summary="a folder of Florence 3D Actions' text files (a01_s1_id1.txt), 15 joints in mm",
    scan=scan,
    read=read,
    matches=_matches,
    protocols=("odd-even-subjects",),
)
