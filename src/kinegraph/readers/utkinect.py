"""Reader of UTKinect-Action3D: continuous recordings, Kinect v1 joints in meters.

Xia, Chen, Aggarwal: View Invariant Human Action Recognition Using Histograms of 3D Joints, CVPR
Workshops 2012. A line has a frame number and 20 joints; frames without a tracked person are left
out, so frame numbers have gaps of 2 to 8 or more. Some numbers repeat with other joints (1 to 10 %
of the lines): the first line is kept. None of its 317,200 joints is at (0, 0, 0). The ranges of
frames that show an action are in a label file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.intervals import INTERVALS_KEY, Interval, pack_intervals
from kinegraph.errors import ReadError, unknown_name
from kinegraph.readers.class_names import class_names
from kinegraph.readers.filename_patterns import compile_path_pattern, find_files, parse_path
from kinegraph.readers.formats.raw_file import read_bytes
from kinegraph.readers.formats.table_file import is_number_table, read_table
from kinegraph.readers.reader import (
    Reader,
    ReadPlan,
    ReadResults,
    ReadTask,
    check_choice,
    clip_or_error,
)
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import KINECT

LABEL_FILES = ("actionLabel_modified.txt", "actionLabel.txt")
"""Names of the label file, the corrected one first."""
MAX_LABEL_FILE_BYTES = 2**20  # maximum size of a label file; the published one has 4 kB

_RECORDING = re.compile(r"s\d\d_e\d\d")
_ACTION = re.compile(r"(\w+)\s*:\s*(\S+)\s+(\S+)")
_FRAME = re.compile(r"\d{1,9}")
_LAYOUT = "kinect20"
_CLIP_KINDS = ("segments", "recordings")
_COLUMNS = 1 + 20 * 3  # the frame number, then x, y, z of each joint
_NAME = compile_path_pattern(r"joints_s(?P<subject>\d\d)_e(?P<replication>\d\d)\.txt")


class FrameRange(NamedTuple):
    """An action in a recording, by the frame numbers at the start of the recording's lines."""

    action: str  # as the file writes it
    label: int  # its index in the class names
    first: int
    last: int  # included


def _scan(source: Path, *, what: str = "segments") -> ReadPlan:
    check_choice("kind of UTKinect clips", what, _CLIP_KINDS)
    classes = class_names("utkinect")
    tasks: list[ReadTask] = []
    refused: list[tuple[Path, str]] = []
    files = find_files(source, _NAME, "joints_s01_e01.txt")
    needs_ranges = source.is_dir() and what == "segments"
    for folder in dict.fromkeys(file.parent for file in files):
        ranges: Mapping[str, Sequence[FrameRange]] = {}
        # by the name in the label file, such as s01_e01
        named = {f.stem.removeprefix("joints_"): f for f in files if f.parent == folder}
        if label_file := find_label_file(folder):
            ranges, unusable = read_ranges(label_file, classes)
            if what == "segments":
                refused += [(label_file, reason) for name, reason in unusable if name in named]
        elif needs_ranges:
            raise ReadError(
                f"{folder}: expected actionLabel.txt beside the recordings, found none; "
                f"what=recordings reads them without labels"
            )
        for name, file in named.items():
            if needs_ranges and name not in ranges:
                reason = f"{label_file}: expected frame ranges of {name}, found none"
                refused.append((file, reason))
            else:
                facts = {"meta": parse_path(file, _NAME), "id": name, "ranges": ranges.get(name)}
                tasks.append(ReadTask(file, {**facts, "what": what}))
    return ReadPlan(tasks, get_layout(_LAYOUT), classes, tuple(refused))


def _read(task: ReadTask) -> ReadResults:
    """Yield the clips of a recording, with meta subject and replication.

    "segments" gives one clip for every labeled range; "recordings" the whole recording with its
    ranges as intervals (`kinegraph.clips.intervals`). A file without ranges is one clip.
    """
    numbers, joints = _read_recording(task)
    ranges = task.info["ranges"]
    if ranges is None:
        yield task.make_clip(joints[None], _LAYOUT, space=READER.space)
        return
    starts = np.searchsorted(numbers, [r.first for r in ranges], side="left").tolist()
    stops = np.searchsorted(numbers, [r.last for r in ranges], side="right").tolist()
    spans = list(zip(ranges, starts, stops, strict=True))
    if task.info["what"] == "recordings":
        found = [Interval(r.label, start, stop) for r, start, stop in spans if start < stop]
        meta = {**task.info["meta"], INTERVALS_KEY: pack_intervals(found)}
        yield task.make_clip(joints[None], _LAYOUT, meta=meta, space=READER.space)
        return
    for r, start, stop in spans:
        if start == stop:
            yield ReadError(
                f"{task.path}: expected frames from {r.first} to {r.last} ({r.action}), found none"
            )
        else:
            facts = {"label": r.label, "id": f"{task.info['id']}_{r.action}"}
            where, part = f"{task.path}: {r.action}", joints[None, start:stop]
            make = task.make_clip
            yield clip_or_error(where, make, part, _LAYOUT, space=READER.space, **facts)


def _read_recording(task: ReadTask) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return increasing frame numbers (T,), and joints (T, 20, 3) in meters."""
    table = read_table(task.path, _COLUMNS)
    steps = np.diff(table[:, 0])
    if (steps < 0).any():
        row = int(np.argmax(steps < 0))
        raise ReadError(
            f"{task.path}: expected increasing frame numbers, got {table[row + 1, 0]:g} "
            f"after {table[row, 0]:g}"
        )
    table = table[np.concatenate([[True], steps > 0])]
    return table[:, 0], task.to_joints(table[:, 1:].reshape(len(table), -1, 3))


def find_label_file(folder: Path) -> Path | None:
    """Return the label file of a folder, or None if it has none."""
    return next((folder / name for name in LABEL_FILES if (folder / name).is_file()), None)


def read_ranges(
    path: Path, classes: Sequence[str]
) -> tuple[dict[str, tuple[FrameRange, ...]], list[tuple[str, str]]]:
    """Return the usable ranges by recording ("s01_e01"), and (recording, reason) for the others.

    A range is unusable if it has no frame numbers (the file has ``carry: NaN NaN`` once) or ends
    before it begins.

    Raises:
        ReadError: the file cannot be opened or has another format; the message names the line.
    """
    ranges: dict[str, list[FrameRange]] = {}
    unusable = []
    recording = None
    for number, raw in enumerate(read_bytes(path, MAX_LABEL_FILE_BYTES).split(b"\n"), start=1):
        where, line = f"{path}:{number}", raw.decode("ascii", "backslashreplace").strip()
        if not line:
            continue
        if _RECORDING.fullmatch(line):
            recording = line
            ranges.setdefault(line, [])
        elif recording is None:
            raise ReadError(f"{where}: expected a recording as s01_e01 first, got {line[:40]!r}")
        else:
            found = _parse_range(line, classes, where)
            if isinstance(found, FrameRange):
                ranges[recording].append(found)
            else:
                unusable.append((recording, f"{where}: {recording}: {found}"))
    if not ranges:
        raise ReadError(f"{path}: expected recordings with frame ranges, the file is empty")
    return {name: tuple(found) for name, found in ranges.items()}, unusable


def _parse_range(line: str, classes: Sequence[str], where: str) -> FrameRange | str:
    """Return the range that a line states, or the reason why it is unusable."""
    found = _ACTION.fullmatch(line)
    if found is None:
        raise ReadError(f"{where}: expected 'action: first last', got {line[:40]!r}")
    action, first, last = found.groups()
    if action not in classes:
        raise ReadError(f"{where}: {unknown_name('action', action[:40], classes)}")
    if first.lower() == last.lower() == "nan":
        return f"{action} has no frame range (NaN)"
    if not (_FRAME.fullmatch(first) and _FRAME.fullmatch(last)):
        raise ReadError(f"{where}: expected two frame numbers, got {first[:20]!r}, {last[:20]!r}")
    if int(first) > int(last):
        return f"{action} ends at frame {last}, before it begins at {first}"
    return FrameRange(action, classes.index(action), int(first), int(last))


READER = Reader(
    name="utkinect",
    summary="UTKinect's recordings (joints_s01_e01.txt) with actionLabel.txt, 20 joints in meters",
    scan=_scan,
    read=_read,
    matches=lambda path: path.suffix == ".txt" and is_number_table(path, _COLUMNS),
    options={"what": "segments (labeled clips, default) or recordings (whole, for streams)"},
    protocols=("odd-even-subjects",),
    space=KINECT,
)
