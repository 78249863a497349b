"""The drawing pose of every layout looks like its body."""

from __future__ import annotations

import numpy as np
import pytest

from kinegraph.reports.rest_pose import (
    bone_colors,
    bone_sides,
    joint_colors,
    joint_sides,
    rest_pose,
)
from kinegraph.reports.style import BLUE, ORANGE
from kinegraph.skeleton import LAYOUTS, SkeletonLayout

BODIES = sorted(name for name, layout in LAYOUTS.items() if layout.mirror_pairs)


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_joints_lie_apart_from_one_another(name: str) -> None:
    pose = rest_pose(LAYOUTS[name])
    between = np.linalg.norm(pose[:, None] - pose[None], axis=-1) + np.eye(len(pose))
    assert pose.shape == (LAYOUTS[name].num_joints, 2)
    assert between.min() > 0.3


@pytest.mark.parametrize("name", BODIES)
def test_left_is_left_and_mirrors_right(name: str) -> None:
    layout = LAYOUTS[name]
    pose = rest_pose(layout)
    for left, right in layout.mirror_pairs:
        assert pose[left, 0] < 0
        assert pose[left] * [-1, 1] == pytest.approx(pose[right])


@pytest.mark.parametrize("name", BODIES)
def test_a_body_stands_upright_with_its_arms_outside(name: str) -> None:
    layout = LAYOUTS[name]
    height = dict(zip(layout.joints, rest_pose(layout), strict=True))
    find = {w: [p for j, p in height.items() if w in j] for w in ("shoulder", "knee", "elbow")}
    top = max(height, key=lambda joint: height[joint][1])
    assert any(word in top for word in ("head", "face", "nose", "eye"))
    assert find["shoulder"][0][1] > find["elbow"][0][1] > find["knee"][0][1]
    assert max(abs(p[0]) for p in find["elbow"]) > max(abs(p[0]) for p in find["shoulder"])


def test_a_hand_fans_out_with_a_color_a_finger() -> None:
    layout = LAYOUTS["hand21"]
    pose = rest_pose(layout)
    tips = [layout.index(f"{f}_tip") for f in ("thumb", "index", "middle", "ring", "pinky")]
    assert (np.diff(pose[tips, 0]) > 0).all()
    assert len({joint_colors(layout)[tip] for tip in tips}) == 5
    finger = [layout.index(f"index_{j}") for j in ("mcp", "pip", "dip", "tip")]
    assert (np.diff(np.linalg.norm(pose[finger], axis=1)) > 0).all()


def test_joints_without_known_names_follow_their_parents() -> None:
    layout = SkeletonLayout(
        "odd",
        ("head", "neck", "left_hip", "right_hip", "left_knee", "right_knee", "tail", "tail_end"),
        ((0, 1), (2, 1), (3, 1), (4, 2), (5, 3), (6, 1), (7, 6)),
        1,
        ((2, 3), (4, 5)),
    )
    pose = rest_pose(layout)
    assert np.isfinite(pose).all()
    assert np.linalg.norm(pose[7] - pose[6]) == pytest.approx(1.0)


def test_a_body_of_foreign_names_is_fanned_out() -> None:
    layout = SkeletonLayout("x", ("a", "b", "c"), ((1, 0), (2, 0)), 0, ((1, 2),))
    pose = rest_pose(layout)
    assert pose[0].tolist() == [0, 0]
    assert pose[1, 0] < 0 < pose[2, 0]


def test_one_joint_is_a_layout_too() -> None:
    assert rest_pose(SkeletonLayout("dot", ("a",), (), 0)).tolist() == [[0, 0]]


def test_sides_and_colors_agree() -> None:
    layout = LAYOUTS["coco17_mmskeleton"]
    sides = dict(zip(layout.bones, bone_sides(layout), strict=True))
    hips = next(bone for bone in layout.bones if set(bone) == {11, 12})
    assert sides[hips] == "trunk"
    assert joint_sides(layout)[5:7] == ("left", "right")
    assert joint_colors(layout)[5:7] == (BLUE, ORANGE)
    assert dict(zip(layout.bones, bone_colors(layout), strict=True))[(15, 13)] == BLUE
