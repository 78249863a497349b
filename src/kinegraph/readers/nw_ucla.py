"""Reader of NW-UCLA: one JSON file per clip, Kinect v1 joints in meters.

Wang, Nie, Xia, Wu, Zhu: Cross-view Action Modeling, Learning and Recognition, CVPR 2014, in the
JSON files that the code of CTR-GCN and others trains on. Twelve of its 1,170,680 joints are at
(0, 0, 0): not tracked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ReadError
from kinegraph.readers.filename_patterns import (
    compile_path_pattern,
    parse_path,
    plan_named_files,
)
from kinegraph.readers.formats.json_file import read_json
from kinegraph.readers.formats.raw_file import describe, read_head
from kinegraph.readers.reader import Reader, ReadPlan, ReadResults, ReadTask
from kinegraph.skeleton.space import KINECT

ACTION_NUMBERS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)
"""The action numbers in file names, in the order of the labels."""

_NUM_JOINTS = 20
_NAME = compile_path_pattern(
    r"a(?P<action>\d\d)_s(?P<subject>\d\d)_e(?P<replication>\d\d)_v(?P<camera>\d\d)\.json"
)


def label_of_name(name: str) -> int | None:
    """Return the label that a clip's name states, None if it is not one of NW-UCLA.

    >>> label_of_name("a08_s03_e02_v03")
    6
    """
    action = parse_path(Path(f"{name}.json"), _NAME).get("action")
    return ACTION_NUMBERS.index(action) if action in ACTION_NUMBERS else None


def _scan(source: Path) -> ReadPlan:
    labels = {action: label for label, action in enumerate(ACTION_NUMBERS)}
    return plan_named_files(source, _NAME, "a01_s01_e00_v01.json", "kinect20", "nw_ucla", labels)


def _read(task: ReadTask) -> ReadResults:
    """Yield the clip of a file, with meta subject, camera and replication.

    The label is in the name and, from 1 to 10, in the file. If the name does not state it, the
    label in the file is taken.
    """
    content = read_json(task.path)
    if not isinstance(content, dict) or "skeletons" not in content:
        raise ReadError(
            f"{task.path}: expected a JSON object with 'skeletons', got {describe(content)}"
        )
    joints = task.to_joints(_parse_joints(content["skeletons"], task.path))
    label = _check_label(content.get("label"), task)
    yield task.make_clip(joints[None], "kinect20", label=label, space=READER.space)


def _check_label(stated: Any, task: ReadTask) -> int | None:
    named: int | None = task.info.get("label")
    if stated is None:
        return named
    if type(stated) is not int or not 1 <= stated <= len(ACTION_NUMBERS):
        raise ReadError(
            f"{task.path}: expected a label from 1 to {len(ACTION_NUMBERS)}, got {describe(stated)}"
        )
    if named not in (None, stated - 1):
        raise ReadError(
            f"{task.path}: the label in the file's name is {named + 1}, in its content {stated}"
        )
    return stated - 1


def _parse_joints(frames: Any, path: Path) -> NDArray[np.float64]:
    """Return joints (T, 20, 3) in meters."""
    if not isinstance(frames, list):
        raise ReadError(f"{path}: expected a list of frames, got {describe(frames)}")
    for number, frame in enumerate(frames):
        if not isinstance(frame, list) or len(frame) != _NUM_JOINTS:
            raise ReadError(
                f"{path}: frame {number}: expected a list of {_NUM_JOINTS} joints, "
                f"got {describe(frame)}"
            )
    try:
        array = np.array(frames, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise ReadError(f"{path}: expected x, y, z of every joint as numbers: {error}") from error
    if frames and array.shape[1:] != (_NUM_JOINTS, 3):
        raise ReadError(
            f"{path}: expected x, y, z of every joint, got numbers of shape {array.shape}"
        )
    return array


def _matches(path: Path) -> bool:
    head = read_head(path, 512)
    return path.suffix == ".json" and head.startswith(b"{") and b'"skeletons"' in head


READER = Reader(
    name="nw_ucla",
    summary="a folder of NW-UCLA's JSON files (a01_s01_e00_v01.json), 20 joints in meters",
    scan=_scan,
    read=_read,
    matches=_matches,
    protocols=("ucla-xview",),
    space=KINECT,
)
