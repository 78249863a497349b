"""What a pose estimator is: pictures in, the skeletons that are seen in them out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import LiveError, unknown_name
from kinegraph.skeleton.layout import SkeletonLayout

Array = NDArray[np.float32]
Image = NDArray[np.uint8]

#: Estimators by name, and where they are; each module has ``open_estimator()``.
ESTIMATORS = {
    "mediapipe": "kinegraph.video.estimators.mediapipe",
    "rtmlib": "kinegraph.video.estimators.rtmlib",
}


@dataclass(frozen=True)
class PoseFrame:
    """The skeletons of one picture.

    Attributes:
        time: of the picture, in seconds from the start.
        joints: (M, V, 2) in pixels, NaN where a joint is not seen; M may be 0.
        confidence: (M, V) in [0, 1].
        width, height: of the picture, in pixels.
    """

    time: float
    joints: Array
    confidence: Array
    width: int
    height: int


@runtime_checkable
class PoseEstimator(Protocol):
    """Skeletons in pictures, one picture after the other."""

    layout: SkeletonLayout

    def __call__(self, image: Image, time: float) -> PoseFrame:
        """The skeletons of a picture (H, W, 3) in RGB, ``time`` seconds from the start."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


def load_estimator(name: str = "mediapipe") -> PoseEstimator:
    """The estimator of that name, ready for its first picture.

    Raises:
        UnknownNameError: there is none of that name.
        LiveError: the package that it needs is not installed.
    """
    if name not in ESTIMATORS:
        raise unknown_name("pose estimator", name, ESTIMATORS)
    opened: Callable[[], PoseEstimator] = import_module(ESTIMATORS[name]).open_estimator
    return opened()


def missing_package(package: str, install: str = '"kinegraph[video]"') -> LiveError:
    """The error for a package that is not there."""
    return LiveError(
        f"{package} is not installed, and poses from video need it: pip install {install}"
    )
