"""Sightings at odd times as frames of an even rate, which is what models have learned from."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from kinegraph.video.estimators.base import Array

Frame = tuple[Array, Array]


class FrameResampler:
    """One person's joints at every tick of a clock, between the sightings before and after.

    Args:
        fps: ticks a second.
        bridge: seconds between sightings up to which the joints are taken to have moved evenly;
            in longer gaps nobody is there.
    """

    def __init__(self, fps: float, max_gap: float = 0.25) -> None:
        self.fps = fps
        self.max_gap = max_gap
        self._last: tuple[float, Frame] | None = None
        self._tick = 0

    @property
    def time(self) -> float:
        """When the next tick is, in seconds."""
        return self._tick / self.fps

    def __call__(self, time: float, joints: Array, confidence: Array) -> Iterator[Frame]:
        """The frames (V, 2), (V,) of all ticks up to a sighting.

        Whoever gives sightings sees to it that the gaps between them are short.
        """
        now = (joints, confidence)
        last = self._last
        self._last = (time, now)
        if last is None:
            self._tick = math.ceil(time * self.fps - 1e-6)
        start, before = last or (time, now)
        while self.time <= time + 1e-6:
            share = (self.time - start) / (time - start) if time > start else 1.0
            self._tick += 1
            yield self._between(before, now, share, time - start)

    def _between(self, before: Frame, after: Frame, share: float, gap: float) -> Frame:
        near = after if share >= 0.5 else before
        if gap > self.max_gap:
            if share > 1e-6 and share < 1 - 1e-6:
                return np.full_like(near[0], np.nan), np.zeros_like(near[1])
            return near
        joints = (1 - share) * before[0] + share * after[0]
        confidence = (1 - share) * before[1] + share * after[1]
        both = ~np.isnan(joints[:, 0])  # a joint seen only once is where it was seen
        joints = np.where(both[:, None], joints, near[0])
        confidence = np.where(both, confidence, np.where(np.isnan(near[0][:, 0]), 0, near[1]))
        return joints.astype(np.float32), confidence.astype(np.float32)
