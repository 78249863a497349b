"""Poses by rtmlib (RTMDet and RTMPose on ONNX Runtime): several persons, the joints of COCO."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kinegraph.errors import LiveError
from kinegraph.skeleton.layouts import get_layout
from kinegraph.video.estimators.base import Array, Image, PoseFrame, missing_package

MIN_SCORE = 0.3  # the score below which rtmlib itself draws no joint

#: (H, W, 3) in BGR -> joints (M, 17, 2) in pixels and scores (M, 17).
Body = Callable[[Image], tuple[Any, Any]]


class RtmlibPoses:
    """Everyone in a picture.

    Args:
        body: an ``rtmlib.Body``, with models and device of one's choice.
    """

    def __init__(self, body: Body) -> None:
        self.layout = get_layout("coco17")
        self._body = body

    def __call__(self, image: Image, time: float) -> PoseFrame:
        """The persons in a picture (H, W, 3) in RGB."""
        height, width = image.shape[:2]
        found, scores = self._body(np.ascontiguousarray(image[..., ::-1]))
        joints = np.asarray(found, np.float32).reshape(-1, self.layout.num_joints, 2)
        sure = np.asarray(scores, np.float32).reshape(joints.shape[:2])
        joints, sure = _seen(joints, sure, width, height)
        return PoseFrame(time, joints, sure, width, height)

    def close(self) -> None:
        """Nothing is held beyond the object itself."""


def _seen(joints: Array, sure: Array, width: int, height: int) -> tuple[Array, Array]:
    """Joints and confidence of persons who show at least one joint."""
    inside = ((joints >= 0) & (joints <= np.array([width, height], np.float32))).all(axis=-1)
    seen = inside & (sure >= MIN_SCORE)
    some = seen.any(axis=1)
    joints = np.where(seen[..., None], joints, np.float32(np.nan))
    return joints[some], np.where(seen, sure.clip(0, 1), np.float32(0))[some]


def open_estimator() -> RtmlibPoses:
    """``rtmlib.Body`` as it comes, on the CPU; it downloads its models when it is first used.

    Raises:
        LiveError: rtmlib is not installed, or cannot get its models.
    """
    try:
        from rtmlib import Body as RtmlibBody
    except ImportError as error:
        raise missing_package("rtmlib", "rtmlib onnxruntime") from error
    try:
        body = RtmlibBody(mode="lightweight", backend="onnxruntime", device="cpu")
    except OSError as error:
        raise LiveError(f"rtmlib could not get its models: {error}") from error
    return RtmlibPoses(body)
