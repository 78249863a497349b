"""Options, steps and pipelines: every mistake found before a clip is touched."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from kinegraph.clips.clip import Clip
from kinegraph.errors import TransformError
from kinegraph.skeleton.layouts import get_layout
from kinegraph.transforms import (
    Pipeline,
    check_steps,
    parse_steps,
)

RECIPE = ["trim", {"prenormalize": {"zaxis": ["spine_base", "spine_mid"]}}, "stream"]
RECIPE += [{"crop_resize": {"frames": 16}}, {"random_rotate": {"degrees": 17}}]


def walker() -> Clip:
    joints = np.random.default_rng(0).normal(size=(2, 20, 25, 3)).astype(np.float32)
    return Clip(joints, get_layout("ntu25"), label=3, id="w")


def test_parse_steps_takes_names_and_one_key_mappings() -> None:
    parsed = parse_steps(["trim", {"resize": {"frames": 4}}, {"stream": None}])
    assert parsed == [("trim", {}), ("resize", {"frames": 4}), ("stream", {})]


def test_parse_steps_lists_every_entry_of_another_form() -> None:
    with pytest.raises(TransformError) as caught:
        parse_steps(["trim", 3, {"a": {}, "b": {}}, {"resize": 64}])
    assert str(caught.value) == (
        "step 2: expected a name or {name: options}, got 3; "
        "step 3: expected a name or {name: options}, got {'a': {}, 'b': {}}; "
        "step 4: expected a name or {name: options}, got {'resize': 64}"
    )
    with pytest.raises(TransformError, match="expected a list of transform steps, got 'trim'"):
        parse_steps("trim")


def test_check_steps_finds_all_mistakes_with_the_nearest_name() -> None:
    steps = [
        ("random_mov", {}),
        ("resize", {"frame": 3}),
        ("crop_resize", {"frames": 0, "train": [0.5]}),
        ("center", {"person": "second", "joint": 3}),
        ("trim", {"frames": 3}),
        ("stream", {"name": "bone"}),
        ("image_normalize", {"width": "640"}),
    ]
    found = check_steps(steps)
    expected = [
        "step 1 (random_mov): unknown transform 'random_mov' (did you mean 'random_move'?)",
        "step 2 (resize): unknown option 'frame' (did you mean 'frames'?); known: frames",
        "step 3 (crop_resize): frames must be a whole number from 1 to 100000, got 0",
        "step 3 (crop_resize): train must be a list of 2 numbers from 0.01 to 1, got [0.5]",
        "step 4 (center): person must be 'first' or 'own', got 'second'",
        "step 4 (center): joint must be a string or null, got 3",
        "step 5 (trim): unknown option 'frames'; it has no options",
        "step 6 (stream): unknown option 'name'; known: bones, center, mean_confidence",
        "step 7 (image_normalize): width must be a number of 1 or more or null, got '640'",
    ]
    assert len(found) == len(expected)
    for mistake, start in zip(found, expected, strict=True):
        assert mistake.startswith(start)


@pytest.mark.parametrize(
    "value", [True, 2.5, float("nan"), "64", None, [64], 0, -1, 10**9, 10**400]
)
def test_a_count_is_a_whole_number_of_a_sane_size(value: object) -> None:
    assert len(check_steps([("resize", {"frames": value})])) == 1


def test_the_stream_needs_its_one_place() -> None:
    assert check_steps([], "joint") == []
    (mistake,) = check_steps([("trim", {})], "bone")
    assert mistake.startswith("the stream is 'bone', but no step 'stream' computes it")
    (mistake,) = check_steps([("stream", {}), ("stream", {})], "joint")
    assert mistake == "the step 'stream' must occur once, it occurs 2 times"
    (mistake,) = check_steps([("stream", {})], "bone+speed")
    assert mistake.startswith("unknown stream 'speed'")


def test_a_pipeline_refuses_with_all_mistakes_at_once() -> None:
    with pytest.raises(TransformError) as caught:
        Pipeline([("resize", {"frames": 0}), ("jitter", {"std": -1})], "bone")
    assert str(caught.value).count(";") >= 2


def test_the_place_of_the_stream_matters() -> None:
    clip = walker()
    before = Pipeline.from_list(["stream", {"resize": {"frames": 7}}], "joint-motion")(clip)
    after = Pipeline.from_list([{"resize": {"frames": 7}}, "stream"], "joint-motion")(clip)
    assert np.abs(before.joints - after.joints).max() > 0.1
    assert not after.joints[:, -1].any()


def test_a_pipeline_survives_plain_data_and_pickling() -> None:
    pipeline = Pipeline.from_list(RECIPE, "bone-motion")
    assert pipeline.to_list() == RECIPE
    assert pipeline.stream == "bone_motion"
    assert Pipeline.from_list(pipeline.to_list(), pipeline.stream) == pipeline
    again = pickle.loads(pickle.dumps(pipeline))
    assert again == pipeline
    made = [p(walker(), np.random.default_rng(7)).joints for p in (pipeline, again)]
    np.testing.assert_array_equal(*made)


def test_a_pipeline_is_not_changed_through_its_lists() -> None:
    steps = parse_steps(RECIPE)
    pipeline = Pipeline(steps)
    steps[1][1]["zaxis"] = "none"
    pipeline.to_list()[1]["prenormalize"]["zaxis"].append("x")
    assert pipeline.to_list() == RECIPE


def test_a_pipeline_keeps_what_the_clip_is() -> None:
    made = Pipeline.from_list(RECIPE, "bone")(walker(), None)
    assert (made.label, made.id, made.num_frames) == (3, "w", 16)
