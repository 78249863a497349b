"""State dicts of 2s-AGCN and AAGCN become runs that predict; others are refused by their keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from kinegraph.cli import app
from kinegraph.clips.clip import Clip
from kinegraph.errors import ModelError
from kinegraph.inference.import_weights import import_weights
from kinegraph.inference.recognizer import Recognizer
from kinegraph.models import create_model
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import IMAGE_SHARES, PREPARATIONS
from kinegraph.training.recipe import load_recipe
from models.reference_weights import fill, published_state


def saved(path: Path, name: str, layout: str, classes: int) -> Path:
    """Save the weights by formula as the released training code does, after data parallelism."""
    model = create_model(name, layout=layout, num_classes=classes, faithful=True)
    state = fill(published_state(model, name), graph=r".*\.PA", gain=0.4)
    single = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    torch.save({f"module.{key}": value for key, value in single.items()}, path)
    return path


def test_weights_of_ntu60_become_a_run_by_the_command_line(tmp_path):
    weights = saved(tmp_path / "w.pt", "aagcn", "ntu25", 60)
    command = ["import", "aagcn", str(weights), str(tmp_path / "run"), "--protocol", "xview"]
    result = CliRunner().invoke(app, [*command, "--stream", "bone"])
    assert result.exit_code == 0, result.output
    recognizer = Recognizer.load(tmp_path / "run")
    assert recognizer.header.recipe["name"] == "aagcn_ntu60_xview"
    assert recognizer.header.reader["options"] == {"persons": "agcn"}
    clip = Clip(np.random.default_rng(0).normal(size=(1, 40, 25, 3)), get_layout("ntu25"))
    assert np.isfinite(recognizer(clip).logits).all()


def test_a_file_of_pyskl_has_the_prefixes_of_mmcv_and_a_graph_of_its_own(tmp_path):
    options = {"layout": "ntu25", "num_classes": 60, "faithful": True}
    model = create_model("aagcn", **options, graph_layout="ntu25_pyskl")
    state = published_state(model, "aagcn_pyskl") | {"backbone.A": model.blocks[0].gcn.A}
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "w.pth")
    run = import_weights("aagcn_pyskl", tmp_path / "w.pth", tmp_path / "run", protocol="xsub")
    recognizer = Recognizer.load(run)
    assert recognizer.header.recipe["name"] == "aagcn_pyskl_ntu60_xsub"
    clip = Clip(np.random.default_rng(0).normal(size=(1, 40, 25, 3)), get_layout("ntu25"))
    assert np.isfinite(recognizer(clip).logits).all()
    other = {**state, "backbone.A": create_model("aagcn", **options).blocks[0].gcn.A}
    torch.save({"state_dict": other}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"'backbone\.A' .* another graph"):
        import_weights("aagcn_pyskl", tmp_path / "w.pth", tmp_path / "other", protocol="xsub")


@pytest.mark.parametrize("name", ["agcn_kinetics", "aagcn_kinetics"])
def test_bones_of_kinetics_are_the_released_pairs_with_absent_joints_at_zero(name):
    parents = [0, 0, 1, 2, 3, 1, 5, 6, 2, 8, 9, 5, 11, 12, 0, 0, 14, 15]
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.2, 1, (2, 20, 18)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.2] = 0
    joints = rng.uniform(0.1, 0.9, (2, 20, 18, 2)).astype(np.float32)
    clip = Clip(joints, get_layout("openpose18"), confidence=scores, space=IMAGE_SHARES)
    joint, bone = (
        load_recipe(name, [f"stream={stream}"]).preprocessor()(clip).x
        for stream in ("joint", "bone")
    )
    assert joint.shape == (3, 300, 18, 2)
    centered = np.where(scores[..., None] == 0, 0, joints - 0.5).transpose(3, 1, 2, 0)
    np.testing.assert_allclose(joint[:2, :20], centered, atol=1e-6)
    np.testing.assert_allclose(joint[2, :20], scores.transpose(1, 2, 0))
    np.testing.assert_allclose(bone[:2], joint[:2] - joint[:2, :, parents], atol=1e-6)


@pytest.mark.slow
def test_weights_of_kinetics_become_a_run(tmp_path):
    weights = saved(tmp_path / "w.pt", "agcn", "openpose18", 400)
    run = import_weights("agcn", weights, tmp_path / "run", protocol="official")
    recognizer = Recognizer.load(run)
    assert recognizer.header.recipe["name"] == "agcn_kinetics"
    space = PREPARATIONS["kinetics"].result
    joints = np.random.default_rng(0).normal(size=(1, 40, 18, 2))
    clip = Clip(joints, get_layout("openpose18"), space=space)
    assert len(recognizer(clip).logits) == 400


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("module.l3.gcn1.PA"), r"lacks 'l3\.gcn1\.PA'$"),
        (lambda s: s.update({"l11.gcn1.PA": torch.ones(1)}), r"holds 'l11\.gcn1\.PA'"),
        (lambda s: s.update({"module.fc.bias": torch.ones(3)}), r"'module\.fc\.bias' has shape"),
        (lambda s: s.update({"l1.gcn1.alpha": torch.ones(1)}), r"holds 'l1\.gcn1\.alpha'"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused_by_its_keys(change, message, tmp_path):
    path = saved(tmp_path / "w.pt", "agcn", "ntu25", 60)
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)
    with pytest.raises(ModelError, match=message):
        import_weights("agcn", path, tmp_path / "run", protocol="xsub")
    assert not (tmp_path / "run").exists()
