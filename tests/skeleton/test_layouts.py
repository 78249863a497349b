"""Layouts: validation, derived properties, and registration by a user."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import yaml

from kinegraph.errors import LayoutError, UnknownNameError
from kinegraph.skeleton import (
    LAYOUT_ALIASES,
    LAYOUTS,
    SkeletonLayout,
    get_layout,
    list_layouts,
    read_layout,
    register_layout,
)

STICK = {
    "name": "stick5",
    "joints": ["head", "belly", "left_hand", "right_hand", "foot"],
    "bones": [["head", "belly"], ["left_hand", "belly"], [3, 1], ["foot", 1]],
    "center": "belly",
    "mirror_pairs": [["left_hand", "right_hand"]],
    "source": "made up",
}


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict[str, SkeletonLayout]:
    copy = dict(LAYOUTS)
    monkeypatch.setattr("kinegraph.skeleton.layouts.LAYOUTS", copy)
    return copy


TREES = [name for name, x in LAYOUTS.items() if len(x.bones) == x.num_joints - 1]


def test_which_layouts_close_cycles() -> None:
    assert set(LAYOUTS) - set(TREES) == {"coco17_paddle", "coco17_mmskeleton", "mediapipe33"}


@pytest.mark.parametrize("name", TREES)
def test_parents_of_a_tree_are_the_listed_ones(name: str) -> None:
    layout = get_layout(name)
    parents = {(child, parent) for child, parent in enumerate(layout.parents) if child != parent}
    turned = {bone for bone in layout.bones if bone not in parents}
    if name == "shrec22":
        assert {bone for bone in layout.bones if bone not in turned} == {(0, 1)}
    else:
        assert turned == ({(2, 1)} if name == "ntu_edge24" else set())
    assert parents == set(layout.bones) - turned | {(b, a) for a, b in turned}


def test_ntu25_bones_as_the_literature_numbers_them() -> None:
    layout = get_layout("ntu25")
    assert layout.joints[layout.center] == "spine_shoulder"
    assert layout.bones[:3] == ((0, 1), (1, 20), (2, 20))
    assert layout.bones[-4:] == ((21, 22), (22, 7), (23, 24), (24, 11))
    assert get_layout("ntu25_pyskl").bones[-4:] == ((21, 7), (22, 7), (23, 11), (24, 11))


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("ntu25", "4,8 5,9 6,10 7,11 12,16 13,17 14,18 15,19 21,23 22,24"),
        ("openpose18", "5,2 6,3 7,4 11,8 12,9 13,10 15,14 17,16"),
        ("body25", "5,2 6,3 7,4 12,9 13,10 14,11 16,15 18,17 19,22 20,23 21,24"),
        ("coco17", "1,2 3,4 5,6 7,8 9,10 11,12 13,14 15,16"),
        ("kinect20", "4,8 5,9 6,10 7,11 12,16 13,17 14,18 15,19"),
        ("utd_mhad20", "4,8 5,9 6,10 7,11 12,16 13,17 14,18 15,19"),
        ("jhmdb15", "4,3 6,5 8,7 10,9 12,11 14,13"),
        ("hand21", ""),
    ],
)
def test_mirror_pairs_are_the_published_ones(name: str, pairs: str) -> None:
    found = " ".join(f"{left},{right}" for left, right in get_layout(name).mirror_pairs)
    assert found == pairs


def test_edge_layout_has_a_node_for_every_bone_of_ntu25() -> None:
    ntu, edge = get_layout("ntu25"), get_layout("ntu_edge24")
    assert edge.joints == tuple(f"{ntu.joints[child]}_bone" for child, _ in ntu.bones)


def test_the_two_kinect_orders_draw_the_same_body() -> None:
    def named_bones(name: str) -> set[frozenset[str]]:
        x = get_layout(name)
        return {frozenset((x.joints[a], x.joints[b])) for a, b in x.bones}

    assert named_bones("kinect20") == named_bones("utd_mhad20") == named_bones("msr20")


def test_mediapipe_face_and_mouth_are_joined_to_the_body() -> None:
    layout = get_layout("mediapipe33")
    assert len(layout.bones) == 39
    assert layout.bones[-4:] == ((9, 0), (10, 0), (11, 0), (12, 0))
    with pytest.raises(LayoutError, match="no bones connect left_mouth, right_mouth, left_shoul"):
        SkeletonLayout("loose", layout.joints, layout.bones[:-4], 0)


def test_where_two_ways_are_equally_short_the_first_bone_wins() -> None:
    square = SkeletonLayout("square", ("a", "b", "c", "d"), ((1, 0), (3, 1), (2, 0), (3, 2)), 0)
    assert square.parents == (0, 0, 0, 1)


def test_index_names_the_nearest_joint() -> None:
    assert get_layout("coco17").index("left_hip") == 11
    with pytest.raises(UnknownNameError, match=r"layout 'coco17' 'lefthip'.*'left_hip'"):
        get_layout("coco17").index("lefthip")


def test_every_alias_leads_to_a_layout_and_hides_none() -> None:
    assert {name for name in LAYOUT_ALIASES.values() if name not in LAYOUTS} == set()
    assert set(LAYOUT_ALIASES) & set(LAYOUTS) == set()
    assert get_layout("ntu-rgb+d") is get_layout("ntu25")
    assert get_layout(get_layout("fsd10")) is LAYOUTS["body25"]


def test_unknown_names_list_the_known() -> None:
    assert list_layouts() == sorted(LAYOUTS)
    with pytest.raises(UnknownNameError, match=r"layout 'ntu-25'.*mean 'ntu25'.*utd"):
        get_layout("ntu-25")


def test_names_become_indices() -> None:
    layout = SkeletonLayout.from_dict(STICK)
    assert layout.bones == ((0, 1), (2, 1), (3, 1), (4, 1))
    assert layout.center == 1
    assert layout.mirror == (0, 1, 3, 2, 4)
    assert layout.parents == (1, 1, 1, 1, 1)
    assert hash(layout) == hash(SkeletonLayout.from_dict(layout.to_dict()))


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("name", "", "layout field 'name': expected a name"),
        ("name", 5, "layout field 'name': expected text, got 5"),
        ("source", None, "layout field 'source': expected text, got None"),
        ("joints", [], r"layout 'stick5': joints: expected a list of names, got \[\]"),
        ("joints", "abcde", "joints: expected a list of names, got 'abcde'"),
        ("joints", ["head", 3], r"joints\[1\]: expected a name, got 3"),
        ("joints", ["head", "head"], r"joints\[1\]: 'head' is listed twice"),
        ("bones", None, "bones: expected a list of pairs, got None"),
        ("bones", [[0, 1, 2]], r"bones\[0\]: expected a pair of joints, got \[0, 1, 2\]"),
        ("bones", [[0, 9]], r"bones\[0\]: joint 9 is out of range, joints are 0 to 4"),
        ("bones", [[0, -1]], r"bones\[0\]: joint -1 is out of range"),
        ("bones", [["hat", 0]], r"bones\[0\]: no joint is named 'hat'"),
        ("bones", [[0, 1.0]], r"bones\[0\]: expected a joint's name or index, got 1.0"),
        ("bones", [[0, True]], r"bones\[0\]: expected a joint's name or index, got True"),
        ("bones", [[2, 2]], r"bones\[0\]: pairs left_hand with itself"),
        ("bones", [[0, 1], [1, 0]], r"bones\[1\]: belly to head is listed twice"),
        ("bones", [[0, 1], [2, 3]], "no bones connect left_hand, right_hand, foot with the center"),
        ("center", 5, "center: joint 5 is out of range, joints are 0 to 4"),
        ("center", "hip", "center: no joint is named 'hip'"),
        ("mirror_pairs", [[2, 3], [3, 4]], r"mirror_pairs\[1\]: right_hand already has a mirror"),
        ("parents", [1], "unknown layout field 'parents'.*; known: name, joints"),
    ],
)
def test_an_invalid_layout_is_rejected(field: str, value: object, match: str) -> None:
    with pytest.raises(LayoutError, match=match):
        SkeletonLayout.from_dict({**STICK, field: value})


def test_the_center_may_be_spelled_centre() -> None:
    british = {"centre" if key == "center" else key: value for key, value in STICK.items()}
    assert SkeletonLayout.from_dict(british) == SkeletonLayout.from_dict(STICK)


@pytest.mark.parametrize("field", ["name", "joints", "bones", "center"])
def test_missing_fields_are_named(field: str) -> None:
    with pytest.raises(LayoutError, match=f"field '{field}' is missing"):
        SkeletonLayout.from_dict({key: value for key, value in STICK.items() if key != field})


@pytest.mark.parametrize(("suffix", "write"), [("yaml", yaml.safe_dump), ("json", json.dumps)])
def test_files_may_name_joints(tmp_path: Path, suffix: str, write) -> None:
    path = tmp_path / f"stick.{suffix}"
    path.write_text(write(STICK), encoding="utf-8")
    assert read_layout(path) == SkeletonLayout.from_dict(STICK)
    assert "stick5" not in LAYOUTS


def test_files_may_spell_centre(tmp_path: Path) -> None:
    path = tmp_path / "stick.yaml"
    path.write_text(yaml.safe_dump(STICK).replace("center:", "centre:"), encoding="utf-8")
    assert read_layout(path) == SkeletonLayout.from_dict(STICK)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.yaml", b"", "a.yaml: expected the fields of a layout, got NoneType"),
        ("a.yaml", b"name: x\njoints: [", "a.yaml: not a layout in YAML or JSON: .*line"),
        ("a.yaml", b"name: x\njoints: [a]\nbones: []", "a.yaml: layout 'x': field 'center'"),
        ("a.yaml", b"name: x\njoints: [a]\nbones: []\ncenter: 2", "a.yaml: layout 'x': center: "),
        ("a.yaml", b"!!python/object/apply:os.getcwd []", "a.yaml: not a layout"),
        ("a.yaml", b"\xff\x00\xfe", "a.yaml: not a layout"),
        ("a.json", b"{", "a.json: not a layout in YAML or JSON: .*line 1"),
        ("a.json", b"[" * 100_000, "a.json: not a layout"),
        ("a.json", b"[1]", "a.json: expected the fields of a layout, got list"),
        ("a.json", b" " * 200_000, "not a layout in YAML or JSON: expected a file of at most 131"),
    ],
)  # fmt: skip
def test_broken_files_name_themselves(
    tmp_path: Path, name: str, content: bytes, match: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(LayoutError, match=match):
        read_layout(tmp_path / name)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"none.yaml: cannot read the layout file: No such file"):
        read_layout(tmp_path / "none.yaml")


def test_a_user_registers_a_layout(registry: dict[str, SkeletonLayout]) -> None:
    layout = register_layout(SkeletonLayout.from_dict(STICK))
    assert get_layout("stick5") is layout
    assert register_layout(SkeletonLayout.from_dict({**STICK, "source": "again"})) is layout
    assert "stick5" in registry and "stick5" in list_layouts()


@pytest.mark.parametrize("name", ["ntu25", "ntu"])
def test_a_taken_name_is_refused(registry: dict[str, SkeletonLayout], name: str) -> None:
    with pytest.raises(LayoutError, match=f"cannot register layout '{name}'.*25 joints"):
        register_layout(SkeletonLayout.from_dict({**STICK, "name": name}))
    assert registry == LAYOUTS


def test_a_layout_travels_to_another_process() -> None:
    layout = get_layout("body25")
    assert layout.parents[0] == 1
    assert pickle.loads(pickle.dumps(layout)) == layout
