"""Persons keep their numbers."""

from __future__ import annotations

import numpy as np

from kinegraph.video.estimators.base import PoseFrame
from kinegraph.video.tracking import Tracker

BODY = np.random.default_rng(0).integers(0, 40, (13, 2)).astype(np.float32)


def frame(time: float, *places: tuple[float, float], size: float = 1.0) -> PoseFrame:
    joints = np.array([size * BODY + np.float32(place) for place in places], np.float32)
    joints = joints.reshape(-1, 13, 2)
    return PoseFrame(time, joints, np.ones(joints.shape[:2], np.float32), 640, 480)


def numbers(tracker: Tracker, given: PoseFrame) -> dict[float, int]:
    """Left edge of each skeleton -> its number."""
    return {round(float(s.joints[0, 0] - BODY[0, 0])): s.person for s in tracker(given)}


def test_numbers_stay_whatever_the_order():
    tracker = Tracker()
    assert numbers(tracker, frame(0, (0, 0), (300, 0))) == {0: 1, 300: 2}
    assert numbers(tracker, frame(0.03, (305, 0), (5, 0))) == {5: 1, 305: 2}


def test_crossing_persons_are_matched_together_not_one_by_one():
    tracker = Tracker()
    numbers(tracker, frame(0, (0, 0), (24, 0)))
    # the nearest to where the first was is the second; together it is cheaper as it was
    assert numbers(tracker, frame(0.03, (14, 0), (38, 0))) == {14: 1, 38: 2}


def test_short_gaps_are_bridged_and_long_ones_are_not():
    tracker = Tracker(gap=1.0)
    numbers(tracker, frame(0, (0, 0)))
    assert numbers(tracker, frame(0.4)) == {}
    assert numbers(tracker, frame(0.9, (10, 0))) == {10: 1}
    assert numbers(tracker, frame(2.0, (10, 0))) == {10: 2}


def test_who_appears_elsewhere_is_someone_else():
    tracker = Tracker()
    numbers(tracker, frame(0, (0, 0)))
    assert numbers(tracker, frame(0.03, (200, 0))) == {200: 2}


def test_joints_that_are_not_seen_do_not_count():
    tracker = Tracker()
    numbers(tracker, frame(0, (0, 0), (60, 0)))
    half = frame(0.03, (1, 0), (61, 0))
    half.joints[0, 4:] = np.nan
    half.joints[1, :9] = np.nan
    assert [s.person for s in tracker(half)] == [1, 2]
    gone = frame(0.06, (2, 0), (62, 0))
    gone.joints[1] = np.nan
    assert [s.person for s in tracker(gone)] == [1]


def test_only_so_many_are_followed_the_largest_first():
    tracker = Tracker(persons=2)
    small, large = frame(0, (0, 0), (100, 0)), frame(0, (300, 0), size=2)
    joints = np.concatenate([small.joints, large.joints])
    crowd = PoseFrame(0, joints, np.ones(joints.shape[:2], np.float32), 640, 480)
    seen = tracker(crowd)
    assert len(seen) == 2
    assert max(float(np.ptp(s.joints[:, 0])) for s in seen) > 60
    later = PoseFrame(0.03, joints, crowd.confidence, 640, 480)
    assert sorted(s.person for s in tracker(later)) == [1, 2]


def test_what_is_remembered_is_bounded():
    tracker = Tracker(persons=3)
    for t in range(200):
        tracker(frame(t / 10, *((float(x), 0.0) for x in range(t % 7, 2000, 150))))
    assert len(tracker._tracks) <= 3 * 12  # those of the last second
