"""Synthetic videos and an estimator without a network, for tests."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from kinegraph.skeleton.layouts import get_layout
from kinegraph.video.estimators.base import PoseFrame

CLASSES = 3


def require_av():
    """Return PyAV, or skip the test."""
    return pytest.importorskip("av", reason="NOT TESTED: the extra `video` is not installed")


def picture(level: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Return a gray image whose upper left quarter is white."""
    image = np.full((height, width, 3), level, np.uint8)
    image[: height // 2, : width // 2] = 255
    return image


def write_video(
    path: Path,
    images: Sequence[np.ndarray],
    times: Sequence[float] | None = None,
    fps: int = 30,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video of the images, mpeg4 in the container of the file extension."""
    av = require_av()
    with av.open(str(path), "w", options=options or {}) as file:
        stream = file.add_stream("mpeg4", rate=fps, options={"qscale": "2"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 60_000)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            when = number / fps if times is None else times[number]
            frame.pts, frame.time_base = round(when * 60_000), Fraction(1, 60_000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def add_rotation(path: Path) -> None:
    """Add metadata to an mp4 file that rotates it by 90 degrees clockwise."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 4 + 5 * 4 + 8 + 8
    one, height = 1 << 16, 48 << 16
    content[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, height, 0, 1 << 30)
    path.write_bytes(content)


class GrayLevelEstimator:
    """Detects the class of a synthetic clip by the gray level of an image; none in black ones.

    Its joints are those of `conftest.made_up_clips`, which `tiny_run` has learned.
    """

    def __init__(self, people: int = 6, *, moves: bool = True) -> None:
        self.layout = get_layout("jhmdb15")
        self.people = people
        self.moves = moves
        rng = np.random.default_rng(0)
        self._places = rng.normal(size=(CLASSES, 15, 2)).astype(np.float32)
        self.closed = False

    def __call__(self, image: np.ndarray, time: float) -> PoseFrame:
        height, width = image.shape[:2]
        level = round(float(image[-4:, -4:].mean()) / 50) - 1
        joints = self._places[level : level + 1] if level >= 0 else self._places[:0]
        if self.moves:
            noise = np.random.default_rng(round(1000 * time)).normal(size=joints.shape)
            joints = joints + 0.1 * noise.astype(np.float32)  # as in the clips
        return PoseFrame(time, joints, np.ones(joints.shape[:2], np.float32), width, height)

    def close(self) -> None:
        self.closed = True


def gray_level(label: int) -> int:
    """Return the gray level of a class; -1 is an image without a person."""
    return 50 * (label + 1)
