"""Reader of UI-PRMD: rehabilitation exercises, performed correctly and incorrectly (Kinect v2).

Vakanski, Jun, Paul, Baker: A Data Set of Human Body Movements for Physical Rehabilitation
Exercises, Data 3(1), 2018. The files hold offsets from the parent joint (cm) and angles (degrees)
of 22 joints; forward kinematics makes positions of them. With a = (x, y, z) the angles of joint j
and o its offset, in column vectors,

    W_j = W_parent Rz(a_z) Rx(a_x) Ry(a_y),    P_j = P_parent + W_parent o_j,

and P of the waist is its offset. This order fits the Vicon markers of the same recordings to
8.0 cm; that of the published visualizer, Rz Ry Rx, to 11.5 cm, and its feet leave the floor.
Clips keep centimeters and the axes of the set: x to the sensor's right, y up, z towards it.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.class_names import class_names
from kinegraph.readers.formats.numpy_file import read_npz
from kinegraph.readers.formats.table_file import is_number_table, read_table
from kinegraph.readers.reader import Reader, ReadPlan, ReadResults, ReadTask, check_choice
from kinegraph.skeleton.kinematics import euler_rotations, forward_kinematics
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import Space

_FPS = 30.0  # Kinect v2, stated by the authors
_JOINTS = 22
_COLUMNS = 3 * _JOINTS
_QUALITIES = ("correct", "incorrect")
_LABELS = ("exercise", "quality", "both")
_SEGMENT = re.compile(r"m(\d\d)_s(\d\d)_e(\d\d)(_inc)?")
_NAME = re.compile(r"(m\d\d_s\d\d_e\d\d)_positions(_inc)?\.txt(\.gz)?")
_PACKED_NAME = re.compile(r"s\d\d\.npz")
_PACKED_ARRAYS = ("names", "starts", "positions", "angles")
_PACKED_UNIT = 1e-5
_CAMERA_SPACE = Space("world", "y", "-z", unit="cm")
# the parent of each joint; the waist has none
_PARENTS = (-1, 0, 1, 2, 3, 4, 2, 6, 7, 8, 2, 10, 11, 12, 0, 14, 15, 16, 0, 18, 19, 20)


def _scan(source: Path, *, label: str = "exercise") -> ReadPlan:
    check_choice("label", label, _LABELS)
    found = [source] if source.is_file() else sorted(source.rglob("*"))
    packed = [path for path in found if _PACKED_NAME.fullmatch(path.name)]
    files = packed or [path for path in found if _NAME.fullmatch(path.name) or source.is_file()]
    if not files:
        raise ReadError(
            f"{source}: expected files like m01_s01_e01_positions.txt with the angles beside them "
            "or in a folder Angles, found none"
        )
    return ReadPlan(
        [ReadTask(path, {"classes": label}) for path in files],
        get_layout("ui_prmd22"),
        _classes(label),
    )


def _classes(label: str) -> tuple[str, ...]:
    exercises = class_names("ui_prmd")
    if label == "exercise":
        return exercises
    if label == "quality":
        return _QUALITIES
    return tuple(f"{exercise}, {quality}" for exercise in exercises for quality in _QUALITIES)


def _read(task: ReadTask) -> ReadResults:
    """Yield the segments of a file, with meta exercise, subject, replication and quality."""
    if task.path.suffix == ".npz":
        for name, positions, angles in _read_packed(task.path):
            yield _make_clip(task, name, positions, angles)
    else:
        angles_path = _find_angles(task.path)
        positions, angles = (
            read_table(task.path, _COLUMNS, ","),
            read_table(angles_path, _COLUMNS, ","),
        )
        if len(positions) != len(angles):
            raise ReadError(
                f"{task.path}: expected as many frames as {angles_path.name} has ({len(angles)}), "
                f"got {len(positions)}"
            )
        stem = task.path.name.removesuffix(".gz").removesuffix(".txt")
        yield _make_clip(task, stem.replace("_positions", ""), positions, angles)


def _find_angles(path: Path) -> Path:
    """Return the file of the angles: beside a file of offsets, or in the folder Angles."""
    name = path.name.replace("_positions", "_angles").removesuffix(".gz")
    folders = (path.parent, path.parent.parent / "Angles")
    for candidate in (folder / file for folder in folders for file in (name, f"{name}.gz")):
        if candidate.is_file():
            return candidate
    raise ReadError(f"{path}: the pose is in the angles, but there is no {name} beside it")


def _read_packed(path: Path) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    """Yield (name, offsets, angles) of the segments of one person.

    The file holds all frames of the person's segments as differences from frame to frame.
    """
    arrays = read_npz(path, _PACKED_ARRAYS, kinds="iuU")
    if missing := [name for name in _PACKED_ARRAYS if name not in arrays]:
        raise ReadError(f"{path}: expected arrays {', '.join(_PACKED_ARRAYS)}; lacks {missing[0]}")
    names, starts = arrays["names"], arrays["starts"]
    for key in ("positions", "angles"):
        shape = arrays[key].shape
        if shape[0] != _COLUMNS or len(shape) != 2 or len(starts) != len(names) + 1:
            raise ReadError(f"{path}: expected {key} of shape ({_COLUMNS}, frames), got {shape}")
    offsets, angles = (
        np.cumsum(arrays[key], axis=1, dtype=np.int64).T * _PACKED_UNIT
        for key in ("positions", "angles")
    )
    for name, begin, end in zip(names, starts[:-1], starts[1:], strict=True):
        yield str(name), offsets[begin:end], angles[begin:end]


def _make_clip(task: ReadTask, name: str, offsets: NDArray[Any], angles: NDArray[Any]) -> Clip:
    shape = len(offsets), _JOINTS, 3
    turns = euler_rotations(angles.reshape(shape)[..., [2, 0, 1]], "zxy")
    positions = forward_kinematics(turns, offsets.reshape(shape), _PARENTS)
    joints = task.to_joints(positions, zeros_absent=False)
    meta: dict[str, Any] = {}
    number = None
    found = _SEGMENT.fullmatch(name)
    exercise = int(found[1]) if found else 0
    if found and 1 <= exercise <= 10:
        wrong = bool(found[4])
        meta = {"exercise": exercise, "subject": int(found[2]), "replication": int(found[3])}
        meta["quality"] = _QUALITIES[wrong]
        numbers = {"exercise": exercise - 1, "quality": int(wrong)}
        number = numbers.get(task.info["classes"], 2 * (exercise - 1) + wrong)
    return task.make_clip(
        joints[None], "ui_prmd22", id=name, label=number, meta=meta, fps=_FPS, space=READER.space
    )


def _matches(path: Path) -> bool:
    if _PACKED_NAME.fullmatch(path.name):
        return zipfile.is_zipfile(path)
    return bool(_NAME.fullmatch(path.name)) and is_number_table(path, _COLUMNS, ",")


READER = Reader(
    name="ui_prmd",
    summary="UI-PRMD's Kinect files (m01_s01_e01_positions.txt and angles, .gz or not), 22 joints",
    scan=_scan,
    read=_read,
    matches=_matches,
    options={
        "label": "classes: exercise (10), quality (correct or incorrect) or both (default exercise)"
    },
    protocols=("odd-even-subjects",),
    space=_CAMERA_SPACE,
)
