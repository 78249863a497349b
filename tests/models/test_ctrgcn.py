"""CTR-GCN: the released networks' answers, its start, its invariances, both contractions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kinegraph.errors import KinegraphError
from kinegraph.models import create_model
from kinegraph.models.ctrgcn import CTRGCN, ChannelTopologyConv
from kinegraph.models.published_weights import load_renamed
from kinegraph.skeleton.graph import adjacency
from models.reference_weights import (
    fill,
    published_keys,
    published_state,
    reference_answer,
    reference_input,
)

PYSKL = {"contraction": "source", "temporal_relu": True, "graph_layout": "ntu25_pyskl"}


@dataclass(frozen=True)
class Released:
    """A released network, and the first logits of the reference input."""

    family: str
    case: str
    layout: str
    classes: int
    shape: tuple[int, int, int, int, int]
    first: tuple[float, float, float]

    def model(self) -> CTRGCN:
        """Return it with the weights by formula, float64."""
        options: dict[str, Any] = {"persons": self.shape[-1], "faithful": True}
        ports = self.family == "ctrgcn_pyskl"
        options |= PYSKL if ports else {}
        model: Any = create_model(
            "ctrgcn", layout=self.layout, num_classes=self.classes, **options
        ).double()
        unused = {"backbone.A": model.blocks[0].gcn.topology.detach().clone()} if ports else {}
        filled = fill(
            {**published_state(model, self.family), **unused},
            graph=r"backbone\.net\..*\.A" if ports else r".*\.PA",
            keep=r"backbone\.A",
        )
        load_renamed(model, filled, self.family, unused=unused)
        return model.eval()


NTU = Released("ctrgcn", "ntu60", "ntu25", 60, (2, 3, 32, 25, 2), (0.510413, -0.498868, 0.261725))
UCLA = Released(
    "ctrgcn", "ucla", "kinect20", 10, (2, 3, 52, 20, 1), (0.440414, -0.461161, 0.293996)
)
PORT = Released(
    "ctrgcn_pyskl", "ntu60_3d", "ntu25", 60, (2, 3, 32, 25, 2), (-1.269993, -0.290414, 0.458935)
)
CASES = [pytest.param(case, id=f"{case.family}-{case.case}") for case in (NTU, UCLA, PORT)]


@pytest.mark.parametrize("case", CASES)
def test_logits_are_the_released_networks(case):
    with torch.no_grad():
        logits = case.model()(reference_input(case.shape))
    assert (logits[0, :3] - torch.tensor(case.first)).abs().max() < 1e-6


@pytest.mark.parametrize(
    "case", [UCLA, *(pytest.param(case, marks=pytest.mark.slow) for case in (NTU, PORT))]
)
def test_answers_are_those_recorded_of_the_released_network(case):
    answer = reference_answer(case.family, case.case)
    model, x = case.model(), reference_input(case.shape).requires_grad_()
    logits = model(x)
    loss = cross_entropy(logits, torch.tensor([0, 1]))
    loss.backward()
    grads = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    assert x.grad is not None
    for got, name in ((loss, "loss"), (grads, "grad_norm_params"), (x.grad, "grad_norm_input")):
        assert abs(float(got.detach().norm()) / answer[name] - 1) < 1e-7
    with torch.no_grad():
        trained = model.train()(x)
    for got, name, bound in ((logits, "logits", 1e-7), (trained, "train_mode_logits", 1e-6)):
        expected = torch.tensor(answer[name], dtype=torch.float64)
        assert (got - expected).abs().max() < bound * expected.abs().max()
    assert sum(parameter.numel() for parameter in model.parameters()) == answer["params"]


@pytest.mark.parametrize(("case", "file"), [(NTU, "ctrgcn_ntu60"), (PORT, "ctrgcn_pyskl_ntu60")])
def test_the_names_of_the_tensors_are_the_released_ones(case, file):
    names = {*published_state(case.model(), case.family)}
    assert names | ({"backbone.A"} if case is PORT else set()) == {*published_keys(file)}


@pytest.mark.parametrize(
    ("layout", "classes", "persons", "count"),
    [("ntu25", 60, 2, 1_446_672), ("ntu25", 120, 2, 1_462_092), ("kinect20", 10, 1, 1_426_892)],
)
def test_the_published_number_of_parameters(layout, classes, persons, count):
    model = create_model(
        "ctrgcn", layout=layout, num_classes=classes, persons=persons, faithful=True
    )
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_a_fresh_graph_convolution_is_the_way_around_it():
    model = create_model("ctrgcn", layout="ntu25", num_classes=3, channels=[16, 16], strides=[1, 1])
    x = torch.randn(2, 3, 9, 25)
    for block in model.eval().blocks:
        expected = torch.relu(block.gcn.residual(x))
        assert (block.gcn(x) - expected).abs().max() < 1e-5
        x = expected


def narrow(**options: Any) -> Any:
    """Return a small network whose relations differ from joint to joint and clip to clip."""
    torch.manual_seed(0)
    options = {"channels": [8, 16], "strides": [1, 2], **options}
    model: Any = create_model("ctrgcn", layout="ntu25", num_classes=5, **options)
    for module in model.modules():
        if isinstance(module, ChannelTopologyConv):
            nn.init.constant_(module.alpha, 0.5)
            nn.init.ones_(module.bn.weight)
            nn.init.normal_(module.transform.bias)
    return model.eval()


def test_only_the_released_network_distinguishes_the_persons():
    x = torch.randn(2, 3, 12, 25, 2)
    with torch.no_grad():
        corrected, released = narrow(), narrow(faithful=True)
        nn.init.normal_(released.data_bn.weight)
        assert torch.allclose(corrected(x), corrected(x.flip(4)), atol=1e-6)
        assert not torch.allclose(released(x), released(x.flip(4)), atol=1e-3)


def test_joints_in_another_order_with_their_parameters_have_the_same_logits():
    model, order = narrow(faithful=True), torch.randperm(25)
    moved = narrow(faithful=True)
    x = torch.randn(1, 3, 12, 25, 2)
    with torch.no_grad():
        nn.init.normal_(model.data_bn.weight)
        moved.data_bn.weight.copy_(model.data_bn.weight.view(2, 25, 3)[:, order].flatten())
        for block in moved.blocks:
            block.gcn.topology.copy_(block.gcn.topology[:, order][:, :, order])
        assert torch.allclose(model(x), moved(x[:, :, :, order]), atol=1e-5)
        assert not torch.allclose(model(x), model(x[:, :, :, order]), atol=1e-3)


@pytest.mark.parametrize("contraction", ["target", "source"])
def test_the_graph_convolution_is_its_equation(contraction):
    A = torch.from_numpy(adjacency("ntu25", strategy="agcn"))
    conv = ChannelTopologyConv(4, 6, A, relation_channels=2, contraction=contraction).eval()
    nn.init.constant_(conv.alpha, 0.7)
    nn.init.ones_(conv.bn.weight)
    for maps in (conv.psi, conv.phi, conv.xi, conv.transform):
        nn.init.normal_(maps.bias)
    x = torch.randn(3, 4, 7, 25)
    y = torch.zeros(3, 6, 7, 25)
    for k in range(3):

        def apply(maps: Any, of: Tensor, k: int = k) -> Tensor:
            out = torch.einsum("oc,nc...->no...", maps.weight[k], of)
            return out + maps.bias[k].view(-1, *[1] * (of.ndim - 2))

        relations = apply(conv.psi, x).mean(2)[..., None] - apply(conv.phi, x).mean(2)[..., None, :]
        q = conv.alpha * apply(conv.xi, torch.tanh(relations)) + conv.topology[k]
        equation = "ncuv,nctv->nctu" if contraction == "target" else "ncuv,nctu->nctv"
        y = y + torch.einsum(equation, q, apply(conv.transform, x))
    expected = torch.relu(conv.bn(y) + conv.residual(x))
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [{"contraction": "sideways"}, {"reduction": 0}, {"dilations": ()}, {"graph_layout": "coco17"}],
)
def test_options_that_make_no_network_are_refused(options):
    with pytest.raises(KinegraphError):
        narrow(**options)
