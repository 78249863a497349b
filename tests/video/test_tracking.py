"""Persons keep their numbers."""

from __future__ import annotations

import numpy as np
import pytest

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


def walker(seed: int, x: float, time: float) -> np.ndarray:
    """Joints (13, 2) of a person of 100 pixels who walks: limbs swing, the estimator is noisy."""
    rng = np.random.default_rng(seed)
    body = rng.uniform(0, (40, 90), (13, 2))
    swing = 8 * np.sin(6 * time + rng.uniform(0, 6, (13, 1))) * [1, 0.2]
    noise = np.random.default_rng((seed, round(1000 * time))).normal(0, 1.5, (13, 2))
    return (body + swing + noise + (x, 0)).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("speed", [80, 200])
@pytest.mark.parametrize("occlusion", [0.0, 0.3, 0.6])
def test_persons_who_cross_keep_their_numbers(seed, speed, occlusion):
    tracker, numbers = Tracker(), {"right": set(), "left": set()}
    for n in range(120):
        time = n / 30
        bodies = {
            "right": walker(2 * seed, speed * (time - 2), time),
            "left": walker(2 * seed + 1, speed * (2 - time), time),
        }
        if abs(time - 2) < occlusion / 2:
            del bodies["left"]  # behind the other
        joints = np.stack(list(bodies.values()))[:: (-1) ** n]
        tracked = tracker(PoseFrame(time, joints, np.ones(joints.shape[:2]), 640, 480))
        for pose in tracked:
            (who,) = (name for name, own in bodies.items() if np.array_equal(own, pose.joints))
            numbers[who].add(pose.person)
    assert len(numbers["right"]) == len(numbers["left"]) == 1
    assert numbers["right"] != numbers["left"]


def test_a_person_who_walks_is_found_where_the_walk_leads():
    tracker = Tracker()
    for n in range(30):
        tracker(frame(n / 30, (5 * n, 0)))
    assert numbers(tracker, frame(1.3, (205, 0))) == {205: 1}


def test_rare_frames_are_not_gaps():
    tracker = Tracker()
    for n in range(6):
        assert numbers(tracker, frame(n / 2, (0, 0), (20, 0))) == {0: 1, 20: 2}


def test_a_body_of_which_only_a_part_is_visible_for_a_while():
    tracker = Tracker()
    numbers(tracker, frame(0, (0, 0)))
    for n in range(1, 25):
        part = frame(n / 30, (6 * n, 0))
        part.joints[0, 3:] = np.nan
        assert [pose.person for pose in tracker(part)] == [1]
    rest = frame(25 / 30, (150, 0))
    rest.joints[0, :5] = np.nan  # none of those that were visible
    assert [pose.person for pose in tracker(rest)] == [1]


def test_after_a_gap_who_could_be_one_of_two_is_someone_new():
    tracker = Tracker()
    numbers(tracker, frame(0, (0, 0), (20, 0), (300, 0)))
    numbers(tracker, frame(0.4, (300, 0)))
    assert numbers(tracker, frame(0.5, (10, 0), (300, 0))) == {10: 4, 300: 3}
    tracker = Tracker()
    numbers(tracker, frame(0, (10, 0), (300, 0)))
    numbers(tracker, frame(0.4, (300, 0)))
    assert numbers(tracker, frame(0.5, (0, 0), (20, 0), (301, 0))) == {0: 3, 20: 4, 301: 2}


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
