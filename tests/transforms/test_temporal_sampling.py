"""The frames that samplers take, in training and in evaluation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.transforms.registry import Transform, View
from kinegraph.transforms.temporal_sampling import (
    auto_pad,
    crop_resize,
    downsample,
    drop_empty_frames,
    random_choose,
    random_crop,
    random_frames,
    random_shift,
    random_speed,
    reduce_frame,
    repeat_pad,
    resample,
    resize,
    sample_test_bins,
    trim,
    uniform_sample,
    zero_pad,
)

POINT = SkeletonLayout("point", ("a",), (), 0)
NAN = float("nan")


def ramp(*persons: object, confidence: bool = False) -> Clip:
    """A clip of one joint and coordinate whose value is the frame's number (or as given)."""
    given = [range(p) if isinstance(p, int) else p for p in persons]
    joints = np.array([list(p) for p in given], dtype=np.float32)
    sure = np.where(np.isnan(joints), 0, joints / 1000)[..., None] if confidence else None
    return Clip(joints[..., None, None], POINT, confidence=sure)


def frames_of(clip: Clip, person: int = 0) -> list[float]:
    return clip.joints[person, :, 0, 0].tolist()


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_uniform_sample_takes_the_middle_of_each_bin() -> None:
    assert frames_of(uniform_sample(ramp(12), None, frames=4)) == [1, 4, 7, 10]
    assert frames_of(uniform_sample(ramp(5), None, frames=5)) == [0, 1, 2, 3, 4]
    assert frames_of(uniform_sample(ramp(3), None, frames=5)) == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("length", [10, 13, 19, 20, 47])
def test_uniform_sample_draws_each_frame_in_its_bin(length: int) -> None:
    drawn = {tuple(frames_of(uniform_sample(ramp(length), rng(s), frames=10))) for s in range(20)}
    for frames in drawn:
        assert list(frames) == sorted(set(frames))
        assert 0 <= frames[0] <= frames[-1] < length
        if length >= 20:
            edges = np.arange(11) * length // 10
            assert all(a <= f < b for f, a, b in zip(frames, edges, edges[1:], strict=False))
    assert (len(drawn) > 1) == (length > 10)


def test_uniform_sample_repeats_a_short_clip_from_a_random_start() -> None:
    starts = set()
    for seed in range(20):
        frames = frames_of(uniform_sample(ramp(3), rng(seed), frames=7))
        assert frames == [(frames[0] + i) % 3 for i in range(7)]
        starts.add(frames[0])
    assert starts == {0, 1, 2}


def test_random_frames_are_in_order_and_spread_evenly_in_evaluation() -> None:
    assert frames_of(random_frames(ramp(9), None, frames=5)) == [0, 2, 4, 6, 8]
    assert frames_of(random_frames(ramp(2), None, frames=4)) == [0, 0, 0, 1]
    assert frames_of(random_frames(ramp(7), None, frames=1)) == [0]
    drawn = frames_of(random_frames(ramp(9), rng(), frames=52))
    assert drawn == sorted(drawn)
    assert set(drawn) <= set(range(9))


def test_resize_matches_torch_without_aligned_corners() -> None:
    assert frames_of(resize(ramp(4), None, frames=2)) == [0.5, 2.5]
    assert frames_of(resize(ramp(2), None, frames=4)) == [0, 0.25, 0.75, 1]
    torch = pytest.importorskip("torch")
    values = rng(3).normal(size=37).astype(np.float32)
    there = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], size=64, mode="linear", align_corners=False
    )
    here = frames_of(resize(ramp(values), None, frames=64))
    np.testing.assert_allclose(here, there[0, 0].numpy(), atol=1e-6)


def test_resize_lets_the_nearer_frame_decide_about_absence() -> None:
    resized = frames_of(resize(ramp([0, NAN, 2]), None, frames=6))
    np.testing.assert_array_equal(resized, [0, 0, NAN, NAN, 2, 2])
    tie = frames_of(resize(ramp([0, NAN, NAN, 3]), None, frames=2))
    np.testing.assert_array_equal(tie, [0, NAN])


def test_crop_resize_takes_the_middle_in_evaluation() -> None:
    cut = crop_resize(ramp(100), None, frames=50, test=0.5)
    assert frames_of(cut) == frames_of(resize(ramp(range(25, 75)), None, frames=50))


def test_crop_resize_draws_a_window_of_at_least_min_frames() -> None:
    starts = set()
    for seed in range(10):
        frames = frames_of(
            crop_resize(ramp(80), rng(seed), frames=64, train=(0.1, 0.2), min_frames=64)
        )
        np.testing.assert_allclose(np.diff(frames), 1)
        starts.add(frames[0])
    assert len(starts) > 3
    whole = crop_resize(ramp(20), rng(), frames=64, train=(0.1, 0.2), min_frames=64)
    assert frames_of(whole) == frames_of(resize(ramp(20), None, frames=64))


def test_crop_resize_refuses_shares_in_descending_order() -> None:
    with pytest.raises(TransformError, match=r"train must be ascending, got 1 and 0\.5"):
        crop_resize(ramp(9), rng(), train=(1.0, 0.5))


def test_repeat_pad_repeats_from_the_beginning() -> None:
    assert frames_of(repeat_pad(ramp(3), None, frames=8)) == [0, 1, 2, 0, 1, 2, 0, 1]
    assert frames_of(repeat_pad(ramp(5), None, frames=3)) == [0, 1, 2]


def test_repeat_pad_gives_each_person_its_own_length() -> None:
    clip = ramp([0, 1, 2, NAN], [NAN, 5, NAN, 7], [NAN] * 4, [0, NAN, 2, NAN])
    padded = repeat_pad(clip, None, frames=6)
    assert frames_of(padded, 0) == [0, 1, 2, 0, 1, 2]
    assert frames_of(padded, 1) == [5, 7, 5, 7, 5, 7]  # entered late: empty frames dropped
    assert np.isnan(frames_of(padded, 2)).all()
    np.testing.assert_array_equal(frames_of(padded, 3), [0, NAN, 2, 0, NAN, 2])


def test_repeat_pad_together_keeps_persons_in_step() -> None:
    clip = ramp([NAN, 1, 2, 3, NAN], [NAN, NAN, 2, NAN, NAN], [NAN] * 5)
    padded = repeat_pad(clip, None, frames=7, together=True)
    np.testing.assert_array_equal(frames_of(padded, 0), [1, 2, 3, 1, 2, 3, 1])
    np.testing.assert_array_equal(frames_of(padded, 1), [NAN, 2, NAN, NAN, 2, NAN, NAN])
    assert np.isnan(frames_of(padded, 2)).all()
    assert padded.num_real_frames == 3
    assert repeat_pad(clip, None, frames=7).num_real_frames == 3


def test_zero_pad_adds_empty_frames_at_the_end() -> None:
    padded = zero_pad(ramp([1, 2], confidence=True), None, frames=4)
    np.testing.assert_array_equal(frames_of(padded), [1, 2, NAN, NAN])
    assert padded.confidence[0, 2:].tolist() == [[0], [0]]
    assert frames_of(zero_pad(ramp(5), None, frames=2)) == [0, 1]


def test_padding_is_remembered_by_the_steps_that_come_after_it() -> None:
    def real(*steps: Callable[[Clip], Clip]) -> int:
        clip = ramp(5)
        for step in steps:
            clip = step(clip)
        return clip.num_real_frames

    pad = partial(repeat_pad, frames=8)
    assert real() == 5
    assert real(pad) == real(partial(zero_pad, frames=8)) == real(partial(auto_pad, frames=8)) == 5
    assert real(pad, partial(zero_pad, frames=9)) == real(pad, partial(repeat_pad, frames=12)) == 5
    assert real(pad, trim) == 5
    assert real(pad, reduce_frame) == 3  # frames 0, 2, 4 and the padding's 6
    assert real(pad, partial(random_choose, frames=6)) == 4  # frames 1 to 6
    assert real(pad, partial(zero_pad, frames=4)) == 4
    assert real(pad, partial(resize, frames=4)) == 4  # stretched, all frames count


def test_random_choose_cuts_or_places() -> None:
    assert frames_of(random_choose(ramp(10), None, frames=4)) == [3, 4, 5, 6]
    np.testing.assert_array_equal(frames_of(random_choose(ramp(2), None, frames=3)), [0, 1, NAN])
    windows = {tuple(frames_of(random_choose(ramp(6), rng(s), frames=4))) for s in range(20)}
    assert windows == {(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5)}
    places = [frames_of(random_choose(ramp(2), rng(s), frames=3)) for s in range(20)]
    assert {int(np.nanargmin(place)) for place in places} == {0, 1}


def test_auto_pad_ends_with_the_last_seen_joint_whatever_its_sign() -> None:
    clip = ramp([5, -1, NAN, -7, NAN, NAN])
    np.testing.assert_array_equal(frames_of(auto_pad(clip, None, frames=5)), [5, -1, NAN, -7, NAN])
    assert frames_of(auto_pad(ramp([3, NAN, 4, NAN]), None, frames=2)) == [3, 4]


def test_auto_pad_samples_up_to_the_last_frame_and_in_order() -> None:
    assert frames_of(auto_pad(ramp(10), None, frames=4)) == [0, 3, 6, 9]
    assert frames_of(auto_pad(ramp(10), rng(), frames=4)) == [0, 3, 6, 9]
    drawn = frames_of(auto_pad(ramp(50), rng(), frames=20, random=True))
    assert drawn == sorted(set(drawn))
    assert len(drawn) == 20
    starts = [frames_of(auto_pad(ramp(2), rng(s), frames=4, random=True)) for s in range(20)]
    assert {int(np.nanargmin(frames)) for frames in starts} == {0, 1, 2}


def test_random_shift_moves_the_seen_span() -> None:
    clip = ramp([NAN, 1, NAN, 3, NAN, NAN])
    assert random_shift(clip, None) is clip
    begins = set()
    for seed in range(30):
        moved = np.array(frames_of(random_shift(clip, rng(seed))))
        begin = int(np.nanargmin(moved))
        np.testing.assert_array_equal(moved[begin : begin + 3], [1, NAN, 3])
        assert np.isnan(moved).sum() == 4
        begins.add(begin)
    assert begins == {0, 1, 2, 3}


def test_downsample_keeps_every_step() -> None:
    assert frames_of(downsample(ramp(7), None, step=3)) == [0, 3, 6]
    drawn = {tuple(frames_of(downsample(ramp(7), rng(s), step=3))) for s in range(20)}
    assert drawn == {(0, 3, 6), (1, 4), (2, 5)}
    assert downsample(ramp(2), rng(), step=50).num_frames == 1


@pytest.mark.parametrize(("length", "step"), [(7, 2), (8, 2), (7, 3), (1, 4), (300, 1)])
def test_reduce_frame_takes_the_same_frames_in_training(length: int, step: int) -> None:
    kept = [float(t) for t in range(0, length, step)]
    for draw in (None, rng()):
        assert frames_of(reduce_frame(ramp(length), draw, step=step)) == kept
    assert len(kept) == -(-length // step)


def test_trim_and_drop_empty_frames() -> None:
    clip = ramp([NAN, 1, NAN, 3, NAN])
    np.testing.assert_array_equal(frames_of(trim(clip, None)), [1, NAN, 3])
    assert frames_of(drop_empty_frames(clip, None)) == [1, 3]
    empty = ramp([NAN, NAN])
    assert trim(empty, None) is empty
    assert drop_empty_frames(empty, None) is empty


@pytest.mark.parametrize(
    "sampler", [uniform_sample, random_frames, resize, repeat_pad, zero_pad, random_choose]
)
def test_the_confidence_follows_its_frame(sampler: object) -> None:
    for drawn in (None, rng()):
        sampled = sampler(ramp(30, confidence=True), drawn, frames=11)
        np.testing.assert_allclose(sampled.confidence, sampled.joints[..., 0] / 1000, atol=1e-6)


def test_random_crop_is_a_window_of_a_random_length() -> None:
    clip = ramp(50)
    lengths = set()
    for seed in range(60):
        frames = frames_of(random_crop(clip, rng(seed), shortest=10))
        assert frames == list(range(int(frames[0]), int(frames[-1]) + 1))
        lengths.add(len(frames))
    assert min(lengths) >= 10
    assert max(lengths) > 40
    short = ramp(9)
    assert random_crop(short, rng(0), shortest=10) is short


def test_random_speed_divides_the_number_of_frames_by_the_factor() -> None:
    clip = ramp(60)
    faster = random_speed(clip, rng(0), low=2, high=2)
    assert frames_of(faster) == pytest.approx(np.arange(30) * 2 + 0.5)
    slower = random_speed(clip, rng(0), low=0.5, high=0.5)
    assert slower.num_frames == 120
    drawn = {random_speed(clip, rng(s), low=0.5, high=2).num_frames for s in range(40)}
    assert min(drawn) < 40
    assert max(drawn) > 90
    with pytest.raises(TransformError, match="low, high must be ascending, got 2 and 1"):
        random_speed(clip, rng(0), low=2, high=1)


def test_repeat_pad_may_have_another_length_in_evaluation() -> None:
    clip = ramp(5)
    assert frames_of(repeat_pad(clip, None, frames=3, test=8)) == [0, 1, 2, 3, 4, 0, 1, 2]
    assert repeat_pad(clip, rng(0), frames=3, test=8).num_frames == 3


@pytest.mark.parametrize("rate", [15, 30, 60, 25.0])
def test_resample_keeps_the_duration_and_the_motion_in_time(rate: float) -> None:
    frames = round(2 * rate)  # two seconds of a motion of one unit per second
    clip = replace(ramp(np.arange(frames) / rate), fps=rate)
    made = resample(clip, fps=30)
    assert (made.fps, made.num_frames) == (30, 60)
    speed = np.diff(frames_of(made))[5:-5]
    np.testing.assert_allclose(speed, 1 / 30, atol=1e-5)


def test_resample_leaves_clips_of_that_rate_or_of_unknown_rate() -> None:
    clip = ramp(7)
    assert resample(clip) is clip
    known = replace(clip, fps=30)
    assert resample(known) is known
    assert resample(replace(ramp(1), fps=120)).num_frames == 1


def test_resample_keeps_padding() -> None:
    padded = replace(zero_pad(ramp(10), frames=20), fps=15)
    assert resample(padded).padded_from == 20


TEST_SUMS = {75: 36_950, 99: 48_951, 100: 49_500, 103: 51_087, 150: 74_456, 250: 124_266,
             300: 149_545}  # fmt: skip
FIRST_TEST_FRAMES = {
    75: [0, 7, 15, 22, 30, 37, 45, 52, 60, 67],
    150: [0, 1, 1, 0, 0, 1, 1, 0, 1, 1],
    300: [1, 0, 1, 0, 0, 1, 2, 0, 0, 2],
}


@pytest.mark.parametrize("length", TEST_SUMS)
def test_sampled_test_clips_are_those_of_pyskl(length: int) -> None:
    table = sample_test_bins(length, 100, 10)
    assert table.shape == (10, 100)
    assert table.sum() == TEST_SUMS[length]
    if length in FIRST_TEST_FRAMES:
        assert table[:, 0].tolist() == FIRST_TEST_FRAMES[length]
    frames = ramp(length)
    for number in range(10):
        made = uniform_sample(frames, None, None, View(number, 10))
        assert made.joints[0, :, 0, 0].tolist() == table[number].tolist()


def test_all_tables_of_sampled_test_clips_have_the_recorded_hash() -> None:
    path = real_data("weights/reference/pipelines/uniform_sample_test_indices.json")
    for length, expected in json.loads(path.read_text())["lengths"].items():
        table = sample_test_bins(int(length), 100, 10).astype("<i8")
        assert hashlib.sha256(table.tobytes()).hexdigest() == expected["sha256"]


def test_decode_draws_the_start_of_short_clips_in_tests_too() -> None:
    spread, drawn = (sample_test_bins(54, 100, 10, decode) for decode in (False, True))
    assert spread[:, 0].tolist() == [i * 54 // 10 for i in range(10)]
    assert drawn[:, 0].tolist() != spread[:, 0].tolist()
    assert (np.diff(drawn, axis=1) % 54 == 1).all()
    np.testing.assert_array_equal(
        sample_test_bins(150, 100, 3, True), sample_test_bins(150, 100, 3)
    )


@pytest.mark.parametrize("sampler", [uniform_sample, random_frames, crop_resize])
def test_each_test_clip_has_draws_of_its_own_that_no_rng_changes(sampler: Transform) -> None:
    clip = ramp(150)
    first, second, again = (
        sampler(clip, rng, None, View(number, 5), frames=20).joints
        for number, rng in ((0, None), (1, None), (0, None))
    )
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, again)
    usual = sampler(clip, None, frames=20).joints
    np.testing.assert_array_equal(sampler(clip, None, None, View(), frames=20).joints, usual)


def test_random_frames_without_replacement_repeat_no_frame_of_a_long_clip() -> None:
    clip = ramp(30)
    rng = np.random.default_rng(0)
    for length in (1, 3, 30):
        short = clip.with_joints(clip.joints[:, :length])
        made = random_frames(short, rng, frames=52, copies=100).joints[0, :, 0, 0]
        assert len(made) == 52
        assert (np.diff(made) >= 0).all()
    with pytest.raises(TransformError, match="copies must be at least frames, got 5 and 52"):
        random_frames(clip, rng, copies=5)
    counts = [
        np.unique(random_frames(clip, rng, frames=30, copies=30).joints[0, :, 0, 0]).size
        for _ in range(50)
    ]
    assert 18 < np.mean(counts) < 21
