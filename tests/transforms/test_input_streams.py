"""The streams against hand values and the definitions of 2s-AGCN and Shift-GCN."""

from __future__ import annotations

import numpy as np
import pytest

from kinegraph.clips.clip import Clip
from kinegraph.errors import UnknownNameError
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.transforms.input_streams import STREAMS, parse_stream, to_stream

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
