"""Joints are found by the names that other tools write."""

from __future__ import annotations

import pytest

from kinegraph.errors import UnknownNameError
from kinegraph.skeleton import LAYOUTS, SkeletonLayout, find_joint, get_layout


def spellings(joint: str) -> set[str]:
    """Return spellings of a joint's name: case, punctuation, the side first or last or short."""
    words = joint.split("_")
    orders = [words]
    if words[0] in ("left", "right"):
        side, *rest = words
        orders += [[*rest, side], [side[0], *rest], [*rest, side[0]]]
    found = {joint, joint.replace("_", ""), joint.replace("left_", "l").replace("right_", "r")}
    for order in orders:
        found |= {mark.join(order) for mark in "_.- "} | {"_".join(order).upper()}
        found.add("".join(word.title() for word in order))
    return found


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_spelling_of_a_joint_is_that_joint(name: str) -> None:
    for index, joint in enumerate(LAYOUTS[name].joints):
        for text in spellings(joint):
            assert find_joint(name, text) == index, text


@pytest.mark.parametrize(
    ("layout", "text", "joint"),
    [
        ("ntu25", "SpineBase", "spine_base"),
        ("ntu25", "JointType_HandTipLeft", "left_hand_tip"),
        ("ntu25", "HipCenter", "spine_base"),
        ("ntu25", "ShoulderCenter", "spine_shoulder"),
        ("ntu25", "neck", "neck"),
        ("kinect20", "SpineMid", "spine"),
        ("kinect20", "Neck", None),
        ("azure_kinect32", "K4ABT_JOINT_SPINE_NAVAL", "spine_navel"),
        ("azure_kinect32", "HANDTIP_LEFT", "left_hand_tip"),
        ("openpose18", "RSho", "right_shoulder"),
        ("openpose18", "lwri", "left_wrist"),
        ("halpe26", "Hip", "mid_hip"),
        ("halpe26", "HeadTop", "head"),
        ("coco17", "Hip", None),
        ("coco17", "pelvis", None),
        ("h36m17", "RFoot", "right_ankle"),
        ("h36m17", "Neck/Nose", "jaw"),
        ("florence15", "RFoot", None),
        ("smpl24", "L_Collar", "left_collar"),
        ("smpl24", "Spine_1", "spine1"),
        ("hand21", "INDEX_FINGER_MCP", "index_mcp"),
        ("hand21", "forefinger2", "index_pip"),
        ("coco_wholebody133", "left_thumb1", "left_thumb_cmc"),
        ("mediapipe33", "LBigToe", "left_foot_index"),
        ("mediapipe33", "MOUTH_LEFT", "left_mouth"),
        ("coco17", "", None),
        ("coco17", "x", None),
        ("coco17", "left", None),
        ("coco17", "timestamp", None),
    ],
)
def test_names_of_other_tools(layout: str, text: str, joint: str | None) -> None:
    assert find_joint(layout, text) == (None if joint is None else get_layout(layout).index(joint))


def test_layouts_of_ones_own_and_names_that_two_joints_share() -> None:
    own = SkeletonLayout(
        "own", ("LeftPaw", "pawRight", "tail1", "tail_1"), ((1, 0), (2, 0), (3, 0)), 0
    )
    assert [find_joint(own, text) for text in ("paw_left", "right paw")] == [0, 1]
    assert find_joint(own, "tail_1") == 3
    assert find_joint(own, "TAIL1") is None
    with pytest.raises(UnknownNameError, match="unknown layout 'ntu-25'"):
        find_joint("ntu-25", "head")
