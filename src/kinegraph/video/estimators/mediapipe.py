"""Poses by MediaPipe 0.10.14, which carries its model in its wheel: one person, 33 landmarks."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from kinegraph.errors import LiveError
from kinegraph.skeleton.layouts import get_layout
from kinegraph.video.estimators.base import Image, PoseFrame, missing_package

MIN_SCORE = 0.5  # visibility below which a landmark is a guess about what nobody sees
_BLANK = np.zeros((64, 64, 3), np.uint8)


class MediapipePoses:
    """The one person whom MediaPipe follows from picture to picture.

    Landmarks that are hidden or lie outside the picture are absent.
    """

    def __init__(self) -> None:
        self.layout = get_layout("mediapipe33")
        pose = _pose_module()
        with _hush():
            self._pose = pose.Pose(model_complexity=1)  # the one whose file is in the wheel
            self._pose.process(_BLANK)

    def __call__(self, image: Image, time: float) -> PoseFrame:
        """The person in a picture (H, W, 3) in RGB; none where nobody is found."""
        height, width = image.shape[:2]
        with warnings.catch_warnings():
            # what MediaPipe asks of protobuf is gone from later ones, which it does not take
            warnings.filterwarnings("ignore", "SymbolDatabase.GetPrototype", UserWarning)
            found = self._pose.process(image).pose_landmarks
        marks = [(m.x, m.y, m.visibility) for m in found.landmark] if found else []
        held = np.array(marks, np.float32).reshape(-1, self.layout.num_joints, 3)
        joints, visibility = held[..., :2], held[..., 2]
        inside = ((joints >= 0) & (joints <= 1)).all(axis=-1)
        seen = inside & (visibility >= MIN_SCORE)
        pixels = np.where(seen[..., None], joints * np.array([width, height], np.float32), np.nan)
        kept = seen.any(axis=1)
        confidence = np.where(seen, visibility.clip(0, 1), 0).astype(np.float32)
        return PoseFrame(time, pixels.astype(np.float32)[kept], confidence[kept], width, height)

    def close(self) -> None:
        """Give back its graph."""
        with _hush():
            self._pose.close()


def open_estimator() -> MediapipePoses:
    """Ready for its first picture.

    Raises:
        LiveError: it is not installed, or a library of the system that it needs is not.
    """
    return MediapipePoses()


def _pose_module() -> Any:
    try:
        with _hush():
            from mediapipe.python.solutions import pose
    except ModuleNotFoundError as error:
        raise missing_package("mediapipe") from error
    except ImportError as error:
        raise LiveError(
            f"mediapipe is installed but does not load ({error}); where libGL or libglib is "
            "missing, the system's packages libgl1 and libglib2.0-0 (Debian) bring them"
        ) from error
    return pose


@contextmanager
def _hush() -> Iterator[None]:
    """Nothing on standard error: MediaPipe logs there before anyone can tell it not to."""
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
