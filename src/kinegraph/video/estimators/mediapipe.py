"""Pose estimation by MediaPipe 0.10.14: one person, 33 landmarks, model included in the wheel."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from kinegraph.errors import VideoError
from kinegraph.skeleton.layouts import get_layout
from kinegraph.video.estimators.base import Image, PoseFrame, missing_package, select_visible

MIN_VISIBILITY = 0.5  # landmarks below are hidden
_BLANK = np.zeros((64, 64, 3), np.uint8)


class MediapipePoses:
    """The pose estimator of MediaPipe, which tracks one person from frame to frame.

    Landmarks that are hidden or outside the image are absent.

    Raises:
        VideoError: MediaPipe or a system library that it needs is not installed.
    """

    def __init__(self) -> None:
        self.layout = get_layout("mediapipe33")
        try:
            with _silence_stderr():
                from mediapipe.python.solutions import pose
        except ModuleNotFoundError as error:
            raise missing_package("mediapipe") from error
        except ImportError as error:
            raise VideoError(
                f"mediapipe is installed but cannot be imported ({error}); if libGL or libglib is "
                "missing, install the system packages libgl1 and libglib2.0-0 (Debian)"
            ) from error
        with _silence_stderr():
            self._pose = pose.Pose(model_complexity=1)  # the model in the wheel
            self._pose.process(_BLANK)

    def __call__(self, image: Image, time: float) -> PoseFrame:
        """Detect at most one person in an image (H, W, 3) in RGB."""
        height, width = image.shape[:2]
        with warnings.catch_warnings():
            # MediaPipe calls a function that protobuf has deprecated
            warnings.filterwarnings("ignore", "SymbolDatabase.GetPrototype", UserWarning)
            found = self._pose.process(image).pose_landmarks
        marks = [(m.x, m.y, m.visibility) for m in found.landmark] if found else []
        held = np.array(marks, np.float32).reshape(-1, self.layout.num_joints, 3)
        pixels = held[..., :2] * np.array([width, height], np.float32)
        return select_visible(time, pixels, held[..., 2], MIN_VISIBILITY, width, height)

    def close(self) -> None:
        """Release the graph."""
        with _silence_stderr():
            self._pose.close()


open_estimator = MediapipePoses


@contextmanager
def _silence_stderr() -> Iterator[None]:
    """Redirect standard error to null: MediaPipe logs before logging can be configured."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
