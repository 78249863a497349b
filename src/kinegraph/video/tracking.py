"""Who is who from one picture to the next: persons keep their numbers while they are seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinegraph.video.estimators.base import Array, PoseFrame

MATCH_DISTANCE = 0.5  # mean distance of the joints, in body sizes, beyond which it is someone else
DISTANCE_GROWTH = 1.0  # body sizes a second by which that grows while a person is not seen
_NEVER = 1e6  # dearer than any distance


@dataclass(frozen=True)
class TrackedPose:
    """One person in one picture: number, joints (V, 2) in pixels, confidence (V,)."""

    person: int
    joints: Array
    confidence: Array


@dataclass
class _Track:
    """Someone seen lately; joints are the last sighting of each."""

    number: int
    joints: Array
    size: float
    time: float


class Tracker:
    """Gives the skeletons of pictures the numbers of the persons whom they belong to.

    Each picture's skeletons are matched with the persons seen lately, so that the distances of
    their joints, in body sizes, add up to the least (Kuhn 1955). Whoever is too far from everyone
    is new.

    Args:
        persons: the most that are followed at a time; of more, the largest.
        gap: seconds for which a person who is not seen is remembered.
    """

    def __init__(self, persons: int = 10, gap: float = 1.0) -> None:
        self.persons = persons
        self.gap = gap
        self._known: list[_Track] = []
        self._count = 0

    def __call__(self, frame: PoseFrame) -> list[TrackedPose]:
        """The persons of the next picture; numbers count from 1 and are never given again."""
        self._known = [k for k in self._known if frame.time - k.time <= self.gap]
        sizes = _sizes(frame)
        order = np.argsort(-sizes, kind="stable")
        order = order[sizes[order] > 0]
        taken = self._matched(frame, order)
        new = [int(m) for m in order if m not in taken][: self.persons - len(taken)]
        for m in sorted(new):
            self._count += 1
            taken[m] = _Track(self._count, frame.joints[m], 0.0, frame.time)
            self._known.append(taken[m])
        for m, known in taken.items():
            _update(known, frame.joints[m], float(sizes[m]), frame.time)
        return [TrackedPose(taken[m].number, frame.joints[m], frame.confidence[m]) for m in taken]

    def _matched(self, frame: PoseFrame, order: NDArray[np.intp]) -> dict[int, _Track]:
        """Row of the frame -> who it is."""
        if not self._known or not len(order):
            return {}
        from scipy.optimize import linear_sum_assignment

        cost = np.stack([_distances(known, frame.joints[order]) for known in self._known])
        limit = np.array(
            [MATCH_DISTANCE + DISTANCE_GROWTH * (frame.time - k.time) for k in self._known]
        )
        cost = np.where(cost <= limit[:, None], cost, _NEVER)
        pairs = zip(*linear_sum_assignment(cost), strict=True)
        found = {int(order[m]): self._known[k] for k, m in pairs if cost[k, m] < _NEVER}
        return dict(sorted(found.items(), key=lambda pair: pair[1].number)[: self.persons])


def _update(known: _Track, joints: Array, size: float, time: float) -> None:
    seen = ~np.isnan(joints[:, :1])
    known.joints = np.where(seen, joints, known.joints)
    # bodies do not shrink at once, but what is seen of them does
    known.size = max(size, 0.9 * known.size)
    known.time = time


def _sizes(frame: PoseFrame) -> Array:
    """(M,) the diagonals of the boxes around the skeletons, 0 where no joint is seen."""
    least = 1e-3 * max(frame.width, frame.height)
    sizes = np.zeros(len(frame.joints), np.float32)
    for m, own in enumerate(frame.joints):
        seen = own[~np.isnan(own[:, 0])]
        if len(seen):
            sizes[m] = max(float(np.linalg.norm(np.ptp(seen, axis=0))), least)
    return sizes


def _distances(known: _Track, joints: Array) -> NDArray[np.float64]:
    """(M,) mean distances of the joints (M, V, 2) from those of a person, in its sizes."""
    offset = np.linalg.norm(joints.astype(np.float64) - known.joints, axis=-1)
    shared = ~np.isnan(offset)
    total = np.where(shared, offset, 0).sum(axis=1)
    count = shared.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1) / known.size, _NEVER)
