"""Every published setting for NTU RGB+D trains on clips of that kind, and is saved and loaded."""

from __future__ import annotations

import numpy as np
import pytest

from kinegraph.clips.clip import Clip
from kinegraph.clips.writer import StoreWriter
from kinegraph.inference.recognizer import Recognizer
from kinegraph.skeleton.layouts import get_layout
from kinegraph.training.recipe import list_recipes, load_recipe
from kinegraph.training.train import train

NAMES = [name for name in list_recipes() if "_ntu" in name]
NARROW = {"channels": [4, 4], "strides": [1, 2]}


def clip(number: int) -> Clip:
    """One or two persons, one of whom comes late and is away for some frames."""
    rng = np.random.default_rng(number)
    joints = rng.normal(size=(1 + number % 2, 1, 25, 3)) + 0.1 * rng.normal(size=(1, 12, 1, 3))
    joints[-1, :2] = joints[0, 5:7] = np.nan
    facts = {"subject": 1 + number // 3, "camera": 2, "setup": 2, "split": "train"}
    return Clip(joints, get_layout("ntu25"), None, number % 3, f"clip{number}", 30.0, facts)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / "ntu.arrow"
    with StoreWriter(path, get_layout("ntu25"), ("a", "b", "c"), {"reader": "ntu"}) as writer:
        for number in range(6):
            writer.write(clip(number))
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_published_setting_trains_and_predicts(name, store, tmp_path):
    short = ["train.epochs=1", "train.batch_size=3", "train.milestones=[]", "train.threads=1"]
    if load_recipe(name).stages:
        short.append("stages.links.train.epochs=1")
    narrow = [f"model.{key}={value}" for key, value in NARROW.items()]
    recipe = load_recipe(name, [f"store={store}", *short, *narrow])
    answer = Recognizer.load(train(recipe, tmp_path / "run"))(clip(1))
    assert np.isfinite(answer.logits).all()
