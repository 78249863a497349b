"""Pictures with their times: from a video file, or from a camera while it runs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kinegraph.errors import LiveError, ReadError
from kinegraph.video.estimators.base import Image, missing_package

if TYPE_CHECKING:
    from av import VideoFrame as AVFrame
    from av.container import InputContainer

_BAD_PACKETS = 100  # in a row, after which the rest of a file is given up
_MISSING = 1.0  # seconds at the end that may be missing without a word
_SET_BACK = 0.5  # seconds
_TEXTS = frozenset({"tty"})  # what plays any text file as letters on a screen
_CAMERA = re.compile(r"(?:camera:?|/dev/video)?(\d{1,3})")


@dataclass(frozen=True)
class VideoFrame:
    """One picture: (H, W, 3) in RGB, ``time`` seconds after the first one."""

    time: float
    image: Image


class VideoFile:
    """The pictures of a file, upright, one after the other; it can be gone through again.

    Pictures that are larger or smaller than the first one are fitted into its size. Memory holds
    one of them, however long the file is.

    Attributes:
        path: of the file.
        width, height: of its pictures, in pixels.
        duration: in seconds, None where the file does not say.
        pictures: how many there are, as far as the file says or lets one guess; else None.
        warning: what was wrong with the file when it was last gone through, as a sentence; "" for
            nothing.

    Raises:
        ReadError: there is no such file, or nothing in it is a video.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.warning = ""
        with self._open() as container:
            stream = container.streams.video[0]
            self.duration = _duration(container, stream)
            rate = stream.average_rate
            guess = self.duration and rate and round(self.duration * rate)
            self.pictures: int | None = stream.frames or guess or None
        first = next(iter(self), None)
        if first is None:
            raise ReadError(f"{self.path}: expected a video, but none of its pictures can be read")
        self.height, self.width = first.image.shape[:2]

    def __iter__(self) -> Iterator[VideoFrame]:
        self.warning, last, size = "", -1.0, None
        with self._open() as container:
            for when, image in self._decoded(container):
                if when <= last:
                    continue  # a picture in place of the last one
                last, size = when, size or image.shape[:2]
                yield VideoFrame(when, _fitted(image, *size))
        if self.duration and 0 <= last < self.duration - _MISSING:
            self.warning = (
                f"{self.path} breaks off after {last:.1f} of {self.duration:.1f} s; "
                "what is said of it ends there"
            )

    def _open(self) -> InputContainer:
        av = open_av()
        if not self.path.is_file():
            raise ReadError(f"{self.path}: expected a video, found no such file")
        try:
            # a playlist must not fetch anything
            files = {"protocol_whitelist": "file"}
            container = av.open(str(self.path), metadata_errors="ignore", options=files)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise ReadError(
                f"{self.path}: expected a video, but it cannot be read as one "
                f"({getattr(error, 'strerror', None) or error}); a recording that was broken off "
                "before its index was written cannot be read either"
            ) from error
        if not container.streams.video or container.format.name in _TEXTS:
            container.close()
            raise ReadError(f"{self.path}: expected a video, found a file without pictures")
        container.streams.video[0].thread_type = "AUTO"
        return container

    def _decoded(self, container: InputContainer) -> Iterator[tuple[float, Image]]:
        """(seconds after the first one, picture) as they stand in the file.

        A clock that is set back, as where recordings were joined, goes on from where it was.
        """
        stream = container.streams.video[0]
        step = float(1 / stream.average_rate) if stream.average_rate else 1 / 30
        start, last = None, -step
        for frame in _frames(container, stream):
            if frame.time is None:
                last += step
            else:
                start = frame.time if start is None else start
                if frame.time - start < last - _SET_BACK:
                    start = frame.time - last - step
                last = frame.time - start
            yield last, _upright(frame)


def _frames(container: InputContainer, stream: Any) -> Iterator[AVFrame]:
    """All that can be decoded; packets that cannot are left out."""
    av = open_av()
    packets = container.demux(stream)
    bad = 0
    while bad < _BAD_PACKETS:
        try:
            packet = next(packets)
            frames = packet.decode()
        except StopIteration:
            return
        except av.error.FFmpegError:
            bad += 1
            continue
        bad = 0
        yield from frames


def _duration(container: InputContainer, stream: Any) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else None


def _upright(frame: AVFrame) -> Image:
    """The picture as it should be seen: phones note that they were turned, and turn nothing."""
    image: Image = frame.to_ndarray(format="rgb24")  # type: ignore[assignment]
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def _fitted(image: Image, height: int, width: int) -> Image:
    """The whole picture within that size, black around it."""
    if image.shape[:2] == (height, width):
        return image
    from PIL import Image as Pillow
    from PIL import ImageOps

    return np.asarray(ImageOps.pad(Pillow.fromarray(image), (width, height)))


def open_av() -> Any:
    """PyAV, or the sentence that it is missing."""
    try:
        import av
        import av.error
    except ImportError as error:
        raise missing_package("av (PyAV)") from error
    return av


class Camera:
    """The pictures of a camera from now on, until it is stopped or unplugged.

    Attributes:
        index: 0 for the first one.
        width, height: of its pictures, in pixels.

    Raises:
        LiveError: there is no such camera, or it gives no picture.
    """

    duration: float | None = None
    pictures: int | None = None
    warning = ""

    def __init__(self, index: int = 0) -> None:
        self.index = index
        cv2 = _cv2()
        self._capture = cv2.VideoCapture(index)
        first = self._capture.read()[1] if self._capture.isOpened() else None
        if first is None:
            self._capture.release()
            raise LiveError(
                f"no picture comes from camera {index}: is one plugged in, may this user read "
                "it, and is no other program using it? Cameras are numbered from 0"
            )
        self.height, self.width = first.shape[:2]

    def __iter__(self) -> Iterator[VideoFrame]:
        start = time.monotonic()
        try:
            while True:
                there, image = self._capture.read()
                if not there:
                    return
                upright = np.ascontiguousarray(image[..., ::-1])  # it gives blue first
                yield VideoFrame(time.monotonic() - start, upright)
        finally:
            self._capture.release()


def _cv2() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise missing_package("OpenCV") from error
    cv2.utils.logging.setLogLevel(0)  # it complains loudly of cameras that are not there
    return cv2


def parse_camera_index(source: str) -> int | None:
    """The number of the camera that a text means (``0``, ``camera:0``, ``/dev/video0``)."""
    found = _CAMERA.fullmatch(source.strip())
    return int(found[1]) if found else None
