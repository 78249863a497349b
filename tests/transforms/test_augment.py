"""The augmentations: what they change, and what they leave alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import KINECT, Space
from kinegraph.transforms import TRANSFORMS
from kinegraph.transforms.augment import (
    crop_view,
    drop_axis,
    drop_joints,
    drop_person,
    jitter,
    joint_dropout,
    joint_gaps,
    mirror,
    person_swap,
    pose_noise,
    random_move,
    random_rotate,
    random_scale,
    random_shear,
    random_view,
    swap_sides,
)
from kinegraph.transforms.fit_space import permute_axes

NTU, COCO = get_layout("ntu25"), get_layout("coco17")
MOVES = [random_move, random_rotate, random_view, random_scale, random_shear, jitter]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def body(persons: int = 2, frames: int = 6, seed: int = 0, dims: int = 3) -> Clip:
    draw = rng(seed)
    layout = NTU if dims == 3 else COCO
    shape = (persons, frames, layout.num_joints, dims)
    joints = draw.normal(size=shape).astype(np.float32)
    return Clip(joints, layout, confidence=draw.random(shape[:3], dtype=np.float32))


def distances(clip: Clip) -> np.ndarray:
    joints = clip.joints
    return np.linalg.norm(joints[:, :, :, None] - joints[:, :, None], axis=-1)


def test_random_move_with_one_choice_is_a_known_similarity() -> None:
    clip = body()
    moved = random_move(clip, rng(), angles=[90.0], scales=[2.0], shifts=[0.5])
    x, y, z = np.moveaxis(clip.joints, -1, 0)
    expected = np.stack([-2 * y + 0.5, 2 * x + 0.5, z], axis=-1)
    np.testing.assert_allclose(moved.joints, expected, atol=1e-5)


def test_random_move_goes_evenly_from_the_first_draw_to_the_last() -> None:
    still = Clip(np.ones((1, 5, 17, 2), dtype=np.float32), COCO)
    for seed in range(10):
        moved = random_move(still, rng(seed), angles=[0.0], scales=[1.0], shifts=[0.0, 1.0])
        steps = np.diff(moved.joints[0, :, 0], axis=0)
        np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), atol=1e-6)
        assert set(moved.joints[0, [0, -1], 0].ravel().tolist()) <= {1.0, 2.0}


@pytest.mark.parametrize("dims", [2, 3])
def test_random_rotate_keeps_distances(dims: int) -> None:
    clip = body(dims=dims)
    turned = random_rotate(clip, rng(), degrees=180)
    np.testing.assert_allclose(distances(turned), distances(clip), atol=1e-5)
    assert np.abs(turned.joints - clip.joints).max() > 0.1


def test_random_rotate_about_one_axis_keeps_its_coordinate() -> None:
    clip = body()
    turned = random_rotate(clip, rng(), degrees=(0, 0, 40))
    np.testing.assert_allclose(turned.joints[..., 2], clip.joints[..., 2], atol=1e-6)
    turned = random_rotate(clip, rng(), degrees=[40, 0, 0])
    np.testing.assert_allclose(turned.joints[..., 0], clip.joints[..., 0], atol=1e-6)


def test_random_view_turns_and_scales() -> None:
    clip = body()
    seen = random_view(clip, rng(), degrees=60, scale=(0.5, 0.5))
    np.testing.assert_allclose(distances(seen), distances(clip) * 0.5, atol=1e-5)


def test_random_scale_is_one_factor() -> None:
    clip = body()
    factors = random_scale(clip, rng(), low=1.2, high=1.4).joints / clip.joints
    np.testing.assert_allclose(factors, factors.flat[0], rtol=1e-5)
    assert 1.2 <= factors.flat[0] <= 1.4


def test_random_shear_is_linear_and_keeps_each_own_share() -> None:
    basis = np.zeros((1, 1, 25, 3), dtype=np.float32)
    basis[0, 0, :3] = np.eye(3)
    matrix = random_shear(Clip(basis, NTU), rng(), amount=0.3).joints[0, 0, :3]
    np.testing.assert_array_equal(np.diag(matrix), 1)
    assert 0 < np.abs(matrix - np.eye(3)).max() <= 0.3


def test_jitter_has_the_given_deviation() -> None:
    clip = body(frames=200)
    assert np.std(jitter(clip, rng(), std=0.05).joints - clip.joints) == pytest.approx(0.05, 0.02)


def test_joint_dropout_hides_joints_for_the_clip_or_for_a_frame() -> None:
    clip = body(frames=400)
    whole = joint_dropout(clip, rng(), p=0.3).valid
    assert (whole.all(axis=1) | ~whole.any(axis=1)).all()
    assert 0 < whole.mean() < 1
    frame = joint_dropout(clip, rng(), p=0.3, per="frame")
    assert frame.valid.mean() == pytest.approx(0.7, abs=0.02)
    assert not frame.confidence[~frame.valid].any()
    assert joint_dropout(clip, rng(), p=1.0).valid.sum() == 0


def test_person_swap_exchanges_the_first_two() -> None:
    clip = body(persons=3)
    swapped = person_swap(clip, rng(), p=1.0)
    np.testing.assert_array_equal(swapped.joints, clip.joints[[1, 0, 2]])
    np.testing.assert_array_equal(swapped.confidence, clip.confidence[[1, 0, 2]])
    assert person_swap(clip, rng(), p=0.0) is clip
    alone = body(persons=1)
    assert person_swap(alone, rng(), p=1.0) is alone


def test_mirror_negates_x_and_exchanges_hands_and_is_its_own_inverse() -> None:
    clip = body()
    mirrored = mirror(clip, rng(), p=1.0)
    left, right = NTU.index("left_hand"), NTU.index("right_hand")
    flipped = clip.joints[:, :, right] * np.array([-1, 1, 1], dtype=np.float32)
    np.testing.assert_array_equal(mirrored.joints[:, :, left], flipped)
    np.testing.assert_array_equal(mirrored.confidence[:, :, left], clip.confidence[:, :, right])
    np.testing.assert_array_equal(mirror(mirrored, rng(), p=1.0).joints, clip.joints)
    changed = [mirror(clip, rng(s), p=0.5) is not clip for s in range(200)]
    assert 70 < sum(changed) < 130


def test_mirror_needs_sides() -> None:
    hand = get_layout("hand21")
    clip = Clip(np.zeros((1, 2, 21, 3), dtype=np.float32), hand)
    with pytest.raises(TransformError, match="layout 'hand21' has no left and right joints"):
        mirror(clip, rng())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0, 1), move=st.sampled_from(MOVES))
def test_moves_leave_the_absent_absent(seed: int, share: float, move: object) -> None:
    clip = body(seed=seed)
    hidden = rng(seed).random(clip.joints.shape[:3]) < share
    holed = clip.with_joints(np.where(hidden[..., None], np.nan, clip.joints))
    moved = move(holed, rng(seed))
    np.testing.assert_array_equal(moved.valid, ~hidden)
    # and what is seen moves as if nobody were missing
    whole = move(clip, rng(seed)).joints
    np.testing.assert_allclose(moved.joints[~hidden], whole[~hidden], atol=1e-5)


@pytest.mark.parametrize(
    ("move", "options", "message"),
    [
        (random_move, {"scales": []}, "scales must be a list of numbers, got []"),
        (random_rotate, {"degrees": (1, 2)}, "got (1, 2)"),
        (random_view, {"scale": (2.0, 1.0)}, "scale must be ascending, got 2 and 1"),
        (random_scale, {"low": 2.0}, "low, high must be ascending, got 2 and 1.1"),
        (random_scale, {"low": 0}, "low must be a number from 0.001 to 1000, got 0"),
        (jitter, {"std": float("nan")}, "std must be a number of 0 or more, got nan"),
        (joint_dropout, {"per": "year"}, "per must be 'clip' or 'frame', got 'year'"),
        (mirror, {"p": True}, "p must be a number from 0 to 1, got True"),
    ],
)
def test_bad_options_say_which_transform_and_why(
    move: object, options: dict[str, object], message: str
) -> None:
    with pytest.raises(TransformError) as caught:
        move(body(), rng(), **options)
    assert f"transform '{move.__name__}': " in str(caught.value)
    assert message in str(caught.value)


def test_a_view_needs_three_coordinates() -> None:
    with pytest.raises(TransformError, match="'random_view': expected joints of 3 coordinates"):
        random_view(body(dims=2), rng())


def test_joint_gaps_hide_whole_joints_for_one_stretch_of_frames() -> None:
    clip = body(frames=40)
    hidden = ~joint_gaps(clip, rng(), p=0.5, longest=0.6).valid
    struck = hidden.any(axis=1)
    assert 0.2 < struck.mean() < 0.8
    changes = np.diff(hidden.astype(int), axis=1, prepend=0, append=0)
    assert (np.abs(changes).sum(axis=1) <= 2).all()  # one stretch, at most
    assert hidden.sum(axis=1).max() <= 0.6 * 40 + 1
    assert (~joint_gaps(clip, rng(), p=1.0, longest=1.0).valid).any(axis=1).mean() > 0.9
    assert joint_gaps(clip, rng(), p=0.0).valid.all()


def test_pose_noise_has_fast_and_slow_parts_in_sizes_of_the_body() -> None:
    still = np.repeat(np.random.default_rng(1).uniform(0, 100, (1, 1, 17, 2)), 400, axis=1)
    clip = Clip(still, COCO)
    size = np.linalg.norm(np.ptp(still[0, 0], axis=0))
    fast = [pose_noise(clip, rng(n), fast=0.02, slow=0.0).joints - still for n in range(30)]
    spread = np.std(fast, axis=(1, 2, 3, 4)) / size
    assert 0.017 < spread.max() < 0.021 and spread.min() < 0.005
    for noise in fast:
        assert abs(np.corrcoef(noise[0, 1:, 0, 0], noise[0, :-1, 0, 0])[0, 1]) < 0.2
    slow = pose_noise(clip, rng(), fast=0.0, slow=0.02, every=10).joints - still
    steps = np.abs(np.diff(slow, axis=1)).mean() / np.abs(slow).mean()
    assert 0 < steps < 0.25
    larger = pose_noise(clip.with_joints(still * 5), rng(), fast=0.0, slow=0.02, every=10).joints
    np.testing.assert_allclose(larger - still * 5, slow * 5, atol=1e-2)


def test_crop_view_hides_what_lies_beyond_one_edge() -> None:
    clip = body(frames=40, dims=2)
    hidden = [~crop_view(clip, rng(n), p=1.0, share=0.6).valid for n in range(60)]
    places = [sign * clip.joints[..., axis] for axis in (0, 1) for sign in (1, -1)]
    for mask in filter(np.any, hidden):
        assert sum(place[mask].min() > place[~mask].max() for place in places) == 1
    assert 0.02 < np.mean(hidden) < 0.5
    assert crop_view(clip, rng(), p=0.0).valid.all()
    with pytest.raises(TransformError, match="'crop_view': expected joints of 2 coordinates"):
        crop_view(body(), rng())


def test_swap_sides_exchanges_names_and_moves_nothing() -> None:
    clip = body(dims=2)
    swapped = swap_sides(clip, rng(), p=1.0)
    left, right = COCO.index("left_knee"), COCO.index("right_knee")
    np.testing.assert_array_equal(swapped.joints[:, :, left], clip.joints[:, :, right])
    np.testing.assert_array_equal(swapped.confidence[:, :, right], clip.confidence[:, :, left])
    nose = COCO.index("nose")
    np.testing.assert_array_equal(swapped.joints[:, :, nose], clip.joints[:, :, nose])
    assert swap_sides(clip, rng(), p=0.0) is clip
    hand = Clip(np.zeros((1, 2, 21, 2)), get_layout("hand21"))
    with pytest.raises(TransformError, match="'swap_sides': layout 'hand21' has no left and right"):
        swap_sides(hand, rng())


def test_another_view_turns_bodies_about_the_vertical_axis_of_their_space():
    """The same body, with y or z up, is seen the same after the same draw."""
    joints = np.random.default_rng(0).normal(size=(1, 4, 20, 3)).astype(np.float32)
    high = Space("world", "z", "-y")
    upright = Clip(joints, get_layout("kinect20"), space=KINECT)
    matrix = KINECT.rotation_to(high)
    lying = Clip(permute_axes(joints, matrix), get_layout("kinect20"), space=high)
    for name, options in (
        ("random_view", {}),
        ("random_rotate", {"degrees": (5.0, 60.0, 5.0)}),
        ("mirror", {"p": 1.0}),
    ):
        change = TRANSFORMS[name]
        one, other = (
            change.apply(clip, np.random.default_rng(1), options) for clip in (upright, lying)
        )
        np.testing.assert_allclose(permute_axes(one.joints, matrix), other.joints, atol=1e-5)


def test_a_mirrored_body_stays_upright_whichever_axis_points_up():
    joints = np.zeros((1, 1, 20, 3), np.float32)
    joints[..., 0] = 1.0
    clip = Clip(joints, get_layout("kinect20"), space=Space("world", "x"))
    mirrored = TRANSFORMS["mirror"].apply(clip, np.random.default_rng(0), {"p": 1.0})
    assert (mirrored.joints[..., 0] == 1).all()


def test_images_are_not_made_of_other_spaces():
    clip = Clip(np.zeros((1, 1, 20, 3)), get_layout("kinect20"), space=KINECT)
    with pytest.raises(TransformError, match="expected the coordinates of an image, got world"):
        TRANSFORMS["image_normalize"].apply(clip, None, {"width": 9, "height": 9})


def test_drop_joints_hides_the_same_joints_in_the_same_frames_of_all_persons() -> None:
    clip = body(persons=2, frames=40)
    for seed in range(5):
        hidden = ~drop_joints(clip, rng(seed), p=1.0, joints=(3, 5), frames=(10, 12)).valid
        np.testing.assert_array_equal(hidden[0], hidden[1])
        frames, joints = hidden[0].any(axis=1), hidden[0].any(axis=0)
        assert 10 <= frames.sum() <= 12
        assert 3 <= joints.sum() <= 5
        np.testing.assert_array_equal(hidden[0], frames[:, None] & joints)
    short = drop_joints(body(frames=4), rng(), p=1.0)  # fewer frames than 16: all of them
    assert (~short.valid).any(axis=(0, 2)).all()
    with pytest.raises(TransformError, match="frames must be ascending"):
        drop_joints(clip, rng(), frames=(5, 2))


def test_drop_axis_sets_one_coordinate_to_zero() -> None:
    clip, found = body(), set()
    for seed in range(12):
        made = drop_axis(clip, rng(seed), p=1.0).joints
        (axis,) = (d for d in range(3) if not made[..., d].any())
        others = [d for d in range(3) if d != axis]
        np.testing.assert_array_equal(made[..., others], clip.joints[..., others])
        found.add(axis)
    assert found == {0, 1, 2}


def test_drop_person_leaves_one() -> None:
    clip = body(persons=2)
    left = {tuple(drop_person(clip, rng(s), p=1.0).valid.any(axis=(1, 2))) for s in range(12)}
    assert left == {(True, False), (False, True)}
    alone = body(persons=1)
    assert drop_person(alone, rng(), p=1.0) is alone


def test_random_view_as_released_turns_before_it_tilts() -> None:
    clip = body()
    up = np.zeros_like(clip.joints)
    up[..., 1] = 1
    for seed in range(6):
        made = random_view(clip.with_joints(up), rng(seed), faithful=True, scale=(1.0, 1.0))
        tilted = made.joints[0, 0, 0]
        assert abs(tilted[0]) < 1e-6  # the vertical stays in the plane of the view
        assert np.rad2deg(np.arctan2(tilted[2], tilted[1])) == pytest.approx(
            round(float(np.rad2deg(np.arctan2(tilted[2], tilted[1])))), abs=1e-3
        )


def test_random_rotate_of_2d_clips_as_released_goes_up_to_a_radian() -> None:
    clip = Clip(np.tile(np.array([1, 0], np.float32), (1, 1, 17, 1)), COCO)
    angles = []
    for seed in range(200):
        x, y = random_rotate(clip, rng(seed), degrees=17.19, faithful=True).joints[0, 0, 0]
        angles.append(np.arctan2(y, x))
    assert -0.301 < min(angles) < -0.25
    assert 0.9 < max(angles) < 1.0


def test_random_scale_can_have_a_factor_for_each_axis() -> None:
    clip = body()
    factors = (random_scale(clip, rng(), per_axis=True).joints / clip.joints).reshape(-1, 3)
    np.testing.assert_allclose(factors, factors[:1].repeat(len(factors), axis=0), rtol=1e-5)
    assert len({round(float(factor), 4) for factor in factors[0]}) == 3
