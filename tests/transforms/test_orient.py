"""Prenormalization against a slow reference written from the definition, on real recordings."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import real_data
from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.readers.ntu.reader import READER
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import KINECT, Space
from kinegraph.transforms import Pipeline, to_array
from kinegraph.transforms.orient import (
    face_front,
    prenormalize,
    prenormalize_pyskl,
    rotation_between,
    rotation_matrix,
)
from kinegraph.transforms.temporal_sampling import repeat_pad
from prepared_arrays import as_2s_agcn, zeros_for_absent

NTU = get_layout("ntu25")
STEPS = ["repeat_pad", {"prenormalize": {"faithful": True}}]


def walker(persons: int = 2, frames: int = 30, seed: int = 0) -> Clip:
    draw = np.random.default_rng(seed)
    pose = draw.normal(size=(persons, 1, 25, 3))
    joints = pose + 0.1 * draw.normal(size=(persons, frames, 25, 3)).cumsum(axis=1) + [0, 0, 3]
    return Clip(joints.astype(np.float32), NTU)


def assert_as_reference(clip: Clip) -> None:
    made = to_array(Pipeline.from_list(STEPS)(clip), persons=clip.num_persons)
    expected = as_2s_agcn(zeros_for_absent(clip))
    np.testing.assert_allclose(made.transpose(3, 1, 2, 0), expected, atol=2e-6)


def test_a_made_up_clip_as_the_as_2s_agcn() -> None:
    assert_as_reference(walker())


def test_a_second_person_who_enters_late_as_the_as_2s_agcn() -> None:
    clip = walker()
    joints = clip.joints.copy()
    joints[1, :7] = np.nan
    joints[1, 12:15] = np.nan
    joints[1, 25:] = np.nan
    assert_as_reference(clip.with_joints(joints))


def test_real_recordings_as_the_as_2s_agcn() -> None:
    stacked = np.load(real_data("ntu_samples/stacked_one_clip.npy"))  # (3, 300, 25, 2)
    joints = stacked.transpose(3, 1, 2, 0).astype(np.float32)
    joints[(joints == 0).all(axis=-1)] = np.nan
    assert_as_reference(Clip(joints, NTU))


def test_raw_recordings_as_the_as_2s_agcn() -> None:
    folder = real_data("ntu_samples")
    plan = READER.scan(folder, persons="agcn")
    clips = [clip for task in plan.tasks for clip in READER.read(task)]
    assert len(clips) == 4
    for clip in clips:
        assert_as_reference(clip)


GAPS = {
    "the first person for a while": np.s_[0, 10:15],
    "the second person for a while": np.s_[1, 10:15],
    "the first person at first": np.s_[0, :4],
    "the second person from some frame on": np.s_[1, 20:],
    "both at first and at last": np.s_[:, [0, 1, 28, 29]],
    "the middle of the spine": np.s_[0, 5:9, 1],
    "the middle of the spine of the first frame": np.s_[0, 0, 1],
    "a shoulder of the first frame": np.s_[0, 0, 4],
    "the foot of the spine at first": np.s_[0, :3, 0],
    "other joints": np.s_[:, 3:8, [7, 19]],
}


@pytest.mark.parametrize("gap", GAPS.values(), ids=GAPS)
def test_with_gaps_as_the_as_2s_agcn(gap) -> None:
    clip = walker(frames=30, persons=2, seed=3)
    joints = clip.joints.copy()
    joints[gap] = np.nan
    assert_as_reference(clip.with_joints(joints))


def test_an_opposite_shoulder_line_as_the_as_2s_agcn() -> None:
    clip = walker(frames=4, persons=1)
    joints = clip.joints.copy()
    joints[0, 0, [0, 1, 4, 8]] = [[2, 1, 3], [2, 1, 4], [3, 1, 4], [1, 1, 4]]
    assert_as_reference(clip.with_joints(joints))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_first_frame_is_centered_and_frontal_and_distances_stay(seed: int) -> None:
    clip = walker(frames=5, seed=seed)
    made = prenormalize(clip, None).joints
    np.testing.assert_array_equal(made[0, :, 1], 0)
    shoulders = made[0, 0, 8] - made[0, 0, 4]
    np.testing.assert_allclose(shoulders[1:], 0, atol=1e-5)
    assert shoulders[0] > 0
    before = np.linalg.norm(clip.joints[..., None, :, :] - clip.joints[..., None, :], axis=-1)
    after = np.linalg.norm(made[..., None, :, :] - made[..., None, :], axis=-1)
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_repetition_satisfies_its_definition() -> None:
    clip = walker(frames=37)
    padded = repeat_pad(clip, None, frames=300).joints
    np.testing.assert_array_equal(padded, clip.joints[:, np.arange(300) % 37])


def test_centring_on_the_first_frame_keeps_the_walk() -> None:
    clip = walker()
    made = prenormalize(clip, None, frames="first", zaxis="none", xaxis="none").joints
    np.testing.assert_array_equal(made, clip.joints - clip.joints[0, 0, 1])


def test_the_first_frame_that_shows_the_joints_decides() -> None:
    clip = walker(persons=1)
    joints = clip.joints.copy()
    joints[0, :3, [0, 4]] = np.nan
    made = prenormalize(clip.with_joints(joints), None).joints
    np.testing.assert_allclose((made[0, 3, 8] - made[0, 3, 4])[1:], 0, atol=1e-5)


def test_an_opposite_vector_is_turned_too() -> None:
    turned = rotation_between(np.array([0, 0, -2.0]), (0, 0, 1)) @ [0, 0, -2.0]
    np.testing.assert_allclose(turned, [0, 0, 2], atol=1e-12)
    np.testing.assert_array_equal(rotation_between(np.zeros(3), (0, 0, 1)), np.eye(3))
    np.testing.assert_array_equal(rotation_between(np.array([0, 0, 3.0]), (0, 0, 1)), np.eye(3))


def test_rotation_by_hand() -> None:
    quarter = math.pi / 2
    np.testing.assert_allclose(rotation_matrix((quarter, 0, 0)) @ [0, 1, 0], [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(rotation_matrix((0, quarter, 0)) @ [0, 0, 1], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(rotation_matrix((0, 0, quarter)) @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(
        rotation_matrix((quarter, 0, quarter)) @ [0, 0, 1], [1, 0, 0], atol=1e-12
    )


@pytest.mark.parametrize("name", ["kinect20", "utd_mhad20", "sbu15", "florence15", "mediapipe33"])
def test_every_3d_body_has_its_axes(name: str) -> None:
    layout = get_layout(name)
    joints = np.random.default_rng(1).normal(size=(1, 2, layout.num_joints, 3))
    made = prenormalize(Clip(joints.astype(np.float32), layout), None).joints[0, 0]
    across = made[layout.index("right_shoulder")] - made[layout.index("left_shoulder")]
    np.testing.assert_allclose(across[1:], 0, atol=1e-5)


def test_a_hand_has_no_usual_axes_but_can_name_its_own() -> None:
    layout = get_layout("hand21")
    clip = Clip(np.random.default_rng(1).normal(size=(1, 2, 21, 3)).astype(np.float32), layout)
    with pytest.raises(TransformError, match="layout 'hand21' lacks the default joints of zaxis"):
        prenormalize(clip, None)
    made = prenormalize(clip, None, zaxis=("wrist", "middle_mcp"), xaxis="none").joints[0, 0]
    along = made[layout.index("middle_mcp")] - made[layout.index("wrist")]
    np.testing.assert_allclose(along[:2], 0, atol=1e-5)


def test_two_coordinates_are_refused() -> None:
    flat = Clip(np.zeros((1, 1, 25, 2), dtype=np.float32), NTU)
    with pytest.raises(TransformError, match="'prenormalize': expected joints of 3 coordinates"):
        prenormalize(flat, None)


def test_prenormalize_pyskl_leaves_out_frames_without_the_first_person() -> None:
    clip = walker(frames=12)
    joints = clip.joints.copy()
    joints[0, :3] = joints[0, 7] = np.nan
    joints[1, 8:] = joints[1, :5] = np.nan
    made = prenormalize_pyskl(clip.with_joints(joints))
    assert made.num_frames == 8
    spine = clip.layout.index("spine_mid")
    np.testing.assert_allclose(made.joints[0, 0, spine], 0, atol=1e-6)
    steps = prenormalize(clip.with_joints(joints), None, frames="first", faithful=True)
    kept = [3, 4, 5, 6, 8, 9, 10, 11]
    np.testing.assert_allclose(made.joints, steps.joints[:, kept], atol=1e-5)


def test_prenormalize_pyskl_puts_the_person_of_more_frames_first() -> None:
    clip = walker(frames=12)
    joints = clip.joints.copy()
    joints[0, 4:] = np.nan
    made = prenormalize_pyskl(clip.with_joints(joints), align_spine=False)
    assert made.num_frames == 12
    spine = clip.layout.index("spine_mid")
    np.testing.assert_array_equal(made.joints[0], joints[1] - joints[1, 0, spine])
    np.testing.assert_array_equal(made.joints[1], joints[0] - joints[1, 0, spine])


def test_prenormalize_pyskl_in_half_precision_rounds() -> None:
    clip = walker(frames=5)
    made = prenormalize_pyskl(clip, align_spine=False, half=True).joints
    np.testing.assert_array_equal(made, made.astype(np.float16).astype(np.float32))
    exact = prenormalize_pyskl(clip, align_spine=False).joints
    assert 0 < np.nanmax(np.abs(made - exact)) < 0.01
    turned = prenormalize_pyskl(clip, half=True).joints, prenormalize_pyskl(clip).joints
    assert 0 < np.nanmax(np.abs(turned[0] - turned[1])) < 0.01


@pytest.mark.parametrize(
    "space",
    [KINECT, Space("world", "y", "-z"), Space("world", "z", "y"), Space("world", "-y", "z")],
)
def test_a_body_faces_the_viewer_and_keeps_its_lean(space: Space) -> None:
    """The shoulders end on the viewer's right and left, and heights do not change."""
    axes = space.camera_axes
    for seed in range(4):
        clip = walker(persons=1, seed=seed).with_space(space)
        turned = face_front(clip)
        before, after = (one.joints[0] @ axes.T for one in (clip, turned))
        np.testing.assert_allclose(after[..., 1], before[..., 1], atol=1e-5)
        left, right = (NTU.index(f"{side}_shoulder") for side in ("left", "right"))
        way = after[0, left] - after[0, right]
        assert way[0] > 0
        assert abs(way[2]) < 1e-5
        distances = np.linalg.norm(np.diff(clip.joints[0], axis=1), axis=-1)
        np.testing.assert_allclose(
            np.linalg.norm(np.diff(turned.joints[0], axis=1), axis=-1), distances, atol=1e-4
        )
        again = face_front(turned)
        np.testing.assert_allclose(again.joints, turned.joints, atol=1e-5)


def test_what_cannot_face_the_viewer() -> None:
    clip = walker(persons=1)
    hidden = clip.joints.copy()
    hidden[:, :, NTU.index("left_shoulder")] = np.nan
    hidden_clip = clip.with_joints(hidden)
    assert face_front(hidden_clip) is hidden_clip
    bare = SkeletonLayout("two", ("a", "b"), ((0, 1),), 0)
    with pytest.raises(TransformError, match="has no shoulders"):
        face_front(Clip(np.zeros((1, 2, 2, 3), np.float32), bare))
