"""The counter: known layers, and the published size of ST-GCN."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kinegraph.bench.baselines import create_reference, create_released_model, random_clips
from kinegraph.bench.count import NetworkCost, count_cost


def test_layers_whose_cost_is_known():
    layers = nn.Sequential(nn.Conv2d(2, 4, (3, 1)), nn.ReLU(), nn.Conv2d(4, 5, 1, bias=False))
    first, second = 4 * 6 * 7, 5 * 6 * 7  # values that they return
    parameters, given = 4 * 2 * 3 + 4 + 5 * 4, 2 * 8 * 7
    assert count_cost(layers, torch.zeros(1, 2, 8, 7)) == NetworkCost(
        flops=2.0 * (first * 2 * 3 + second * 4),
        min_values=float(parameters + given),
        moved_values=float(parameters + given + 2 * (first + second)),
        parameters=parameters,
    )


def test_st_gcn_has_its_published_parameters_and_half_the_operations_in_half_the_frames():
    network = create_reference(create_released_model("stgcn"))
    whole = count_cost(network, random_clips(frames=32))
    half = count_cost(network, random_clips(frames=16))
    assert whole.parameters == 3_098_832
    assert abs(half.flops / whole.flops - 0.5) < 0.001


@pytest.mark.slow
def test_st_gcn_takes_17_billion_multiply_adds_for_300_frames():
    assert count_cost(
        create_reference(create_released_model("stgcn")), random_clips()
    ).flops / 2e9 == pytest.approx(17.1, 0.01)
