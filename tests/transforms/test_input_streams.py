"""The streams against hand values and the definitions of 2s-AGCN and Shift-GCN."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError, UnknownNameError
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.transforms.input_streams import STREAMS, parse_stream, stream_width, to_stream

CHAIN = SkeletonLayout("chain", ("a", "b", "c"), ((1, 0), (2, 1)), 0)
X = [[1, 3, 7], [2, 4, 9], [4, 4, 4]]  # T=3 frames, V=3 joints, D=1


def clip(values: object = X) -> Clip:
    return Clip(np.asarray(values, dtype=np.float32)[None, ..., None], CHAIN)


def values(stream: Clip) -> list[list[float]]:
    return stream.joints[0, ..., 0].tolist()


def test_bone_is_the_joint_minus_its_parent_and_zero_at_the_center() -> None:
    assert values(to_stream(clip(), "bone")) == [[0, 2, 4], [0, 2, 5], [0, 0, 0]]


def test_motion_is_the_way_to_the_next_frame_and_zero_in_the_last() -> None:
    assert values(to_stream(clip(), "joint_motion")) == [[1, 1, 2], [2, 0, -5], [0, 0, 0]]


def test_bone_motion_is_the_motion_of_the_bones() -> None:
    assert values(to_stream(clip(), "bone-motion")) == [[0, 0, 1], [0, -2, -5], [0, 0, 0]]


def test_joint_is_the_clip_itself() -> None:
    original = clip()
    assert to_stream(original, "joint") is original


def test_a_bone_or_motion_with_an_absent_end_is_absent() -> None:
    nan = float("nan")
    holed = clip([[1, nan, 7], [2, 4, 9], [4, 4, nan]])
    np.testing.assert_array_equal(
        values(to_stream(holed, "bone")), [[0, nan, nan], [0, 2, 5], [0, 0, nan]]
    )
    np.testing.assert_array_equal(
        values(to_stream(holed, "joint_motion")), [[1, nan, 2], [2, 0, nan], [0, 0, nan]]
    )


def test_a_stack_fills_unknown_motion_with_zero_and_keeps_the_absent_absent() -> None:
    nan = float("nan")
    stacked = to_stream(clip([[1, nan, 7], [2, 4, 9], [4, 4, nan]]), "joint+joint-motion")
    assert stacked.num_channels == 2
    np.testing.assert_array_equal(stacked.joints[0, :, 1], [[nan, nan], [4, 0], [4, 0]])
    np.testing.assert_array_equal(stacked.joints[0, :, 2], [[7, 2], [9, 0], [nan, nan]])


def test_the_confidence_stays() -> None:
    sure = Clip(clip().joints, CHAIN, confidence=np.full((1, 3, 3), 0.5, dtype=np.float32))
    for name in [*STREAMS, "joint+bone"]:
        assert to_stream(sure, name).confidence is not None


def test_names_are_canonical_and_unknown_ones_get_a_hint() -> None:
    assert parse_stream("bone + joint-motion") == ["bone", "joint_motion"]
    with pytest.raises(UnknownNameError, match=r"unknown stream 'bones' \(did you mean 'bone'"):
        to_stream(clip(), "joint+bones")


def test_bone_k_is_the_difference_to_the_kth_ancestor() -> None:
    assert values(to_stream(clip(), "bone2")) == [[1, 3, 6], [2, 4, 7], [4, 4, 0]]
    assert values(to_stream(clip(), "bone3")) == X
    assert values(to_stream(clip(), "bone2_motion")) == [[1, 1, 1], [2, 0, -7], [0, 0, 0]]
    assert parse_stream("Bone2".lower() + "+bone8-motion") == ["bone2", "bone8_motion"]
    with pytest.raises(UnknownNameError, match="unknown stream 'bone9'"):
        parse_stream("bone9")


def test_bone_k_is_the_matrix_of_infogcn() -> None:
    layout = get_layout("ntu25")
    joints = np.random.default_rng(0).normal(size=(1, 2, 25, 3)).astype(np.float32)
    centered = Clip(joints - joints[:, :, :1], layout)  # the center of this tree at the origin
    tree = replace(layout, center=0)
    B = np.zeros((25, 25))
    for child, parent in enumerate(tree.parents):
        B[child, parent] = child != parent
    for k in range(1, 9):
        expected = (np.eye(25) - np.linalg.matrix_power(B, k)) @ centered.joints
        name = "bone" if k == 1 else f"bone{k}"
        made = to_stream(centered, name, center="spine_base").joints
        np.testing.assert_allclose(made, expected, atol=1e-6)


def test_bones_of_another_layout_and_from_another_center() -> None:
    layout = get_layout("ntu25_pyskl")
    joints = np.random.default_rng(0).normal(size=(1, 2, 25, 3)).astype(np.float32)
    ours = Clip(joints, layout)
    tip, thumb, hand, spine, mid = (
        layout.index(name)
        for name in ("left_hand_tip", "left_thumb", "left_hand", "spine_base", "spine_mid")
    )
    own = to_stream(ours, "bone").joints
    np.testing.assert_array_equal(own[:, :, tip], joints[:, :, tip] - joints[:, :, hand])
    other = to_stream(ours, "bone", bones="ntu25").joints
    np.testing.assert_array_equal(other[:, :, tip], joints[:, :, tip] - joints[:, :, thumb])
    moved = to_stream(ours, "bone", center="spine_mid").joints
    assert not moved[:, :, mid].any()
    np.testing.assert_array_equal(moved[:, :, spine], joints[:, :, spine] - joints[:, :, mid])
    with pytest.raises(TransformError, match="bones must name a layout with the joints of 'chain'"):
        to_stream(clip(), "bone", bones="ntu25")


def test_confidence_of_a_bone_and_of_a_motion_can_be_the_mean() -> None:
    scores = np.array([[[1, 0.5, 0], [0.2, 0.4, 0.6], [1, 1, 1]]], np.float32)
    scored = replace(clip(), confidence=scores)
    bones = to_stream(scored, "bone", mean_confidence=True).confidence
    np.testing.assert_allclose(bones[0, 0], [1, 0.75, 0.25])
    motion = to_stream(scored, "joint_motion", mean_confidence=True).confidence
    np.testing.assert_allclose(motion[0], [[0.6, 0.45, 0.3], [0.6, 0.7, 0.8], [0, 0, 0]], atol=1e-6)
    np.testing.assert_array_equal(to_stream(scored, "bone").confidence, scores)


def test_bones_of_coco_in_pyskl_start_at_the_nose() -> None:
    pairs = {1: 0, 2: 0, 3: 1, 4: 2, 5: 0, 6: 0, 7: 5, 8: 6, 9: 7, 10: 8, 11: 0, 12: 0, 13: 11,
             14: 12, 15: 13, 16: 14}  # fmt: skip
    assert dict(enumerate(get_layout("coco17_pyskl_bones").parents)) == {0: 0, **pairs}


LIMB = SkeletonLayout("limb", ("root", "spine", "hand"), ((1, 0), (2, 1)), 0)
P = [[[0, 0], [0, 1], [3, 5]], [[1, 0], [1, 1], [4, 5]], [[1, 2], [1, 3], [5, 8]]]  # T=3, V=3, D=2


def test_the_position_is_the_joint_and_its_place_relative_to_the_spine() -> None:
    got = to_stream(Clip(np.array([P], np.float32), LIMB), "position").joints
    np.testing.assert_array_equal(got[0, 0], [[0, 0, 0, -1], [0, 1, 0, 0], [3, 5, 3, 4]])


def test_the_velocity_is_the_way_to_the_next_two_frames_and_zero_in_the_last_two() -> None:
    got = to_stream(Clip(np.array([P], np.float32), LIMB), "velocity").joints
    np.testing.assert_array_equal(got[0, 0], [[1, 0, 1, 2], [1, 0, 1, 2], [1, 0, 2, 3]])
    assert not got[0, 1:].any()
    short = to_stream(Clip(np.array([P[:2]], np.float32), LIMB), "velocity").joints
    assert short.shape == (1, 2, 3, 4) and not short.any()


def test_bone_angles_are_bones_from_the_spine_with_their_angles_to_the_axes() -> None:
    got = to_stream(Clip(np.array([P], np.float32), LIMB), "bone_angles").joints[0, 0]
    np.testing.assert_array_equal(got[:, :2], [[0, -1], [0, 0], [3, 4]])
    half = np.pi / 2
    expected = [[half, np.pi], [half, half], np.arccos([0.6, 0.8])]
    np.testing.assert_allclose(got[:, 2:], expected, atol=0.015)
    assert float(got[2, 2]) == pytest.approx(np.arccos(3 / 5.0001), abs=1e-7)


def test_the_inputs_of_efficientgcn_leave_absent_joints_absent() -> None:
    holed = np.array([P], np.float32)
    holed[0, 0, 2] = holed[0, 1, 1] = np.nan
    stream = to_stream(Clip(holed, LIMB), "position+velocity+bone_angles")
    assert stream.num_channels == 12
    np.testing.assert_array_equal(stream.valid, ~np.isnan(holed[..., 0]))
    # without the spine a joint has its position, but neither a relative one nor a bone
    np.testing.assert_array_equal(stream.joints[0, 1, 0], [1, 0, 0, 0, *[0] * 4, *[0] * 4])


def test_widths_of_streams() -> None:
    assert [stream_width(name) for name in ("joint", "bone+velocity", "bone_angles")] == [1, 3, 2]
    for name in STREAMS:
        channels = to_stream(clip(), name).num_channels
        assert channels == stream_width(name)
