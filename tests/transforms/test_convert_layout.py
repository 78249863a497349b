"""Conversion of clips to another layout, in calls and in recipes."""

from __future__ import annotations

import numpy as np
import pytest

from kinegraph.clips.clip import Clip
from kinegraph.clips.writer import StoreWriter
from kinegraph.errors import LayoutError, TransformError
from kinegraph.inference.recognizer import Recognizer
from kinegraph.skeleton.layouts import get_layout
from kinegraph.training.recipe import parse_recipe
from kinegraph.training.train import train
from kinegraph.transforms import Pipeline, check_steps
from kinegraph.transforms.convert_layout import convert_layout, layout


def body(name: str = "kinect20", dims: int = 3, seed: int = 0) -> Clip:
    V = get_layout(name).num_joints
    joints = np.random.default_rng(seed).normal(size=(2, 12, V, dims)) + (0, 0, 5)[:dims]
    joints[1, 3] = np.nan
    sure = np.full((2, 12, V), 0.5, np.float32)
    return Clip(joints, get_layout(name), sure, 1, "c", 30.0, {"subject": 1}, padded_from=10)


def test_everything_but_the_joints_stays():
    clip = body()
    made = convert_layout(clip, "penn13", "front")
    assert made.layout == get_layout("penn13")
    assert made.joints.shape == (2, 12, 13, 2)
    assert (made.label, made.id, made.fps, made.padded_from) == (1, "c", 30.0, 10)
    assert dict(made.meta) == {"subject": 1}
    assert not made.valid[1, 3].any()
    assert set(np.unique(made.confidence)) == {0.0, 0.5}
    with pytest.raises(LayoutError, match="whose joints have a depth"):
        convert_layout(made, "ntu25")


def test_a_step_makes_clips_flat_and_leaves_flat_ones():
    steps = [("layout", {"to": "penn13", "camera": "pinhole", "focal": 2.0})]
    made = Pipeline(steps)(body())
    x, z = body().joints[0, 0, 3, 0], body().joints[0, 0, 3, 2]  # the head
    np.testing.assert_allclose(made.joints[0, 0, 0, 0], -2 * x / z, rtol=1e-5)
    again = Pipeline(steps)(made)
    np.testing.assert_array_equal(again.joints, made.joints)
    assert Pipeline(steps).whole_clip_steps() == []
    several = Pipeline([*steps, ("flip_y", {})])
    np.testing.assert_array_equal(several.convert_layout(body()).joints, made.joints)


def test_mistakes_are_reported_before_anything_runs():
    (mistake,) = check_steps([("layout", {"to": "pen13"})])
    expected = "step 1 (layout): to: unknown layout 'pen13' (did you mean 'penn13'?); known: "
    assert mistake.startswith(expected)
    assert check_steps([("layout", {"to": "ucla", "camera": "front"})]) == []
    with pytest.raises(TransformError, match="'hand21' and 'penn13' have no joint in common"):
        layout(body("hand21", 2), None, to="penn13")


def test_fields_of_a_layout_stand_for_its_name():
    legs = {"name": "legs", "joints": ["left_hip", "right_hip"], "bones": [[0, 1]], "center": 0}
    assert layout(body(), None, to=legs).joints.shape[-2] == 2
    (mistake,) = check_steps([("layout", {"to": {**legs, "center": 7}})])
    assert mistake.startswith("step 1 (layout): to: layout 'legs': center: joint 7 is out of range")
    (mistake,) = check_steps([("layout", {"to": 3})])
    assert mistake == "step 1 (layout): to must be a string or a mapping, got 3"


def test_the_model_of_a_recipe_is_of_the_layout_it_converts_to(tmp_path):
    with StoreWriter(tmp_path / "s.arrow", get_layout("kinect20"), ("a", "b")) as writer:
        for i in range(8):
            clip = body(seed=i)
            meta = {"subject": i}
            writer.write(Clip(clip.joints, clip.layout, None, i // 2 % 2, f"c{i}", meta=meta))
    recipe = {
        "name": "flat",
        "store": str(tmp_path / "s.arrow"),
        "protocol": "odd-even-subjects",
        "transforms": [
            {"layout": {"to": "penn13", "camera": "front"}},
            "body_normalize",
            {"resize": {"frames": 8}},
        ],
        "model": {"name": "stgcn", "channels": [8], "strides": [1]},
        "train": {"epochs": 1, "batch_size": 2},
        "validation": {"fraction": 0},
    }
    recognizer = Recognizer.load(train(parse_recipe(recipe, "flat"), tmp_path / "run"))
    assert recognizer.layout == get_layout("penn13")
    of_kinect = recognizer(body())
    of_penn = recognizer(convert_layout(body(), "penn13", "front"))
    np.testing.assert_allclose(of_kinect.logits, of_penn.logits, atol=1e-5)
    assert recognizer(body("coco17", 2)).candidates
    with pytest.raises(TransformError, match="no joint in common"):
        recognizer(body("hand21", 2))
