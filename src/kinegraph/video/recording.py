"""What was seen while watching, kept on disk, so that it can be drawn once all is known."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from kinegraph.video.decode import VideoFile, VideoFrame
from kinegraph.video.estimators.base import Array
from kinegraph.video.sources import Source
from kinegraph.video.tracking import TrackedPose
from kinegraph.video.writer import VideoWriter

SKELETON_LIFETIME_S = 0.2  # seconds for which a skeleton is drawn until the next one is looked for

Persons = list[tuple[int, Array]]


class WatchCache:
    """Notes of each frame's persons, and of a camera's pictures; in memory is one frame.

    Args:
        source: what is watched.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._joints = source.layout.num_joints
        self._folder = tempfile.TemporaryDirectory(prefix="kinegraph-")
        self._film: VideoWriter | None = None
        self._poses: IO[bytes] = (Path(self._folder.name) / "poses").open("w+b")
        if source.live:
            self._film = VideoWriter(self._film_path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._film is not None:
            self._film.close()
        self._poses.close()
        self._folder.cleanup()

    @property
    def _film_path(self) -> Path:
        return Path(self._folder.name) / "film.mp4"

    def picture(self, picture: VideoFrame) -> None:
        """Keep a picture, if its source cannot show it again."""
        if self._film is not None:
            self._film.write(picture.image, picture.time)

    def persons(self, time: float, seen: Sequence[TrackedPose]) -> None:
        """Keep who is seen in a frame."""
        self._poses.write(np.array([time, len(seen)], np.float64).tobytes())
        for one in seen:
            self._poses.write(np.float64(one.person).tobytes())
            self._poses.write(np.ascontiguousarray(one.joints, np.float32).tobytes())

    def again(self, until: float) -> Iterator[tuple[VideoFrame, Persons]]:
        """Each picture up to a time, with the persons seen in it: (number, joints (V, 2))."""
        notes = self._notes()
        ahead = next(notes, None)
        now: tuple[float, Persons] = (-np.inf, [])
        for picture in self._pictures():
            if picture.time > until + 1e-6:
                return
            while ahead is not None and ahead[0] <= picture.time + 1e-6:
                now, ahead = ahead, next(notes, None)
            fresh = picture.time - now[0] <= SKELETON_LIFETIME_S
            yield picture, now[1] if fresh else []

    def _pictures(self) -> Iterable[VideoFrame]:
        if self._film is None:
            return self._source.again()
        self._film.close()
        return VideoFile(self._film_path)

    def _notes(self) -> Iterator[tuple[float, Persons]]:
        self._poses.seek(0)
        scale = np.float32(self._source.scale())
        size = 8 + 8 * self._joints
        while head := self._poses.read(16):
            time, count = np.frombuffer(head, np.float64)
            raw = [self._poses.read(size) for _ in range(int(count))]
            persons = [
                (
                    int(np.frombuffer(one[:8], np.float64)[0]),
                    np.frombuffer(one[8:], np.float32).reshape(-1, 2) * scale,
                )
                for one in raw
            ]
            yield float(time), persons
