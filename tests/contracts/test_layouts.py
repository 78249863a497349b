"""Properties of every registered layout."""

from __future__ import annotations

import json
import re

import pytest

from kinegraph.skeleton import LAYOUTS, SkeletonLayout, adjacency, get_layout, hop_distance


def test_how_many_layouts_there_are() -> None:
    assert len(LAYOUTS) == 29


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> SkeletonLayout:
    return get_layout(request.param)


def test_its_name_is_its_key_and_contains_the_number_of_joints(layout: SkeletonLayout) -> None:
    assert LAYOUTS[layout.name] is layout
    count = re.search(r"[a-z](\d+)(b?_|b?$)", layout.name)
    assert count and int(count[1]) == layout.num_joints


def test_it_has_a_source(layout: SkeletonLayout) -> None:
    assert layout.source


def test_joint_names_are_lower_snake_with_the_side_first(layout: SkeletonLayout) -> None:
    for joint in layout.joints:
        assert re.fullmatch(r"[a-z]+\d?(_[a-z\d]+)*", joint)
        assert not re.search(r"_(left|right)(_|$)", joint)


def test_all_sided_joints_are_mirrored(layout: SkeletonLayout) -> None:
    sided = {joint for joint in layout.joints if joint.startswith(("left_", "right_"))}
    paired = {layout.joints[i] for pair in layout.mirror_pairs for i in pair}
    assert paired == sided
    for left, right in layout.mirror_pairs:
        assert layout.joints[left].replace("left_", "right_") == layout.joints[right]


def test_the_mirror_maps_bones_to_bones(layout: SkeletonLayout) -> None:
    bones = {frozenset(bone) for bone in layout.bones}
    assert {frozenset(layout.mirror[joint] for joint in bone) for bone in bones} == bones
    assert [layout.mirror[layout.mirror[i]] for i in range(layout.num_joints)] == list(
        range(layout.num_joints)
    )


def test_parents_lead_to_the_center_by_the_shortest_way(layout: SkeletonLayout) -> None:
    radius = hop_distance(layout)[layout.center]
    bones = {frozenset(bone) for bone in layout.bones}
    assert layout.parents[layout.center] == layout.center
    for joint, parent in enumerate(layout.parents):
        if joint != layout.center:
            assert frozenset((joint, parent)) in bones
            assert radius[parent] == radius[joint] - 1


def test_parents_are_mirror_images(layout: SkeletonLayout) -> None:
    """Bone streams of a mirrored clip must be the mirrored bone streams."""
    if layout.name == "coco17_paddle":
        assert layout.mirror[layout.center] != layout.center
        return
    for joint, parent in enumerate(layout.parents):
        assert layout.parents[layout.mirror[joint]] == layout.mirror[parent]


def test_it_survives_a_file(layout: SkeletonLayout) -> None:
    again = SkeletonLayout.from_dict(json.loads(json.dumps(layout.to_dict())))
    assert again == layout and again.source == layout.source


def test_it_makes_a_graph(layout: SkeletonLayout) -> None:
    assert adjacency(layout).shape == (3, layout.num_joints, layout.num_joints)
