"""The reference Shift-GCN: its moments are blended frames, its weights are a faithful model's."""

from __future__ import annotations

import math

import pytest
import torch

from kinegraph.bench.reference.shiftgcn import build_reference_shiftgcn, shift_frames_by_gather
from kinegraph.errors import ModelError
from kinegraph.models import create_model
from kinegraph.models.published_weights import load_shiftgcn

SMALL = {"channels": [8, 8, 12], "strides": [1, 1, 2]}


def faithful(**options):
    torch.manual_seed(0)
    made = {**SMALL, "faithful": True, "shift_init": 4.0, **options}
    model = create_model("shiftgcn", layout="ntu25", num_classes=5, **made)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith(("mask", "bias", "running_mean")):
                value.add_(0.3 * torch.randn_like(value))
    return model.eval()


@pytest.mark.parametrize("stride", [1, 2])
def test_a_moment_is_two_frames_blended_and_zero_outside(stride):
    x, position = torch.randn(1, 5, 7, 2), torch.tensor([0.0, 0.25, -1.5, 6.5, -40.0])
    expected = torch.zeros(1, 5, math.ceil(7 / stride), 2)
    for c in range(5):
        k = math.floor(position[c])
        d = position[c] - k
        for h in range(expected.shape[2]):
            for frame, weight in ((h * stride + k, 1 - d), (h * stride + k + 1, d)):
                if 0 <= frame < 7:
                    expected[:, c, h] += weight * x[:, c, frame]
    torch.testing.assert_close(shift_frames_by_gather(x, position, stride), expected)


@pytest.mark.parametrize("persons", [1, 2])
def test_the_function_of_a_faithful_model(persons):
    model = faithful(persons=persons)
    x = torch.randn(2, 3, 13, 25, persons)
    with torch.inference_mode():
        expected, got = model(x), build_reference_shiftgcn(model)(x)
    assert float((got - expected).abs().max() / expected.abs().max()) < 1e-5


def test_the_weights_go_there_and_back():
    model = faithful()
    again = faithful(shift_init=1.0)
    load_shiftgcn(again, build_reference_shiftgcn(model).state_dict())
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor)


@pytest.mark.parametrize(
    "options",
    [
        {"faithful": False},
        {"spatial": "local"},
        {"temporal": "naive"},
        {"mask": False},
        {"pool": "joints"},
    ],
)
def test_a_model_that_is_not_the_released_one_is_refused(options):
    with pytest.raises(ModelError, match="expected a model made with faithful=True"):
        build_reference_shiftgcn(faithful(**options))
