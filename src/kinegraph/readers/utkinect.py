"""Reads UTKinect-Action3D: continuous recordings, Kinect v1 joints in metres, labelled by ranges.

Xia, Chen, Aggarwal: View Invariant Human Action Recognition Using Histograms of 3D Joints, CVPR
Workshops 2012. A line is the number of a frame and 20 joints; frames without a tracked person are
left out, so that numbers jump by 2 to 8 or more. Some numbers repeat with other joints (1 to 10 %
of the lines): the first is kept. None of its 317,200 joints is at (0, 0, 0).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip, MetaValue
from kinegraph.errors import ReadError, unknown_name
from kinegraph.readers.class_names import class_names
from kinegraph.readers.coordinates import mask_zero_joints
from kinegraph.readers.filename_patterns import compile_path_pattern, find_files, parse_path
from kinegraph.readers.formats.text_file import is_number_table, read_table
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask
from kinegraph.readers.utkinect_annotations import FrameRange, find_label_file, read_ranges
from kinegraph.skeleton.layouts import get_layout

LAYOUT = "kinect20"
WHAT = ("segments", "recordings")

_CLASSES = "utkinect"
_COLUMNS = 1 + 20 * 3  # the frame number, then x, y, z
_NAME = compile_path_pattern(r"joints_s(?P<subject>\d\d)_e(?P<replication>\d\d)\.txt")
_Refused = tuple[Path, str]


# --------------------------------------------------------------------- scan


def scan(source: Path, *, what: str = "segments") -> ReadPlan:
    """The recordings ``joints_s01_e01.txt`` at any depth of a folder, or a single file.

    Their ranges stand in a file beside them: ``actionLabel_modified.txt``, which corrects seven of
    them, or else ``actionLabel.txt``. A single file without ranges is one clip without a label.

    Raises:
        ReadError: there is no such file; a folder without label file, where segments are asked
            for; a label file that cannot be read.
        UnknownNameError: ``what`` is neither segments nor recordings.
    """
    _check(what)
    tasks, refused = [], []
    files = find_files(source, _NAME, "joints_s01_e01.txt")
    for folder in dict.fromkeys(file.parent for file in files):
        inside = [file for file in files if file.parent == folder]
        labelled, left_out = _labelled(folder, inside, need=source.is_dir() and what == WHAT[0])
        tasks += labelled
        refused += left_out if what == WHAT[0] else []
    return ReadPlan(tasks, get_layout(LAYOUT), class_names(_CLASSES), tuple(refused))


def _labelled(
    folder: Path, files: Sequence[Path], need: bool
) -> tuple[list[ReadTask], list[_Refused]]:
    """The recordings of one folder with their ranges, and what has to be left out."""
    labels = find_label_file(folder)
    if labels is None:
        if need:
            raise ReadError(
                f"{folder}: expected actionLabel.txt beside the recordings, found none; "
                f"what=recordings reads them without labels"
            )
        return [_make_task(file, None) for file in files], []
    ranges, unusable = read_ranges(labels, class_names(_CLASSES))
    names = {file: _recording_name(file) for file in files}
    tasks = [_make_task(file, ranges.get(name)) for file, name in names.items()]
    refused = [(labels, reason) for name, reason in unusable if name in names.values()]
    if need:
        refused += [
            (task.path, f"{labels}: expected frame ranges of {names[task.path]}, found none")
            for task in tasks
            if task.info["ranges"] is None
        ]
        tasks = [task for task in tasks if task.info["ranges"] is not None]
    return tasks, refused


def _make_task(path: Path, ranges: Sequence[FrameRange] | None) -> ReadTask:
    return ReadTask(path, {"meta": parse_path(path, _NAME), "ranges": ranges})


def _recording_name(path: Path) -> str:
    """``s01_e01``, as the label file calls it."""
    return path.stem.removeprefix("joints_")


def _check(what: str) -> None:
    if what not in WHAT:
        raise unknown_name("kind of UTKinect clips", str(what), WHAT)


# --------------------------------------------------------------------- read


def read(task: ReadTask, *, what: str = "segments") -> Iterator[Clip | ReadError]:
    """The clips of one recording, with meta subject and replication.

    Args:
        task: the recording.
        what: "segments" gives a clip for every labelled range, both its ends included;
            "recordings" the whole recording without a label, whose meta ``segments`` is a JSON
            list of [label, first, last], counting the clip's frames from 0, both ends included.

    Raises:
        ReadError: a line that is not a frame number and 60 coordinates, or numbers that decrease.
        UnknownNameError: ``what`` is neither segments nor recordings.
    """
    _check(what)
    numbers, joints = _recording(task.path)
    ranges = task.info.get("ranges")
    spans = [(range_, _span(numbers, range_)) for range_ in ranges or ()]
    if ranges is None:
        yield _clip(task, joints)
    elif what == "recordings":
        found = [[r.label, start, stop - 1] for r, (start, stop) in spans if start < stop]
        yield _clip(task, joints, segments=json.dumps(found))
    else:
        for range_, (start, stop) in spans:
            yield _segment(task, joints[start:stop], range_)


def _recording(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Frame numbers (T,), increasing, and joints (T, 20, 3) in metres."""
    table = read_table(path, _COLUMNS)
    steps = np.diff(table[:, 0])
    if (steps < 0).any():
        row = int(np.argmax(steps < 0))
        raise ReadError(
            f"{path}: expected increasing frame numbers, got {table[row + 1, 0]:g} "
            f"after {table[row, 0]:g}"
        )
    table = table[np.concatenate([[True], steps > 0])]
    return table[:, 0], mask_zero_joints(table[:, 1:].reshape(len(table), -1, 3), path)


def _span(numbers: NDArray[np.float64], range_: FrameRange) -> tuple[int, int]:
    """The rows [start, stop) whose frame numbers are in a range."""
    start = np.searchsorted(numbers, range_.first, side="left")
    return int(start), int(np.searchsorted(numbers, range_.last, side="right"))


def _segment(task: ReadTask, joints: NDArray[np.float32], range_: FrameRange) -> Clip | ReadError:
    if len(joints) == 0:
        return ReadError(
            f"{task.path}: expected frames from {range_.first} to {range_.last} "
            f"({range_.action}), found none"
        )
    return _clip(task, joints, f"_{range_.action}", range_.label)


def _clip(
    task: ReadTask,
    joints: NDArray[np.float32],
    suffix: str = "",
    label: int | None = None,
    **facts: MetaValue,
) -> Clip:
    meta: dict[str, Any] = {**task.info.get("meta", {}), **facts}
    name = _recording_name(task.path) + suffix
    return Clip(joints[None], get_layout(LAYOUT), label=label, id=name, meta=meta)


def _matches(path: Path) -> bool:
    return path.suffix == ".txt" and is_number_table(path, _COLUMNS)


READER = Reader(
    name="utkinect",
    summary="UTKinect's recordings (joints_s01_e01.txt) with actionLabel.txt, 20 joints in metres",
    scan=scan,
    read=read,
    matches=_matches,
    options={"what": "segments (labelled clips, the default) or recordings (whole, for streams)"},
    protocols=("odd-even-subjects",),
)
