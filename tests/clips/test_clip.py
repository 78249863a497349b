"""Validation of clips, their properties and copies."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from kinegraph.clips.clip import Clip
from kinegraph.errors import ClipError
from kinegraph.skeleton import get_layout

LAYOUT = get_layout("coco17")


def joints(persons: int = 2, frames: int = 5, coordinates: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(persons, frames, 17, coordinates)).astype(np.float32)


def test_the_shape_of_a_clip():
    clip = Clip(joints(2, 5, 3), LAYOUT)
    assert (clip.num_persons, clip.num_frames, clip.num_joints, clip.num_channels) == (2, 5, 17, 3)


def test_arrays_become_float32_and_read_only():
    own = joints().astype(np.float64)
    clip = Clip(own, LAYOUT, confidence=np.ones((2, 5, 17)))
    assert clip.joints.dtype == clip.confidence.dtype == np.float32
    for array in (clip.joints, clip.confidence):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    own[0] = 1  # the caller's array stays writeable


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 17, 3)), r"expected joints of shape .* got \(5, 17, 3\)"),
        (np.zeros((1, 5, 17, 0)), "expected joints of shape"),
        (np.zeros((1, 5, 18, 3)), "layout 'coco17' has 17 joints, the array has 18"),
        (np.zeros((0, 5, 17, 3)), "expected at least one person and frame"),
        (np.zeros((1, 0, 17, 3)), "expected at least one person and frame"),
        (np.full((1, 5, 17, 3), np.inf), "joints have infinite"),
    ],
)
def test_invalid_arrays(array, message):
    with pytest.raises(ClipError, match=f"clip 'a': {message}"):
        Clip(array, LAYOUT, id="a")


def test_a_confidence_of_another_shape():
    with pytest.raises(ClipError, match=r"expected confidence of shape \(2, 5, 17\)"):
        Clip(joints(), LAYOUT, confidence=np.ones((2, 5)))


def test_a_negative_label():
    with pytest.raises(ClipError, match="expected a label of 0 or more, got -1"):
        Clip(joints(), LAYOUT, label=-1)


def test_a_joint_is_seen_with_all_its_coordinates_or_absent():
    array = joints()
    array[0, 1, 2, 0] = np.nan
    array[1, 3, 4] = np.nan
    clip = Clip(array, LAYOUT)
    assert np.isnan(clip.joints[0, 1, 2]).all()
    assert {tuple(place) for place in np.argwhere(~clip.valid).tolist()} == {(0, 1, 2), (1, 3, 4)}


def test_the_digest_is_of_the_joints_and_their_shape():
    one = Clip(joints(), LAYOUT, id="one", label=1)
    assert one.digest == Clip(joints(), LAYOUT, id="two").digest
    moved = joints()
    moved[0, 0, 0, 0] += 1
    assert one.digest != Clip(moved, LAYOUT).digest
    reshaped = np.ascontiguousarray(joints()).reshape(1, 10, 17, 3)
    assert one.digest != Clip(reshaped, LAYOUT).digest


def test_a_clip_survives_pickling():
    clip = Clip(joints(), LAYOUT, np.ones((2, 5, 17)), 3, "a", 30.0, {"subject": 1})
    again = pickle.loads(pickle.dumps(clip))
    assert again.digest == clip.digest
    assert (again.label, again.id, again.fps, dict(again.meta)) == (3, "a", 30.0, {"subject": 1})
    np.testing.assert_array_equal(again.confidence, clip.confidence)


def test_other_joints_keep_the_confidence_that_fits():
    clip = Clip(joints(), LAYOUT, confidence=np.ones((2, 5, 17)))
    assert clip.with_joints(joints(coordinates=2)).confidence is not None
    assert clip.with_joints(joints(frames=4)).confidence is None


def test_meta_is_copied_and_frozen():
    facts = {"subject": 1}
    clip = Clip(joints(), LAYOUT, meta=facts)
    facts["subject"] = 2
    assert clip.meta["subject"] == 1
    with pytest.raises(TypeError):
        clip.meta["subject"] = 2
