"""Normalization of position and size."""

from __future__ import annotations

import numpy as np
import pytest

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError, UnknownNameError
from kinegraph.skeleton.joint_names import find_body_center
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import Space
from kinegraph.transforms import TRANSFORMS
from kinegraph.transforms.normalize import (
    body_normalize,
    center,
    center_box,
    flip_y,
    image_normalize,
    kinetics_normalize,
    minmax,
    scale,
    skeleton_norm,
)

CHAIN = SkeletonLayout("chain", ("a", "mid_hip", "c"), ((1, 0), (2, 1)), 0)
NAN = float("nan")


def clip(joints: object, layout: SkeletonLayout = CHAIN, **fields: object) -> Clip:
    return Clip(np.asarray(joints, dtype=np.float32), layout, **fields)


def line(*persons: object) -> Clip:
    """One coordinate: (M, T, 3) values."""
    return clip(np.asarray(persons, dtype=np.float32)[..., None])


def values(made: Clip) -> list[object]:
    return made.joints[..., 0].tolist()


def test_center_on_a_joint_of_the_first_person_in_each_frame() -> None:
    made = center(line([[1, 2, 3], [5, 7, 9]], [[10, 20, 30], [40, 50, 60]]), None)
    assert values(made) == [[[-1, 0, 1], [-2, 0, 2]], [[8, 18, 28], [33, 43, 53]]]


def test_center_on_the_first_frame_or_each_person_itself() -> None:
    two = line([[1, 2, 3], [5, 7, 9]], [[10, 20, 30], [40, 50, 60]])
    assert values(center(two, None, frame="first"))[0] == [[-1, 0, 1], [3, 5, 7]]
    assert values(center(two, None, person="own"))[1] == [[-10, 0, 10], [-10, 0, 10]]
    assert values(center(two, None, joint="a"))[0] == [[0, 1, 2], [0, 2, 4]]


def test_center_uses_the_nearest_frame_where_the_joint_is_absent() -> None:
    made = center(line([[9, NAN, 9], [4, 5, 6], [4, NAN, 6]]), None)
    np.testing.assert_array_equal(values(made)[0], [[4, NAN, 4], [-1, 0, 1], [-1, NAN, 1]])
    first = center(line([[9, NAN, 9], [4, 5, 6]]), None, frame="first")
    np.testing.assert_array_equal(values(first)[0], [[4, NAN, 4], [-1, 0, 1]])


def test_center_without_the_joint_falls_to_the_next_person_or_moves_nothing() -> None:
    absent = [[1, NAN, 3]]
    made = center(line(absent, [[4, 5, 6]]), None)
    np.testing.assert_array_equal(values(made), [[[-4, NAN, -2]], [[-1, 0, 1]]])
    nobody = line(absent)
    np.testing.assert_array_equal(values(center(nobody, None)), values(nobody))


def test_center_refuses_an_unknown_joint() -> None:
    with pytest.raises(UnknownNameError, match="unknown joint of layout 'chain' 'midhip'"):
        center(line([[1, 2, 3]]), None, joint="midhip")


@pytest.mark.parametrize(
    ("layout", "joint"), [("ntu25", "spine_mid"), ("kinect20", "spine"), ("coco17", "nose")]
)
def test_the_middle_of_a_layout(layout: str, joint: str) -> None:
    assert get_layout(layout).joints[find_body_center(get_layout(layout))] == joint


def test_skeleton_norm_keeps_missing_joints_missing() -> None:
    made = skeleton_norm(line([[1, 2, NAN]], [[7, 5, 6]]), None)
    np.testing.assert_array_equal(values(made), [[[-1, 0, NAN]], [[2, 0, 1]]])


def test_the_released_skeleton_norm_moves_missing_joints_but_no_empty_frame() -> None:
    made = skeleton_norm(line([[1, 2, NAN], [NAN, 2, 3], [NAN] * 3]), None, faithful=True)
    np.testing.assert_array_equal(values(made), [[[-1, 0, -2], [-2, 0, 1], [NAN] * 3]])


def test_scale_by_torso_is_the_median_distance_of_shoulders_and_hips() -> None:
    layout = get_layout("coco17")
    joints = np.zeros((1, 3, 17, 2), dtype=np.float32)
    for side, x in (("left", 1.0), ("right", -1.0)):
        joints[0, :, layout.index(f"{side}_shoulder")] = [x, 0]
        joints[0, :, layout.index(f"{side}_hip")] = [x, 4]
    joints[0, 2] *= 100
    joints[0, 1, layout.index("left_hip")] = NAN
    joints[0, 2, 0] = NAN
    made = scale(clip(joints[:, :2], layout), None)
    assert made.joints[0, 0, layout.index("left_shoulder")].tolist() == [0.25, 0]


def test_scale_by_height_and_box() -> None:
    joints = [[[[0, 0], [3, 4], [NAN, NAN]], [[NAN, NAN]] * 3]]
    assert scale(clip(joints), None, by="height").joints[0, 0, 1].tolist() == [0.75, 1]
    np.testing.assert_allclose(scale(clip(joints), None, by="box").joints[0, 0, 1], [0.6, 0.8])


def test_scale_by_bones_does_not_depend_on_the_posture() -> None:
    layout = SkeletonLayout("arm", ("a", "b", "c", "d"), ((1, 0), (2, 1), (3, 2)), center=0)
    straight = np.array([[0, 0], [3, 0], [7, 0], [9, 0]], dtype=np.float32)
    bent = np.array([[0, 0], [0, 3], [4, 3], [4, 1]], dtype=np.float32)
    for body in (straight, bent):
        made = scale(clip([[body, body]], layout), None, by="bones")
        np.testing.assert_allclose(made.joints[0, 0], body / 9, rtol=1e-6)
    half = np.stack([straight, straight])[None]
    half[:, :, 3] = NAN  # the bone of length 2 counts as one of the mean length 3.5
    made = scale(clip(half, layout), None, by="bones")
    np.testing.assert_allclose(made.joints[0, 0, 1], [3 / 10.5, 0], rtol=1e-6)


def test_scale_without_a_measure() -> None:
    nobody = line([[NAN, NAN, NAN]])
    assert scale(nobody, None, by="box") is nobody
    with pytest.raises(TransformError, match=r"by='torso' needs shoulders and hips, which layout"):
        scale(nobody, None)


def test_center_box_keeps_the_aspect() -> None:
    made = center_box(clip([[[[0, 10], [4, 12], [NAN, NAN]]]]), None)
    np.testing.assert_array_equal(made.joints[0, 0], [[-0.5, -0.25], [0.5, 0.25], [NAN, NAN]])
    point = center_box(clip([[[[3, 3], [3, 3], [NAN, NAN]]]]), None)
    assert point.joints[0, 0, 0].tolist() == [0, 0]


def test_minmax_stretches_each_axis_and_guards_flat_ones() -> None:
    made = minmax(clip([[[[0, 5], [1, 5], [4, 5]], [[2, 5], [NAN, NAN], [4, 5]]]]), None)
    np.testing.assert_array_equal(made.joints[0, :, :, 0], [[-1, -0.5, 1], [0, NAN, 1]])
    np.testing.assert_array_equal(made.joints[0, :, :, 1], [[0, 0, 0], [0, NAN, 0]])
    nobody = clip([[[[NAN, NAN]] * 3]])
    assert not minmax(nobody, None).valid.any()


def test_image_normalize_by_meta_or_options() -> None:
    pixels = [[[[0, 0], [640, 480], [320, 120]]]]
    expected = [[-0.5, -0.5], [0.5, 0.5], [0, -0.25]]
    made = image_normalize(clip(pixels, meta={"width": 640, "height": 480}), None)
    assert made.joints[0, 0].tolist() == expected
    assert (
        image_normalize(clip(pixels), None, width=640, height=480).joints[0, 0].tolist() == expected
    )
    with pytest.raises(TransformError, match="state the size of the image"):
        image_normalize(clip(pixels), None, width=640)


def test_kinetics_normalize_hides_score_zero() -> None:
    sure = np.array([[[0.5, 0.0, 1.0]]], dtype=np.float32)
    raw = clip([[[[0.5, 0.75], [0, 0], [1, 0]]]], confidence=sure)
    made = kinetics_normalize(raw, None)
    np.testing.assert_array_equal(made.joints[0, 0], [[0, 0.25], [NAN, NAN], [0.5, -0.5]])


def test_flip_y() -> None:
    assert flip_y(clip([[[[1, 2]] * 3]]), None).joints[0, 0, 0].tolist() == [1, -2]


def test_a_wrong_option_is_one_sentence() -> None:
    with pytest.raises(TransformError, match="transform 'center': frame must be 'each' or 'first'"):
        center(line([[1, 2, 3]]), None, frame="last")


def penn_body(seed: int = 0) -> Clip:
    """Return an upright person with a trunk of 100 pixels, in a few frames."""
    x = [0, -20, 20, -25, 25, -30, 30, -12, 12, -12, 12, -12, 12]
    y = [-40, 0, 0, 52, 52, 98, 98, 100, 100, 175, 175, 245, 245]
    pose = np.stack([x, y], axis=-1).astype(np.float32)
    sway = np.random.default_rng(seed).normal(0, 1, (1, 6, 13, 2))
    return Clip(pose + sway, get_layout("penn13"))


def test_body_normalize_takes_place_and_size_out_of_every_frame() -> None:
    clip = penn_body()
    made = body_normalize(clip)
    frames = np.arange(6)[None, :, None, None]
    moved = clip.with_joints(clip.joints * (1 + frames) + 1000 * frames)
    np.testing.assert_allclose(body_normalize(moved).joints, made.joints, atol=1e-3)
    hips, shoulders = made.joints[0, :, 7:9].mean(1), made.joints[0, :, 1:3].mean(1)
    np.testing.assert_allclose(hips + shoulders, 0, atol=1e-5)
    assert np.linalg.norm(hips - shoulders, axis=1) == pytest.approx(1, abs=0.1)


def test_body_normalize_does_with_what_is_seen() -> None:
    clip = penn_body()
    whole = body_normalize(clip).joints
    for hidden in ([1], [7, 2], [0, 9, 10, 11, 12]):
        joints = clip.joints.copy()
        joints[:, :, hidden] = np.nan
        made = body_normalize(clip.with_joints(joints)).joints
        assert np.isnan(made[:, :, hidden]).all()
        assert np.nanmax(np.abs(made - whole)) < 0.35
    single = np.full_like(clip.joints, np.nan)
    single[:, :, 0] = 7.0
    assert (body_normalize(clip.with_joints(single)).joints[:, :, 0] == 0).all()
    hand = Clip(np.ones((1, 2, 21, 2)), get_layout("hand21"))
    np.testing.assert_array_equal(body_normalize(hand).joints, 0)


def test_body_normalize_never_blows_up_a_body_of_which_little_is_seen() -> None:
    joints = penn_body().joints.copy()
    joints[:, :, 5] = joints[:, :, 3] + 0.01  # a forearm that points at the camera
    for shown in ([3, 5], [3, 5, 12], [0, 11], [3]):
        few = np.full_like(joints, np.nan)
        few[:, :, shown] = joints[:, :, shown]
        made = body_normalize(penn_body().with_joints(few)).joints
        assert np.linalg.norm(made[:, :, shown], axis=-1).max() <= 2 + 1e-5


def test_lead_tells_how_a_whole_body_moves() -> None:
    clip = penn_body()
    way = np.array([3.0, -2.0], np.float32)
    moving = clip.with_joints(clip.joints[:, :1] + np.arange(6)[None, :, None, None] * way)
    still, ahead = body_normalize(moving), body_normalize(moving, None, lead=5.0)
    size = np.linalg.norm(moving.joints[0, 0, 0] - moving.joints[0, 0, 12])
    shift = (ahead.joints - still.joints)[0]
    np.testing.assert_allclose(shift[0], 0, atol=1e-6)  # nothing was before the first frame
    scale = np.linalg.norm(still.joints[0, 0, 0] - still.joints[0, 0, 12]) / size
    np.testing.assert_allclose(shift[1:], np.broadcast_to(5 * way * scale, (5, 13, 2)), rtol=1e-3)
    far = body_normalize(moving, None, lead=100.0).joints - still.joints
    np.testing.assert_allclose(far[0, 1:, 0], np.broadcast_to([1, -1], (5, 2)), atol=1e-6)


def test_lead_counts_from_where_joints_were_last_seen() -> None:
    clip = penn_body()
    way = np.array([2.0, 0.0], np.float32)
    joints = clip.joints[:, :1] + np.arange(6)[None, :, None, None] * way
    joints[:, 2:4] = np.nan
    gap = clip.with_joints(joints)
    shift = (body_normalize(gap, None, lead=5.0).joints - body_normalize(gap).joints)[0, :, 0]
    np.testing.assert_allclose(shift[4], 3 * shift[1], rtol=1e-3)
    np.testing.assert_allclose(shift[5], shift[1], rtol=1e-3)


def test_prenormalize_pyskl_2d_spans_the_image_and_hides_doubtful_joints() -> None:
    joints = np.zeros((1, 1, 17, 2), np.float32)
    joints[0, 0, 1] = 640, 480
    joints[0, 0, 2] = 320, 120
    confidence = np.full((1, 1, 17), 0.9, np.float32)
    confidence[0, 0, 3] = 0.01
    meta = {"width": 640, "height": 480}
    clip = Clip(joints, get_layout("coco17"), confidence=confidence, meta=meta,
                space=Space("image", unit="pixel"))  # fmt: skip
    made = TRANSFORMS["prenormalize_pyskl_2d"](clip)
    np.testing.assert_allclose(made.joints[0, 0, :3], [[-1, -1], [1, 1], [0, -0.5]], atol=1e-6)
    assert not made.valid[0, 0, 3] and made.valid.sum() == 16
