"""Weights of PYSKL to runs: names with the prefixes of mmcv, both kinds of poses, all streams."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinegraph.clips.clip import Clip
from kinegraph.errors import ModelError, RecipeError
from kinegraph.inference.import_weights import import_weights
from kinegraph.inference.recognizer import Recognizer
from kinegraph.models import create_model
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import KINECT, Space
from models.reference_weights import fill, published_state

MODELS = {"stgcn_pyskl": "stgcn", "stgcnpp": "stgcnpp", "dgstgcn": "dgstgcn"}
FIXED = {"stgcn_pyskl": r".*\.A", "stgcnpp": r".*\.A", "dgstgcn": ""}


def saved(path, family, *, layout="ntu25_pyskl", classes=60, **changes):
    """A checkpoint as mmcv writes it, with weights by formula."""
    model = create_model(MODELS[family], layout=layout, num_classes=classes, faithful=True)
    state = fill(published_state(model, family), keep=FIXED[family])
    torch.save({"meta": {"epoch": 16}, "state_dict": {**state, **changes}}, path)
    return path


def random_clip(layout: str, coordinates: int, space: Space) -> Clip:
    rng = np.random.default_rng(0)
    V = get_layout(layout).num_joints
    joints = rng.normal(100, 20, (1, 40, V, coordinates)).astype(np.float32)
    confidence = None if coordinates == 3 else np.full((1, 40, V), 0.5, np.float32)
    meta = {} if coordinates == 3 else {"width": 320, "height": 240}
    return Clip(joints, get_layout(layout), confidence=confidence, id="a", meta=meta, space=space)


@pytest.mark.parametrize(
    ("family", "protocol", "classes", "stream"),
    [
        ("stgcnpp", "xsub", 60, "joint"),
        ("dgstgcn", "xset", 120, "bone"),
        ("stgcn_pyskl", "xview", 60, "bone_motion"),
    ],
)
def test_a_run_of_3d_poses(tmp_path, family, protocol, classes, stream):
    weights = saved(tmp_path / "w.pth", family, classes=classes)
    run = import_weights(family, weights, tmp_path / "run", protocol=protocol, stream=stream)
    recognizer = Recognizer.load(run)
    header = recognizer.header
    assert header.model["name"] == MODELS[family]
    assert header.reader == {"name": "ntu", "options": {"persons": "pyskl"}}
    assert header.recipe["name"] == f"{family}_ntu{classes}_{protocol}"
    assert header.stream == stream
    assert len(header.classes) == classes
    assert header.recipe["test_clips"] == 10
    state = torch.load(weights)["state_dict"]
    torch.testing.assert_close(
        recognizer.model.head.weight.double().cpu(), state["cls_head.fc_cls.weight"]
    )


def test_a_run_of_hrnet_poses_predicts(tmp_path):
    weights = saved(tmp_path / "w.pth", "stgcnpp", layout="coco17")
    run = import_weights("stgcnpp", weights, tmp_path / "run", protocol="xview")
    recognizer = Recognizer.load(run)
    assert recognizer.header.recipe["name"] == "stgcnpp_ntu60_xview_hrnet"
    assert recognizer.header.in_channels == 3
    answer = recognizer(random_clip("coco17", 2, Space("image")))
    assert np.isfinite(answer.logits).all()


@pytest.mark.slow
@pytest.mark.parametrize("family", list(MODELS))
def test_recorded_clips_are_predicted(tmp_path, family):
    weights = saved(tmp_path / "w.pth", family)
    run = import_weights(family, weights, tmp_path / "run", protocol="xsub", stream="bone")
    answer = Recognizer.load(run)(random_clip("ntu25", 3, KINECT))
    assert np.isfinite(answer.logits).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone.gcn.0.gcn.PA": torch.ones(3, 25, 25)}, "holds 'backbone.gcn.0.gcn.PA'"),
        ({"cls_head.fc_cls.bias": torch.ones(2)}, r"'cls_head.fc_cls.bias' has shape \(2,\)"),
    ],
)
def test_keys_that_do_not_fit_are_refused_by_their_own_names(tmp_path, changes, message):
    weights = saved(tmp_path / "w.pth", "stgcnpp", **changes)
    with pytest.raises(ModelError, match=message):
        import_weights("stgcnpp", weights, tmp_path / "run", protocol="xsub")
    assert not (tmp_path / "run").exists()


def test_another_graph_is_refused(tmp_path):
    moved = {"backbone.gcn.3.gcn.A": torch.ones(3, 25, 25)}
    weights = saved(tmp_path / "w.pth", "stgcn_pyskl", **moved)
    with pytest.raises(ModelError, match=r"'backbone\.gcn\.3\.gcn\.A' of the state dict is not"):
        import_weights("stgcn_pyskl", weights, tmp_path / "run", protocol="xsub")


def test_a_setting_that_is_not_published_is_refused_with_those_that_are(tmp_path):
    weights = saved(tmp_path / "w.pth", "dgstgcn", layout="coco17")
    with pytest.raises(RecipeError, match="no published setting for dgstgcn with 60 classes"):
        import_weights("dgstgcn", weights, tmp_path / "run", protocol="xsub")
