"""Body selection on synthetic bodies, and on the real recording of two persons."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from conftest import real_data
from kinegraph.errors import UnknownNameError
from kinegraph.readers.ntu.body_selection import PERSON_RULES, motion_energy, select_bodies
from kinegraph.readers.ntu.skeleton_file import BodyDetections, SkeletonRecording, read_skeleton
from skeleton_recording import recording_from_joints

T = 30


def person(seed: int, amount: float, frames: int = T) -> NDArray[np.float64]:
    """A standing body (taller than wide) that sways by `amount` metres."""
    rng = np.random.default_rng(seed)
    body = rng.uniform(-0.2, 0.2, size=(25, 3))
    body[:, 2] += 3
    body[:, 1] = np.linspace(-0.8, 0.8, 25)
    sway = amount * np.sin(np.arange(frames) / 3 + seed)
    # rounded, so that a recording, which keeps the shortest text of float32, gives the same numbers
    return (body + sway[:, None, None] * [0.3, 0.1, 0.3]).round(4)


def recording(*persons: NDArray[np.float64]) -> BodyDetections:
    return recording_from_joints(np.stack(persons)).detections


def only(joints: NDArray[np.float64], frames: slice) -> NDArray[np.float64]:
    kept = np.full_like(joints, np.nan)
    kept[frames] = joints[frames]
    return kept


def test_the_real_pair_swaps_by_energy() -> None:
    real = read_skeleton(real_data("ntu_samples") / "S001C003P008R002A058.skeleton").detections
    as_filed = select_bodies(real, "stgcn")
    assert [round(motion_energy(p), 3) for p in as_filed] == [0.704, 0.809]
    for rule in ("agcn", "tracks", "ctrgcn"):
        np.testing.assert_array_equal(select_bodies(real, rule), as_filed[::-1])


def test_energy_counts_seen_frames_only() -> None:
    joints = person(1, 1.0)
    wanted = sum(joints[..., c].std() for c in range(3))
    assert motion_energy(joints) == pytest.approx(wanted)
    assert motion_energy(np.concatenate([joints, np.full((5, 25, 3), np.nan)])) == pytest.approx(
        wanted
    )
    assert motion_energy(np.full((5, 25, 3), np.nan)) == 0


@pytest.mark.parametrize("rule", PERSON_RULES)
def test_one_person_stays_one(rule: str) -> None:
    joints = person(1, 1.0)
    np.testing.assert_array_equal(select_bodies(recording(joints), rule), joints[None])


@pytest.mark.parametrize("rule", PERSON_RULES)
def test_frames_without_bodies_give_no_person(rule: str) -> None:
    assert select_bodies(SkeletonRecording([[], []]).detections, rule).size == 0
    assert select_bodies(SkeletonRecording([]).detections, rule).size == 0


@pytest.mark.parametrize("rule", PERSON_RULES)
def test_no_more_persons_than_asked_for(rule: str) -> None:
    crowd = recording(*(person(seed, 0.5 + seed) for seed in range(5)))
    assert len(select_bodies(crowd, rule)) == 2
    assert len(select_bodies(crowd, rule, max_persons=1)) == 1


def test_joint_at_the_sensor_or_infinite_is_absent() -> None:
    joints = person(1, 1.0)
    joints[3, 7] = 0
    joints[4, 8, 1] = np.inf
    absent = np.isnan(select_bodies(recording(joints), "tracks")[0]).all(axis=-1)
    assert np.argwhere(absent).tolist() == [[3, 7], [4, 8]]


def test_stgcn_takes_the_order_of_the_file_per_frame() -> None:
    early, late = only(person(1, 1.0), slice(0, 10)), only(person(2, 1.0), slice(5, T))
    chosen = select_bodies(recording(early, late), "stgcn")
    np.testing.assert_array_equal(chosen[0, :10], early[:10])
    np.testing.assert_array_equal(chosen[0, 10:], late[10:])  # who comes first takes the place
    np.testing.assert_array_equal(chosen[1, 5:10], late[5:10])
    assert np.isnan(chosen[1, 10:]).all()


def test_tracks_keep_identities_apart() -> None:
    early, late = only(person(1, 1.0), slice(0, 10)), only(person(2, 3.0), slice(5, T))
    chosen = select_bodies(recording(early, late), "tracks")
    np.testing.assert_array_equal(chosen, np.stack([late, early]))


def test_tracks_keep_frames_without_bodies() -> None:
    joints = person(1, 1.0)
    joints[10:12] = np.nan
    chosen = select_bodies(recording(joints), "tracks")
    np.testing.assert_array_equal(chosen, joints[None])


def test_agcn_considers_four_bodies_by_order() -> None:
    persons = [person(seed, amount) for seed, amount in enumerate((0.1, 2, 0.2, 3, 9))]
    chosen = select_bodies(recording(*persons), "agcn")
    energies = [motion_energy(p) for p in persons[:4]]
    best = np.argsort(energies)[::-1][:2]
    np.testing.assert_array_equal(chosen, np.stack([persons[i] for i in best]))
    assert motion_energy(persons[4]) > max(energies)  # the fifth was not looked at


def variance(joints: NDArray[np.float64]) -> float:
    return float(sum(joints[..., c].var() for c in range(3)))


def test_ctrgcn_drops_short_bodies() -> None:
    main = person(1, 1.0)
    short, long_enough = only(person(2, 9.0), slice(0, 11)), only(person(2, 9.0), slice(0, 12))
    assert len(select_bodies(recording(main, short), "ctrgcn")) == 1
    chosen = select_bodies(recording(main, long_enough), "ctrgcn")
    np.testing.assert_array_equal(chosen, np.stack([long_enough, main]))


def test_ctrgcn_keeps_the_longest_where_all_are_short() -> None:
    one, two = only(person(1, 1.0), slice(0, 5)), only(person(2, 1.0), slice(0, 9))
    np.testing.assert_array_equal(
        select_bodies(recording(one, two), "ctrgcn"), person(2, 1.0)[None, :9]
    )


def wide(joints: NDArray[np.float64], frames: slice) -> NDArray[np.float64]:
    """The body lies on its side, as noise such as furniture does."""
    turned = joints.copy()
    turned[frames] = turned[frames][..., [1, 0, 2]]
    return turned


def test_ctrgcn_drops_bodies_that_are_mostly_wide() -> None:
    main, noise = person(1, 1.0), wide(person(2, 9.0), slice(0, 21))  # 21 of 30 = 0.70
    np.testing.assert_array_equal(select_bodies(recording(main, noise), "ctrgcn"), main[None])
    np.testing.assert_array_equal(select_bodies(recording(noise), "ctrgcn"), noise[None])


def test_ctrgcn_never_drops_the_last_body() -> None:
    one, two = wide(person(1, 1.0), slice(0, T)), wide(person(2, 1.0), slice(0, T))
    np.testing.assert_array_equal(select_bodies(recording(one, two), "ctrgcn"), two[None])


def test_ctrgcn_motion_ignores_wide_frames() -> None:
    calm = wide(person(1, 0.2), slice(0, 20))  # 20 of 30 = 0.67: stays, by its good frames
    calm[:20] += [30, 0, 0]
    calm = calm.round(4)
    lively = person(2, 3.0)
    assert variance(calm) > variance(lively) > variance(calm[20:])
    chosen = select_bodies(recording(calm, lively), "ctrgcn")
    np.testing.assert_array_equal(chosen, np.stack([lively, calm]))


def test_ctrgcn_merges_bodies_that_follow_each_other() -> None:
    first, second = only(person(1, 3.0), slice(0, 14)), only(person(2, 1.0), slice(14, T))
    other = person(3, 2.0)
    chosen = select_bodies(recording(first, second, other), "ctrgcn")
    assert len(chosen) == 2
    np.testing.assert_array_equal(chosen[0, :14], first[:14])
    np.testing.assert_array_equal(chosen[0, 14:], second[14:])
    np.testing.assert_array_equal(chosen[1], other)


def test_ctrgcn_leaves_out_empty_frames() -> None:
    joints = person(1, 1.0)
    joints[10:14] = np.nan
    chosen = select_bodies(recording(joints), "ctrgcn")
    np.testing.assert_array_equal(chosen[0], np.delete(joints, slice(10, 14), axis=0))


def test_ctrgcn_faithful_closes_the_gaps_of_a_track() -> None:
    there = person(1, 1.0)
    away = person(2, 9.0)
    away[6:16] = np.nan
    loose = select_bodies(recording(there, away), "ctrgcn")
    closed = select_bodies(recording(there, away), "ctrgcn", faithful=True)
    np.testing.assert_array_equal(loose, np.stack([away, there]))
    np.testing.assert_array_equal(closed[0, :20], np.delete(away, slice(6, 16), axis=0))
    assert np.isnan(closed[0, 20:]).all()


def test_ctrgcn_faithful_second_actor_is_present_from_the_start() -> None:
    main = person(1, 9.0, 60)
    late = only(person(2, 4.0, 60), slice(40, 60))
    early = only(person(3, 1.0, 60), slice(0, 20))
    fixed = select_bodies(recording(main, late, early), "ctrgcn")
    slip = select_bodies(recording(main, late, early), "ctrgcn", faithful=True)
    np.testing.assert_array_equal(fixed[1, :20], early[:20])
    np.testing.assert_array_equal(fixed[1, 40:], late[40:])
    assert np.isnan(slip[1, :40]).all()


def test_pyskl_keeps_empty_frames_between_others() -> None:
    first, second = person(1, 9.0), person(2, 4.0)
    second[:2] = np.nan
    chosen = select_bodies(recording(first, second), "pyskl")
    assert chosen.shape[:2] == (2, len(first))
    np.testing.assert_array_equal(chosen[0], first)


def test_pyskl_puts_the_actor_first_who_is_there_in_the_beginning() -> None:
    lively, calm = person(1, 9.0), person(2, 1.0)
    lively[:4] = np.nan
    assert np.isnan(select_bodies(recording(lively, calm), "ctrgcn")[0, 0]).all()
    chosen = select_bodies(recording(lively, calm), "pyskl")
    np.testing.assert_array_equal(chosen, np.stack([calm, lively]))


def test_unknown_rule() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown person selection 'track' .*'tracks'"):
        select_bodies(SkeletonRecording([]).detections, "track")
