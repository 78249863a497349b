"""Repetition counting: constructed motions whose count is known."""

from __future__ import annotations

import numpy as np
import pytest

from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError
from kinegraph.inference.counting import RepetitionCounter, count_repetitions
from kinegraph.readers.synthetic.body import LEFT, RIGHT, BodyProportions, Pose
from kinegraph.skeleton.layouts import get_layout
from kinegraph.transforms.convert_layout import convert_layout

FPS = 30
LAYOUT = get_layout("ntu25")


def phases(*seconds: float, fps: float = FPS) -> np.ndarray:
    """Return (T,) from 0 to 1 and back, once for each duration."""
    spans = [np.arange(round(s * fps)) / round(s * fps) for s in seconds]
    return np.concatenate([0.5 - 0.5 * np.cos(2 * np.pi * span) for span in spans])


def still(seconds: float) -> np.ndarray:
    """Return (T,) of a body that stands."""
    return np.zeros(round(seconds * FPS))


def squat(down: np.ndarray) -> np.ndarray:
    """Return joints (T, 25, 3) of a body whose hips go down by shares (T,) of its height."""
    pose = Pose(BodyProportions(), len(down))
    pose.root[:, 1] -= 0.45 * pose.body.hip_height * down
    pose.lean += 0.5 * down
    for side in (LEFT, RIGHT):
        ahead = pose.reach(side, -0.1, 0.1, 0.85)
        pose.hands[side] += down[:, None] * (ahead - pose.hands[side])
    return pose.joints()


def raise_arm(up: np.ndarray, side: int = RIGHT) -> np.ndarray:
    """Return joints of a body that raises one arm sideways."""
    pose = Pose(BodyProportions(), len(up))
    angle = np.pi * up
    pose.hands[side] = pose.reach(side, 0.15 + 0.8 * np.sin(angle), -0.9 * np.cos(angle), 0.08)
    return pose.joints()


def walk(seconds: float, speed: float = 1.3) -> np.ndarray:
    """Return joints of a body that walks ahead with swinging arms and legs."""
    time = np.arange(round(seconds * FPS)) / FPS
    pose = Pose(BodyProportions(), len(time))
    for side, sign in ((LEFT, -1), (RIGHT, 1)):
        swing = sign * np.sin(2 * np.pi * time)
        pose.ankles[side, :, 2] += 0.3 * swing
        pose.ankles[side, :, 1] += 0.06 * np.maximum(0, sign * np.cos(2 * np.pi * time))
        pose.hands[side, :, 2] -= 0.2 * swing
    joints = pose.joints()
    joints[..., 2] -= speed * time[:, None]
    return joints


def add_noise(joints: np.ndarray, size: float, seed: int = 0) -> np.ndarray:
    """Return joints with noise of a standard deviation in meters."""
    return joints + np.random.default_rng(seed).normal(0, size, joints.shape)


def count(joints: np.ndarray, fps: float = FPS, layout=LAYOUT):
    """Return the repetitions of one person."""
    (result,) = count_repetitions(Clip(joints[None].astype(np.float32), layout, fps=fps))
    return result


@pytest.mark.parametrize("period", [0.8, 1.5, 3, 7])
@pytest.mark.parametrize("movement", [squat, raise_arm])
def test_periodic_movements_are_counted(movement, period):
    for number in (1, 2, 5):
        joints = movement(phases(*[period] * number))
        assert count(add_noise(joints, 0.01)).count == number


def test_the_tempo_may_change_and_pauses_may_be_long():
    parts = [still(3), phases(1, 1), still(12), phases(2.5), still(1), phases(1.2, 4), still(2)]
    result = count(add_noise(squat(np.concatenate(parts)), 0.01))
    assert result.count == 5
    starts = np.array([one.start for one in result.repetitions])
    assert all(one.end > one.start for one in result.repetitions)
    assert (np.diff(starts) > 0).all()
    assert starts[2] > 16 - 1  # after the pause


def test_a_long_hold_at_the_turning_point_is_one_repetition():
    half = phases(2)
    hold = np.concatenate([half[:30], np.ones(6 * FPS), half[30:]])
    assert count(squat(np.concatenate([half, hold, half, half]))).count == pytest.approx(4, abs=1)


@pytest.mark.parametrize("start", [0.25, 0.5, 0.75])
def test_a_recording_may_start_anywhere_in_the_movement(start):
    down = phases(*[2] * 6)[round(start * 2 * FPS) :]
    assert abs(count(squat(down)).count - 5) <= 1


def test_drift_and_distance_do_not_matter():
    joints = squat(phases(*[2] * 6))
    drift = np.linspace(0, 1, len(joints))[:, None, None] * [0.5, 0, 0.5]
    assert count(joints + drift).count == 6
    assert count(joints * 100 + [0, 0, 500]).count == 6


def test_joints_of_an_image_and_other_layouts_are_counted():
    joints = squat(phases(*[2] * 4)).astype(np.float32)
    image = (300 - 100 * joints[..., :2])[None]
    clip = Clip(image, LAYOUT, fps=FPS)
    for layout in ("coco17", "openpose18", "penn13"):
        (result,) = count_repetitions(convert_layout(clip, get_layout(layout)))
        assert result.count == 4, layout


def test_partial_repetitions_are_not_counted_but_reported_with_their_fraction():
    down = np.concatenate([phases(2, 2), 0.35 * phases(2), phases(2), 0.4 * phases(2), phases(2)])
    result = count(squat(down))
    assert result.count == 4
    assert len(result.partial) == 2
    assert [one.fraction for one in result.partial] == pytest.approx([0.35, 0.4], abs=0.1)
    assert 4 < result.partial[0].end <= 6.1


def test_a_small_movement_before_the_first_repetition_is_partial():
    result = count(squat(np.concatenate([0.4 * phases(2), phases(2, 2, 2)])))
    assert (result.count, len(result.partial)) == (3, 1)


@pytest.mark.parametrize("seed", range(3))
def test_standing_is_not_counted(seed):
    rng = np.random.default_rng(seed)
    sway = np.cumsum(rng.normal(0, 0.001, (40 * FPS, 1, 3)), axis=0)
    assert count(add_noise(squat(still(40)), 0.015, seed) + sway).count == 0


@pytest.mark.parametrize("speed", [0.7, 1.3])
def test_walking_about_is_not_counted(speed):
    assert count(add_noise(walk(12, speed), 0.01)).count == 0


def test_walking_before_and_after_an_exercise_adds_nothing():
    away = walk(5)
    there = np.array([0, 0, away[-1, 0, 2]])
    joints = np.concatenate([away, squat(phases(*[2] * 4)) + there, away + there])
    assert count(add_noise(joints, 0.01)).count in (3, 4)  # the first begins as the last step ends


def test_alternating_sides_are_all_counted():
    both = np.concatenate([raise_arm(phases(2), LEFT), raise_arm(phases(2), RIGHT)] * 3)
    result = count(both)
    assert result.count == 6
    assert [one.kind for one in result.repetitions] == [1, 2] * 3


def test_one_gesture_beside_repetitions_is_not_counted():
    joints = np.concatenate([squat(phases(2, 2, 2)), raise_arm(phases(2)), squat(phases(2))])
    assert count(joints).count == 4


def test_absent_joints_and_short_gaps_do_not_matter():
    joints = add_noise(squat(phases(*[2] * 5)), 0.01)
    rng = np.random.default_rng(0)
    joints[rng.random(joints.shape[:2]) < 0.3] = np.nan
    joints[:, LAYOUT.index("left_ankle")] = np.nan
    joints[100:106] = np.nan
    assert count(joints).count == 5


def test_an_absent_person_has_no_repetitions_and_a_long_gap_loses_one_at_most():
    joints = squat(phases(*[2] * 6))
    joints[130:190] = np.nan  # of the third and the fourth repetition
    assert count(joints).count in (4, 5)
    assert count(np.full((90, 25, 3), np.nan)).count == 0


def test_each_person_of_a_clip_is_counted():
    first, second = squat(phases(*[2] * 3)), raise_arm(phases(*[1.2] * 5))
    joints = np.stack([first, second, np.full_like(first, np.nan)]).astype(np.float32)
    results = count_repetitions(Clip(joints, LAYOUT, fps=FPS))
    assert [result.count for result in results] == [3, 5, 0]


@pytest.mark.parametrize("fps", [10, 15, 60])
def test_the_frame_rate_does_not_matter(fps):
    joints = squat(phases(*[2] * 4, fps=fps))
    result = count(joints, fps)
    assert result.count == 4
    assert result.repetitions[-1].end == pytest.approx(8, abs=1)


def test_frame_by_frame_the_count_only_rises_and_ends_as_offline():
    down = np.concatenate([still(1), phases(2, 2), 0.4 * phases(2), still(2), phases(1.5, 1.5)])
    joints = add_noise(squat(down), 0.01).astype(np.float32)
    counter = RepetitionCounter(FPS)
    counts = [counter.push(frame) for frame in joints]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert {0, 2, 3, 4} == {*counts}
    assert counter.result() == count(joints)
    assert counter.count == counts[-1]


def test_the_first_repetition_alone_counts_at_the_end_only():
    counter = RepetitionCounter(FPS)
    for frame in squat(phases(2)):
        counter.push(frame)
    assert (counter.count, counter.result().count) == (0, 1)


def test_repetitions_between_two_times():
    result = count(squat(phases(*[2] * 5)))
    assert [result.between(0, 4), result.between(4, 10), result.between(0, 10)] == [2, 3, 5]


def test_wrong_frames_and_rates_are_errors():
    with pytest.raises(ClipError, match="frame rate"):
        RepetitionCounter(0)
    counter = RepetitionCounter()
    counter.push(np.zeros((25, 3)))
    with pytest.raises(ClipError, match="shape"):
        counter.push(np.zeros((17, 3)))
