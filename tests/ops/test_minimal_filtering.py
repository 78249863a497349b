"""Minimal filtering is the convolution, with fewer multiplications and about the same errors."""

from __future__ import annotations

import pytest
import torch

from kinegraph.ops.minimal_filtering import WinogradTemporalConv, filter_matrices
from kinegraph.ops.temporal import TemporalConv
from kinegraph.runtime.fuse import relative_error


@pytest.mark.parametrize(("rows", "products"), [(3, 25), (2, 20)])
def test_nine_outputs_of_a_filter_from_few_products(rows, products):
    frames, taps, out = filter_matrices(rows)
    filters = torch.randn(3 * rows, dtype=torch.float64)
    x = torch.randn(frames.shape[1], dtype=torch.float64)
    assert frames.shape == (products, 9 + 3 * rows - 1) and out.shape == (9, products)
    got = out @ ((taps @ filters) * (frames @ x))
    torch.testing.assert_close(got, x.unfold(0, 3 * rows, 1) @ filters)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 8, 9, 10, 37])
@pytest.mark.parametrize("left", [4, 0, 8])
@torch.inference_mode()
def test_it_is_the_convolution(stride, frames, left):
    weight, bias = torch.randn(64, 66, 9, 1), torch.randn(64)
    x = torch.randn(2, frames, 5, 66)
    layer = WinogradTemporalConv(weight, bias, left=left, stride=stride)
    plain = TemporalConv(weight.double(), bias.double(), left=left, stride=stride)
    expected = plain(x.double())
    got = layer(x)
    assert got.shape == expected.shape
    assert relative_error(got.double(), expected) < 1e-5
    wide = layer(x[..., None].expand(-1, -1, -1, -1, 2)[..., 0])
    assert torch.equal(wide, got)


def test_gradients_and_other_precisions_take_the_usual_way():
    weight, bias = torch.randn(64, 64, 9, 1), torch.randn(64)
    layer = WinogradTemporalConv(weight, bias, left=4, stride=1)
    x = torch.randn(1, 12, 3, 64, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None and bool(x.grad.abs().sum() > 0)
    plain = TemporalConv(weight.bfloat16(), bias.bfloat16(), left=4)
    half = layer.to(torch.bfloat16)(x.detach().bfloat16())
    assert torch.equal(half, plain(x.detach().bfloat16()))


def test_which_convolutions_it_replaces():
    def replaced(C: int = 64, k: int = 9, stride: int = 1, **options: int) -> bool:
        weight = torch.zeros(64, C // options.get("groups", 1), k, 1)
        conv = TemporalConv(weight, torch.zeros(64), left=4, stride=stride, **options)
        return isinstance(WinogradTemporalConv.replace(conv), WinogradTemporalConv)

    assert replaced() and replaced(stride=2)
    assert not replaced(stride=3) and not replaced(groups=2) and not replaced(dilation=2)
    assert not replaced(C=32) and not replaced(k=7)
