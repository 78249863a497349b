"""Even frames of uneven sightings."""

from __future__ import annotations

import numpy as np
import pytest

from kinegraph.video.resample import FrameResampler


def ticks(clock: FrameResampler, *sightings: tuple[float, float]) -> list[float]:
    """x of the only joint at each tick; a sighting is (time, x)."""
    found = []
    for time, x in sightings:
        joints = np.array([[x, 0.0]], np.float32)
        joints[np.isnan(joints).any(axis=1)] = np.nan
        made = list(clock(time, joints, np.ones(1, np.float32)))
        assert all(sure[0] == (0 if np.isnan(j[0, 0]) else 1) for j, sure in made)
        found += [float(j[0, 0]) for j, _ in made]
    return found


@pytest.mark.parametrize("fps", [12, 25, 30, 50, 60])
def test_a_moving_joint_is_where_it_was_at_every_tick(fps):
    sightings = [(n / fps, 3.0 * n / fps) for n in range(2 * fps + 1)]
    assert ticks(FrameResampler(30), *sightings) == pytest.approx([3 * n / 30 for n in range(61)])


def test_dropped_frames_are_bridged_up_to_a_limit():
    found = ticks(FrameResampler(10), (0, 0), (0.2, 2), (0.7, 7))
    assert found[:3] == pytest.approx([0, 1, 2])
    assert np.isnan(found[3:7]).all() and found[7] == 7


def test_a_joint_that_is_seen_once_is_where_it_was_seen():
    found = ticks(FrameResampler(10), (0, 5), (0.2, np.nan), (0.4, 9))
    assert found[0] == 5
    assert np.isnan(found[2]) and found[4] == 9


def test_the_first_tick_is_that_of_the_first_sighting():
    clock = FrameResampler(10)
    assert ticks(clock, (7.01, 1), (7.1, 1.9)) == pytest.approx([1.9])
    assert clock.next_time == pytest.approx(7.2)
