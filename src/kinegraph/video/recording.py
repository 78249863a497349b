"""A disk cache of detected persons and frames, replayed to draw annotations."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from kinegraph.video.decode import VideoFile, VideoFrame
from kinegraph.video.estimators.base import Array
from kinegraph.video.sources import Source
from kinegraph.video.tracking import TrackedPose
from kinegraph.video.writer import VideoWriter

POSE_LIFETIME_S = 0.2  # how long a skeleton is drawn without a new detection

Persons = list[tuple[int, Array]]


class WatchCache:
    """Caches the persons of each frame of a source on disk, and the frames if it is not a file."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._folder = tempfile.TemporaryDirectory(prefix="kinegraph-")
        self._poses: IO[bytes] = (Path(self._folder.name) / "poses").open("w+b")
        self._video_path = Path(self._folder.name) / "video.mp4"
        self._video = VideoWriter(self._video_path) if not source.can_replay else None

    def close(self) -> None:
        """Delete the folder."""
        if self._video is not None:
            self._video.close()
        self._poses.close()
        self._folder.cleanup()

    def add_frame(self, frame: VideoFrame) -> None:
        """Store a frame if its source cannot be replayed."""
        if self._video is not None:
            self._video.write(frame.image, frame.time)

    def add_persons(self, time: float, poses: Sequence[TrackedPose]) -> None:
        """Store the persons of a frame."""
        self._poses.write(np.array([time, len(poses)], np.float64).tobytes())
        for pose in poses:
            self._poses.write(np.float64(pose.person).tobytes())
            self._poses.write(np.ascontiguousarray(pose.joints, np.float32).tobytes())

    def replay(self, until: float) -> Iterator[tuple[VideoFrame, Persons]]:
        """Yield each frame up to a time with its persons: (number, joints (V, 2))."""
        stored = self._read_persons()
        following = next(stored, None)
        current: tuple[float, Persons] = (-np.inf, [])
        for frame in self._frames():
            if frame.time > until + 1e-6:
                return
            while following is not None and following[0] <= frame.time + 1e-6:
                current, following = following, next(stored, None)
            recent = frame.time - current[0] <= POSE_LIFETIME_S
            yield frame, current[1] if recent else []

    def _frames(self) -> Iterable[VideoFrame]:
        if self._video is None:
            return self.source.replay()
        self._video.close()
        return VideoFile(self._video_path)

    def _read_persons(self) -> Iterator[tuple[float, Persons]]:
        self._poses.seek(0)
        person = np.dtype([("number", "f8"), ("joints", "f4", (self.source.layout.num_joints, 2))])
        scale = np.float32(self.source.scale())
        while head := self._poses.read(16):
            time, count = np.frombuffer(head, np.float64)
            raw = np.frombuffer(self._poses.read(int(count) * person.itemsize), person)
            yield float(time), [(int(one["number"]), one["joints"] * scale) for one in raw]
