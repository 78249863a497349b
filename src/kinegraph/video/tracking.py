"""Tracking: person numbers that stay the same from frame to frame."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kinegraph.video.estimators.base import DEFAULT_PEOPLE, Array, PoseFrame
from kinegraph.video.resample import MAX_GAP_S

MATCH_DISTANCE = 0.5  # largest mean distance of joints to a track, in body sizes
DISTANCE_GROWTH = 0.5  # growth of that distance per second in which a person is not visible
MIN_LEAD = 0.15  # distance by which a person after a gap must be nearer than any other
VELOCITY_MEMORY_S = 0.15
SIZE_DECAY = 0.98  # largest factor by which a body shrinks from one detection to the next
MAX_EXTRAPOLATION_S = 0.5  # how long a person who is not visible is expected to keep moving
_NO_MATCH = 1e6  # cost above any distance


@dataclass(frozen=True)
class TrackedPose:
    """One person in one frame: number, joints (V, 2) in pixels, confidence (V,)."""

    person: int
    joints: Array
    confidence: Array


@dataclass
class _Track:
    """A person seen recently; joints that are not visible move on with the others.

    The velocity (2,) is in pixels per second.
    """

    number: int
    joints: Array
    size: float
    time: float
    velocity: Array = field(default_factory=lambda: np.zeros(2, np.float32))

    def predict(self, time: float) -> Array:
        """Return the joints where they would be if the person moved on evenly."""
        return self.joints + self.velocity * min(time - self.time, MAX_EXTRAPOLATION_S)

    def update(self, joints: Array, size: float, time: float) -> None:
        """Add a detection."""
        moved = joints - self.joints
        shared = ~np.isnan(moved[:, 0])
        shift = np.median(moved[shared], axis=0) if shared.any() else np.zeros(2, np.float32)
        elapsed = time - self.time
        if shared.any() and elapsed > 0:
            share = np.float32(1 - math.exp(-elapsed / VELOCITY_MEMORY_S))
            self.velocity = (1 - share) * self.velocity + share * shift / np.float32(elapsed)
        self.joints = np.where(np.isnan(joints[:, :1]), self.joints + shift, joints)
        # the visible part of a body can shrink at once, the body cannot
        self.size = max(size, SIZE_DECAY * self.size)
        self.time = time


class Tracker:
    """Assigns person numbers to the skeletons of consecutive frames.

    The skeletons of a frame are matched to the recent tracks, each where it would be if it moved
    on evenly, so that the sum of the distances of their joints, in body sizes, is minimal (Kuhn
    1955). A skeleton too far from every track starts a new one. So does a skeleton after a gap
    that could be one of two persons.

    Args:
        persons: maximum number of persons tracked at a time; the largest ones are kept.
        gap: seconds after which a person who is not visible is forgotten.
    """

    def __init__(self, persons: int = DEFAULT_PEOPLE, gap: float = 1.0) -> None:
        self.persons = persons
        self.gap = gap
        self._tracks: list[_Track] = []
        self._count = 0
        self._time = -math.inf  # of the last frame

    def __call__(self, frame: PoseFrame) -> list[TrackedPose]:
        """Return the persons of the next frame; numbers start at 1 and are never reused."""
        self._tracks = [k for k in self._tracks if frame.time - k.time <= self.gap]
        sizes = _measure_sizes(frame)
        order = np.argsort(-sizes, kind="stable")
        order = order[sizes[order] > 0]
        taken = self._match(frame, order)
        self._time = frame.time
        new = [int(m) for m in order if m not in taken][: self.persons - len(taken)]
        for m in sorted(new):
            self._count += 1
            taken[m] = _Track(self._count, frame.joints[m], 0.0, frame.time)
            self._tracks.append(taken[m])
        for m, track in taken.items():
            track.update(frame.joints[m], float(sizes[m]), frame.time)
        return [TrackedPose(taken[m].number, frame.joints[m], frame.confidence[m]) for m in taken]

    def _match(self, frame: PoseFrame, order: NDArray[np.intp]) -> dict[int, _Track]:
        """Return the tracks by row of the frame."""
        if not self._tracks or not len(order):
            return {}
        from scipy.optimize import linear_sum_assignment

        found = frame.joints[order]
        cost = np.stack([_distances(track, found, frame.time) for track in self._tracks])
        hidden = np.array([frame.time - track.time for track in self._tracks])
        limit = MATCH_DISTANCE + DISTANCE_GROWTH * hidden
        cost = np.where(cost <= limit[:, None], cost, _NO_MATCH)
        pairs = [
            pair
            for pair in zip(*linear_sum_assignment(cost), strict=True)
            if cost[pair] < _NO_MATCH
        ]
        lost = hidden > max(MAX_GAP_S, frame.time - self._time)
        cost[:, [m for k, m in pairs if not lost[k]]] = _NO_MATCH  # these are not rivals
        sure = [pair for pair in pairs if not lost[pair[0]] or _has_lead(cost, lost, *pair)]
        matched = {int(order[m]): self._tracks[k] for k, m in sure}
        return dict(sorted(matched.items(), key=lambda pair: pair[1].number)[: self.persons])


def _has_lead(cost: NDArray[np.float64], lost: NDArray[np.bool_], k: int, m: int) -> bool:
    """Return whether a lost track and a skeleton fit each other better than any of the others."""
    others = np.concatenate([np.delete(cost[:, m], k)[np.delete(lost, k)], np.delete(cost[k], m)])
    return bool((others >= cost[k, m] + MIN_LEAD).all())


def _measure_sizes(frame: PoseFrame) -> Array:
    """Return (M,) diagonals of the skeletons' bounding boxes, 0 without visible joints."""
    least = 1e-3 * max(frame.width, frame.height)
    sizes = np.zeros(len(frame.joints), np.float32)
    for m, own in enumerate(frame.joints):
        seen = own[~np.isnan(own[:, 0])]
        if len(seen):
            sizes[m] = max(float(np.linalg.norm(np.ptp(seen, axis=0))), least)
    return sizes


def _distances(track: _Track, joints: Array, time: float) -> NDArray[np.float64]:
    """Return (M,) mean distances of joints (M, V, 2) from a track, in body sizes."""
    offset = np.linalg.norm(joints.astype(np.float64) - track.predict(time), axis=-1)
    shared = ~np.isnan(offset)
    total = np.where(shared, offset, 0).sum(axis=1)
    count = shared.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1) / track.size, _NO_MATCH)
