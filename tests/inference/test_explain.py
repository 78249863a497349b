"""Explanations: a network whose deciding joint and frames are known, and every family."""

from __future__ import annotations

import dataclasses
import importlib
import json

import numpy as np
import pytest
import torch
from torch import nn

from conftest import made_up_clips
from kinegraph.clips.clip import Clip
from kinegraph.errors import CheckpointError, UnknownNameError
from kinegraph.inference import explain as explain_module
from kinegraph.inference.explain import METHODS, explain, load_explainable
from kinegraph.inference.recognizer import Recognizer
from kinegraph.models import MODELS, create_model
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.training.checkpoint import load_model
from test_architecture import SOURCE

LAYOUT = get_layout("jhmdb15")
JOINT = LAYOUT.index("left_wrist")
FRAMES = 24
STATED = {"resize": {"frames": 16}}


class WristMotion(nn.Module):
    """Class 1 if the left wrist moves in the first half of the clip."""

    layout = LAYOUT

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, T, V, M) -> (N, 3)."""
        moved = x[:, :, : x.shape[2] // 2, JOINT, 0]
        energy = (moved - moved.mean(dim=2, keepdim=True)).square().mean(dim=(1, 2))
        return torch.stack([torch.ones_like(energy), 8 * energy, -torch.ones_like(energy)], dim=1)


def recognizer(run, model: nn.Module, *steps, **changes) -> Recognizer:
    """Return a model with the header of a run and other transforms."""
    _, header = load_model(run)
    header = dataclasses.replace(header, transforms=[*steps, "stream"], calibration=None, **changes)
    return Recognizer(model, header)


def moving_clip(layout: SkeletonLayout) -> Clip:
    """Return a clip whose joints move to and fro in periods of six frames; the second is absent."""
    phases = np.random.default_rng(0).uniform(0, 6, (2, 1, layout.num_joints, 2))
    joints = np.sin(2 * np.pi * (np.arange(FRAMES)[None, :, None, None] + phases) / 6)
    joints[1] = np.nan
    return Clip(joints.astype(np.float32), layout, id="walk", fps=30.0)


@pytest.fixture(scope="module")
def clip() -> Clip:
    """A clip of one person whose joints all move to and fro."""
    return moving_clip(LAYOUT)


@pytest.mark.parametrize("steps", [(), (STATED,), ({"repeat_pad": {"frames": 48}},)])
def test_the_deciding_joint_and_frames_are_found_in_the_clip(tiny_run, clip, steps):
    # padded to twice its length, the first half of the input is the whole clip
    last = FRAMES if steps and "repeat_pad" in steps[0] else FRAMES // 2
    found = explain(recognizer(tiny_run, WristMotion(), *steps), clip)
    assert (found.label, found.name) == (1, "there")
    assert found.residual < 0.05
    for method in METHODS:
        values = found.importance[method]
        assert values.shape == (2, FRAMES, 15)
        inside = np.abs(values[0, :last, JOINT]).sum()
        assert inside > 0.9 * np.abs(values).sum()
        assert next(iter(found.joint_shares(method))) == "left_wrist"
        assert found.curves[method].probabilities[0] == pytest.approx(found.probability)
    assert found.curves[found.best].area < found.random.area
    ends = [curve.probabilities[-1] for curve in (*found.curves.values(), found.random)]
    assert ends == pytest.approx([ends[0]] * 3)


def test_importance_goes_to_the_joints_that_a_layout_was_converted_from(tiny_run):
    found = explain(recognizer(tiny_run, WristMotion()), moving_clip(get_layout("ntu25")))
    for method in METHODS:
        assert found.importance[method].shape == (2, FRAMES, 25)
        assert next(iter(found.joint_shares(method))) == "left_wrist"


def test_another_class_is_explained_on_request(tiny_run, clip):
    model = recognizer(tiny_run, WristMotion())
    found = explain(model, clip, "here")
    assert (found.label, found.name) == (0, "here")
    assert found.importance["integrated gradients"].sum() < 0
    with pytest.raises(UnknownNameError, match="did you mean"):
        explain(model, clip, "her")


def test_the_explanation_is_plain_data_and_the_same_each_time(tiny_run, clip):
    model = recognizer(tiny_run, WristMotion())
    first, second = (json.loads(json.dumps(explain(model, clip).to_dict())) for _ in range(2))
    assert first == second
    assert np.shape(first["importance"]["occlusion"]) == (2, FRAMES, 15)
    assert {*first["deletion"]} == {"shares", "random", *METHODS}


@pytest.mark.parametrize("family", sorted(set(MODELS) - {"stgcn_autoencoder", "stgcn_twostream"}))
def test_every_family_is_explained(tiny_run, clip, family, monkeypatch):
    monkeypatch.syspath_prepend(str(SOURCE.parents[1] / "benchmarks"))
    options = importlib.import_module("families").FAMILIES[family][1]
    torch.manual_seed(0)
    persons = {"persons": 1} if family == "skateformer" else {}
    network = create_model(
        family, layout="jhmdb15", num_classes=3, in_channels=2, **options, **persons
    )
    for name, value in (("SEGMENTS", 1), ("GRADIENT_STEPS", 4), ("RANDOM_ORDERS", 1)):
        monkeypatch.setattr(explain_module, name, value)
    found = explain(recognizer(tiny_run, network, STATED, persons=1), clip)
    values = found.importance["integrated gradients"]
    assert np.isfinite(values).all()
    assert np.abs(values[0]).sum() > 0
    assert np.isfinite(found.importance["occlusion"]).all()


def test_a_trained_run_is_explained_better_than_chance(tiny_run):
    model = load_explainable(tiny_run)
    areas = []
    for clip in made_up_clips()[:3]:
        found = explain(model, clip)
        areas.append(found.curves[found.best].area - found.random.area)
    assert np.mean(areas) < 0.01


def test_exported_models_are_refused(tmp_path):
    path = tmp_path / "model.onnx"
    path.touch()
    with pytest.raises(CheckpointError, match="exported"):
        load_explainable(path)
