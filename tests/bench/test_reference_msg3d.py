"""The reference MS-G3D: its weights are a faithful model's, under the released names."""

from __future__ import annotations

import pytest
import torch

from kinegraph.bench.reference.msg3d import build_reference_msg3d
from kinegraph.errors import ModelError
from kinegraph.models import create_model
from kinegraph.models.published_weights import load_msg3d

SMALL = {"channels": [12, 24], "strides": [1, 2], "scales": 4, "window_scales": 3}


def faithful(**options):
    torch.manual_seed(0)
    model = create_model(
        "msg3d", layout="penn13", num_classes=5, **{**SMALL, "faithful": True, **options}
    )
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith(("free_edges", "bias", "running_mean")):
                value.add_(0.2 * torch.randn_like(value))
    return model.eval()


def test_the_function_of_a_faithful_model():
    model, x = faithful(), torch.randn(2, 3, 11, 13, 2)
    with torch.inference_mode():
        expected, got = model(x), build_reference_msg3d(model)(x)
    assert float((got - expected).abs().max() / expected.abs().max()) < 1e-5


def test_the_weights_go_there_and_back():
    model = faithful()
    again = create_model("msg3d", layout="penn13", num_classes=5, faithful=True, **SMALL)
    load_msg3d(again, build_reference_msg3d(model).state_dict())
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor)


@pytest.mark.parametrize("options", [{"faithful": False}, {"pyskl": True}, {"pool": "joints"}])
def test_a_model_that_is_not_the_released_one_is_refused(options):
    with pytest.raises(ModelError, match="expected a model made with faithful=True"):
        build_reference_msg3d(faithful(**options))
