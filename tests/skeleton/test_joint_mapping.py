"""Conversion between layouts: joints that are kept, midpoints, absent joints."""

from __future__ import annotations

import numpy as np
import pytest

from kinegraph.errors import LayoutError, UnknownNameError
from kinegraph.skeleton import LAYOUTS, SkeletonLayout, convert_joints, get_layout, map_joints
from kinegraph.skeleton.joint_mapping import (
    BODY_PARTS,
    COMPARED_LAYOUTS,
    MIDPOINTS,
    conversion_table,
)

BODIES = [name for name in LAYOUTS if name not in ("hand21", "shrec22", "ntu_edge24")]


def named(source: str, target: str) -> dict[str, tuple[str, ...]]:
    """Return target joint -> names of its source joints."""
    joints, origins = get_layout(source).joints, map_joints(source, target)
    found = zip(get_layout(target).joints, origins, strict=True)
    return {name: tuple(joints[i] for i in own) for name, own in found}


def numbered(name: str, dims: int = 2) -> np.ndarray:
    """Return one frame in which joint i is at (i, 10 i, ...)."""
    V = get_layout(name).num_joints
    return (np.arange(V)[:, None] * 10.0 ** np.arange(dims)).astype(np.float32)[None]


def test_the_tables_name_joints_that_there_are():
    for layout, parts in BODY_PARTS.items():
        assert set(parts) <= set(get_layout(layout).joints)
    known = {joint for name in BODIES for joint in get_layout(name).joints}
    known |= {part for parts in BODY_PARTS.values() for own in parts.values() for part in own}
    for part, ends in MIDPOINTS.items():
        assert {part, *ends} <= known


@pytest.mark.parametrize("target", COMPARED_LAYOUTS)
@pytest.mark.parametrize("source", COMPARED_LAYOUTS)
def test_sides_are_never_exchanged_and_limbs_always_survive(source, target):
    found = named(source, target)
    for joint, origins in found.items():
        for origin in origins:
            for side, other in (("left_", "right_"), ("right_", "left_")):
                assert not (joint.startswith(side) and origin.startswith(other)), joint
        if joint.endswith(("t_shoulder", "t_elbow", "t_hip", "t_knee")):
            assert origins == (joint,)
    for left, right in get_layout(target).mirror_pairs:
        pair = (found[get_layout(target).joints[i]] for i in (left, right))
        assert len({len(origins) for origins in pair}) == 1


@pytest.mark.parametrize("name", BODIES)
def test_a_layout_becomes_itself(name):
    joints = numbered(name)
    made, _ = convert_joints(joints, name, name)
    np.testing.assert_array_equal(made, joints)


def test_known_joints_are_where_they_should_be():
    assert named("coco17", "penn13")["head"] == ("left_ear", "right_ear")
    assert named("mediapipe33", "penn13")["head"] == ("left_ear", "right_ear")
    assert named("kinect20", "penn13")["head"] == ("head",)
    assert named("coco17", "openpose18")["neck"] == ("left_shoulder", "right_shoulder")
    assert named("ntu25", "openpose18")["neck"] == ("spine_shoulder",)
    assert named("kinect20", "ntu25")["neck"] == ()  # the throat: only NTU marks it
    assert named("coco17", "body25")["mid_hip"] == ("left_hip", "right_hip")
    assert named("ntu25", "body25")["mid_hip"] == ("spine_base",)
    assert named("sbu15", "penn13")["left_wrist"] == ("left_hand",)
    assert named("florence15", "sbu15")["right_foot"] == ("right_ankle",)
    assert named("mediapipe33", "kinect20")["left_hand"] == ("left_index", "left_pinky")
    assert named("mediapipe33", "body25")["left_big_toe"] == ("left_foot_index",)
    assert named("body25b", "body25")["neck"] == ("left_shoulder", "right_shoulder")
    assert named("mpi15", "jhmdb15")["belly"] == ("chest",)
    assert named("azure_kinect32", "ntu25")["neck"] == ("neck",)
    assert named("azure_kinect32", "ntu25")["spine_shoulder"] == ("left_shoulder", "right_shoulder")
    assert named("smpl24", "kinect20")["hip_center"] == ("pelvis",)
    assert named("h36m17", "openpose18")["neck"] == ("thorax",)
    assert named("halpe26", "penn13")["head"] == ("left_ear", "right_ear")
    assert named("coco_wholebody133", "mediapipe33")["left_mouth"] == ("left_lip_corner",)
    assert all(named("coco_wholebody133", "mediapipe33").values())
    assert named("utd_mhad20", "kinect20") == {j: (j,) for j in get_layout("kinect20").joints}


def test_joints_and_the_least_confidence_are_carried_over():
    joints = numbered("coco17")
    sure = np.linspace(0, 1, 17, dtype=np.float32)[None]
    made, kept = convert_joints(joints, "coco17", "openpose18", sure)
    np.testing.assert_allclose(made[0, 1], [5.5, 55])  # the neck, between 5 and 6
    np.testing.assert_allclose(kept[0, :3], sure[0, [0, 5, 6]])
    assert made.dtype == kept.dtype == np.float32


def test_a_midpoint_needs_both_ends_and_what_is_not_marked_is_absent():
    joints = numbered("coco17")
    joints[0, 5] = np.nan
    made, kept = convert_joints(joints, "coco17", "body25", np.ones((1, 17), np.float32))
    body = get_layout("body25")
    for name in ("neck", "left_shoulder", "left_heel"):
        assert np.isnan(made[0, body.index(name)]).all()
        assert kept[0, body.index(name)] == 0
    assert not np.isnan(made[0, body.index("mid_hip")]).any()


def test_leading_axes_are_free_and_layouts_convert_by_themselves():
    joints = np.random.default_rng(0).normal(size=(2, 3, 20, 3)).astype(np.float32)
    made, _ = convert_joints(joints, "kinect20", "ntu25")
    assert made.shape == (2, 3, 25, 3)
    flat, nothing = convert_joints(joints, "kinect20", "penn13", camera="front")
    assert flat.shape == (2, 3, 13, 2)
    assert nothing is None
    head = get_layout("kinect20").index("head")
    np.testing.assert_array_equal(flat[:, :, 0], -joints[:, :, head, :2])


def test_a_layout_of_ones_own_is_known_by_its_names():
    legs = SkeletonLayout("legs", ("left_hip", "right_hip", "tail"), ((0, 1), (2, 1)), 1)
    assert map_joints(legs, "body25")[8] == (0, 1)
    assert map_joints("coco17", legs) == ((11,), (12,), ())


def test_what_cannot_be_is_refused_in_a_sentence():
    with pytest.raises(LayoutError, match="cannot become 'ntu25', whose joints have a depth"):
        convert_joints(numbered("coco17"), "coco17", "ntu25")
    with pytest.raises(LayoutError, match="'hand21' and 'ntu25' have no joint in common"):
        convert_joints(numbered("hand21", 3), "hand21", "ntu25")
    with pytest.raises(LayoutError, match=r"expected joints \(..., 17, D\) of layout 'coco17'"):
        convert_joints(numbered("penn13"), "coco17", "penn13")
    with pytest.raises(LayoutError, match="leave the camera out for joints"):
        convert_joints(numbered("coco17"), "coco17", "penn13", camera="front")
    with pytest.raises(UnknownNameError, match=r"unknown layout 'pen13' \(did you mean 'penn13'"):
        map_joints("coco17", "pen13")


def test_survivors_are_counted_from_the_correspondences():
    columns, rows = conversion_table()
    assert columns == COMPARED_LAYOUTS == tuple(row[0] for row in rows)
    table = {row[0]: dict(zip(columns, row[1:], strict=True)) for row in rows}
    assert table["coco17"]["penn13"] == "13/13"
    assert table["coco17"]["ntu25"] == "–"
    assert table["ntu25"]["coco17"] == "12/17"
