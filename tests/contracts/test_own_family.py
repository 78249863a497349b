"""A family in one file outside the package, registered, does what every family does."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import kinegraph as kg
from kinegraph import models
from kinegraph.bench.infer import bench_infer
from kinegraph.bench.result import BenchOptions
from kinegraph.bench.train import bench_train
from kinegraph.clips.store import ClipStore
from kinegraph.errors import ModelError, UnknownNameError
from kinegraph.inference.backends.exported_model import read_manifest
from kinegraph.inference.export.export_run import export_run
from kinegraph.inference.recognizer import Recognizer
from kinegraph.runtime.fuse import optimize_for_inference, relative_error
from kinegraph.runtime.streams import open_streams
from kinegraph.training.recipe import parse_recipe
from own_family import OwnFamily


@pytest.fixture(scope="module", autouse=True)
def registered():
    before = dict(models.MODELS)
    kg.register_model("own_family", OwnFamily)
    yield
    models.MODELS.clear()
    models.MODELS.update(before)


@pytest.fixture(scope="module")
def run(registered: None, tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned the tiny store."""
    recipe = {
        "name": "own",
        "store": str(tiny_store),
        "protocol": "odd-even-subjects",
        "transforms": [{"resize": {"frames": 8}}, "stream"],
        "model": {"name": "own_family", "channels": [16, 16]},
        "train": {"epochs": 15, "batch_size": 4, "lr": 0.02},
        "validation": {"fraction": 0.25},
    }
    return kg.train(parse_recipe(recipe, "own"), tmp_path_factory.mktemp("own") / "run")


def test_it_learns_evaluates_and_predicts(run, tiny_store):
    scores, evaluation = kg.evaluate_run(run)
    assert evaluation.top1 > 0.8
    recognizer = kg.Recognizer.load(run)
    clip = ClipStore(tiny_store)[3]
    assert recognizer(clip).name == ("here", "there", "away")[clip.label]
    assert len(scores.ids) == 12


def test_it_streams_in_windows(run, tiny_store):
    recognizer, clip = kg.Recognizer.load(run), ClipStore(tiny_store)[3]
    session = kg.open_session(recognizer, window=None)
    assert session.mode == "window"
    for t in range(clip.num_frames):
        prediction = session.push(clip.joints[:, t])
    np.testing.assert_allclose(prediction.logits, recognizer(clip).logits, atol=1e-5)
    with pytest.raises(ModelError, match="not local in time"):
        open_streams(recognizer.model, "step")


@pytest.mark.parametrize(
    "name",
    ["it.pt2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("it.onnx", "it.xml"))],
)
def test_it_is_exported_to_every_format(run, tmp_path, name, tiny_store):
    export_run(run, tmp_path / name)
    assert read_manifest(tmp_path / name).parity["relative"] <= 1e-4
    clip = ClipStore(tiny_store)[3]
    ours, theirs = (Recognizer.load(path)(clip).logits for path in (tmp_path / name, run))
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_it_runs_in_half_precision(run, tiny_store):
    exact, half = (Recognizer.load(run, precision) for precision in ("fp32", "bf16"))
    clips = [ClipStore(tiny_store)[i] for i in range(6)]
    logits = [torch.from_numpy(r.score(clips).logits) for r in (exact, half)]
    assert 0 < relative_error(logits[1], logits[0]) < 5e-2
    assert "bfloat16" in half.precision_summary


def test_it_appears_in_the_benchmarks():
    options = BenchOptions(rounds=1)
    result = bench_infer("own_family", options)
    assert "own_family" in json.dumps(result.to_dict())
    assert bench_train("own_family", options, batch=1)


def test_a_family_without_faster_form_is_run_as_it_is():
    model = kg.create_model("own_family", layout="coco17", num_classes=4, in_channels=2).eval()
    network, x = optimize_for_inference(model), torch.randn(2, 2, 12, 17, 2)
    with torch.inference_mode():
        assert torch.equal(network(x), model(x))


class NoHead(nn.Module):
    """Lacks most of the contract."""

    def forward_features(self, x):
        return x


class NoLayout(OwnFamily):
    """Is constructed in another way."""

    def __init__(self, num_classes):
        super().__init__("ntu25", num_classes)


def test_what_cannot_be_registered_is_refused():
    kg.register_model("own_family", OwnFamily)  # once more changes nothing
    for name, cls, message in (
        ("own-family", OwnFamily, "letters, digits and underscores, got 'own-family'"),
        ("stgcn", OwnFamily, "model 'stgcn' is already registered"),
        ("other", lambda layout: None, "expected a class of torch.nn.Module"),
        ("other", NoHead, "NoHead has no method forward_head, reset_classifier, parameter_groups"),
        ("other", NoLayout, r"NoLayout\(\) takes no argument layout, in_channels"),
    ):
        with pytest.raises(ModelError, match=message):
            kg.register_model(name, cls)
    assert "other" not in kg.list_models()


def test_an_installed_package_adds_models_by_an_entry_point(monkeypatch):
    points = [
        EntryPoint("plugged_in", "own_family:OwnFamily", "kinegraph.models"),
        EntryPoint("broken", "no_such_module:Net", "kinegraph.models"),
    ]
    monkeypatch.setattr(models, "entry_points", lambda group: points)
    assert {"plugged_in", "broken"} <= set(kg.list_models())
    model = kg.create_model("plugged_in", layout="ntu25", num_classes=4, channels=(8, 8))
    assert isinstance(model, OwnFamily)
    with pytest.raises(ModelError, match="cannot be loaded from no_such_module:Net"):
        kg.create_model("broken", layout="ntu25", num_classes=4)
    with pytest.raises(UnknownNameError, match="did you mean 'plugged_in'"):
        kg.create_model("pluged_in", layout="ntu25", num_classes=4)


def test_a_recipe_imports_no_module_by_its_name():
    """A recipe or a checkpoint may come from a stranger; only what is installed is imported."""
    with pytest.raises(UnknownNameError, match="unknown model 'own_family:OwnFamily'"):
        kg.create_model("own_family:OwnFamily", layout="ntu25", num_classes=4)
