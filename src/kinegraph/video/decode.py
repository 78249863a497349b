"""Frames with time stamps from video files and cameras."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kinegraph.errors import ReadError, VideoError
from kinegraph.video.estimators.base import Image, missing_package

if TYPE_CHECKING:
    from av import VideoFrame as AVFrame
    from av.container import InputContainer

_MAX_BAD_PACKETS = 100  # in a row, after which decoding stops
MAX_MISSING_S = 1.0  # at the end of a file, without a warning
_MIN_CLOCK_RESET_S = 0.5
_TEXT_FORMATS = frozenset({"tty"})  # FFmpeg renders any text file as a video
_CAMERA = re.compile(r"(?:camera:?|/dev/video)?(\d{1,3})")


@dataclass(frozen=True)
class VideoFrame:
    """One frame: image (H, W, 3) in RGB, ``time`` in seconds after the first one."""

    time: float
    image: Image


class VideoFile:
    """The frames of a file, upright; it can be iterated repeatedly.

    Frames of another size than the first one are resized to fit it. Only one frame is in memory.

    Attributes:
        path: path of the file.
        name: its last part.
        width, height: of the frames, in pixels.
        duration: in seconds, None if the file does not state it.
        frame_count: number of frames, stated by the file or estimated; None if unknown.
        warning: a sentence about problems in the last iteration, or "".

    Raises:
        ReadError: there is no such file, or it contains no video.
    """

    live = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self.warning = ""
        with self._open() as container:
            stream = container.streams.video[0]
            self.duration = stated_duration(container, stream)
            rate = stream.average_rate
            estimate = self.duration and rate and round(self.duration * rate)
            self.frame_count: int | None = stream.frames or estimate or None
        first = next(iter(self), None)
        if first is None:
            raise ReadError(f"{self.path}: expected a video, but none of its frames can be decoded")
        self.height, self.width = first.image.shape[:2]

    def __iter__(self) -> Iterator[VideoFrame]:
        self.warning, last, size = "", -1.0, None
        with self._open() as container, suppress(open_av().error.FFmpegError):
            for when, frame in decode_frames(container):
                if when <= last:
                    continue  # a repeated frame
                image = to_upright_image(frame)
                last, size = when, size or image.shape[:2]
                yield VideoFrame(when, fit_image(image, *size))
        self.warning = truncation_warning(str(self.path), last, self.duration)

    def _open(self) -> InputContainer:
        av = open_av()
        if not self.path.is_file():
            raise ReadError(f"{self.path}: expected a video, found no such file")
        try:
            # a playlist must not load remote files
            files = {"protocol_whitelist": "file"}
            container = av.open(str(self.path), metadata_errors="ignore", options=files)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise ReadError(
                f"{self.path}: expected a video, but it cannot be opened "
                f"({getattr(error, 'strerror', None) or error}); an interrupted recording without "
                "an index cannot be read either"
            ) from error
        if not has_video(container):
            container.close()
            raise ReadError(f"{self.path}: expected a video, found a file without a video stream")
        container.streams.video[0].thread_type = "AUTO"
        return container


def has_video(container: InputContainer) -> bool:
    """Return whether a container has a video, and is not text."""
    return bool(container.streams.video) and container.format.name not in _TEXT_FORMATS


def truncation_warning(name: str, last: float, duration: float | None) -> str:
    """Return a warning if the last frame is well before the stated end of a video, or ""."""
    if not duration or not 0 <= last < duration - MAX_MISSING_S:
        return ""
    return f"{name} is truncated after {last:.1f} of {duration:.1f} s; the results end there"


def decode_frames(
    container: InputContainer, start: float | None = None
) -> Iterator[tuple[float, AVFrame]]:
    """Yield the time in seconds and the frame, in the order of the container.

    Where the clock is set back, as in concatenated recordings, time continues. Damaged packets are
    skipped.

    Args:
        container: the video.
        start: time stamp of time 0; None for that of the first frame.

    Raises:
        av.error.FFmpegError: the container cannot be read further.
    """
    stream = container.streams.video[0]
    step = float(1 / stream.average_rate) if stream.average_rate else 1 / 30
    last = -step
    for frame in _frames(container, stream):
        if frame.time is None:
            last += step
        else:
            start = frame.time if start is None else start
            if frame.time - start < last - _MIN_CLOCK_RESET_S:
                start = frame.time - last - step
            last = frame.time - start
        yield last, frame


def _frames(container: InputContainer, stream: Any) -> Iterator[AVFrame]:
    av = open_av()
    bad = 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            bad += 1
            if bad == _MAX_BAD_PACKETS:
                return
            continue
        bad = 0
        yield from frames


def stated_duration(container: InputContainer, stream: Any) -> float | None:
    """Return the duration in seconds that a container or its video states; None if it does not."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else None


def to_upright_image(frame: AVFrame) -> Image:
    """Return the upright image: phones store their rotation only as metadata."""
    image: Image = frame.to_ndarray(format="rgb24")  # type: ignore[assignment]
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def fit_image(image: Image, height: int, width: int) -> Image:
    """Resize an image to fit the given size, with black margins."""
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image as Pillow
    from PIL import ImageOps

    return np.asarray(ImageOps.pad(Pillow.fromarray(image), (width, height)))


def open_av() -> Any:
    """Import PyAV.

    Raises:
        VideoError: it is not installed.
    """
    try:
        import av
        import av.error
    except ImportError as error:
        raise missing_package("av (PyAV)") from error
    return av


class Camera:
    """The frames of a camera, until it is stopped or unplugged.

    Attributes:
        index: 0 for the first camera.
        name: "camera 0" for the first camera.
        width, height: of the frames, in pixels.

    Raises:
        VideoError: there is no such camera, or it delivers no frames.
    """

    live = True
    duration: float | None = None
    frame_count: int | None = None
    warning = ""

    def __init__(self, index: int = 0) -> None:
        try:
            import cv2
        except ImportError as error:
            raise missing_package("OpenCV") from error
        cv2.utils.logging.setLogLevel(0)  # it logs errors for missing cameras
        self.index = index
        self.name = f"camera {index}"
        self._capture: Any = cv2.VideoCapture(index)
        first = self._capture.read()[1] if self._capture.isOpened() else None
        if first is None:
            self._capture.release()
            raise VideoError(
                f"camera {index} delivers no frames: check that it is connected, that this user "
                "may read it and that no other program uses it; cameras are numbered from 0"
            )
        self.height, self.width = first.shape[:2]

    def __iter__(self) -> Iterator[VideoFrame]:
        start = time.monotonic()
        try:
            while True:
                available, image = self._capture.read()
                if not available:
                    return
                rgb = np.ascontiguousarray(image[..., ::-1])  # OpenCV returns BGR
                yield VideoFrame(time.monotonic() - start, rgb)
        finally:
            self._capture.release()


def parse_camera_index(source: str) -> int | None:
    """Return the camera number in ``0``, ``camera:0`` or ``/dev/video0``; None for other texts."""
    found = _CAMERA.fullmatch(source.strip())
    return int(found[1]) if found else None
