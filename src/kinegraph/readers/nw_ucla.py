"""Reads NW-UCLA: one JSON file a clip, Kinect v1 joints in metres.

Wang, Nie, Xia, Wu, Zhu: Cross-view Action Modeling, Learning and Recognition, CVPR 2014, in the
JSON files that the code of CTR-GCN and others trains on. Twelve of its 1,170,680 joints are at
(0, 0, 0): not tracked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.coordinates import mask_zero_joints
from kinegraph.readers.filename_patterns import compile_path_pattern, plan_named_files
from kinegraph.readers.formats.json_file import describe, read_json
from kinegraph.readers.formats.raw_file import read_head
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask
from kinegraph.skeleton.layouts import get_layout

LAYOUT = "kinect20"
ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)
"""The action numbers in file names, in the order of the labels."""

_NAME = compile_path_pattern(
    r"a(?P<action>\d\d)_s(?P<subject>\d\d)_e(?P<replication>\d\d)_v(?P<camera>\d\d)\.json"
)


def scan(source: Path) -> ReadPlan:
    """The files ``a01_s01_e00_v01.json`` at any depth of a folder, or a single file.

    Raises:
        ReadError: there is no such file.
    """
    labels = {action: label for label, action in enumerate(ACTIONS)}
    return plan_named_files(source, _NAME, "a01_s01_e00_v01.json", LAYOUT, "nw_ucla", labels)


def read(task: ReadTask) -> Iterator[Clip | ReadError]:
    """The clip of one file, with meta subject, camera and replication.

    The label stands in the name and, from 1 to 10, in the file; a file whose name tells nothing
    has that of its content, if any.

    Raises:
        ReadError: no JSON of that form, or two labels that disagree.
    """
    content = read_json(task.path)
    if not isinstance(content, dict) or "skeletons" not in content:
        raise ReadError(
            f"{task.path}: expected a JSON object with 'skeletons', got {describe(content)}"
        )
    yield Clip(
        _joints(content["skeletons"], task.path)[None],
        get_layout(LAYOUT),
        label=_label(content.get("label"), task),
        id=task.path.stem,
        meta=task.info.get("meta", {}),
    )


def _label(written: Any, task: ReadTask) -> int | None:
    named: int | None = task.info.get("label")
    if written is None:
        return named
    if type(written) is not int or not 1 <= written <= len(ACTIONS):
        raise ReadError(
            f"{task.path}: expected a label from 1 to {len(ACTIONS)}, got {describe(written)}"
        )
    if named is not None and named != written - 1:
        raise ReadError(
            f"{task.path}: the file's name says label {named + 1}, its content {written}"
        )
    return written - 1


def _joints(frames: Any, path: Path) -> NDArray[np.float32]:
    """(T, 20, 3) metres."""
    count = get_layout(LAYOUT).num_joints
    if not isinstance(frames, list):
        raise ReadError(f"{path}: expected a list of frames, got {describe(frames)}")
    for number, frame in enumerate(frames):
        if not isinstance(frame, list) or len(frame) != count:
            raise ReadError(
                f"{path}: frame {number}: expected a list of {count} joints, got {describe(frame)}"
            )
    try:
        array = np.array(frames, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise ReadError(f"{path}: expected x, y, z of every joint as numbers: {error}") from error
    if array.shape[1:] != (count, 3) and frames:
        raise ReadError(
            f"{path}: expected x, y, z of every joint, got numbers of shape {array.shape}"
        )
    return mask_zero_joints(array, path)


def _matches(path: Path) -> bool:
    head = read_head(path, 512)
    return path.suffix == ".json" and head.startswith(b"{") and b'"skeletons"' in head


READER = Reader(
    name="nw_ucla",
    summary="a folder of NW-UCLA's JSON files (a01_s01_e00_v01.json), 20 joints in metres",
    scan=scan,
    read=read,
    matches=_matches,
    protocols=("ucla-xview",),
)
