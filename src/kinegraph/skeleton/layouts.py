"""Registry of skeleton layouts: published conventions by name, and functions to add more."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from kinegraph.errors import LayoutError, unknown_name
from kinegraph.skeleton.layout import Pairs, SkeletonLayout


def _make_layout(
    name: str, joints: str, center: str, bones: Iterable[tuple[int, int]], source: str
) -> SkeletonLayout:
    """Return a layout; its mirror pairs follow from the names (left_x belongs to right_x)."""
    names = tuple(joints.split())
    pairs = tuple(
        (i, names.index(joint.replace("left_", "right_")))
        for i, joint in enumerate(names)
        if joint.startswith("left_")
    )
    return SkeletonLayout(name, names, tuple(bones), names.index(center), pairs, source)


def _from_one_based(*bones: tuple[int, int]) -> Pairs:
    """Convert bones numbered from 1, as in the Kinect literature, to indices from 0."""
    return tuple((child - 1, parent - 1) for child, parent in bones)


_LEFT_ARM_V1 = "left_shoulder left_elbow left_wrist left_hand"
_LEFT_LEG = "left_hip left_knee left_ankle left_foot"
_KINECT_LIMBS = " ".join(
    limb.replace("left_", f"{side}_")
    for limb in (_LEFT_ARM_V1, _LEFT_LEG)
    for side in ("left", "right")
)
_COCO_JOINTS = """nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder
    left_elbow right_elbow left_wrist right_wrist left_hip right_hip left_knee right_knee
    left_ankle right_ankle"""
_NTU_BODY_BONES = _from_one_based(
    (1, 2), (2, 21), (3, 21), (4, 3), (5, 21), (6, 5), (7, 6), (8, 7), (9, 21), (10, 9),
    (11, 10), (12, 11), (13, 1), (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18),
    (20, 19),
)  # fmt: skip
_NTU_JOINTS = f"""spine_base spine_mid neck head {_KINECT_LIMBS} spine_shoulder
    left_hand_tip left_thumb right_hand_tip right_thumb"""
_NTU_BONE_NODES = " ".join(f"{j}_bone" for j in _NTU_JOINTS.split() if j != "spine_shoulder")
_FIFTEEN_BONES = (
    (0, 1), (2, 1), (3, 1), (4, 3), (5, 4), (6, 1), (7, 6), (8, 7),
    (9, 2), (10, 9), (11, 10), (12, 2), (13, 12), (14, 13),
)  # fmt: skip
_FINGERS = " ".join(
    f"{finger}_{joint}"
    for finger in ("index", "middle", "ring", "pinky")
    for joint in ("mcp", "pip", "dip", "tip")
)
_HAND_JOINTS = f"thumb_cmc thumb_mcp thumb_ip thumb_tip {_FINGERS}"

_BUILT_IN = (
    _make_layout(
        "openpose18",
        """nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist
        right_hip right_knee right_ankle left_hip left_knee left_ankle
        right_eye left_eye right_ear left_ear""",
        "neck",
        (
            (4, 3), (3, 2), (7, 6), (6, 5), (13, 12), (12, 11), (10, 9), (9, 8), (11, 5), (8, 2),
            (5, 1), (2, 1), (0, 1), (15, 0), (14, 0), (17, 15), (16, 14),
        ),
        "OpenPose COCO-18, with the bones of ST-GCN (hips are connected to the shoulders)",
    ),
    _make_layout(
        "body25",
        """nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist
        mid_hip right_hip right_knee right_ankle left_hip left_knee left_ankle
        right_eye left_eye right_ear left_ear
        left_big_toe left_small_toe left_heel right_big_toe right_small_toe right_heel""",
        "mid_hip",
        (
            (1, 8), (0, 1), (15, 0), (17, 15), (16, 0), (18, 16), (5, 1), (6, 5), (7, 6), (2, 1),
            (3, 2), (4, 3), (9, 8), (10, 9), (11, 10), (24, 11), (22, 11), (23, 22), (12, 8),
            (13, 12), (14, 13), (21, 14), (19, 14), (20, 19),
        ),
        "OpenPose BODY_25, with the bones PaddleVideo uses for FSD-10",
    ),
    _make_layout(
        "ntu25",
        _NTU_JOINTS,
        "spine_shoulder",
        _NTU_BODY_BONES + _from_one_based((22, 23), (23, 8), (24, 25), (25, 12)),
        "NTU RGB+D (Kinect v2), with the bones of ST-GCN, AS-GCN, 2s-AGCN and Shift-GCN",
    ),
    _make_layout(
        "ntu25_pyskl",
        _NTU_JOINTS,
        "spine_shoulder",
        _NTU_BODY_BONES + _from_one_based((22, 8), (23, 8), (24, 12), (25, 12)),
        "NTU RGB+D (Kinect v2), with the bones of PYSKL: hand tip and thumb at the hand",
    ),
    _make_layout(
        "ntu_edge24",
        _NTU_BONE_NODES,
        "neck_bone",
        _from_one_based(
            (1, 2), (3, 2), (4, 3), (5, 2), (6, 5), (7, 6), (8, 7), (9, 2), (10, 9), (11, 10),
            (12, 11), (13, 1), (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18),
            (20, 19), (21, 22), (22, 8), (23, 24), (24, 12),
        ),
        "ST-GCN's ntu_edge: the bones of ntu25 are the nodes, each named after its child joint; "
        "neck_bone, the center, is listed as a child of spine_mid_bone",
    ),
    _make_layout(
        "coco17",
        _COCO_JOINTS,
        "nose",
        (
            (15, 13), (13, 11), (16, 14), (14, 12), (11, 5), (12, 6), (9, 7), (7, 5), (10, 8),
            (8, 6), (5, 0), (6, 0), (1, 0), (3, 1), (2, 0), (4, 2),
        ),
        "COCO keypoints, with the tree of PYSKL",
    ),
    _make_layout(
        "coco17_paddle",
        _COCO_JOINTS,
        "left_hip",
        (
            (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7), (6, 8), (7, 9), (8, 10),
            (5, 11), (6, 12), (11, 13), (12, 14), (13, 15), (14, 16), (11, 12),
        ),
        "COCO keypoints, with PaddleVideo's coco_keypoint bones: one cycle, the parent listed "
        "first, and the left hip as center, so that its spatial partitions are not mirror images",
    ),
    _make_layout(
        "coco17_mmskeleton",
        _COCO_JOINTS,
        "nose",
        _from_one_based(
            (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (8, 6),
            (9, 7), (10, 8), (11, 9), (2, 3), (2, 1), (3, 1), (4, 2), (5, 3), (4, 6), (5, 7),
        ),
        "COCO keypoints, with mmskeleton's bones: three cycles",
    ),
    _make_layout(
        "kinect20",
        f"hip_center spine shoulder_center head {_KINECT_LIMBS}",
        "shoulder_center",
        _from_one_based(
            (1, 2), (2, 3), (4, 3), (5, 3), (6, 5), (7, 6), (8, 7), (9, 3), (10, 9), (11, 10),
            (12, 11), (13, 1), (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18),
            (20, 19),
        ),
        "Kinect v1 in the order of NW-UCLA and UTKinect, with the bones of CTR-GCN",
    ),
    _make_layout(
        "utd_mhad20",
        f"head shoulder_center spine hip_center {_KINECT_LIMBS}",
        "shoulder_center",
        _from_one_based(
            (4, 3), (3, 2), (1, 2), (5, 2), (6, 5), (7, 6), (8, 7), (9, 2), (10, 9), (11, 10),
            (12, 11), (13, 4), (14, 13), (15, 14), (16, 15), (17, 4), (18, 17), (19, 18),
            (20, 19),
        ),
        "Kinect v1 in the order of UTD-MHAD, with the bones of kinect20",
    ),
    _make_layout(
        "msr20",
        """left_shoulder right_shoulder shoulder_center spine left_hip right_hip hip_center
        left_elbow right_elbow left_wrist right_wrist left_hand right_hand
        left_knee right_knee left_ankle right_ankle left_foot right_foot head""",
        "shoulder_center",
        _from_one_based(
            (20, 3), (1, 3), (2, 3), (8, 1), (10, 8), (12, 10), (9, 2), (11, 9), (13, 11),
            (4, 3), (7, 4), (5, 7), (6, 7), (14, 5), (15, 6), (16, 14), (17, 15), (18, 16),
            (19, 17),
        ),
        "Kinect v1 in the file order of MSRAction3D; which side is left is not stated by its files",
    ),
    _make_layout(
        "jhmdb15",
        """neck belly face right_shoulder left_shoulder right_hip left_hip right_elbow left_elbow
        right_knee left_knee right_wrist left_wrist right_ankle left_ankle""",
        "neck",
        (
            (1, 0), (2, 0), (3, 0), (4, 0), (5, 1), (6, 1), (7, 3), (8, 4), (9, 5), (10, 6),
            (11, 7), (12, 8), (13, 9), (14, 10),
        ),
        "JHMDB puppet joints",
    ),
    _make_layout(
        "penn13",
        """head left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist
        left_hip right_hip left_knee right_knee left_ankle right_ankle""",
        "head",
        (
            (1, 0), (2, 0), (3, 1), (4, 2), (5, 3), (6, 4), (7, 1), (8, 2), (9, 7), (10, 8),
            (11, 9), (12, 10),
        ),
        "Penn Action, which has no neck: the shoulders are connected to the head, the hips to the "
        "shoulders; the head is the only joint that a mirror leaves in place",
    ),
    _make_layout(
        "sbu15",
        """head neck torso left_shoulder left_elbow left_hand right_shoulder right_elbow right_hand
        left_hip left_knee left_foot right_hip right_knee right_foot""",
        "neck",
        _FIFTEEN_BONES,
        "SBU Kinect Interaction (OpenNI joints)",
    ),
    _make_layout(
        "florence15",
        """head neck spine left_shoulder left_elbow left_wrist right_shoulder right_elbow
        right_wrist left_hip left_knee left_ankle right_hip right_knee right_ankle""",
        "neck",
        _FIFTEEN_BONES,
        "Florence 3D Actions",
    ),
    _make_layout(
        "shrec22",
        f"wrist palm {_HAND_JOINTS}",
        "palm",
        (
            (0, 1), (0, 2), (2, 3), (3, 4), (4, 5),
            (1, 6), (6, 7), (7, 8), (8, 9), (1, 10), (10, 11), (11, 12), (12, 13),
            (1, 14), (14, 15), (15, 16), (16, 17), (1, 18), (18, 19), (19, 20), (20, 21),
        ),
        "SHREC'17 and DHG hands; beyond the palm the parent is listed first",
    ),
    _make_layout(
        "hand21",
        f"wrist {_HAND_JOINTS}",
        "wrist",
        tuple((j, 0 if j % 4 == 1 else j - 1) for j in range(1, 21)),
        "MediaPipe hands, with five chains of four from the wrist as in PYSKL's handmp",
    ),
    _make_layout(
        "mediapipe33",
        """nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer
        left_ear right_ear left_mouth right_mouth left_shoulder right_shoulder left_elbow
        right_elbow left_wrist right_wrist left_pinky right_pinky left_index right_index
        left_thumb right_thumb left_hip right_hip left_knee right_knee left_ankle right_ankle
        left_heel right_heel left_foot_index right_foot_index""",
        "nose",
        (
            (0, 1), (1, 2), (2, 3), (3, 7), (0, 4), (4, 5), (5, 6), (6, 8), (9, 10), (11, 12),
            (11, 13), (13, 15), (15, 17), (15, 19), (15, 21), (17, 19), (12, 14), (14, 16),
            (16, 18), (16, 20), (16, 22), (18, 20), (11, 23), (12, 24), (23, 24), (23, 25),
            (24, 26), (25, 27), (26, 28), (27, 29), (28, 30), (29, 31), (30, 32), (27, 31),
            (28, 32), (9, 0), (10, 0), (11, 0), (12, 0),
        ),
        "MediaPipe pose connections, mostly parent first; its face, mouth and body are three "
        "parts, so the last four bones connect mouth and shoulders with the nose",
    ),
)  # fmt: skip

#: Layouts by name; `register_layout` adds to it.
LAYOUTS: dict[str, SkeletonLayout] = {layout.name: layout for layout in _BUILT_IN}

#: Names of these layouts in other code and in papers.
LAYOUT_ALIASES: dict[str, str] = {
    "openpose": "openpose18",
    "kinetics": "openpose18",
    "openpose_body25": "body25",
    "fsd10": "body25",
    "fsd": "body25",
    "ntu-rgb+d": "ntu25",
    "nturgb+d": "ntu25",
    "ntu": "ntu25",
    "kinect25": "ntu25",
    "ntu-rgb+d/pyskl": "ntu25_pyskl",
    "ntu_edge": "ntu_edge24",
    "coco": "coco17",
    "coco_keypoint": "coco17_paddle",
    "ucla": "kinect20",
    "ucla20": "kinect20",
    "nw_ucla": "kinect20",
    "utkinect": "kinect20",
    "utd_mhad": "utd_mhad20",
    "msr": "msr20",
    "msr_action3d": "msr20",
    "jhmdb": "jhmdb15",
    "penn": "penn13",
    "penn_action": "penn13",
    "sbu": "sbu15",
    "florence": "florence15",
    "florence3d": "florence15",
    "shrec": "shrec22",
    "handmp": "hand21",
    "mediapipe": "mediapipe33",
}

MAX_LAYOUT_BYTES = 1 << 17  # a layout of a thousand joints needs about half of it


def get_layout(name: str | SkeletonLayout) -> SkeletonLayout:
    """Return the layout of this name or alias; a layout is returned as it is.

    Raises:
        UnknownNameError: no layout has this name.
    """
    if isinstance(name, SkeletonLayout):
        return name
    layout = LAYOUTS.get(LAYOUT_ALIASES.get(name, name))
    if layout is None:
        raise unknown_name("layout", str(name), LAYOUTS)
    return layout


def list_layouts() -> list[str]:
    """Return the names of all layouts, sorted."""
    return sorted(LAYOUTS)


def register_layout(layout: SkeletonLayout) -> SkeletonLayout:
    """Register a layout under its name; registering the same one again changes nothing.

    Raises:
        LayoutError: another layout has this name or alias.
    """
    taken = LAYOUT_ALIASES.get(layout.name) or layout.name
    if LAYOUTS.get(taken, layout) != layout:
        raise LayoutError(
            f"cannot register layout {layout.name!r}: the name belongs to another layout "
            f"({LAYOUTS[taken].num_joints} joints); choose another name"
        )
    return LAYOUTS.setdefault(layout.name, layout)


def read_layout(path: str | Path) -> SkeletonLayout:
    """Read a layout from a YAML or JSON file whose fields are those of `to_dict`.

    Bones, center and mirror_pairs may name joints instead of indices. The layout is not
    registered: `register_layout(read_layout(path))` does both.

    Raises:
        LayoutError: the file cannot be read, or is not a valid layout.
    """
    import yaml

    path = Path(path)
    try:
        if path.stat().st_size > MAX_LAYOUT_BYTES:
            raise LayoutError("expected a layout file of at most 128 KiB")
        text = path.read_text(encoding="utf-8")
        data = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        return SkeletonLayout.from_dict(data)
    except LayoutError as error:
        raise LayoutError(f"{path}: {error}") from None
    except OSError as error:
        raise LayoutError(f"{path}: cannot read the layout file: {error.strerror}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise LayoutError(f"{path}: not a layout in YAML or JSON: {reason}") from error
