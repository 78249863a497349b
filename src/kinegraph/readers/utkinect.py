"""Reader of UTKinect-Action3D: continuous recordings, Kinect v1 joints in meters.

Xia, Chen, Aggarwal: View Invariant Human Action Recognition Using Histograms of 3D Joints, CVPR
Workshops 2012. A line has a frame number and 20 joints; frames without a tracked person are left
out, so frame numbers have gaps of 2 to 8 or more. Some numbers repeat with other joints (1 to 10 %
of the lines): the first line is kept. None of its 317,200 joints is at (0, 0, 0). The ranges of
frames that show an action are in a label file, see `kinegraph.readers.utkinect_annotations`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.class_names import class_names
from kinegraph.readers.coordinates import mask_zero_joints
from kinegraph.readers.filename_patterns import compile_path_pattern, find_files, parse_path
from kinegraph.readers.formats.text_file import is_number_table, read_table
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask, check_choice
from kinegraph.readers.utkinect_annotations import FrameRange, find_label_file, read_ranges
from kinegraph.skeleton.layouts import get_layout

_LAYOUT = "kinect20"
_CLIP_KINDS = ("segments", "recordings")
_COLUMNS = 1 + 20 * 3  # the frame number, then x, y, z of each joint
_NAME = compile_path_pattern(r"joints_s(?P<subject>\d\d)_e(?P<replication>\d\d)\.txt")


def _scan(source: Path, *, what: str = "segments") -> ReadPlan:
    check_choice("kind of UTKinect clips", what, _CLIP_KINDS)
    tasks: list[ReadTask] = []
    refused: list[tuple[Path, str]] = []
    files = find_files(source, _NAME, "joints_s01_e01.txt")
    needs_ranges = source.is_dir() and what == "segments"
    for folder in dict.fromkeys(file.parent for file in files):
        inside = [file for file in files if file.parent == folder]
        labeled, left_out = _scan_folder(folder, inside, needs_ranges)
        tasks += labeled
        refused += left_out if what == "segments" else []
    return ReadPlan(tasks, get_layout(_LAYOUT), class_names("utkinect"), tuple(refused))


def _scan_folder(
    folder: Path, files: Sequence[Path], needs_ranges: bool
) -> tuple[list[ReadTask], list[tuple[Path, str]]]:
    """Return the recordings of a folder with their ranges, and the refused ones."""
    label_file = find_label_file(folder)
    if label_file is None:
        if needs_ranges:
            raise ReadError(
                f"{folder}: expected actionLabel.txt beside the recordings, found none; "
                f"what=recordings reads them without labels"
            )
        return [_make_task(file, None) for file in files], []
    ranges, unusable = read_ranges(label_file, class_names("utkinect"))
    names = {_recording_name(file): file for file in files}
    refused = [(label_file, reason) for name, reason in unusable if name in names]
    if needs_ranges:
        reason = f"{label_file}: expected frame ranges of {{}}, found none"
        refused += [(file, reason.format(n)) for n, file in names.items() if n not in ranges]
        names = {name: file for name, file in names.items() if name in ranges}
    return [_make_task(file, ranges.get(name)) for name, file in names.items()], refused


def _make_task(path: Path, ranges: Sequence[FrameRange] | None) -> ReadTask:
    facts = {"meta": parse_path(path, _NAME), "id": _recording_name(path), "ranges": ranges}
    return ReadTask(path, facts)


def _recording_name(path: Path) -> str:
    """Return the name in the label file, such as ``s01_e01``."""
    return path.stem.removeprefix("joints_")


def _read(task: ReadTask, *, what: str = "segments") -> Iterator[Clip | ReadError]:
    """Yield the clips of a recording, with meta subject and replication.

    "segments" gives one clip for every labeled range; "recordings" the whole recording without a
    label, with meta ``segments``: a JSON list of [label, first, last], where frames of the clip
    are counted from 0 and both ends are included. A file without ranges is one clip.
    """
    check_choice("kind of UTKinect clips", what, _CLIP_KINDS)
    numbers, joints = _read_recording(task.path)
    ranges = task.info.get("ranges")
    if ranges is None:
        yield task.make_clip(joints[None], _LAYOUT, id=_recording_name(task.path))
        return
    starts = np.searchsorted(numbers, [r.first for r in ranges], side="left").tolist()
    stops = np.searchsorted(numbers, [r.last for r in ranges], side="right").tolist()
    spans = list(zip(ranges, starts, stops, strict=True))
    if what == "recordings":
        found = [[r.label, start, stop - 1] for r, start, stop in spans if start < stop]
        meta = {**task.info["meta"], "segments": json.dumps(found)}
        yield task.make_clip(joints[None], _LAYOUT, meta=meta)
        return
    for r, start, stop in spans:
        if start == stop:
            yield ReadError(
                f"{task.path}: expected frames from {r.first} to {r.last} ({r.action}), found none"
            )
        else:
            facts = {"label": r.label, "id": f"{task.info['id']}_{r.action}"}
            yield task.make_clip(joints[None, start:stop], _LAYOUT, **facts)


def _read_recording(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return increasing frame numbers (T,), and joints (T, 20, 3) in meters."""
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


def _matches(path: Path) -> bool:
    return path.suffix == ".txt" and is_number_table(path, _COLUMNS)


READER = Reader(
    name="utkinect",
    summary="UTKinect's recordings (joints_s01_e01.txt) with actionLabel.txt, 20 joints in meters",
    scan=_scan,
    read=_read,
    matches=_matches,
    options={"what": "segments (labeled clips, default) or recordings (whole, for streams)"},
    protocols=("odd-even-subjects",),
)
