"""Joint orders against a second source: other programs' numbers for the same joints.

Sources: the skeletons of Pose2Sim (numbers of AlphaPose, OpenPose and COCO-WholeBody joints), the
lists of mirrored points in MMPose's data sets, Microsoft's table of parents (Azure Kinect), the
left and right joints of VideoPose3D (Human3.6M), the chains of HumanML3D (SMPL).
"""

from __future__ import annotations

import pytest

from kinegraph.skeleton import find_joint, get_layout

POSE2SIM = {
    "halpe26": """
        Hip 19 RHip 12 RKnee 14 RAnkle 16 RBigToe 21 RSmallToe 23 RHeel 25 LHip 11 LKnee 13
        LAnkle 15 LBigToe 20 LSmallToe 22 LHeel 24 Neck 18 Head 17 Nose 0 RShoulder 6 RElbow 8
        RWrist 10 LShoulder 5 LElbow 7 LWrist 9
    """,
    "halpe136": """
        Hip 19 Neck 18 RHeel 25 LSmallToe 22 RThumb2 117 RIndex1 120 RPinky1 132 LThumb2 96
        LIndex1 99 LPinky1 111
    """,
    "coco_wholebody133": """
        RHip 12 LAnkle 15 RBigToe 20 RSmallToe 21 RHeel 22 LBigToe 17 LSmallToe 18 LHeel 19
        RThumb2 114 RIndex1 117 RPinky1 129 LThumb2 93 LIndex1 96 LPinky1 108
    """,
    "body25b": """
        RHip 12 RKnee 14 RAnkle 16 RBigToe 22 RSmallToe 23 RHeel 24 LHip 11 LKnee 13 LAnkle 15
        LBigToe 19 LSmallToe 20 LHeel 21 Neck 17 Head 18 Nose 0 RShoulder 6 RElbow 8 RWrist 10
        LShoulder 5 LElbow 7 LWrist 9
    """,
    "body25": """
        RHip 9 RKnee 10 RAnkle 11 RBigToe 22 RSmallToe 23 RHeel 24 LHip 12 LKnee 13 LAnkle 14
        LBigToe 19 LSmallToe 20 LHeel 21 Neck 1 Nose 0 RShoulder 2 RElbow 3 RWrist 4 LShoulder 5
        LElbow 6 LWrist 7
    """,
    "mpi15": """
        Chest 14 RHip 8 RKnee 9 RAnkle 10 LHip 11 LKnee 12 LAnkle 13 Neck 1 Head 0 RShoulder 2
        RElbow 3 RWrist 4 LShoulder 5 LElbow 6 LWrist 7
    """,
    "mediapipe33": """
        RHip 24 RKnee 26 RAnkle 28 RHeel 30 RBigToe 32 LHip 23 LKnee 25 LAnkle 27 LHeel 29
        LBigToe 31 Nose 0 LEyeInner 1 LEye 2 LEyeOuter 3 REyeInner 4 REye 5 REyeOuter 6 LEar 7
        REar 8 LMouth 9 RMouth 10 RShoulder 12 RElbow 14 RWrist 16 RPinky 18 RIndex 20 RThumb 22
    """,
}

FACE_MIRRORS = (
    "0 16 1 15 2 14 3 13 4 12 5 11 6 10 7 9 17 26 18 25 19 24 20 23 21 22 31 35 32 34 36 45 37 44 "
    "38 43 39 42 40 47 41 46 48 54 49 53 50 52 55 59 56 58 60 64 61 63 65 67"
)

AZURE_PARENTS = [
    *(-1, 0, 1, 2, 2, 4, 5, 6, 7, 8, 7, 2, 11, 12, 13, 14, 15, 14),
    *(0, 18, 19, 20, 0, 22, 23, 24, 3, 26, 26, 26, 26, 26),
]

SMPL_CHAINS = [
    *([0, 2, 5, 8, 11], [0, 1, 4, 7, 10], [0, 3, 6, 9, 12, 15]),
    *([9, 14, 17, 19, 21], [9, 13, 16, 18, 20]),
]


@pytest.mark.parametrize("name", POSE2SIM)
def test_joints_have_the_numbers_of_pose2sim(name: str) -> None:
    words = POSE2SIM[name].split()
    numbers = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    assert {text: find_joint(name, text) for text in numbers} == numbers


@pytest.mark.parametrize(("name", "first"), [("coco_wholebody133", 23), ("halpe136", 26)])
def test_points_of_the_face_are_mirrored_as_in_mmpose(name: str, first: int) -> None:
    numbers = iter([int(number) for number in FACE_MIRRORS.split()])
    expected = list(range(68))
    for one, other in zip(numbers, numbers, strict=True):
        expected[one], expected[other] = other, one
    mirror = get_layout(name).mirror
    assert [joint - first for joint in mirror[first : first + 68]] == expected
    hands = range(first + 68, first + 110)
    assert [mirror[joint] for joint in hands] == [*hands[21:], *hands[:21]]
    assert get_layout(name).joints[first + 68].startswith("left")


def test_azure_kinect_has_the_parents_of_microsofts_table() -> None:
    layout = get_layout("azure_kinect32")
    center = layout.center
    found = [-1 if joint == center else parent for joint, parent in enumerate(layout.parents)]
    assert found == AZURE_PARENTS
    assert layout.joints[26:] == ("head", "nose", "left_eye", "left_ear", "right_eye", "right_ear")


def test_human36m_has_the_left_and_right_joints_of_videopose3d() -> None:
    layout = get_layout("h36m17")
    sides = [{j for j in range(17) if layout.joints[j].startswith(s)} for s in ("left", "right")]
    assert sides == [{4, 5, 6, 11, 12, 13}, {1, 2, 3, 14, 15, 16}]
    assert [layout.index(j) for j in ("spine", "thorax", "jaw", "head")] == [7, 8, 9, 10]


@pytest.mark.parametrize("name", ["smpl22", "smpl24"])
def test_smpl_has_the_chains_of_humanml3d_outside_of_the_collars(name: str) -> None:
    layout = get_layout(name)
    for chain in SMPL_CHAINS:
        assert [layout.parents[joint] for joint in chain[1:]] == chain[:-1]
    left = [layout.joints[joint] for joint in SMPL_CHAINS[4][1:]]
    assert left == ["left_collar", "left_shoulder", "left_elbow", "left_wrist"]


def test_hands_are_one_layout_under_the_names_of_both_programs() -> None:
    assert get_layout("openpose_hand") is get_layout("mediapipe_hand") is get_layout("hand21")
    hand = get_layout("hand21").joints[1:]
    for name, first in (("coco_wholebody133", 92), ("halpe136", 95)):
        joints = get_layout(name).joints[first : first + 20]
        assert joints == tuple(f"left_{joint}" for joint in hand)
    assert get_layout("alphapose17") is get_layout("coco17")
    assert get_layout("alphapose136") is get_layout("halpe136")
