"""Pose estimation by rtmlib (RTMDet, RTMPose on ONNX Runtime): several persons, COCO joints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kinegraph.errors import VideoError
from kinegraph.skeleton.layouts import get_layout
from kinegraph.video.estimators.base import (
    DEFAULT_PEOPLE,
    Image,
    PoseFrame,
    missing_package,
    select_visible,
)

MIN_SCORE = 0.3  # the threshold of rtmlib's own drawings

#: (H, W, 3) in BGR -> joints (M, 17, 2) in pixels and scores (M, 17).
BodyEstimator = Callable[[Image], tuple[Any, Any]]


class RtmlibPoses:
    """The pose estimator of rtmlib, for several persons.

    Args:
        body: an ``rtmlib.Body`` with its models and device.
        people: maximum number of persons in a frame, the most certain first.
    """

    def __init__(self, body: BodyEstimator, people: int = DEFAULT_PEOPLE) -> None:
        self.layout = get_layout("coco17")
        self.people = people
        self._body = body

    def __call__(self, image: Image, time: float) -> PoseFrame:
        """Detect the persons in an image (H, W, 3) in RGB."""
        height, width = image.shape[:2]
        found, scores = self._body(np.ascontiguousarray(image[..., ::-1]))
        joints = np.asarray(found, np.float32).reshape(-1, self.layout.num_joints, 2)
        sure = np.asarray(scores, np.float32).reshape(joints.shape[:2])
        certain = np.argsort(-sure.mean(axis=1), kind="stable")[: self.people]
        joints, sure = joints[certain], sure[certain]
        return select_visible(time, joints, sure, MIN_SCORE, width, height)

    def close(self) -> None:
        """Do nothing: there are no resources to release."""


def open_estimator(people: int) -> RtmlibPoses:
    """Return an estimator on the CPU; rtmlib downloads its models on first use.

    Raises:
        VideoError: rtmlib is not installed, or the download fails.
    """
    try:
        from rtmlib import Body as RtmlibBody
    except ImportError as error:
        raise missing_package("rtmlib", "rtmlib onnxruntime") from error
    try:
        body = RtmlibBody(mode="lightweight", backend="onnxruntime", device="cpu")
    except OSError as error:
        raise VideoError(f"rtmlib cannot download its models: {error}") from error
    return RtmlibPoses(body, people)
