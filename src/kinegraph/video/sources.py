"""Where skeletons over time come from: estimated in a video or a camera's pictures, or in files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from kinegraph.errors import LiveError, ReadError
from kinegraph.readers.openpose import LAYOUT_BY_JOINT_COUNT, list_frame_files, read_people
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.video.decode import Camera, VideoFile, VideoFrame, parse_camera_index
from kinegraph.video.estimators.base import PoseEstimator, PoseFrame, load_estimator

FPS = 30.0  # of a folder of poses that says nothing of time
_CANVAS = 640  # pixels of the longer side of what has no picture


class Source(Protocol):
    """Skeletons over time, and the pictures that they are drawn on.

    Attributes:
        name: what people call it.
        layout: of the skeletons.
        live: it happens now, and nobody can see it again.
        duration: in seconds, None if unknown.
        pictures: how many there are, None if unknown.
    """

    name: str
    layout: SkeletonLayout
    live: bool
    duration: float | None
    pictures: int | None

    @property
    def warning(self) -> str:
        """What was wrong with what was gone through so far, as a sentence; "" for nothing."""
        ...

    def frames(self) -> Iterator[tuple[VideoFrame | None, PoseFrame | None]]:
        """Each picture, if there are any, with its skeletons, if they were looked for."""
        ...

    def again(self) -> Iterator[VideoFrame]:
        """The pictures once more, to draw on them; blank ones where there are none."""
        ...

    def scale(self) -> float:
        """By what the coordinates of skeletons are multiplied to lie on those pictures."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class VideoSource:
    """A video or a camera with an estimator that looks for skeletons.

    Args:
        video: gives the pictures.
        estimator: looks for skeletons; closed together with the source.
        fps: pictures a second in which it looks for them at most.
    """

    def __init__(
        self, video: VideoFile | Camera, estimator: PoseEstimator, fps: float = FPS
    ) -> None:
        self._video = video
        self._estimator = estimator
        self._least = 0.75 / fps  # a rate a little above is taken as it is
        self.layout = estimator.layout
        self.live = isinstance(video, Camera)
        self.name = f"camera {video.index}" if isinstance(video, Camera) else video.path.name
        self.duration = video.duration
        self.pictures = video.pictures

    @property
    def warning(self) -> str:
        """That the file breaks off, if it does."""
        return self._video.warning

    def frames(self) -> Iterator[tuple[VideoFrame | None, PoseFrame | None]]:
        """Every picture; skeletons are looked for in as many as the rate allows."""
        last = -math.inf
        for picture in self._video:
            if picture.time - last < self._least:
                yield picture, None
                continue
            last = picture.time
            yield picture, self._estimator(picture.image, picture.time)

    def again(self) -> Iterator[VideoFrame]:
        """The pictures of the file once more."""
        if self.live:
            raise LiveError(f"{self.name} cannot be seen again")
        return iter(self._video)

    def scale(self) -> float:
        """1: skeletons are in pixels."""
        return 1.0

    def close(self) -> None:
        """Give back the estimator."""
        self._estimator.close()


class OpenPoseSource:
    """A folder of JSON files that OpenPose wrote, one a frame; a missing number is a gap in time.

    Args:
        folder: of one video.
        fps: frames a second.

    Raises:
        ReadError: no such files; or nobody in any of them; or several videos.
    """

    live = False

    def __init__(self, folder: Path, fps: float = FPS) -> None:
        if not 0 < fps < math.inf:
            raise ReadError(f"expected the frames a second of {folder} to be above 0, got {fps}")
        self.name = folder.resolve().name
        self.fps = fps
        self._files = _files_of(folder)
        self._first = self._files[0][0]
        self.pictures: int | None = len(self._files)
        self.duration: float | None = (self._files[-1][0] - self._first + 1) / fps
        self.layout = _layout_of(folder, self._files)
        self._reach = np.ones(2)
        self._failed: list[str] = []

    @property
    def warning(self) -> str:
        """Which files could not be read."""
        count = len(self._failed)
        left_out = f"{count} of {self.pictures} files were left out; the first: "
        return left_out + self._failed[0] if count else ""

    def frames(self) -> Iterator[tuple[VideoFrame | None, PoseFrame | None]]:
        """The skeletons of each file; of one that cannot be read, nobody's."""
        self._failed = []
        for number, path in self._files:
            yield None, self._frame((number - self._first) / self.fps, path)

    def again(self) -> Iterator[VideoFrame]:
        """Dark pictures, as large as the skeletons reach."""
        width, height = (max(2, math.ceil(s * self.scale())) for s in self._reach)
        blank = np.full((height, width, 3), 24, np.uint8)
        for number, _ in self._files:
            yield VideoFrame((number - self._first) / self.fps, blank)

    def scale(self) -> float:
        """What brings the longer side to a size that can be looked at."""
        return _CANVAS / float(self._reach.max())

    def close(self) -> None:
        """Nothing is held."""

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
        inner = [
            path for path in sorted(folder.iterdir()) if path.is_dir() and list_frame_files(path)
        ]
        if inner:
            raise ReadError(
                f"{folder} holds folders of several videos: watch one of them, such as {inner[0]}"
            )
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
    """By the number of joints of the first person."""
    for _, path in files:
        try:
            people = read_people(path)
        except ReadError:
            continue  # going through the files tells of it
        if people:
            return get_layout(LAYOUT_BY_JOINT_COUNT[len(people[0])])
    raise ReadError(f"{folder}: expected a person in at least one frame, found none")


def open_source(what: str, poses: str = "mediapipe", fps: float | None = None) -> Source:
    """What a text means: a video file, a folder of OpenPose's files, or a camera.

    Args:
        what: a path, or the number of a camera.
        poses: the estimator's name, see `load_estimator`.
        fps: frames a second of a folder; how many pictures a second of a video are looked at.

    Raises:
        ReadError, LiveError, UnknownNameError: it cannot be opened.
    """
    path = Path(what)
    if path.is_dir():
        return OpenPoseSource(path, fps or FPS)
    camera = None if path.is_file() else parse_camera_index(what)
    video = VideoFile(path) if camera is None else Camera(camera)
    return VideoSource(video, load_estimator(poses), fps or FPS)
