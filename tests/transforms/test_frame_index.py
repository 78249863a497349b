"""The position of frames in the recording, and SkateFormer's frames and inputs."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError, TransformError
from kinegraph.readers import get_reader, iterate_clips
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.transforms import Pipeline, to_array
from kinegraph.transforms.temporal_sampling import (
    crop_sample,
    frame_index,
    random_crop,
    resize,
    take_frames,
    zero_pad,
)

POINT = SkeletonLayout("point", ("a",), (), 0)
STEPS = [
    {"center": {"joint": "spine_mid", "frame": "first"}},
    {"zero_missing": {"persons": 2}},
    {"crop_sample": {"faithful": True}},
    {"stream": {"bones": "ntu25_pyskl", "center": "spine_mid"}},
    "frame_index",
]
STREAMS = {"j": "joint", "b": "bone", "jm": "joint_motion", "bm": "bone_motion"}


def numbered(frames: int, persons: int = 1) -> Clip:
    """Return a clip of one joint whose coordinate is the number of the frame, from 1."""
    joints = np.tile(np.arange(1, frames + 1, dtype=np.float32), (persons, 1))
    return Clip(joints[..., None, None], POINT)


def numbers(clip: Clip) -> list[float]:
    """Return the frames that a clip shows, from 0."""
    return [float(value) for value in clip.joints[0, :, 0, 0] - 1]


@pytest.mark.parametrize(
    ("frames", "first", "second", "last"),
    [(100, 2, 3, 95), (103, 2, 3, 97), (150, 3, 5, 142), (300, 7, 11, 287), (67, 1, 2, 64)],
)
def test_the_test_frames_of_skateformer(frames, first, second, last):
    for faithful in (False, True):
        found = crop_sample(numbered(frames), faithful=faithful)
        assert [*numbers(found)[:2], numbers(found)[-1]] == [first, second, last]
        index = 2 * np.array(numbers(found)) / frames - 1
        np.testing.assert_allclose(found.frame_positions, index, atol=1e-6)


def test_the_released_window_of_short_clips_ends_after_the_clip():
    found = crop_sample(numbered(64), faithful=True)
    assert numbers(found)[:2] == [1, 2]
    assert found.joints[0, -1, 0, 0] == 0
    assert found.frame_positions[-1] == 1
    fixed = crop_sample(numbered(64))
    assert numbers(fixed) == list(range(64))
    assert found.num_frames == fixed.num_frames == 64


def test_training_frames_are_drawn_from_random_windows():
    drawn = [crop_sample(numbered(200), np.random.default_rng(seed)) for seed in range(20)]
    spans = [numbers(clip)[-1] - numbers(clip)[0] for clip in drawn]
    assert min(spans) > 90 and max(spans) > 150
    assert all((np.diff(clip.joints[0, :, 0, 0]) > 0).all() for clip in drawn)
    assert len({tuple(numbers(clip)) for clip in drawn}) == 20
    with pytest.raises(TransformError, match="ascending"):
        crop_sample(numbered(200), np.random.default_rng(0), train=(0.9, 0.5))


def test_samplers_keep_the_positions_of_frames():
    clip = numbered(10)
    np.testing.assert_allclose(clip.frame_positions, np.arange(10) / 5 - 1, atol=1e-6)
    np.testing.assert_allclose(
        take_frames(take_frames(clip, np.arange(5, 10)), np.array([0, 4])).frame_positions,
        [0, 0.8],
        atol=1e-6,
    )
    cropped = random_crop(clip, np.random.default_rng(3), shortest=2)
    np.testing.assert_allclose(
        cropped.frame_positions, np.array(numbers(cropped)) / 5 - 1, atol=1e-6
    )
    halved = resize(take_frames(clip, np.arange(4)), frames=2)
    np.testing.assert_allclose(halved.frame_positions, np.array(numbers(halved)) / 5 - 1, atol=1e-6)
    padded = zero_pad(clip, frames=20)
    np.testing.assert_allclose(padded.frame_positions[[0, 9, 10]], [-1, 0.8, 1], atol=1e-6)
    copy = pickle.loads(pickle.dumps(cropped))
    np.testing.assert_array_equal(copy.frame_positions, cropped.frame_positions)
    with pytest.raises(ClipError, match="positions of 10 frames"):
        Clip(clip.joints, POINT, positions=np.zeros(9, np.float32))


def test_the_index_is_a_channel_of_all_persons_who_are_there():
    clip = numbered(4, persons=2)
    joints = clip.joints.copy()
    joints[0, 1], joints[1] = np.nan, np.nan
    x = to_array(frame_index(clip.with_joints(joints)), 2)
    np.testing.assert_allclose(x[:, :, 0, 0], [[1, 0, 3, 4], [-1, -0.5, 0, 0.5]])
    assert not x[..., 1].any()


def test_the_released_inputs_of_ntu():
    expected = json.loads(
        real_data("weights/reference/pipelines/skateformer_ntu.json").read_text("utf-8")
    )
    reader, checked = get_reader("ntu"), 0
    for folder in ("ntu_samples_more", "ntu_samples"):
        for path in sorted(real_data(folder).glob("*.skeleton")):
            facts = expected[path.stem]
            options = {"persons": "ctrgcn", "faithful": True}
            (clip,) = iterate_clips(reader, reader.plan(path, options).tasks)
            assert clip.num_frames == facts["valid"]
            for short, stream in STREAMS.items():
                x = to_array(Pipeline.from_list(STEPS, stream)(clip), 2)
                joints = x[:3][:, :, expected["joint_order"]]
                total = float(np.abs(joints).sum(dtype=np.float64))
                assert total == pytest.approx(facts[short]["abs"], rel=1e-6)
                index = x[3, :, 0, 0]
                total = float(index.sum(dtype=np.float64))
                assert total == pytest.approx(facts["index_t_sum"], abs=1e-5)
                own = index[[0, 1, -2, -1]]
                np.testing.assert_allclose(own, np.delete(facts["index_t"], 2), atol=1e-6)
            checked += 1
    assert checked >= 8
