"""The reference 2s-AGCN and AAGCN: the function of a faithful model, with its weights."""

from __future__ import annotations

import pytest
import torch

from kinegraph.bench.baselines import create_released_model
from kinegraph.bench.reference.agcn import build_reference_agcn
from kinegraph.errors import ModelError
from kinegraph.models.published_weights import load_renamed

SMALL = {"channels": [8, 8, 12], "strides": [1, 1, 2]}
NAMES = pytest.mark.parametrize("name", ["agcn", "aagcn"])


@NAMES
def test_the_function_and_the_gradients_of_a_faithful_model(name):
    model = create_released_model(name, **SMALL).double()
    reference = build_reference_agcn(model).double()
    x = torch.randn(2, 3, 13, 25, 2, dtype=torch.float64)
    torch.testing.assert_close(reference(x), model(x))
    norms = []
    for network in (model.train(), reference.train()):
        network(x).square().sum().backward()
        norms.append(torch.stack([p.grad.norm() for p in network.parameters()]).norm())
    torch.testing.assert_close(*norms)


@NAMES
def test_the_weights_go_there_and_back(name):
    model, again = create_released_model(name, **SMALL), create_released_model(name, **SMALL)
    for parameter in again.parameters():
        parameter.data.zero_()
    load_renamed(again, build_reference_agcn(model).state_dict(), "agcn")
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], tensor)


@pytest.mark.parametrize(
    ("name", "options"),
    [("agcn", {"faithful": False}), ("agcn", {"pool": "joints"}), ("aagcn", {"attention": False})],
)
def test_a_model_that_is_not_the_released_one_is_refused(name, options):
    with pytest.raises(ModelError, match="expected a model made with faithful=True"):
        build_reference_agcn(create_released_model(name, **SMALL, **options))
