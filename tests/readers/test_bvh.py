"""Reader of .bvh files: forward kinematics by hand, names of joints, damaged files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinegraph.clips.clip import Clip
from kinegraph.errors import ReadError
from kinegraph.readers import READERS, guess_reader, read_clip, read_clips
from kinegraph.readers.bvh import name_joints
from kinegraph.readers.formats.bvh_file import BvhJoint, read_bvh
from kinegraph.skeleton import map_joints

TEXT = """HIERARCHY
ROOT Hips
{
  OFFSET 0.0 0.0 0.0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT mixamorig:LeftUpLeg
  {
    OFFSET	10	0	0
    CHANNELS 3 Zrotation Xrotation Yrotation
    JOINT mixamorig:LeftLeg
    {
      OFFSET 0 -40 0
      CHANNELS 0
      End Site
      {
        OFFSET 0 -38 0
      }
    }
  }
  JOINT Bip01 R Thigh {
    OFFSET -10 0 0
    CHANNELS 4 Yposition Zrotation Xrotation Yrotation
  }
}
MOTION
Frames: 2
Frame Time: 0.0083333
1 90 2 0 0 0 0 0 0 3 0 0 0
1 90 2 0 0 90 90 0 0 3 0 0 0
"""


def write(folder: Path, text: str = TEXT, name: str = "walk.bvh") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_positions_by_hand(tmp_path: Path) -> None:
    clip = read_clip(write(tmp_path))
    assert (clip.id, clip.fps, clip.label) == ("walk", 120.0, None)
    assert clip.layout.name == "bvh4"
    assert clip.layout.joints == ("mid_hip", "left_hip", "left_knee", "right_hip")
    assert clip.layout.mirror_pairs == ((1, 3),)
    assert clip.layout.parents == (0, 0, 1, 0)
    first = [[1, 90, 2], [11, 90, 2], [11, 50, 2], [-9, 93, 2]]
    # the root turns by 90 degrees about y (x to -z), then the thigh about z, which is now x
    second = [[1, 90, 2], [1, 90, -8], [1, 90, -48], [1, 93, 12]]
    np.testing.assert_allclose(clip.joints[0], [first, second], atol=1e-5)


def test_the_space_is_a_world_in_which_bodies_stand(tmp_path: Path) -> None:
    path = write(tmp_path)
    space = read_clip(path).space
    assert (
        space.describe() == "world (y up, -z away, right-handed), unit unknown, as recorded [guess]"
    )
    stated = read_clip(path, up="z", unit="cm").space
    assert stated.describe() == "world (z up, y away, right-handed), cm, as recorded"
    with pytest.raises(ReadError, match="unknown up 'w'"):
        read_clip(path, up="w")


def test_ends_of_the_last_bones(tmp_path: Path) -> None:
    clip = read_clip(write(tmp_path), ends=True)
    assert clip.layout.joints[3] == "left_knee_end"
    np.testing.assert_allclose(clip.joints[0, 0, 3], [11, 12, 2], atol=1e-5)


def test_rotations_are_applied_in_the_listed_order(tmp_path: Path) -> None:
    angles = (30.0, -50.0, 70.0)
    found = []
    for order in ("XYZ", "ZXY"):
        listed = " ".join(f"{axis}rotation" for axis in order)
        values = " ".join(str(angles["XYZ".index(axis)]) for axis in order)
        text = TEXT.replace(
            "6 Xposition Yposition Zposition Zrotation Xrotation Yrotation", f"3 {listed}"
        )
        lines = text.splitlines()
        lines[-2:] = [f"{values} 0 0 0 3 0 0 0"] * 2
        found.append(read_bvh(write(tmp_path, "\n".join(lines))).positions[0, 1])
    x, y, z = np.radians(angles)
    turned = [  # the first column of Rx Ry Rz and of Rz Rx Ry
        [np.cos(y) * np.cos(z), np.cos(x) * np.sin(z) + np.sin(x) * np.sin(y) * np.cos(z)],
        [np.cos(z) * np.cos(y) - np.sin(z) * np.sin(x) * np.sin(y)],
    ]
    np.testing.assert_allclose(found[0][:2], np.multiply(10, turned[0]), atol=1e-9)
    np.testing.assert_allclose(found[1][:1], np.multiply(10, turned[1]), atol=1e-9)


@pytest.mark.parametrize(
    ("bones", "joints"),
    [
        (
            "Hips LeftUpLeg LeftLeg LeftFoot LeftToeBase Spine Spine1 Neck Head LeftShoulder "
            "LeftArm LeftForeArm LeftHand",
            "mid_hip left_hip left_knee left_ankle left_toe spine spine1 neck head left_collar "
            "left_shoulder left_elbow left_wrist",
        ),
        (
            "Hips Chest Neck Head LeftCollar LeftUpArm LeftLowArm LeftHand RightUpLeg "
            "RightLowLeg RightFoot",
            "mid_hip chest neck head left_collar left_shoulder left_elbow left_wrist right_hip "
            "right_knee right_ankle",
        ),
        (
            "root lhipjoint lfemur ltibia lfoot rclavicle rhumerus rradius rhand",
            "mid_hip lhipjoint left_hip left_knee left_ankle right_collar right_shoulder "
            "right_elbow right_wrist",
        ),
        (
            "Root Pelvis L_Hip R_Knee L_Ankle LeftShoulder LeftElbow LeftWrist Left_Hip",
            "root mid_hip left_hip right_knee left_ankle left_shoulder left_elbow left_wrist "
            "left_hip_no2",
        ),
        ("LeftHandThumb1 ...", "left_hand_thumb1 joint"),
    ],
)  # fmt: skip
def test_bones_are_named_after_the_joint_where_they_begin(bones: str, joints: str) -> None:
    assert name_joints([BvhJoint(bone, -1) for bone in bones.split()]) == joints.split()


def test_clips_can_be_converted_and_a_folder_is_read(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, name="run.BVH")
    first, second = read_clips(tmp_path)
    assert (first.id, second.id) == ("run", "walk")
    assert isinstance(first, Clip) and first.layout == second.layout
    mapping = map_joints(first.layout, "smpl24")
    assert mapping[:3] == ((0,), (1,), (3,))
    assert guess_reader(tmp_path).name == "bvh"


def test_clips_csv_labels_the_files(tmp_path: Path) -> None:
    for name in ("b.bvh", "a.bvh", "c.bvh"):
        write(tmp_path, name=name)
    (tmp_path / "clips.csv").write_text("file,label,subject\nb.bvh,walk,1\na.bvh,run,2\n")
    plan = READERS["bvh"].plan(tmp_path, {})
    assert plan.classes == ("run", "walk")
    clips = read_clips(tmp_path, "bvh")
    assert [(c.id, c.label, c.meta["subject"]) for c in clips] == [("b", 1, 1), ("a", 0, 2)]


def test_another_hierarchy_is_refused_by_its_joints(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, TEXT.replace("LeftUpLeg", "LeftArm"), name="x.bvh")
    with pytest.raises(
        ReadError, match=r"x\.bvh: expected the hierarchy .* left_shoulder at mid_hip"
    ):
        read_clips(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("HIERARCHY", "SKELETON", r"bvh:1: expected the word HIERARCHY, got 'SKELETON'"),
        (TEXT, "", "expected the word HIERARCHY"),
        ("OFFSET\t10\t0\t0", "OFFSET 10 0", r"bvh:8: expected 3 finite numbers, got '10 0'"),
        ("OFFSET\t10\t0\t0", "OFFSET 10 0 nan", "expected 3 finite numbers"),
        ("CHANNELS 0", "CHANNELS 1 Wrotation", "expected CHANNELS with their number and names"),
        ("CHANNELS 0", "CHANNELS 2 Xrotation", "expected CHANNELS with their number and names"),
        ("CHANNELS 0", "SCALE 1", "expected a joint, OFFSET or CHANNELS, got 'SCALE 1'"),
        ("}\nMOTION", "}\n}\nMOTION", "expected no further closing brace"),
        ("}\nMOTION", "MOTION", "a hierarchy whose braces are closed"),
        ("}\nMOTION", "}\nJOINT a\n{\n}\nMOTION", "all joints to be inside of the root"),
        ("}\nMOTION", "}\nROOT a\n{\n}\nMOTION", "expected one ROOT"),
        ("MOTION", "", "expected a joint, OFFSET or CHANNELS, got 'Frames: 2'"),
        ("Frames: 2", "Frames: 3", "expected 3 frames, as Frames states, got 2"),
        ("Frames: 2", "Frames: many", "expected 1 finite numbers, got ' many'"),
        ("Frame Time: 0.0083333", "", "expected 'Frame Time:', got '1 90"),
        ("Time: 0.0083333", "Time: 0", "expected a Frame Time above 0, got 0"),
        ("3 0 0 0\n1", "3 0 0\n1", "expected 13 finite numbers"),
        ("90 0 0 3", "90 0 x 3", "expected 13 finite numbers"),
    ],
)
def test_damaged_files_name_the_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TEXT
    path = write(tmp_path, TEXT.replace(old, new, 1))
    with pytest.raises(ReadError, match=message):
        read_clips(path, "bvh")


def test_a_folder_without_files(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"expected \.bvh files, found none"):
        read_clips(tmp_path, "bvh")
