"""Features of two persons: hand values, the layout of a pair, and clips of one person."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import made_up_clips
from inference.test_streaming_backends import recognizer, two_persons
from kinegraph.clips.clip import Clip
from kinegraph.errors import LayoutError, RecipeError, TransformError, UnknownNameError, VideoError
from kinegraph.models import MODELS, create_model, model_options
from kinegraph.skeleton.graph import hop_distance
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.pair_layout import pair_layout, single_layout
from kinegraph.training.recipe import parse_recipe
from kinegraph.transforms import Pipeline, to_stream
from kinegraph.transforms.two_persons import join_persons, pair_offsets
from kinegraph.video.pipeline import ActionPipeline

LAYOUT = SkeletonLayout(
    "stick2", ("left_hand", "hip", "right_hand"), ((0, 1), (2, 1)), 1, ((0, 2),)
)
FIRST = [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]
SECOND = [[3.0, 4.0], [1.0, 2.0], [0.0, 2.0]]


def pair(first: list = FIRST, second: list = SECOND) -> Clip:
    """Return one frame of two persons of three joints."""
    joints = np.array([first, second], np.float32)[:, None]
    return Clip(joints, LAYOUT, np.full((2, 1, 3), 0.5, np.float32), id="pair")


def test_offsets_and_distances_by_hand() -> None:
    made = pair_offsets(pair())
    assert made.num_channels == 8
    # x, y; to the same joint; to the other's hip; both lengths
    np.testing.assert_allclose(made.joints[0, 0, 0], [0, 0, 3, 4, 1, 2, 5, np.sqrt(5)])
    np.testing.assert_allclose(made.joints[1, 0, 0], [3, 4, -3, -4, -2, -4, 5, np.sqrt(20)])
    np.testing.assert_allclose(made.joints[0, 0, 2], [0, 2, 0, 0, 1, 0, 0, 1])
    joint = pair_offsets(pair(), to="joint", distance=False)
    np.testing.assert_array_equal(joint.joints, made.joints[..., :4])
    center = pair_offsets(pair(), to="center")
    np.testing.assert_array_equal(center.joints, made.joints[..., [0, 1, 4, 5, 7]])
    np.testing.assert_array_equal(made.confidence, pair().confidence)


def test_offsets_are_zero_where_the_other_is_absent() -> None:
    absent = [[np.nan, np.nan], *SECOND[1:]]
    made = pair_offsets(pair(second=absent))
    np.testing.assert_allclose(made.joints[0, 0, 0], [0, 0, 0, 0, 1, 2, 0, np.sqrt(5)])
    assert np.isnan(made.joints[1, 0, 0]).all()
    three = np.concatenate([pair().joints, pair().joints[:1]])
    assert not pair_offsets(Clip(three, LAYOUT)).joints[2, ..., 2:].any()
    alone = pair_offsets(Clip(pair().joints[:1], LAYOUT))
    assert not alone.joints[..., 2:].any()


def test_offsets_need_coordinates_before_the_stream() -> None:
    stacked = to_stream(pair(), "joint+bone")
    with pytest.raises(TransformError, match="joints of 2 or 3 coordinates"):
        pair_offsets(stacked)


def test_a_pair_has_one_graph_with_a_bone_between_the_centers() -> None:
    made = join_persons(pair())
    layout = made.layout
    assert layout.name == "pair(stick2)"
    assert layout.joints[:4] == (
        *("person1_left_hand", "person1_hip", "person1_right_hand", "person2_left_hand"),
    )
    assert layout.bones == ((0, 1), (2, 1), (3, 4), (5, 4), (4, 1))
    assert (layout.center, layout.mirror_pairs) == (1, ((0, 2), (3, 5)))
    assert hop_distance(layout)[0, 3] == 3
    assert (made.num_persons, made.num_joints) == (1, 6)
    np.testing.assert_array_equal(made.joints[0, 0], np.array(FIRST + SECOND, np.float32))
    np.testing.assert_array_equal(made.confidence, np.full((1, 1, 6), 0.5, np.float32))
    bones = to_stream(made, "bone").joints[0, 0]
    np.testing.assert_array_equal(bones[4], np.float32([0, 2]))


@pytest.mark.parametrize("name", ["sbu15", "ntu25", "coco17", "mediapipe33"])
def test_pairs_are_found_by_name_and_taken_apart(name: str) -> None:
    layout, made = get_layout(name), get_layout(f"pair({name})")
    assert made is pair_layout(layout)
    assert made.num_joints == 2 * layout.num_joints
    assert single_layout(made) == layout
    assert single_layout(SkeletonLayout.from_dict(made.to_dict())) == layout


def test_wrong_pairs_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'sbu15'"):
        get_layout("pair(sbu51)")
    with pytest.raises(LayoutError, match="is a pair already"):
        get_layout("pair(pair(sbu15))")
    with pytest.raises(LayoutError, match="not a pair"):
        single_layout(LAYOUT)
    with pytest.raises(TransformError, match="is a pair already"):
        join_persons(Clip(np.zeros((2, 1, 6, 2)), pair_layout(LAYOUT)))


def test_a_clip_of_one_person_is_refused_in_one_sentence() -> None:
    alone = Clip(pair().joints[:1], LAYOUT, id="alone")
    with pytest.raises(TransformError, match="clip 'alone' has one person, it needs two"):
        join_persons(alone)
    asked = recognizer(["join_persons"])
    clip = two_persons()
    first = replace(clip, joints=clip.joints[:1], confidence=clip.confidence[:1])
    with pytest.raises(TransformError, match="has one person"):
        asked(first)


def test_videos_are_refused_because_their_persons_are_recognized_alone() -> None:
    asked = recognizer(["join_persons"])
    with pytest.raises(VideoError, match="each person of a video is recognized alone"):
        ActionPipeline(asked, asked.layout)


def test_a_recipe_with_a_pair_has_one_person(tiny_recipe: dict) -> None:
    tiny_recipe["transforms"].insert(0, "join_persons")
    assert parse_recipe(tiny_recipe, "tiny").pipeline().joins_persons
    with pytest.raises(RecipeError, match="set persons to 1"):
        parse_recipe({**tiny_recipe, "persons": 2}, "tiny")


def test_the_channels_of_a_pipeline_are_those_of_its_clips() -> None:
    steps = [{"pair_offsets": {"to": "center"}}, "join_persons", {"stream": {}}]
    pipeline = Pipeline.from_list(steps, "joint+bone")
    made = pipeline(two_persons())
    assert pipeline.output_channels(2) == made.num_channels == 10
    assert pipeline.output_layout(two_persons().layout) == made.layout
    assert pipeline.output_persons(2) == made.num_persons == 1


def test_a_trained_model_takes_raw_clips_of_two_persons() -> None:
    asked = recognizer(["pair_offsets", "join_persons", {"resize": {"frames": 16}}])
    assert asked.layout == made_up_clips()[0].layout
    assert asked.persons == 2
    clip = two_persons()
    swapped = replace(clip, joints=clip.joints[::-1], confidence=clip.confidence[::-1])
    assert asked(clip).logits.shape == (3,)
    assert not np.allclose(asked(clip).logits, asked(swapped).logits, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", list(MODELS))
def test_every_model_takes_a_pair(name: str) -> None:
    wanted = {"channels": [8, 8], "strides": [1, 2], "persons": 1}
    options = {key: value for key, value in wanted.items() if key in model_options(name)}
    model = create_model(
        name, layout=get_layout("pair(sbu15)"), num_classes=8, in_channels=11, **options
    )
    with torch.inference_mode():
        assert model.eval()(torch.randn(2, 11, 16, 30, 1)).shape == (2, 8)
