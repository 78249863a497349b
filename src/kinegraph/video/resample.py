"""Resampling of poses at irregular times to the fixed frame rate that models are trained with."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from kinegraph.video.estimators.base import Array

MAX_GAP_S = 0.25
"""Time between detections up to which joints are interpolated linearly; in longer gaps they are
absent."""

TimedPose = tuple[float, Array, Array]  # seconds, joints (V, 2), confidence (V,)


class FrameResampler:
    """One person's joints at ``fps`` frames per second, interpolated between detections."""

    def __init__(self, fps: float) -> None:
        self.fps = fps
        self._last: TimedPose | None = None
        self._frames = 0

    @property
    def next_time(self) -> float:
        """Time of the next frame in seconds."""
        return self._frames / self.fps

    def __call__(
        self, time: float, joints: Array, confidence: Array
    ) -> Iterator[tuple[Array, Array]]:
        """Yield the frames (V, 2), (V,) of all times up to a detection.

        Callers must keep gaps between detections short: every frame of a gap is returned.
        """
        now = (time, joints, confidence)
        if self._last is None:
            self._frames = math.ceil(time * self.fps - 1e-6)
        before, self._last = self._last or now, now
        gap = time - before[0]
        while self.next_time <= time + 1e-6:
            share = (self.next_time - before[0]) / gap if gap > 0 else 1.0
            self._frames += 1
            yield self._interpolate(before, now, share)

    def _interpolate(
        self, before: TimedPose, after: TimedPose, share: float
    ) -> tuple[Array, Array]:
        _, joints, confidence = after if share >= 0.5 else before
        if after[0] - before[0] > MAX_GAP_S:
            if 1e-6 < share < 1 - 1e-6:
                return np.full_like(joints, np.nan), np.zeros_like(confidence)
            return joints, confidence
        mean = (1 - share) * before[1] + share * after[1]
        both = ~np.isnan(mean[:, 0])  # a joint of one detection only is copied from it
        sure = np.where(np.isnan(joints[:, 0]), 0, confidence)
        sure = np.where(both, (1 - share) * before[2] + share * after[2], sure)
        mean = np.where(both[:, None], mean, joints)
        return mean.astype(np.float32), sure.astype(np.float32)
