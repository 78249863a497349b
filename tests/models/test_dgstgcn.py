"""DG-STGCN against the released network and its equations: answers, counts, invariances."""

from __future__ import annotations

import pytest
import torch

from kinegraph.errors import ModelError
from kinegraph.models import create_model
from kinegraph.models.dgstgcn import BodyTemporalConv, DynamicGraphConv
from kinegraph.models.published_weights import load_renamed
from models.permuted_joints import ORDER, permuted_state
from models.reference_weights import (
    assert_answers,
    fill,
    published_keys,
    published_state,
    reference_input,
)

CASES = {"ntu25_pyskl": "ntu60_3d", "coco17": "ntu60_hrnet"}
NARROW = {"channels": [8, 16], "strides": [1, 2]}


def filled(layout: str = "ntu25_pyskl") -> torch.nn.Module:
    """The faithful network with the weights of the formula, in float64."""
    model = create_model("dgstgcn", layout=layout, num_classes=60, faithful=True).double()
    load_renamed(model, fill(published_state(model, "dgstgcn")), "dgstgcn")
    return model.eval()


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """The network with alpha, beta and the shares of the body off their start, 0."""
    for name, parameter in model.named_parameters():
        if name.endswith(("alpha", "beta", "body_share")):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return model.eval()


def test_first_logits_are_those_of_the_released_network():
    with torch.inference_mode():
        logits = filled()(reference_input((1, 3, 32, 25, 2)))[0, :3]
    expected = torch.tensor([-0.249909, 0.059899, -0.183735], dtype=torch.float64)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layout", ["ntu25_pyskl", pytest.param("coco17", marks=pytest.mark.slow)])
def test_all_recorded_answers(layout):
    assert_answers(filled(layout), "dgstgcn", CASES[layout])


def test_the_names_and_shapes_are_the_released_ones():
    model = create_model("dgstgcn", layout="ntu25_pyskl", num_classes=60, faithful=True)
    ours = {key: tuple(value.shape) for key, value in published_state(model, "dgstgcn").items()}
    assert ours == published_keys("dgstgcn_ntu60")


@pytest.mark.parametrize(
    ("layout", "classes", "parameters"),
    [("ntu25", 60, 1_701_172), ("ntu25", 120, 1_716_592), ("coco17", 60, 1_674_244)],
)
def test_parameter_counts_are_the_published_ones(layout, classes, parameters):
    model = create_model("dgstgcn", layout=layout, num_classes=classes, faithful=True)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("shared", [False, True])
def test_the_graph_convolution_is_the_equation(shared):
    torch.manual_seed(0)
    n, C, T, V, K, D = 2, 5, 4, 3, 4, 2
    conv = DynamicGraphConv(C, 8 * D, V, subsets=K, shared=shared).double()
    moved(conv)
    x = torch.randn(n, C, T, V, dtype=torch.float64)
    p = torch.relu(conv.values_bn(conv.values(x))).view(n, K, D, T, V)
    a, b = (part(x.mean(2, keepdim=True)).view(n, K, D, V) for part in (conv.source, conv.target))
    y = torch.zeros(n, K, D, T, V, dtype=torch.float64)
    for k in range(K):
        used = 0 if shared else k
        for v in range(V):
            scores = torch.stack([(a[:, k, :, u] * b[:, k, :, v]).sum(1) for u in range(V)])
            share = torch.softmax(scores, dim=0)
            for u in range(V):
                Q = conv.A[k, u, v] + conv.beta[used] * share[u][:, None]
                Q = Q + conv.alpha[used] * torch.tanh(a[:, k, :, u] - b[:, k, :, v])
                y[:, k, :, :, v] += p[:, k, :, :, u] * Q[:, :, None]
    torch.testing.assert_close(conv(x), conv.mix(y.flatten(1, 2)))


def test_each_joint_takes_its_share_of_the_body():
    torch.manual_seed(0)
    conv = moved(BodyTemporalConv(12, 2, shares=7))
    x = torch.randn(2, 12, 9, 5)
    with torch.inference_mode():
        body = conv.branches(x.mean(dim=3, keepdim=True))
        joints = conv.branches(x)
        expected = conv.mix_branches(joints + body * conv.body_share[:5])
        torch.testing.assert_close(conv(x), expected)


def test_at_the_start_the_graphs_do_not_depend_on_the_clip():
    torch.manual_seed(0)
    model = create_model("dgstgcn", layout="ntu25", num_classes=5, **NARROW).eval()
    x = torch.randn(2, 3, 8, 25, 1)
    with torch.inference_mode():
        before = model(x)
        for block in model.blocks:
            for conv in (block.gcn.source, block.gcn.target):
                torch.nn.init.normal_(conv.weight)
        assert torch.equal(model(x), before)
        assert not torch.allclose(moved(model)(x), before)


def test_only_the_first_alpha_and_beta_count_if_faithful():
    x = torch.randn(2, 3, 8, 25, 1)
    for faithful in (False, True):
        model = create_model("dgstgcn", layout="ntu25", num_classes=5, faithful=faithful, **NARROW)
        model(x).square().sum().backward()
        gcn = model.blocks[0].gcn
        for parameter in (gcn.alpha, gcn.beta):
            assert float(parameter.grad[0]) != 0
            assert bool((parameter.grad[1:] == 0).all()) is faithful


def test_faithful_shares_are_25_for_any_skeleton_of_at_most_so_many_joints():
    shares = {
        (layout, faithful): create_model(
            "dgstgcn", layout=layout, num_classes=5, faithful=faithful, **NARROW
        )
        .blocks[0]
        .tcn.body_share.numel()
        for layout, faithful in (("coco17", True), ("coco17", False), ("mediapipe33", False))
    }
    assert list(shares.values()) == [25, 17, 33]
    with pytest.raises(ModelError, match="at most 25 joints, the layout has 33"):
        create_model("dgstgcn", layout="mediapipe33", num_classes=5, faithful=True)
    with pytest.raises(ModelError, match="at least one graph a block, got subsets=0"):
        create_model("dgstgcn", layout="coco17", num_classes=5, subsets=0)


def test_swapped_persons_give_the_same_logits():
    model = filled()
    x = reference_input((1, 3, 16, 25, 2))
    with torch.inference_mode():
        torch.testing.assert_close(model(x.flip(-1)), model(x))


def test_permuting_the_joints_changes_nothing():
    one = create_model("dgstgcn", layout="ntu25", num_classes=5, **NARROW).train()
    x = torch.randn(3, 3, 12, 25, 2)
    one(x)
    moved(one)
    two = create_model("dgstgcn", layout="ntu25", num_classes=5, **NARROW)
    two.load_state_dict(permuted_state(one, "gcn.A", "body_share"))
    with torch.inference_mode():
        torch.testing.assert_close(two.eval()(x[:, :, :, ORDER]), one(x), rtol=1e-4, atol=1e-5)


def test_an_absent_person_counts_only_if_faithful():
    x = torch.randn(2, 3, 12, 25, 1)
    with_ghost = torch.cat([x, torch.zeros_like(x)], dim=-1)
    for faithful in (False, True):
        torch.manual_seed(0)
        model = create_model("dgstgcn", layout="ntu25", num_classes=5, faithful=faithful, **NARROW)
        model.train()(x)
        with torch.inference_mode():
            same = torch.allclose(model.eval()(with_ghost), model(x), atol=1e-5)
        assert same is not faithful
