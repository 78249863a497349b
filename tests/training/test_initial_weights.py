"""Weights of a run as the start of a model for other joints, other channels or another space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kinegraph.errors import CheckpointError
from kinegraph.models import MODELS, create_model
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import KINECT, Space
from kinegraph.training.checkpoint import CheckpointHeader, save_checkpoint
from kinegraph.training.initial_weights import InitialWeights, load_initial_weights
from models.networks import narrow, settled
from models.permuted_joints import NTU, ORDER, permuted_layout

#: Options by which all tensors of a family fit joints in any order.
ANY_ORDER: dict[str, dict[str, Any]] = {
    "aagcn": {"attention": False},
    "stgcn": {"adaptive": True, "pool": "joints"},
    "stgcn_autoencoder": {"bottleneck": "vector", "pool": "joints"},
}
#: Families whose features move between joints by the joints' numbers, or in parts.
ORDERED = {"shiftgcn", "skateformer"}


def header(name: str, options: dict[str, Any], layout: SkeletonLayout, **facts) -> CheckpointHeader:
    """The header of a run on recorded clips of five classes."""
    plain: dict[str, Any] = {
        "num_classes": 5,
        "in_channels": 3,
        "classes": None,
        "persons": 1,
        "confidence": False,
        "stream": "joint",
        "transforms": ["stream"],
        "reader": {},
        "recipe": {},
        "training": {},
        "versions": {},
    }
    model = {"name": name, "options": options}
    return CheckpointHeader(model=model, layout=layout.to_dict(), **{**plain, **facts})


def start(model: nn.Module, of: CheckpointHeader, to: CheckpointHeader, folder: Path):
    """A new model that starts with the weights of another one."""
    path = folder / "start.safetensors"
    save_checkpoint(path, model.state_dict(), of)
    new = to.build_model().eval()
    return new, load_initial_weights(new, to, path)


def made(head: CheckpointHeader) -> nn.Module:
    """A network of this header with statistics, and learned graphs that are not symmetric."""
    layout = SkeletonLayout.from_dict(head.layout)
    options = {**head.model["options"], "in_channels": head.in_channels}
    model = settled(head.model["name"], options, layout)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn(value.shape))
    return model


@pytest.mark.parametrize("name", MODELS)
def test_a_model_answers_the_same_for_joints_in_another_order(name, tmp_path):
    options = {**narrow(name, 1), **ANY_ORDER.get(name, {})}
    known, new = header(name, options, NTU), header(name, options, permuted_layout())
    model = made(known)
    moved, result = start(model, known, new, tmp_path)
    x = torch.randn(2, 3, 16, 25, 1)
    with torch.inference_mode():
        same = torch.allclose(moved(x[:, :, :, ORDER]), model(x), rtol=1e-4, atol=1e-4)
    assert same != (name in ORDERED)
    assert bool(result.fresh) == (name == "skateformer")
    assert bool(result.mapped) == (name != "skateformer")


def test_every_tensor_has_a_start_in_a_layout_with_other_joints_and_channels(tmp_path):
    """What depends on joints in a way that is not declared starts anew, and is named."""
    fresh = {}
    for name in MODELS:
        options, stream = narrow(name, 1), {"stream": "joint+joint_motion"}
        solid = {"in_channels": 6, "training": {"coordinates": 3}, **stream}
        flat = {"in_channels": 4, "training": {"coordinates": 2}, "num_classes": 4, **stream}
        known = header(name, options, get_layout("kinect20"), **solid)
        new = header(name, options, get_layout("coco17"), **flat)
        model, result = start(made(known), known, new, tmp_path)
        assert model(torch.randn(2, 4, 16, 17, 1)).shape == (2, 4)
        assert result.copied and result.mapped
        fresh[name] = {key for key in result.fresh if "head" not in key.split(".")}
    # convolutions over joints, poses and links of C channels, products of scales and C, token parts
    assert {name for name in MODELS if fresh[name]} == {"aagcn", "asgcn", "msg3d", "skateformer"}


def test_entries_of_common_joints_are_taken_and_others_start_anew(tmp_path):
    known = header("stgcn", {**narrow("stgcn"), "adaptive": True}, get_layout("kinect20"))
    new = header("stgcn", known.model["options"], get_layout("penn13"))
    model = made(known)
    torch.manual_seed(0)
    fresh = new.build_model()
    moved, _ = start(model, known, new, tmp_path)
    ours, theirs = get_layout("penn13"), get_layout("kinect20")
    free, source = moved.blocks[0].gcn.free_edges, model.blocks[0].gcn.free_edges
    pairs = [(ours.index(name), theirs.index(name)) for name in ours.joints]
    for to_a, of_a in pairs:
        for to_b, of_b in pairs:
            torch.testing.assert_close(free[:, to_a, to_b], source[:, of_a, of_b])
    torch.testing.assert_close(moved.blocks[0].gcn.A, fresh.blocks[0].gcn.A)
    back, _ = start(fresh, new, known, tmp_path)
    spine = theirs.index("spine")
    assert not back.blocks[0].gcn.free_edges[:, spine].any()
    assert (back.data_bn.weight.view(20, 3)[spine] == 1).all()


def test_a_flat_clip_is_answered_as_the_same_clip_in_space(tmp_path):
    layout, options = get_layout("penn13"), narrow("stgcn")
    known = header("stgcn", options, layout, space=KINECT.to_dict())
    new = header("stgcn", options, layout, in_channels=2, space=Space("image").to_dict())
    model = made(known)
    with torch.no_grad():  # so that the depth, which is lost, says nothing
        for value in (model.data_bn.bias, model.data_bn.running_mean):
            value.view(13, 3)[:, 2] = 0
    moved, _ = start(model, known, new, tmp_path)
    flat = torch.randn(2, 2, 16, 13, 1)
    solid = torch.cat([-flat, torch.zeros_like(flat[:, :1])], dim=1)  # x and y turn around
    with torch.inference_mode():
        torch.testing.assert_close(moved(flat), model(solid), rtol=1e-4, atol=1e-4)


def test_channels_are_found_by_their_stream(tmp_path):
    layout, options = get_layout("kinect20"), narrow("stgcn")
    both = {"stream": "bone+joint", "in_channels": 6, "training": {"coordinates": 3}}
    known = header("stgcn", options, layout, **both)
    new = header("stgcn", options, layout)
    model = made(known)
    with torch.no_grad():
        model.blocks[0].gcn.weight[:, :3] = 0
    moved, result = start(model, known, new, tmp_path)
    x = torch.randn(2, 6, 16, 20, 1)
    with torch.inference_mode():
        torch.testing.assert_close(moved(x[:, 3:]), model(x), rtol=1e-4, atol=1e-4)
    assert result.describe(Path("run"))[1].startswith(
        "weights of run, mapped by joints and channels: 5 tensors (data_bn.weight, data_bn.bias, "
    )
    assert InitialWeights(["a"]).describe(Path("run")) == [
        "weights of run, copied: 1 tensor (a)",
        "weights of run, mapped by joints and channels: 0 tensors",
        "weights of run, not taken: 0 tensors",
    ]


def test_layouts_without_a_common_joint_are_no_start(tmp_path):
    tail = SkeletonLayout(name="fish", joints=("fin", "tail"), bones=((1, 0),), center=0)
    known, new = header("stgcn", {}, tail), header("stgcn", {}, get_layout("penn13"))
    with pytest.raises(CheckpointError, match=r"cannot initialize .* no joint in common"):
        start(create_model("stgcn", layout=tail, num_classes=5), known, new, tmp_path)
