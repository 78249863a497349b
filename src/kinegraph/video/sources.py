"""Pose sources: videos, cameras and URLs with a pose estimator, and files of pose estimators."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kinegraph.errors import ReadError, VideoError
from kinegraph.readers import POSE_FORMATS, find_readers
from kinegraph.readers.pose_files import PoseFormat, find_facts, has_person
from kinegraph.video.decode import Camera, VideoFile, VideoFrame, parse_camera_index
from kinegraph.video.estimators.base import (
    DEFAULT_PEOPLE,
    PoseEstimator,
    PoseFrame,
    load_estimator,
)
from kinegraph.video.network_video import (
    RECONNECT_S,
    NetworkVideo,
    is_network_video,
    name_network_video,
)

FPS = 30.0  # default frame rate of poses
_CANVAS_PIXELS = 640  # longer side of frames drawn without a video


class VideoSource:
    """A video, camera or URL with a pose estimator, see `Source`.

    Args:
        video: the source of the frames.
        estimator: the pose estimator; closed together with the source.
        fps: maximum number of frames per second that are passed to the estimator.
    """

    def __init__(
        self, video: VideoFile | Camera | NetworkVideo, estimator: PoseEstimator, fps: float = FPS
    ) -> None:
        self._video = video
        self._estimator = estimator
        self._min_gap = 0.75 / fps  # slightly higher frame rates are not reduced
        self.layout = estimator.layout
        self.people: int | None = estimator.people
        self.live = video.live
        self.can_replay = isinstance(video, VideoFile)
        self.name = video.name
        self.duration = video.duration
        self.frame_count = video.frame_count

    @property
    def warning(self) -> str:
        """A sentence about problems in the last iteration, or ""."""
        return self._video.warning

    def frames(self) -> Iterator[tuple[VideoFrame | None, PoseFrame | None]]:
        """Yield every frame, with poses at the maximum rate; neither while a URL is silent."""
        last = -math.inf
        for frame in self._video:
            if frame is None:
                yield None, None
                continue
            if frame.time - last < self._min_gap:
                yield frame, None
                continue
            last = frame.time
            yield frame, self._estimator(frame.image, frame.time)

    def replay(self) -> Iterator[VideoFrame]:
        """Yield the frames again.

        Raises:
            VideoError: it is not a file.
        """
        if not isinstance(self._video, VideoFile):
            raise VideoError(f"{self.name} cannot be replayed: expected a file")
        return iter(self._video)

    def scale(self) -> float:
        """Return 1: poses are in pixels of the frames."""
        return 1.0

    def close(self) -> None:
        """Release the resources of the estimator."""
        self._estimator.close()


class PoseFileSource:
    """The pose files of one video, see `Source`; a missing frame number is a gap in time.

    Args:
        path: a folder of frames, or a file of all frames, of any format in POSE_FORMATS.
        fps: frames per second.
        layout: name or file of the joints' layout; "" guesses it.
        size: width and height of the image in pixels, for files of shares of it.

    Raises:
        ReadError: the files are of no such format, have no persons, are of several videos, or have
            shares of an image of unknown size.
    """

    live = False
    can_replay = True
    people: int | None = None  # as many as the files have

    def __init__(
        self,
        path: Path,
        fps: float = FPS,
        layout: str = "",
        size: tuple[float, float] | None = None,
    ) -> None:
        if not 0 < fps < math.inf:
            raise ReadError(f"expected the frame rate of {path} to be above 0, got {fps}")
        self.name = path.resolve().name
        self.fps = fps
        form = _find_format(path) or POSE_FORMATS["openpose"]
        videos = form.find_videos(path)
        if len(videos) > 1:
            raise ReadError(
                f"{path} contains several videos: expected one, such as {videos[0].path}"
            )
        facts = find_facts(form, path, videos, layout)
        if facts.space.kind != "image":
            raise ReadError(
                f"{path}: the poses are in 3D, {facts.space.describe()}; watch takes those of an "
                "image: use kinegraph predict"
            )
        self.layout = facts.layout
        self._notes = facts.notes
        self._video = form.open_video(videos[0], facts.layout if layout else None)
        self._numbers = self._video.numbers
        self.frame_count = len(self._numbers)
        self.duration = (self._numbers[-1] - self._numbers[0] + 1) / fps
        self._size = size or self._video.size
        self._are_shares = facts.space.unit == "share"
        if self._are_shares and self._size is None:
            raise ReadError(
                f"{path}: the poses are shares of the image: state its size in pixels with "
                "--width and --height"
            )
        self._reach = np.ones(2)
        self._failed: list[str] = []

    @property
    def warning(self) -> str:
        """What was guessed, and the number of unreadable files with the first error."""
        count = len(self._failed)
        skipped = f"{count} of {self.frame_count} files were skipped; the first: "
        failed = [skipped + self._failed[0]] if count else []
        return "; ".join([*failed, *self._notes])

    def frames(self) -> Iterator[tuple[None, PoseFrame]]:
        """Yield the poses of each frame; an unreadable file has no persons."""
        self._failed = []
        for number in self._numbers:
            yield None, self._frame(number)

    def replay(self) -> Iterator[VideoFrame]:
        """Yield dark frames that are large enough for all skeletons."""
        width, height = (max(2, math.ceil(s * self.scale())) for s in self._reach)
        blank = np.full((height, width, 3), 24, np.uint8)
        for number in self._numbers:
            yield VideoFrame(self._time(number), blank)

    def scale(self) -> float:
        """Return the factor that scales the longer side to a fixed number of pixels."""
        return _CANVAS_PIXELS / float(self._reach.max())

    def close(self) -> None:
        """Do nothing: there are no resources to release."""

    def _time(self, number: int) -> float:
        return (number - self._numbers[0]) / self.fps

    def _frame(self, number: int) -> PoseFrame:
        V = self.layout.num_joints
        try:
            poses = [pose for pose in self._video.read_frame(number).poses if len(pose) == V]
        except ReadError as error:
            self._failed.append(str(error))
            poses = []
        seen = [pose[:, [0, 1, -1]] for pose in poses if has_person(pose)]
        held = np.array(seen, np.float32).reshape(-1, V, 3)
        joints = held[..., :2]
        if self._are_shares:
            joints = joints * np.asarray(self._size, np.float32)
        if held.size and not np.isnan(joints).all():
            self._reach = np.maximum(self._reach, np.nanmax(joints, axis=(0, 1)) * 1.02)
        width, height = (math.ceil(side) for side in self._size or self._reach)
        time, known = self._time(number), self._size is not None
        return PoseFrame(time, joints, held[..., 2].clip(0, 1), width, height, known)


def _find_format(path: Path) -> PoseFormat | None:
    found = [reader.name for reader in find_readers(path, POSE_FORMATS)]
    return POSE_FORMATS[found[0]] if found else None


Source = VideoSource | PoseFileSource
"""Skeletons over time, and the video frames that they are drawn on.

Both have a ``name`` and the ``layout`` of the skeletons; ``live`` if they have no end of their own;
``can_replay`` if their frames can be read twice;
``duration`` in seconds and ``frame_count``, None if unknown; ``people``, the maximum number of
persons that the estimator finds in a frame.
"""


def open_source(
    what: str,
    poses: str = "",
    fps: float | None = None,
    layout: str = "",
    size: tuple[float, float] | None = None,
    people: int = DEFAULT_PEOPLE,
    live: bool | None = None,
    reconnect: float = RECONNECT_S,
) -> Source:
    """Open a video file, pose files, a camera, a URL, or standard input.

    Args:
        what: a path, the number of a camera, a URL, or "-".
        poses: name of the estimator, "" for the default, see `load_estimator`.
        fps: frame rate of pose files; maximum rate of pose estimation in a video.
        layout, size: of pose files, see `PoseFileSource`.
        people: maximum number of persons that the estimator looks for.
        live, reconnect: of a URL or standard input, see `NetworkVideo`.

    Raises:
        ReadError, VideoError, UnknownNameError: it cannot be opened.
    """
    path = Path(what)
    if path.is_dir() or (path.is_file() and _find_format(path)):
        return PoseFileSource(path, fps or FPS, layout, size)
    if layout:
        raise VideoError("--layout states the joints of pose files, not of a video or camera")
    video: VideoFile | Camera | NetworkVideo
    if is_network_video(what):
        video = NetworkVideo(what, live, reconnect)
    else:
        camera = _camera_index(what)
        video = VideoFile(path) if camera is None else Camera(camera)
    return VideoSource(video, load_estimator(poses, people), fps or FPS)


def name_source(what: str) -> str:
    """Return the name of a source: the last part of a path, "camera 0", or a URL without secrets.

    Raises:
        VideoError: it is a URL that is not supported.
    """
    if is_network_video(what):
        return name_network_video(what)
    camera = _camera_index(what)
    return Path(what).resolve().name if camera is None else f"camera {camera}"


def _camera_index(what: str) -> int | None:
    path = Path(what)
    return None if path.is_file() or path.is_dir() else parse_camera_index(what)
