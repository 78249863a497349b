"""The motion of a body: what counts, and what does not."""

from __future__ import annotations

import numpy as np
import pytest

from kinegraph.video.motion import STILL_MOTION, measure_motion

BODY = np.random.default_rng(0).uniform(0, 100, (13, 2))
TIMES = np.arange(90) / 30


def still(noise: float = 0.1) -> np.ndarray:
    """Frames (90, 13, 2) of a body that stands still, with the noise of an estimator in pixels."""
    return BODY + np.random.default_rng(1).normal(0, noise, (90, 13, 2))


def test_a_still_body_does_not_move():
    assert measure_motion(list(still())) < STILL_MOTION / 2
    assert measure_motion([BODY] * 90) == 0


def test_the_noise_of_single_frames_does_not_count():
    frames = still(noise=1.0)
    size = np.linalg.norm(np.ptp(BODY, axis=0))
    assert np.sqrt((frames.std(axis=0) ** 2).sum(axis=1)).min() > STILL_MOTION * size
    assert measure_motion(list(frames)) < STILL_MOTION


def test_one_limb_is_enough():
    frames = still()
    frames[:, 3, 0] += 10 * np.sin(2 * np.pi * TIMES)
    size = np.linalg.norm(np.ptp(BODY, axis=0))
    assert measure_motion(list(frames)) == pytest.approx(10 / np.sqrt(2) / size, rel=0.1)


def test_the_size_of_the_image_does_not_matter():
    frames = still()
    frames[:, 3, 0] += 10 * np.sin(2 * np.pi * TIMES)
    assert measure_motion(list(7 * frames)) == pytest.approx(measure_motion(list(frames)))


def test_a_camera_that_moves_does_not_count():
    frames = still() + 200 * TIMES[:, None, None]
    assert measure_motion(list(frames)) < STILL_MOTION / 2
    frames[20:60, 5] = np.nan  # a joint that is hidden for a while
    frames[70] = np.nan  # a frame without the person
    assert measure_motion(list(frames)) < STILL_MOTION / 2


def test_joints_that_are_seldom_visible_do_not_count():
    frames = still()
    frames[:, 3] = np.nan
    frames[::9, 3] = np.random.default_rng(2).uniform(0, 100, (10, 2))
    assert measure_motion(list(frames)) < STILL_MOTION / 2
    assert measure_motion([np.full((13, 2), np.nan)] * 5) == 0
