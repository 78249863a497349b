"""The reference ST-GCN: its graph convolution is three sums, its weights are a faithful model's."""

from __future__ import annotations

import pytest
import torch

from kinegraph.bench.reference.blocks import apply_graph
from kinegraph.bench.reference.stgcn import (
    ReferenceSTGCN,
    build_reference_stgcn,
    build_reference_twostream,
)
from kinegraph.errors import ModelError
from kinegraph.models import create_model
from kinegraph.models.published_weights import load_stgcn
from models.test_stgcn import randomise

SMALL = {"channels": [8, 12, 12], "strides": [1, 2, 1]}


def faithful(name="stgcn", **options):
    torch.manual_seed(0)
    made = {**SMALL, "faithful": True, **options}
    return randomise(create_model(name, layout="ntu25", num_classes=5, **made))


def clips():
    x = torch.randn(2, 3, 13, 25, 2, generator=torch.Generator().manual_seed(1))
    x[1, ..., 1] = 0
    return x


def test_a_graph_convolution_is_a_sum_over_partitions_source_joints_and_channels():
    A = torch.rand(2, 4, 4)
    conv = ReferenceSTGCN(A, 5, 3, [6], [1]).st_gcn_networks[0].gcn.conv
    x = torch.randn(1, 3, 2, 4)
    weight, bias = conv.weight[:, :, 0, 0].unflatten(0, (2, 6)), conv.bias.view(2, 6)
    expected = torch.zeros(1, 6, 2, 4)
    for k in range(2):
        for v in range(4):
            for w in range(4):
                mixed = torch.einsum("nit,oi->not", x[..., v], weight[k]) + bias[k][:, None]
                expected[..., w] += mixed * A[k, v, w]
    with torch.no_grad():
        torch.testing.assert_close(apply_graph(conv(x), A), expected)


@pytest.mark.parametrize(
    ("name", "make"),
    [("stgcn", build_reference_stgcn), ("stgcn_twostream", build_reference_twostream)],
)
def test_the_function_of_a_faithful_model(name, make):
    model = faithful(name)
    plain, x = make(model), clips()
    with torch.inference_mode():
        expected = model(x)
        assert float((plain(x) - expected).abs().max() / expected.abs().max()) < 1e-5


def test_the_weights_go_there_and_back():
    model = faithful()
    again = faithful()
    randomise(again, seed=5)
    load_stgcn(again, build_reference_stgcn(model).state_dict())
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor)


@pytest.mark.parametrize(
    "options",
    [
        {"faithful": False},
        {"pool": "joints"},
        {"temporal_kernel": 5},
        {"edge_importance": False},
        {"adaptive": True},
        {"excitation": "me_series", "channels": [16, 16, 16]},
    ],
)
def test_a_model_that_is_not_the_released_one_is_refused(options):
    with pytest.raises(ModelError, match="expected a model made with faithful=True"):
        build_reference_stgcn(faithful(**options))
