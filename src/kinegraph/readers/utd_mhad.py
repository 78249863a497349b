"""Reads UTD-MHAD: one MATLAB file a clip, Kinect v1 joints in metres, in an order of its own.

Chen, Jafari, Kehtarnavaz: UTD-MHAD: A Multimodal Dataset for Human Action Recognition Utilizing a
Depth Camera and a Wearable Inertial Sensor, ICIP 2015. None of its 1,165,980 joints is at
(0, 0, 0).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers.coordinates import mask_zero_joints
from kinegraph.readers.filename_patterns import compile_path_pattern, plan_named_files
from kinegraph.readers.formats.mat_file import is_mat_file, read_mat
from kinegraph.readers.reader import Reader, ReadPlan, ReadTask
from kinegraph.skeleton.layouts import get_layout

LAYOUT = "utd_mhad20"
FPS = 30.0
"""Kinect v1, as the dataset's authors state it."""

_VARIABLE = "d_skel"
_SUFFIX = "_skeleton"
_NAME = compile_path_pattern(
    rf"a(?P<action>\d{{1,2}})_s(?P<subject>\d{{1,2}})_t(?P<replication>\d{{1,2}}){_SUFFIX}\.mat"
)


def scan(source: Path) -> ReadPlan:
    """The files ``a1_s1_t1_skeleton.mat`` at any depth of a folder, or a single file.

    Raises:
        ReadError: there is no such file.
    """
    return plan_named_files(source, _NAME, "a1_s1_t1_skeleton.mat", LAYOUT, "utd_mhad")


def read(task: ReadTask) -> Iterator[Clip | ReadError]:
    """The clip of one file, with meta subject and replication (the trial).

    Raises:
        ReadError: no MATLAB file, or one without ``d_skel`` of shape (20, 3, T).
    """
    skeleton = read_mat(task.path).array(_VARIABLE)
    layout = get_layout(LAYOUT)
    if skeleton.ndim == 2:  # MATLAB drops the last dimension of a single frame
        skeleton = skeleton[..., None]
    if skeleton.ndim != 3 or skeleton.shape[:2] != (layout.num_joints, 3):
        raise ReadError(
            f"{task.path}: expected {_VARIABLE} of shape ({layout.num_joints}, 3, frames), "
            f"got {skeleton.shape}"
        )
    yield Clip(
        mask_zero_joints(skeleton.transpose(2, 0, 1), task.path)[None],
        layout,
        label=task.info.get("label"),
        id=task.path.stem,
        fps=FPS,
        meta=task.info.get("meta", {}),
    )


def _matches(path: Path) -> bool:
    return path.name.endswith(f"{_SUFFIX}.mat") and is_mat_file(path)


READER = Reader(
    name="utd_mhad",
    summary="a folder of UTD-MHAD's MATLAB files (a1_s1_t1_skeleton.mat), 20 joints in metres",
    scan=scan,
    read=read,
    matches=_matches,
    protocols=("odd-even-subjects",),
)
