"""Fixtures and data that several tests share: real data sets, a small store, a recipe and a run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA_ROOT = Path(
    os.environ.get("KINEGRAPH_DATA", Path(__file__).parents[2] / "shared" / "data")
).resolve()


def real_data(name: str) -> Path:
    """Return the file or folder of this name under KINEGRAPH_DATA; skip the test without it."""
    path = DATA_ROOT / name
    if not path.exists():
        pytest.skip(f"REAL DATA ABSENT: {name} (set KINEGRAPH_DATA to the folder that has it)")
    return path


def made_up_clips(per_class: int = 8, classes: int = 3, persons: int = 1) -> list:
    """Return clips of 2D noise around a center for each class, of even and odd subjects in turn."""
    import numpy as np

    from kinegraph.clips.clip import Clip
    from kinegraph.skeleton.layouts import get_layout

    layout = get_layout("jhmdb15")
    rng = np.random.default_rng(0)
    places = rng.normal(size=(classes, 1, 1, 15, 2))
    clips = []
    for i in range(per_class * classes):
        label, frames = i % classes, 10 + i % 5
        joints = places[label] + 0.1 * rng.normal(size=(persons, frames, 15, 2))
        meta = {"subject": i // classes}
        clips.append(Clip(joints, layout, None, label, f"clip{i:03d}", 30.0, meta))
    return clips


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a store of 24 synthetic clips of three classes, twelve of them for training."""
    from kinegraph.clips.writer import StoreWriter

    path = tmp_path_factory.mktemp("stores") / "tiny.arrow"
    clips = made_up_clips()
    provenance = {"reader": "arrays", "options": {}}
    with StoreWriter(path, clips[0].layout, ("here", "there", "away"), provenance) as writer:
        for clip in clips:
            writer.write(clip)
    return path


@pytest.fixture
def tiny_recipe(tiny_store: Path) -> dict:
    """Return a recipe that trains on the tiny store in a second or two."""
    return {
        "name": "tiny",
        "store": str(tiny_store),
        "protocol": "odd-even-subjects",
        "transforms": [{"jitter": {"std": 0.01}}, {"resize": {"frames": 8}}, "stream"],
        "model": {"name": "stgcn", "channels": [8, 8], "strides": [1, 2], "dropout": 0.1},
        "train": {"epochs": 6, "batch_size": 4, "lr": 0.05},
        "validation": {"fraction": 0.25},
    }


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, tiny_store: Path) -> Path:
    """Train a run on the tiny store."""
    from kinegraph.training.recipe import parse_recipe
    from kinegraph.training.train import train

    recipe = {
        "name": "tiny",
        "store": str(tiny_store),
        "protocol": "odd-even-subjects",
        "transforms": [{"resize": {"frames": 8}}, "stream"],
        "model": {"name": "stgcn", "channels": [16, 16], "strides": [1, 2]},
        "train": {"epochs": 20, "batch_size": 4, "lr": 0.05},
        "validation": {"fraction": 0.25},
    }
    return train(parse_recipe(recipe, "tiny"), tmp_path_factory.mktemp("runs") / "tiny")
