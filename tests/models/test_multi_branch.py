"""The temporal branches: together in training, one by one otherwise."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn

from kinegraph.models import multi_branch
from kinegraph.models.multi_branch import MultiBranchTemporalConv


def built(**options) -> MultiBranchTemporalConv:
    torch.manual_seed(0)
    conv = MultiBranchTemporalConv(12, 21, **options).double()
    for norm in conv.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    return conv


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"norm": False, "dilations": (1, 2, 3)}])
def test_branches_trained_together_are_the_branches_one_by_one(options, monkeypatch):
    together, apart = built(**options), built(**options)
    x = torch.randn(3, 12, 9, 5, dtype=torch.float64, requires_grad=True)
    y = together(x)
    monkeypatch.setattr(multi_branch, "_uses_batch_statistics", lambda module: False)
    expected = apart(x)
    torch.testing.assert_close(y, expected)
    by_input = [torch.autograd.grad(out.square().sum(), x)[0] for out in (y, expected)]
    torch.testing.assert_close(*by_input)
    torch.testing.assert_close(together.state_dict(), apart.state_dict())


def test_frozen_statistics_stay():
    conv = built()
    conv.branches[0].bn.eval()
    before = deepcopy(conv.branches[0].bn.running_mean)
    conv(torch.randn(3, 12, 9, 5, dtype=torch.float64))
    assert torch.equal(conv.branches[0].bn.running_mean, before)
    assert conv.branches[1].bn.num_batches_tracked == 1


def test_averages_over_all_batches_are_those_of_each_branch():
    torch.manual_seed(0)
    layer = MultiBranchTemporalConv(8, 12, dilations=(1, 2), norm=False)
    for module in layer.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    layer.train()(torch.randn(4, 8, 6, 3))
    means = [branch.reduce_bn.running_mean.abs().max() for branch in layer.branches[:3]]
    assert all(float(mean) > 0 for mean in means)
