"""Parts of a skeleton: limbs by name, chains of other skeletons, equal sizes."""

from __future__ import annotations

from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.limbs import divide_into_parts, find_limbs


def test_limbs_of_coco_are_arms_legs_and_the_face():
    layout = get_layout("coco17")
    named = [[layout.joints[joint] for joint in limb] for limb in find_limbs(layout)]
    assert named == [
        ["left_shoulder", "left_elbow", "left_wrist"],
        ["left_hip", "left_knee", "left_ankle"],
        ["right_shoulder", "right_elbow", "right_wrist"],
        ["right_hip", "right_knee", "right_ankle"],
        ["nose", "left_eye", "left_ear", "right_eye", "right_ear"],
    ]


def test_parts_that_a_limb_does_not_fill_repeat_its_last_joint():
    assert divide_into_parts(get_layout("penn13"))[-1] == (0, 0, 0)
    parts = divide_into_parts(get_layout("coco17"))
    assert parts[-2:] == ((0, 1, 3), (2, 4, 4))


def test_a_skeleton_without_named_limbs_is_cut_at_its_branches():
    bones = ((1, 0), (2, 1), (3, 0), (4, 3), (5, 4), (6, 4))
    layout = SkeletonLayout("animal", tuple("abcdefg"), bones, center=0)
    assert find_limbs(layout) == [(0,), (1, 2), (3, 4), (5,), (6,)]
    hand = divide_into_parts(get_layout("hand21"))
    assert hand[1:] == tuple(tuple(range(i, i + 4)) for i in range(1, 21, 4))
