"""Video files with given time stamps, written atomically."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from kinegraph.errors import VideoError
from kinegraph.files import atomic_path
from kinegraph.video.decode import open_av
from kinegraph.video.estimators.base import Image

TICKS_PER_SECOND = 90_000  # fine enough to keep any time stamp
_CODECS = {"libx264": {"crf": "20", "preset": "veryfast"}, "mpeg4": {"qscale": "4"}}


class VideoWriter:
    """An mp4 file whose frames have the given times.

    Args:
        path: path of the file; the extension is ignored.

    Raises:
        VideoError: the file cannot be written, or no codec is available.
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
            raise VideoError(f"cannot write a video to {path}: {error.strerror}") from error

    def write(self, image: Image, time: float) -> None:
        """Write a frame (H, W, 3) in RGB with its time in seconds; skip it if time goes back.

        All frames have the size of the first one, without the last row or column if that is odd.
        """
        if self._stream is None:
            self._stream = self._add_stream(image)
        tick = round(time * TICKS_PER_SECOND)
        if tick <= self._last:
            return
        self._gap = tick - self._last if self._last >= 0 else TICKS_PER_SECOND // 30
        self._last = tick
        even = np.ascontiguousarray(image[: self._stream.height, : self._stream.width])
        frame = self._av.VideoFrame.from_ndarray(even, format="rgb24")
        frame.pts, frame.time_base = tick, Fraction(1, TICKS_PER_SECOND)
        self._mux(frame)

    def close(self) -> None:
        """Write the remaining frames and close the file."""
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
                packet.duration = self._gap  # takes effect for the last one
            self._file.mux(packets)
        except (self._av.error.FFmpegError, OSError) as error:
            raise VideoError(f"cannot write the video {self._path}: {error}") from error

    def _add_stream(self, image: Image) -> Any:
        height, width = (max(2, side - side % 2) for side in image.shape[:2])
        codec = next((c for c in _CODECS if c in self._av.codecs_available), None)
        if codec is None:
            raise VideoError(
                f"PyAV has no encoder to write mp4 files (expected one of {', '.join(_CODECS)}); "
                "install another build of av"
            )
        stream = self._file.add_stream(codec, rate=30, options=_CODECS[codec])
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, TICKS_PER_SECOND)
        return stream


@contextmanager
def atomic_video_writer(path: Path) -> Iterator[VideoWriter]:
    """Open a video file that is put in place when it is complete; a failure leaves no file.

    Raises:
        VideoError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial, closing(VideoWriter(partial)) as writer:
            yield writer
    except OSError as error:
        raise VideoError(f"cannot write a video to {path}: {error.strerror}") from error
