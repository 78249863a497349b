"""CTR-GCN's and PYSKL's files of weights as runs, with weights by formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinegraph.cli import main
from kinegraph.clips.clip import Clip
from kinegraph.errors import ModelError
from kinegraph.inference.import_weights import import_weights
from kinegraph.inference.recognizer import Recognizer
from kinegraph.models import create_model
from kinegraph.skeleton.layouts import get_layout
from models.reference_weights import fill, published_state


def weights_by_formula(classes: int, layout: str, persons: int, **options) -> dict:
    """Return a state dict of the released network, by its names."""
    model = create_model(
        "ctrgcn",
        layout=layout,
        num_classes=classes,
        persons=persons,
        faithful=True,
        **options,
    )
    ports = "contraction" in options
    state = published_state(model, "ctrgcn_pyskl" if ports else "ctrgcn")
    if ports:
        state["backbone.A"] = model.blocks[0].gcn.topology.detach().clone()
    filled = fill(state, graph=r".*\.(PA|gcn1\.A)", keep=r"backbone\.A")
    return {name: value.float().contiguous() for name, value in filled.items()}


def test_a_file_of_the_released_code_becomes_a_run_that_predicts(tmp_path, capsys):
    state = weights_by_formula(10, "kinect20", 1)
    # as the released trainer saves it, from several devices
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "ucla.pt")
    run = tmp_path / "run"
    command = ["import", "ctrgcn", str(tmp_path / "ucla.pt"), str(run)]
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--protocol", "ucla-xview"])
    assert "ctrgcn, 10 classes, joint stream, protocol ucla-xview" in capsys.readouterr().out
    recognizer = Recognizer.load(run)
    assert recognizer.header.reader == {"name": "nw_ucla", "options": {}}
    loaded = published_state(recognizer.model, "ctrgcn")
    assert {*loaded} == {*state}
    joints = np.random.default_rng(0).normal(size=(1, 30, 20, 3)).astype(np.float32)
    clip = Clip(id="clip", joints=joints, layout=get_layout("kinect20"))
    assert len(recognizer(clip).logits) == 10


def test_a_file_of_pyskl_has_the_prefixes_of_mmcv(tmp_path):
    options = {"contraction": "source", "temporal_relu": True, "graph_layout": "ntu25_pyskl"}
    state = weights_by_formula(60, "ntu25", 2, **options)
    torch.save({"meta": {"epoch": 16}, "state_dict": state}, tmp_path / "j.pth")
    run = import_weights("ctrgcn_pyskl", tmp_path / "j.pth", tmp_path / "run", protocol="xsub")
    assert Recognizer.load(run).header.recipe["test_clips"] == 10
    with pytest.raises(ModelError, match=r"lacks 'cls_head\.fc_cls\.bias'"):
        missing = {name: value for name, value in state.items() if name != "cls_head.fc_cls.bias"}
        torch.save(missing, tmp_path / "j.pth")
        import_weights("ctrgcn_pyskl", tmp_path / "j.pth", tmp_path / "other", protocol="xsub")
    state["backbone.A"] = state["backbone.A"].transpose(1, 2)
    torch.save(state, tmp_path / "j.pth")
    with pytest.raises(ModelError, match=r"'backbone\.A' .* trained on another graph"):
        import_weights("ctrgcn_pyskl", tmp_path / "j.pth", tmp_path / "other", protocol="xsub")


def test_a_file_of_pyskl_for_hrnet_poses_is_known_by_its_input(tmp_path):
    options = {"contraction": "source", "temporal_relu": True}
    torch.save(weights_by_formula(60, "coco17", 2, **options), tmp_path / "j.pth")
    run = import_weights("ctrgcn_pyskl", tmp_path / "j.pth", tmp_path / "run", protocol="xview")
    header = Recognizer.load(run).header
    assert header.recipe["name"] == "ctrgcn_pyskl_ntu60_xview_hrnet"
    assert (header.persons, header.in_channels) == (2, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"l3.gcn1.convs.1.conv4.weight": None}, r"lacks 'l3\.gcn1\.convs\.1\.conv4\.weight'"),
        ({"l11.what": torch.zeros(1)}, r"holds 'l11\.what'"),
        ({"l2.gcn1.convs.0.conv1.bias": torch.zeros(9)}, r"'l2\.gcn1\.convs\.0\.conv1\.bias' has"),
    ],
)
def test_keys_that_are_missing_unknown_or_misshapen_are_named(tmp_path, changes, message):
    state = {**weights_by_formula(10, "kinect20", 1), **changes}
    torch.save({k: v for k, v in state.items() if v is not None}, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=message):
        import_weights("ctrgcn", tmp_path / "w.pt", tmp_path / "run", protocol="ucla-xview")
