"""Pose sources: videos and cameras with a pose estimator, folders of OpenPose files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from kinegraph.errors import ReadError, VideoError
from kinegraph.readers.openpose import OPENPOSE_LAYOUTS, list_frame_files, read_people
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.video.decode import Camera, VideoFile, VideoFrame, parse_camera_index
from kinegraph.video.estimators.base import PoseEstimator, PoseFrame, load_estimator

FPS = 30.0  # default frame rate of poses
_CANVAS_PIXELS = 640  # longer side of frames drawn without a video


class VideoSource:
    """A video or a camera with a pose estimator, see `Source`.

    Args:
        video: the source of the frames.
        estimator: the pose estimator; closed together with the source.
        fps: maximum number of frames per second that are passed to the estimator.
    """

    def __init__(
        self, video: VideoFile | Camera, estimator: PoseEstimator, fps: float = FPS
    ) -> None:
        self._video = video
        self._estimator = estimator
        self._min_gap = 0.75 / fps  # slightly higher frame rates are not reduced
        self.layout = estimator.layout
        self.live = isinstance(video, Camera)
        self.name = f"camera {video.index}" if isinstance(video, Camera) else video.path.name
        self.duration = video.duration
        self.frame_count = video.frame_count

    @property
    def warning(self) -> str:
        """A sentence about problems in the last iteration, or ""."""
        return self._video.warning

    def frames(self) -> Iterator[tuple[VideoFrame, PoseFrame | None]]:
        """Yield every frame, with poses at the maximum rate."""
        last = -math.inf
        for frame in self._video:
            if frame.time - last < self._min_gap:
                yield frame, None
                continue
            last = frame.time
            yield frame, self._estimator(frame.image, frame.time)

    def replay(self) -> Iterator[VideoFrame]:
        """Yield the frames again.

        Raises:
            VideoError: it is a camera.
        """
        if self.live:
            raise VideoError(f"{self.name} cannot be replayed: expected a file")
        return iter(self._video)

    def scale(self) -> float:
        """Return 1: poses are in pixels of the frames."""
        return 1.0

    def close(self) -> None:
        """Release the resources of the estimator."""
        self._estimator.close()


class OpenPoseSource:
    """A folder of OpenPose JSON files, see `Source`; a missing frame number is a gap in time.

    Args:
        folder: folder of one video.
        fps: frames per second.

    Raises:
        ReadError: no such files, no persons, or several videos.
    """

    live = False

    def __init__(self, folder: Path, fps: float = FPS) -> None:
        if not 0 < fps < math.inf:
            raise ReadError(f"expected the frame rate of {folder} to be above 0, got {fps}")
        self.name = folder.resolve().name
        self.fps = fps
        self._files = _files_of(folder)
        self._first = self._files[0][0]
        self.frame_count = len(self._files)
        self.duration = (self._files[-1][0] - self._first + 1) / fps
        self.layout = _layout_of(folder, self._files)
        self._reach = np.ones(2)
        self._failed: list[str] = []

    @property
    def warning(self) -> str:
        """The number of unreadable files and the first error."""
        count = len(self._failed)
        skipped = f"{count} of {self.frame_count} files were skipped; the first: "
        return skipped + self._failed[0] if count else ""

    def frames(self) -> Iterator[tuple[None, PoseFrame]]:
        """Yield the poses of each file; an unreadable file has no persons."""
        self._failed = []
        for number, path in self._files:
            yield None, self._frame((number - self._first) / self.fps, path)

    def replay(self) -> Iterator[VideoFrame]:
        """Yield dark frames that are large enough for all skeletons."""
        width, height = (max(2, math.ceil(s * self.scale())) for s in self._reach)
        blank = np.full((height, width, 3), 24, np.uint8)
        for number, _ in self._files:
            yield VideoFrame((number - self._first) / self.fps, blank)

    def scale(self) -> float:
        """Return the factor that scales the longer side to a fixed number of pixels."""
        return _CANVAS_PIXELS / float(self._reach.max())

    def close(self) -> None:
        """Do nothing: there are no resources to release."""

    def _frame(self, time: float, path: Path) -> PoseFrame:
        V = self.layout.num_joints
        try:
            poses = [pose for pose in read_people(path) if len(pose) == V]
        except ReadError as error:
            self._failed.append(str(error))
            poses = []
        held = np.array(poses, np.float32).reshape(-1, V, 3)
        joints = held[..., :2]
        if held.size and not np.isnan(joints).all():
            self._reach = np.maximum(self._reach, np.nanmax(joints, axis=(0, 1)) * 1.02)
        width, height = (math.ceil(side) for side in self._reach)
        return PoseFrame(time, joints, held[..., 2].clip(0, 1), width, height)


def _files_of(folder: Path) -> list[tuple[int, Path]]:
    files = list_frame_files(folder)
    if not files:
        for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
            if list_frame_files(inner):
                raise ReadError(f"{folder} contains several videos: expected one, such as {inner}")
        raise ReadError(
            f"{folder}: expected files of OpenPose like video_000000000012_keypoints.json, "
            "found none"
        )
    for (number, path), (following, other) in pairwise(files):
        if number == following:
            raise ReadError(
                f"{folder}: {path.name} and {other.name} are both of frame {number}; give each "
                "video its own folder"
            )
    return files


def _layout_of(folder: Path, files: list[tuple[int, Path]]) -> SkeletonLayout:
    """Select the layout by the number of joints of the first person."""
    for _, path in files:
        try:
            people = read_people(path)
        except ReadError:
            continue  # reported when the frames are read
        if people:
            return get_layout(OPENPOSE_LAYOUTS[len(people[0])])
    raise ReadError(f"{folder}: expected a person in at least one frame, found none")


Source = VideoSource | OpenPoseSource
"""Skeletons over time, and the video frames that they are drawn on.

Both have a ``name`` and the ``layout`` of the skeletons; ``live`` if they cannot be replayed;
``duration`` in seconds and ``frame_count``, None if unknown.
"""


def open_source(what: str, poses: str = "mediapipe", fps: float | None = None) -> Source:
    """Open a video file, a folder of OpenPose files, or a camera.

    Args:
        what: a path, or the number of a camera.
        poses: name of the estimator, see `load_estimator`.
        fps: frame rate of a folder; maximum rate of pose estimation in a video.

    Raises:
        ReadError, VideoError, UnknownNameError: it cannot be opened.
    """
    path = Path(what)
    if path.is_dir():
        return OpenPoseSource(path, fps or FPS)
    camera = None if path.is_file() else parse_camera_index(what)
    video = VideoFile(path) if camera is None else Camera(camera)
    return VideoSource(video, load_estimator(poses), fps or FPS)
