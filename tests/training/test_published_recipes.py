"""Every published setting for NTU RGB+D trains on clips of that kind, and is saved and loaded."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinegraph.clips.clip import Clip
from kinegraph.clips.writer import StoreWriter
from kinegraph.inference.recognizer import Recognizer
from kinegraph.skeleton.layouts import get_layout
from kinegraph.training.callbacks import Checkpoints
from kinegraph.training.checkpoint import BEST_FILE, save_checkpoint
from kinegraph.training.recipe import list_recipes, load_recipe
from kinegraph.training.train import train

NAMES = [name for name in list_recipes() if "_ntu" in name]
ONE_PER_FAMILY = {name.partition("_ntu")[0]: name for name in reversed(NAMES)}.values()
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


def small_recipe(name, store):
    """Return a published recipe with a narrow model, one epoch and two batches of three clips."""
    changes = ["train.epochs=1", "train.batch_size=3", "train.milestones=[]", "train.threads=1"]
    if load_recipe(name).stages:
        changes.append("stages.links.train.epochs=1")
    changes += [f"model.{key}={value}" for key, value in NARROW.items()]
    return load_recipe(name, [f"store={store}", *changes])


def check_prediction(run):
    answer = Recognizer.load(run)(clip(1))
    assert np.isfinite(answer.logits).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_published_setting_has_a_finite_loss_and_predicts(name, store, tmp_path, monkeypatch):
    losses = []

    def compute_one_loss(trainer, module, batches, *_):
        with torch.no_grad():
            losses.append(float(module.training_step(next(iter(batches)), 0)))
        (checkpoints,) = (c for c in trainer.callbacks if isinstance(c, Checkpoints))
        state = module.eval_model.state_dict()
        save_checkpoint(checkpoints.out / BEST_FILE, state, checkpoints.header)

    monkeypatch.setattr("kinegraph.training.train.fit", compute_one_loss)
    recipe = small_recipe(name, store)
    check_prediction(train(recipe, tmp_path / "run"))
    assert np.isfinite(losses).all() and len(losses) == 1 + len(recipe.stages or ())


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n not in ONE_PER_FAMILY)) for n in NAMES],
)
def test_a_published_setting_trains_and_predicts(name, store, tmp_path):
    check_prediction(train(small_recipe(name, store), tmp_path / "run"))
