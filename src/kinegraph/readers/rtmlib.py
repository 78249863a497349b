"""Reader of arrays that users of rtmlib save: keypoints and scores of a video in a .npz file.

rtmlib's own export of JSON has the form of OpenPose, see `kinegraph.readers.openpose`.
"""

from __future__ import annotations

from pathlib import Path

from kinegraph.readers.formats.numpy_file import is_damaged_npz, read_npz_names
from kinegraph.readers.pose_arrays import SCORE_ARRAYS, find_point_names, open_pose_arrays
from kinegraph.readers.pose_files import (
    PoseFormat,
    PoseVideo,
    VideoFiles,
    list_pose_files,
    name_videos,
)
from kinegraph.skeleton.layout import SkeletonLayout


def find_videos(source: Path) -> list[VideoFiles]:
    """Return each .npz file of keypoints and scores."""
    paths = list_pose_files(source, _is_arrays_file, ".npz files of keypoints and scores")
    return name_videos(source, paths)


def open_video(files: VideoFiles, layout: SkeletonLayout | None = None) -> PoseVideo:
    """Return the video of a file; see `open_pose_arrays`."""
    return open_pose_arrays(files.path)


def _is_arrays_file(path: Path) -> bool:
    """Return whether to read a file of a folder; a damaged one is read to be refused."""
    return _matches(path) or is_damaged_npz(path)


def _matches(path: Path) -> bool:
    if path.suffix.lower() != ".npz":
        return False
    names = read_npz_names(path)
    return bool(find_point_names(names)) and any(name in names for name in SCORE_ARRAYS)


RTMLIB = PoseFormat(
    name="rtmlib",
    summary="arrays of rtmlib: .npz files of keypoints and scores, one per video",
    matches=_matches,
    find_videos=find_videos,
    open_video=open_video,
)
READER = RTMLIB.make_reader()
