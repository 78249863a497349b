"""The reference AS-GCN: links are explicit sums, its weights are a faithful model's."""

from __future__ import annotations

import pytest
import torch

from kinegraph.bench.reference.asgcn import build_reference_asgcn
from kinegraph.bench.reference.blocks import LINK_WEIGHT, apply_graph
from kinegraph.errors import ModelError
from kinegraph.models import create_model
from models.test_stgcn import randomise

SMALL = {"channels": [8, 12], "strides": [1, 2], "max_hop": 1, "future": 4, "link_frames": 10}


def faithful(**options):
    torch.manual_seed(0)
    made = {**SMALL, "faithful": True, **options}
    return randomise(create_model("asgcn", layout="ntu25", num_classes=5, **made))


def test_links_are_sums_over_groups_and_source_joints():
    g, S, L = torch.randn(2, 4 * 3, 2, 5), torch.rand(2, 5, 5), torch.rand(2, 2, 5, 5)
    expected = torch.zeros(2, 3, 2, 5)
    for n in range(2):
        for v in range(5):
            for w in range(5):
                for k in range(2):
                    expected[n, ..., w] += g[n, 3 * k : 3 * k + 3, :, v] * S[k, v, w]
                    actional = g[n, 6 + 3 * k : 9 + 3 * k, :, v] * L[n, k, v, w]
                    expected[n, ..., w] += LINK_WEIGHT * actional
    torch.testing.assert_close(apply_graph(g, S, L), expected)


def test_the_function_of_a_faithful_model():
    model = faithful()
    x = torch.randn(2, 3, 30, 25, 2).cumsum(dim=2)
    with torch.inference_mode():
        expected, got = model(x), build_reference_asgcn(model)(x)
    assert float((got - expected).abs().max() / expected.abs().max()) < 1e-5


@pytest.mark.parametrize(
    "options",
    [{"faithful": False}, {"link_weight": 0.3}, {"actional": False}, {"pool": "joints"}],
)
def test_a_model_that_is_not_the_released_one_is_refused(options):
    with pytest.raises(ModelError, match="expected a model made with faithful=True"):
        build_reference_asgcn(faithful(**options))
