"""The pictures of what a model learnt: each family has its own."""

from __future__ import annotations

import pytest
import torch

from kinegraph.models import MODELS, create_model
from kinegraph.reports.model_figures import clip_figures, model_figures
from kinegraph.training.recipe import check_recipe
from kinegraph.training.train import train

SMALL = {"channels": [8, 16], "strides": [1, 2]}
EXPECTED = {
    "stgcn": {"Graph", "Edge importance"},
    "stgcn_twostream": {"Graph", "Edge importance"},
    "stgcn_autoencoder": {"Graph", "Edge importance"},
    "asgcn": {"Graph", "Edge importance"},
    "shiftgcn": {"Graph", "Temporal shifts", "Feature masks"},
}


@pytest.mark.parametrize("name", list(MODELS))
def test_every_family_is_drawn(name):
    torch.manual_seed(0)
    model = create_model(name, layout="jhmdb15", num_classes=3, in_channels=2, **SMALL)
    assert set(model_figures(model)) == EXPECTED[name]


def test_a_network_without_learnt_shifts_and_masks_has_no_pictures_of_them():
    options = {**SMALL, "temporal": "naive", "mask": False}
    model = create_model("shiftgcn", layout="jhmdb15", num_classes=3, **options)
    assert set(model_figures(model)) == {"Graph"}


def test_units_are_counted_from_one():
    model = create_model("shiftgcn", layout="jhmdb15", num_classes=3, **SMALL)
    texts = [t.get_text() for ax in model_figures(model)["Feature masks"].axes for t in ax.texts]
    assert any(text.startswith("unit 1 gcn") for text in texts)


def test_the_links_and_poses_of_a_clip_are_drawn(tmp_path, tiny_store):
    recipe = {
        "name": "tiny",
        "store": str(tiny_store),
        "protocol": "odd-even-subjects",
        "transforms": [{"resize": {"frames": 12}}],
        "model": {"name": "asgcn", **SMALL, "link_frames": 6, "future": 3, "max_hop": 1},
        "objective": {"name": "recognition", "future_weight": 0.01},
        "train": {"epochs": 1, "batch_size": 4, "lr": 0.01},
    }
    run = train(check_recipe(recipe, "tiny"), tmp_path / "run")
    poses = {"Poses, a usual clip", "Poses, the worst clip"}
    assert set(clip_figures(run)) == {"Actional links", *poses}
    figures = clip_figures(run, "clip004")
    assert set(figures) == {"Actional links", "Poses"}
    texts = [text.get_text() for text in figures["Actional links"].texts]
    assert any("clip004: there" in text for text in texts), texts
