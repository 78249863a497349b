"""Every published setting for NTU RGB+D trains on clips of that kind, and is saved and loaded."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from kinegraph.clips.clip import Clip
from kinegraph.clips.writer import StoreWriter
from kinegraph.inference.recognizer import Recognizer
from kinegraph.models import create_model
from kinegraph.skeleton.layouts import get_layout
from kinegraph.training.batch import collate
from kinegraph.training.callbacks import Checkpoints
from kinegraph.training.checkpoint import BEST_FILE, save_checkpoint
from kinegraph.training.recipe import list_recipes, load_recipe
from kinegraph.training.train import train
from models.networks import narrow

# the auto-encoders name no actions
NAMES = [name for name in list_recipes() if "_ntu" in name and "autoencoder" not in name]
ONE_PER_FAMILY = {name.partition("_ntu")[0]: name for name in reversed(NAMES)}.values()
# the recipes of other benchmarks and protocols differ in the clips that they select
ONE_PER_SETTING = {
    re.sub("_ntu(60|120)_(xsub|xview|xset)", "", name): name for name in reversed(NAMES)
}.values()


def slow_but_for(fast):
    """Return all names; those that are not in ``fast`` are slow."""
    return [pytest.param(n, marks=[pytest.mark.slow] * (n not in fast)) for n in NAMES]


def clip(number: int, layout: str = "ntu25") -> Clip:
    """One or two persons, one of whom comes late and is away for some frames."""
    rng = np.random.default_rng(number)
    V, D = (25, 3) if layout == "ntu25" else (17, 2)
    joints = rng.normal(size=(1 + number % 2, 1, V, D)) + 0.1 * rng.normal(size=(1, 12, 1, D))
    joints[-1, :2] = joints[0, 5:7] = np.nan
    confidence = None if D == 3 else np.where(np.isnan(joints[..., 0]), np.nan, 0.5)
    facts = {"subject": 1 + number // 3, "camera": 2, "setup": 2, "split": "train"}
    facts |= {"width": 4, "height": 3}
    return Clip(joints, get_layout(layout), confidence, number % 3, f"clip{number}", 30.0, facts)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Stores of NTU's skeletons and of HRNet's poses, by layout."""
    folder = tmp_path_factory.mktemp("stores")
    readers = {"ntu25": "ntu", "coco17": "pyskl"}
    for layout, reader in readers.items():
        header = (get_layout(layout), ("a", "b", "c"), {"reader": reader})
        with StoreWriter(folder / layout, *header) as writer:
            for number in range(6):
                writer.write(clip(number, layout))
    return {layout: folder / layout for layout in readers}


def layout_of(name):
    """Return the layout of the clips of a published recipe."""
    return "coco17" if name.endswith("_hrnet") else "ntu25"


def narrow_options(recipe):
    """Return the options that make a recipe's model narrow; its persons are the recipe's."""
    return {k: v for k, v in narrow(recipe.model.name).items() if k != "persons"}


def small_recipe(name, stores):
    """Return a published recipe with a narrow model, one epoch and two batches of three clips."""
    changes = ["train.epochs=1", "train.batch_size=3", "train.milestones=[]", "train.threads=1"]
    recipe = load_recipe(name)
    if recipe.stages:
        changes.append("stages.links.train.epochs=1")
    changes += [f"model.{key}={value}" for key, value in narrow_options(recipe).items()]
    return load_recipe(name, [f"store={stores[layout_of(name)]}", *changes])


def check_prediction(name, run):
    answer = Recognizer.load(run)(clip(1, layout_of(name)))
    assert np.isfinite(answer.logits).all()


@pytest.mark.parametrize("name", [name for name in list_recipes() if name.startswith("stgcn_kin")])
def test_released_windows_of_kinetics_reach_into_the_empty_frames_behind_a_clip(name):
    layout = get_layout("openpose18")
    short = Clip(np.ones((1, 40, 18, 2)), layout, np.ones((1, 40, 18)))
    prepare = load_recipe(name).preprocessor()
    shown = []
    for seed in range(60):
        x = np.asarray(prepare(short, np.random.default_rng(seed)).x)
        assert x.shape == (3, 150, 18, 2)
        shown.append(int(x[2].any(axis=(1, 2)).sum()))  # frames with a confidence
    # begins are drawn from 0 to 150 of 300 frames: three of four windows miss the clip
    assert min(shown) == 0 and 0.5 < shown.count(0) / 60 < 0.9
    assert sum(0 < frames < 40 for frames in shown) > 5


@pytest.mark.parametrize("name", [name for name in list_recipes() if "_autoencoder_" in name])
def test_an_autoencoder_of_a_published_set_has_a_finite_loss(name):
    recipe = load_recipe(name)
    layout, D = ("openpose18", 2) if "kinetics" in name else ("ntu25", 3)
    joints = np.random.default_rng(0).random((1, 40, get_layout(layout).num_joints, D))
    clips = [Clip(joints[:, :length], get_layout(layout)) for length in (40, 12)]
    batch = collate([recipe.preprocessor()(c, np.random.default_rng(0)) for c in clips])
    assert batch.x.shape == (2, D, 64, get_layout(layout).num_joints, 2)
    options = {"layout": layout, "num_classes": 2, "in_channels": D}
    model = create_model(
        recipe.model.name, **options, **recipe.model.options, **narrow_options(recipe)
    )
    loss = recipe.objective.create().compute_loss(model, batch).loss
    assert 0 < loss.item() < np.inf


@pytest.mark.parametrize("name", slow_but_for(ONE_PER_SETTING))
def test_a_published_setting_has_a_finite_loss_and_predicts(name, stores, tmp_path, monkeypatch):
    losses = []

    def compute_one_loss(trainer, module, batches, *_):
        with torch.no_grad():
            losses.append(float(module.training_step(next(iter(batches)), 0)))
        (checkpoints,) = (c for c in trainer.callbacks if isinstance(c, Checkpoints))
        state = module.eval_model.state_dict()
        save_checkpoint(checkpoints.out / BEST_FILE, state, checkpoints.header)

    monkeypatch.setattr("kinegraph.training.train.fit", compute_one_loss)
    recipe = small_recipe(name, stores)
    check_prediction(name, train(recipe, tmp_path / "run"))
    assert np.isfinite(losses).all() and len(losses) == 1 + len(recipe.stages or ())


@pytest.mark.parametrize("name", slow_but_for(ONE_PER_FAMILY))
def test_a_published_setting_trains_and_predicts(name, stores, tmp_path):
    check_prediction(name, train(small_recipe(name, stores), tmp_path / "run"))
