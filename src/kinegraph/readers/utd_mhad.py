"""Reader of UTD-MHAD: one MATLAB file per clip, Kinect v1 joints in meters, in their own order.

Chen, Jafari, Kehtarnavaz: UTD-MHAD: A Multimodal Dataset for Human Action Recognition Utilizing a
Depth Camera and a Wearable Inertial Sensor, ICIP 2015. None of its 1,165,980 joints is at
(0, 0, 0).
"""

from __future__ import annotations

from pathlib import Path

from kinegraph.errors import ReadError
from kinegraph.readers.filename_patterns import compile_path_pattern, plan_named_files
from kinegraph.readers.formats.mat_file import is_mat_file, read_mat
from kinegraph.readers.reader import Reader, ReadPlan, ReadResults, ReadTask
from kinegraph.skeleton.space import KINECT

_FPS = 30.0  # Kinect v1, stated by the authors
_NAME = compile_path_pattern(
    r"a(?P<action>\d{1,2})_s(?P<subject>\d{1,2})_t(?P<replication>\d{1,2})_skeleton\.mat"
)


def _scan(source: Path) -> ReadPlan:
    return plan_named_files(source, _NAME, "a1_s1_t1_skeleton.mat", "utd_mhad20", "utd_mhad")


def _read(task: ReadTask) -> ReadResults:
    """Yield the clip of a file, with meta subject and replication (the trial)."""
    skeleton = read_mat(task.path).array("d_skel")
    if skeleton.ndim == 2:  # MATLAB drops the last dimension of a single frame
        skeleton = skeleton[..., None]
    if skeleton.ndim != 3 or skeleton.shape[:2] != (20, 3):
        raise ReadError(
            f"{task.path}: expected d_skel of shape (20, 3, frames), got {skeleton.shape}"
        )
    joints = task.to_joints(skeleton.transpose(2, 0, 1))
    yield task.make_clip(joints[None], "utd_mhad20", fps=_FPS, space=READER.space)


READER = Reader(
    name="utd_mhad",
    summary="a folder of UTD-MHAD's MATLAB files (a1_s1_t1_skeleton.mat), 20 joints in meters",
    scan=_scan,
    read=_read,
    matches=lambda path: path.name.endswith("_skeleton.mat") and is_mat_file(path),
    protocols=("odd-even-subjects",),
    space=KINECT,
)
