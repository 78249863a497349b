"""The reference SkateFormer: its weights are a faithful model's, under the released names."""

from __future__ import annotations

import pytest
import torch

from kinegraph.bench.reference.skateformer import build_reference_skateformer
from kinegraph.errors import ModelError
from kinegraph.models.skateformer import SkateFormer

SMALL = {"channels": [16, 32], "strides": [1, 2], "depth": 1}


def test_the_function_and_gradient_of_a_faithful_model():
    torch.manual_seed(0)
    model = SkateFormer("kinect20", 5, faithful=True, **SMALL).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    reference, x = build_reference_skateformer(model), torch.randn(2, 3, 32, 20, 2)
    expected, got = model(x), reference(x)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    expected.square().sum().backward()
    got.square().sum().backward()
    torch.testing.assert_close(
        reference.joint_person_embedding.grad, model.joint_embedding.grad, rtol=1e-3, atol=1e-3
    )


def test_a_model_that_is_not_the_released_one_is_refused():
    with pytest.raises(ModelError, match="expected a model made with faithful=True"):
        build_reference_skateformer(SkateFormer("kinect20", 5, **SMALL))
