"""Writes videos: annotated ones, and a camera's pictures until it is known what they show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from kinegraph.errors import LiveError
from kinegraph.files import atomic_path
from kinegraph.video.decode import open_av
from kinegraph.video.estimators.base import Image

TICKS = 90_000  # a second: times are kept as they were, even or not
_CODECS = {"libx264": {"crf": "20", "preset": "veryfast"}, "mpeg4": {"qscale": "4"}}


class VideoWriter:
    """An mp4 file whose pictures have the times that they are given.

    Args:
        path: of the file; the end of its name says nothing.

    Raises:
        LiveError: no file can be written there, or no codec is there to write with.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._av = open_av()
        self._stream: Any = None
        self._last, self._gap = -1, 0
        try:
            options = {"movflags": "+faststart"}
            self._file = self._av.open(str(path), "w", format="mp4", options=options)
        except (self._av.error.FFmpegError, OSError) as error:
            raise LiveError(f"{path}: no video can be written there: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, image: Image, time: float) -> None:
        """A picture (H, W, 3) in RGB from ``time`` on, in seconds; earlier than the last: none.

        All are as large as the first one, less a row or column if that is odd.
        """
        if self._stream is None:
            self._stream = self._begun(image)
        tick = round(time * TICKS)
        if tick <= self._last:
            return
        self._last, self._gap = tick, tick - self._last if self._last >= 0 else TICKS // 30
        even = np.ascontiguousarray(image[: self._stream.height, : self._stream.width])
        frame = self._av.VideoFrame.from_ndarray(even, format="rgb24")
        frame.pts, frame.time_base = tick, Fraction(1, TICKS)
        self._mux(frame)

    def close(self) -> None:
        """The rest, and the end."""
        if self._file is None:
            return
        if self._stream is not None:
            self._mux(None)
        self._file.close()
        self._file = None

    def _mux(self, frame: Any) -> None:
        try:
            packets = self._stream.encode(frame)
            for packet in packets:
                packet.duration = self._gap  # counts for the last one
            self._file.mux(packets)
        except (self._av.error.FFmpegError, OSError) as error:
            raise LiveError(f"{self._path}: the video cannot be written: {error}") from error

    def _begun(self, image: Image) -> Any:
        height, width = (max(2, side - side % 2) for side in image.shape[:2])
        known = next((c for c in _CODECS if c in self._av.codecs_available), None)
        if known is None:
            raise LiveError(f"this PyAV writes none of {', '.join(_CODECS)}")
        stream = self._file.add_stream(known, rate=30, options=_CODECS[known])
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, TICKS)
        return stream


@contextmanager
def atomic_video_writer(path: Path) -> Iterator[VideoWriter]:
    """A film that is at its place when it is complete, and else not there at all.

    Raises:
        LiveError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial, VideoWriter(partial) as film:
            yield film
    except OSError as error:
        raise LiveError(f"{path}: no video can be written there: {error.strerror}") from error
