"""Reads Florence 3D Actions: one text file a clip, 15 joints in millimetres.

Seidenari, Varano, Berretti, Del Bimbo, Pala: Recognizing Actions from Depth Cameras as Weakly
Aligned Multi-Part Bag-of-Poses, CVPR Workshops 2013. None of its 57,030 joints is at (0, 0, 0).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.coordinates import seen_joints
from kinegraph.readers.filename_patterns import path_pattern, plan_by_name
from kinegraph.readers.formats.text_file import begins_like_table, read_table
from kinegraph.readers.reader import Plan, Reader, Unit
from kinegraph.skeleton.layouts import get_layout

LAYOUT = "florence15"

_COLUMNS = 3
_NAME = path_pattern(r"a(?P<action>\d\d)_s(?P<subject>\d{1,2})_id(?P<recording>\d{1,4})\.txt")


def scan(source: Path) -> Plan:
    """The files ``a01_s1_id1.txt`` at any depth of a folder, or a single file.

    Raises:
        ReadError: there is no such file.
    """
    return plan_by_name(source, _NAME, "a01_s1_id1.txt", LAYOUT, "florence3d")


def read(unit: Unit) -> Iterator[Clip | ReadError]:
    """The clip of one file, with meta subject and recording (the number after "id").

    Raises:
        ReadError: a line that is not x, y, z, or lines that do not make whole frames.
    """
    layout = get_layout(LAYOUT)
    table = read_table(unit.path, _COLUMNS)
    if len(table) % layout.num_joints:
        raise ReadError(
            f"{unit.path}: expected {layout.num_joints} lines for every frame, got {len(table)} "
            f"lines, which leaves {len(table) % layout.num_joints} for the last frame"
        )
    yield Clip(
        seen_joints(table.reshape(-1, layout.num_joints, _COLUMNS), unit.path)[None],
        layout,
        label=unit.info.get("label"),
        id=unit.path.stem,
        meta=unit.info.get("meta", {}),
    )


def _matches(path: Path) -> bool:
    return _NAME.fullmatch(path.name) is not None and begins_like_table(path, _COLUMNS)


READER = Reader(
    name="florence3d",
    summary="a folder of Florence 3D Actions' text files (a01_s1_id1.txt), 15 joints in mm",
    scan=scan,
    read=read,
    matches=_matches,
    protocols=("odd-even-subjects",),
)
