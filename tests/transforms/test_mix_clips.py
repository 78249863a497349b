"""Mixing of two clips: connected bodies, whose parts keep the shape of their source."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.skeleton.joint_mapping import group_joints
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout, list_layouts
from kinegraph.transforms.mix_clips import mix_parts, skateformer_augment, take_bone_lengths

NTU = get_layout("ntu25")


def body(seed: int, frames: int = 6, persons: int = 2) -> Clip:
    draw = np.random.default_rng(seed)
    joints = draw.normal(size=(persons, frames, 25, 3)).astype(np.float32)
    confidence = draw.random((persons, frames, 25), dtype=np.float32)
    return Clip(joints, NTU, confidence=confidence, label=1)


def bones(clip: Clip) -> np.ndarray:
    return clip.joints - clip.joints[:, :, list(NTU.parents)]


def mixed_group(clip: Clip, made: Clip, other: Clip) -> str:
    """Return the group of joints that came from the other clip."""
    of_other = np.isclose(bones(made), bones(other), atol=1e-5).all(axis=(0, 1, 3))
    of_other[NTU.center] = np.allclose(
        made.joints[:, :, NTU.center], other.joints[:, :, NTU.center]
    )
    (name,) = [
        n for n, own in group_joints(NTU).items() if set(own) == set(np.flatnonzero(of_other))
    ]
    rest = ~of_other
    rest[NTU.center] = False
    np.testing.assert_allclose(bones(made)[:, :, rest], bones(clip)[:, :, rest], atol=1e-5)
    return name


def test_one_group_comes_from_the_partner_and_hangs_on_this_body() -> None:
    clip, other = body(0), body(1)
    found = {
        mixed_group(clip, mix_parts(clip, np.random.default_rng(s), lambda: other, p=1.0), other)
        for s in range(12)
    }
    assert found == {"arms", "legs", "trunk"}


def test_confidence_follows_the_joints_and_p_zero_changes_nothing() -> None:
    clip, other = body(0), body(1)
    assert mix_parts(clip, np.random.default_rng(0), lambda: other, p=0.0) is clip
    made = mix_parts(clip, np.random.default_rng(0), lambda: other, p=1.0)
    own = list(group_joints(NTU)[mixed_group(clip, made, other)])
    np.testing.assert_array_equal(made.confidence[:, :, own], other.confidence[:, :, own])
    others = [v for v in range(25) if v not in own]
    np.testing.assert_array_equal(made.confidence[:, :, others], clip.confidence[:, :, others])


def test_a_longer_partner_is_resized_and_further_persons_stay() -> None:
    clip, other = body(0), body(1, frames=11, persons=1)
    made = mix_parts(clip, np.random.default_rng(3), lambda: other, p=1.0)
    assert made.joints.shape == clip.joints.shape
    np.testing.assert_array_equal(made.joints[1], clip.joints[1])
    assert not np.allclose(made.joints[0], clip.joints[0])


def test_a_limb_without_the_joint_that_holds_it_stays_where_the_partner_has_it() -> None:
    clip, other = body(0), body(1)
    joints = clip.joints.copy()
    joints[:, :, NTU.index("left_shoulder")] = np.nan
    clip = replace(clip, joints=joints)
    for seed in range(12):
        made = mix_parts(clip, np.random.default_rng(seed), lambda: other, p=1.0)
        elbow = NTU.index("left_elbow")
        assert np.isfinite(made.joints[:, :, elbow]).all()
        if np.allclose(made.joints[:, :, elbow], other.joints[:, :, elbow]):
            return
    raise AssertionError("the arms were never drawn")


def test_groups_of_all_layouts_cover_each_joint_once() -> None:
    for name in list_layouts():
        layout = get_layout(name)
        groups = group_joints(layout)
        assert sorted(v for own in groups.values() for v in own) == list(range(layout.num_joints))
        if "left_hip" in layout.joints:
            assert [*sorted(groups)] == ["arms", "legs", "trunk"]
            assert {"left_shoulder", "left_hip"} <= {layout.joints[v] for v in groups["trunk"]}


def test_a_layout_of_a_hand_is_refused() -> None:
    hand = get_layout("hand21")
    clip = Clip(np.zeros((1, 2, 21, 3), np.float32), hand)
    with pytest.raises(TransformError, match="layout 'hand21' names no arms or legs"):
        mix_parts(clip, np.random.default_rng(0), lambda: clip)


def test_bone_lengths_and_place_come_from_the_partner():
    bones = ((1, 0), (2, 1), (3, 0))
    layout = SkeletonLayout("arm", tuple("abcd"), bones, center=0)
    draw = np.random.default_rng(0)
    own, other = (draw.normal(size=(1, 5, 4, 3)).astype(np.float32) for _ in range(2))
    own[0, 2, 3] = np.nan
    other[0, 3, 2] = np.nan
    clip, partner = Clip(own, layout), Clip(other, layout)
    made = take_bone_lengths(clip, np.random.default_rng(0), lambda: partner, p=1.0).joints
    np.testing.assert_allclose(made[:, :, 0], other[:, :, 0])
    assert np.isnan(made[0, 2, 3]).all() and not np.isnan(np.delete(made, 2, axis=1)).any()
    for child, parent in bones:
        before, after = own[0, :, child] - own[0, :, parent], made[0, :, child] - made[0, :, parent]
        theirs = np.linalg.norm(other[0, :, child] - other[0, :, parent], axis=-1)
        length, wanted = np.linalg.norm(after, axis=-1), np.linalg.norm(before, axis=-1)
        expected = np.where(np.isnan(theirs + wanted), wanted, theirs)
        np.testing.assert_allclose(length, expected, rtol=1e-4)
        cosine = (before * after).sum(-1) / (length * wanted)
        np.testing.assert_allclose(cosine[~np.isnan(cosine)], 1, rtol=1e-4)
    kept = take_bone_lengths(clip, np.random.default_rng(0), lambda: partner, p=0.0)
    assert kept is clip


def test_skateformer_changes_a_clip_by_itself_or_by_a_partner_or_not():
    draw = np.random.default_rng(0)
    joints = draw.normal(size=(2, 40, 25, 3)).astype(np.float32)
    clip = Clip(joints, get_layout("ntu25"))
    asked = []

    def partner() -> Clip:
        asked.append(1)
        return clip.with_joints(joints * 2)

    same = 0
    for seed in range(200):
        made = skateformer_augment(clip, np.random.default_rng(seed), partner)
        same += made is clip
    assert 45 <= same <= 80  # 0.3, and 0.5 / 2^7
    assert 25 <= len(asked) <= 55
