"""The reference CTR-GCN: its weights are a faithful model's, under the released names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kinegraph.bench.reference.ctrgcn import build_reference_ctrgcn
from kinegraph.errors import ModelError
from kinegraph.models import create_model
from kinegraph.models.published_weights import load_ctrgcn

SMALL = {"channels": [12, 24], "strides": [1, 2]}


def faithful(**options):
    torch.manual_seed(0)
    model = create_model(
        "ctrgcn", layout="penn13", num_classes=5, **{**SMALL, "faithful": True, **options}
    )
    for name, value in model.named_parameters():
        if name.endswith(("alpha", "bn.weight", "bias")):
            nn.init.normal_(value, 1, 0.3)
    return model.eval()


def test_the_function_of_a_faithful_model():
    model, x = faithful(), torch.randn(2, 3, 11, 13, 2)
    with torch.inference_mode():
        expected, got = model(x), build_reference_ctrgcn(model)(x)
    assert float((got - expected).abs().max() / expected.abs().max()) < 1e-5


def test_the_weights_go_there_and_back():
    model = faithful()
    again = create_model("ctrgcn", layout="penn13", num_classes=5, faithful=True, **SMALL)
    load_ctrgcn(again, build_reference_ctrgcn(model).state_dict())
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor)


@pytest.mark.parametrize(
    "options",
    [{"faithful": False}, {"contraction": "source"}, {"temporal_relu": True}, {"pool": "joints"}],
)
def test_a_model_that_is_not_the_released_one_is_refused(options):
    with pytest.raises(ModelError, match="expected a model made with faithful=True"):
        build_reference_ctrgcn(faithful(**options))
