"""A clip as the array that models take."""

from __future__ import annotations

import numpy as np
import pytest

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.transforms import to_array

PAIR = SkeletonLayout("pair", ("a", "b"), ((1, 0),), 0)
NAN = float("nan")


def clip(confidence: object = None) -> Clip:
    joints = np.array([[[[1, 2], [NAN, NAN]]], [[[3, 4], [5, 6]]]], dtype=np.float32)
    return Clip(joints, PAIR, confidence=confidence)  # M=2, T=1, V=2, D=2


def test_axes_are_channels_frames_joints_persons_and_absent_is_zero() -> None:
    array = to_array(clip(), persons=2)
    assert (array.shape, array.dtype) == ((2, 1, 2, 2), np.float32)
    assert array[:, 0, :, 0].tolist() == [[1, 0], [2, 0]]
    assert array[:, 0, :, 1].tolist() == [[3, 5], [4, 6]]


def test_persons_are_cut_and_padded() -> None:
    assert to_array(clip(), persons=1)[..., 0].tolist() == [[[1, 0]], [[2, 0]]]
    padded = to_array(clip(), persons=3)
    assert padded.shape == (2, 1, 2, 3)
    assert not padded[..., 2].any()


def test_confidence_is_the_last_channel_and_zero_where_absent() -> None:
    sure = np.array([[[0.5, 0.9]], [[0.25, 1.0]]], dtype=np.float32)
    assert to_array(clip(sure), 2, confidence=True)[2, 0].tolist() == [[0.5, 0.25], [0.0, 1.0]]
    assert to_array(clip(), 3, confidence=True)[2, 0].tolist() == [[1, 1, 0], [0, 1, 0]]


def test_no_person_is_refused() -> None:
    with pytest.raises(TransformError, match="persons must be 1 or more, got 0"):
        to_array(clip(), persons=0)
