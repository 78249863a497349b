"""Choosing persons, hiding joints, filling gaps."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.readers.ntu.reader import READER
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.transforms.visibility import (
    copy_single_person,
    fill_missing,
    forget_confidence,
    hold_missing,
    mask_confidence,
    nearest_valid_frames,
    persons,
    zero_missing,
)

POINT = SkeletonLayout("point", ("a",), (), 0)
NAN = float("nan")


def line(*rows: object, confidence: object = None) -> Clip:
    """One joint of one coordinate: (M, T) values."""
    sure = None if confidence is None else np.asarray(confidence, dtype=np.float32)[..., None]
    joints = np.asarray(rows, dtype=np.float32)[..., None, None]
    return Clip(joints, POINT, confidence=sure)


def values(made: Clip) -> list[object]:
    return made.joints[..., 0, 0].tolist()


def test_persons_by_energy_puts_the_mover_first_and_the_unseen_last() -> None:
    clip = line([NAN, NAN], [1, 1], [0, 9], [2, 5])
    assert values(persons(clip, None)) == [[0, 9], [2, 5]]
    np.testing.assert_array_equal(
        values(persons(clip, None, max_persons=9)), [[0, 9], [2, 5], [1, 1], [NAN, NAN]]
    )


def test_energy_of_a_real_recording() -> None:
    # stated for the sample with two bodies: 0.704 and 0.809, so that the second becomes the first
    path = real_data("ntu_samples/S001C003P008R002A058.skeleton")
    (task,) = READER.scan(path).tasks
    (clip,) = READER.read(task)
    ordered = persons(clip, None).joints
    energies = [person.reshape(-1, 3).std(axis=0).sum() for person in ordered]
    np.testing.assert_allclose(energies, [0.809, 0.704], atol=1e-3)


def test_persons_by_order_and_by_confidence() -> None:
    clip = line([1, 2], [3, 4], [5, NAN], confidence=[[0.1, 0.1], [0.5, 0.5], [0.8, 0.9]])
    assert values(persons(clip, None, by="order", max_persons=1)) == [[1, 2]]
    assert values(persons(clip, None, by="confidence", max_persons=1)) == [[3, 4]]


def test_persons_ranked_anew_in_each_frame() -> None:
    clip = line([1, 2], [3, 4], confidence=[[0.9, 0.1], [0.2, 0.8]])
    ranked = persons(clip, None, by="confidence", each_frame=True)
    assert values(ranked) == [[1, 4], [3, 2]]
    np.testing.assert_allclose(ranked.confidence[..., 0], [[0.9, 0.8], [0.2, 0.1]])
    with pytest.raises(TransformError, match="each_frame needs by='confidence', got by='energy'"):
        persons(clip, None, each_frame=True)


def test_confidence_is_needed_where_it_is_asked_for() -> None:
    for call in (lambda c: persons(c, None, by="confidence"), lambda c: mask_confidence(c, None)):
        with pytest.raises(TransformError, match="has no confidence"):
            call(line([1, 2]))


def test_mask_confidence_hides_doubtful_joints() -> None:
    made = mask_confidence(line([1, 2, 3], confidence=[[0.2, 0.3, 0.9]]), None, threshold=0.3)
    np.testing.assert_array_equal(values(made), [[NAN, 2, 3]])
    np.testing.assert_allclose(made.confidence[0, :, 0], [0, 0.3, 0.9])


def test_fill_missing_bridges_short_gaps_only() -> None:
    clip = line([NAN, 0, NAN, NAN, 3, NAN, NAN, NAN, 7, NAN])
    linear = fill_missing(clip, None, max_gap=2)
    np.testing.assert_array_equal(values(linear), [[NAN, 0, 1, 2, 3, NAN, NAN, NAN, 7, NAN]])
    held = fill_missing(clip, None, method="hold", max_gap=3)
    np.testing.assert_array_equal(values(held), [[NAN, 0, 0, 0, 3, 3, 3, 3, 7, NAN]])
    whole = line([1, 2])
    assert fill_missing(whole, None) is whole


def test_nearest_seen_prefers_the_earlier_of_two() -> None:
    seen = np.array([[0, 1, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 0]], dtype=bool)
    assert nearest_valid_frames(seen).tolist() == [[1, 1, 1, 1, 5, 5, 5], [0] * 7]


def held_clip(confidence: bool = True) -> Clip:
    joints = np.arange(5, dtype=np.float32)[None, :, None, None].repeat(17, 2).repeat(2, 3)
    joints[0, [0, 2, 3], 4] = np.nan
    stated = np.full((1, 5, 17), 0.7, np.float32) if confidence else None
    return Clip(joints, get_layout("coco17"), stated)


def test_hold_missing_keeps_the_last_position_with_confidence_0() -> None:
    held = hold_missing(held_clip())
    np.testing.assert_array_equal(held.joints[0, :, 4, 0], [np.nan, 1, 1, 1, 4])
    np.testing.assert_allclose(held.confidence[0, :, 4], [0, 0.7, 0, 0, 0.7])
    np.testing.assert_array_equal(held.joints[0, :, 3], held_clip().joints[0, :, 3])
    assert hold_missing(held_clip(confidence=False)).confidence is None
    joints = held_clip().joints.copy()
    joints[0, 2] = np.nan
    assert not hold_missing(held_clip().with_joints(joints)).valid[0, 2].any()


def test_forget_confidence_tells_only_what_is_seen() -> None:
    clip = held_clip()
    stated = clip.confidence.copy()
    stated[0, 1, 0] = 0.1
    made = forget_confidence(clip.with_joints(clip.joints, stated), threshold=0.5)
    assert not made.valid[0, 1, 0]
    np.testing.assert_array_equal(made.confidence, made.valid)
    silent = forget_confidence(held_clip(confidence=False), threshold=0.5)
    np.testing.assert_array_equal(silent.confidence, silent.valid)


def test_forget_confidence_spares_doubtful_joints_in_training() -> None:
    clip = held_clip()
    doubtful = clip.with_joints(clip.joints, np.full((1, 5, 17), 0.1, np.float32))
    draws = [
        forget_confidence(doubtful, np.random.default_rng(seed), threshold=0.5, spare=0.5)
        for seed in range(20)
    ]
    spared = sum(bool(made.valid.any()) for made in draws)
    assert 0 < spared < 20
    assert not forget_confidence(doubtful, None, threshold=0.5, spare=1.0).valid.any()


def test_zero_missing_makes_joints_and_persons_at_zero() -> None:
    made = zero_missing(line([1, NAN, 3]), persons=2)
    assert made.joints[..., 0, 0].tolist() == [[1, 0, 3], [0, 0, 0]]
    assert made.valid.all()
    assert zero_missing(line([1, NAN], [2, 2]), persons=1).num_persons == 2


def test_a_single_person_is_copied_and_two_stay() -> None:
    alone = copy_single_person(line([1, 2, NAN], [NAN, NAN, NAN]))
    np.testing.assert_array_equal(alone.joints[..., 0, 0], [[1, 2, NAN]] * 2)
    two = line([1, 2], [3, NAN])
    assert copy_single_person(two) is two
