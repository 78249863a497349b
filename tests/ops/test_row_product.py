"""Products of rows by convolution: the same numbers and gradients as the matrix product."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from kinegraph.ops import row_product as module
from kinegraph.ops.row_product import divide_rows, row_product


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1875, 1024, 997, 100])
def test_numbers_and_gradients_are_those_of_the_product(rows, bias):
    x, weight = torch.randn(rows, 64), torch.randn(64, 96)
    b = torch.randn(96) if bias else None
    given = [t.requires_grad_() for t in (x, weight, b) if t is not None]
    y, expected = row_product(*given), functional.linear(x, weight.T, b)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    grad = torch.randn_like(y)
    for a, e in zip(
        torch.autograd.grad(y, given, grad), torch.autograd.grad(expected, given, grad), strict=True
    ):
        torch.testing.assert_close(a, e, rtol=1e-4, atol=1e-3)


def test_many_rows_are_a_convolution_and_few_are_not(monkeypatch):
    shapes = []

    def conv2d(x, *args):
        shapes.append(tuple(x.shape))
        return functional.conv2d(x, *args)

    monkeypatch.setattr(module, "conv2d", conv2d)
    row_product(torch.randn(1875, 64), torch.randn(64, 64))
    row_product(torch.randn(100, 64), torch.randn(64, 64))
    with torch.autocast("cpu", torch.bfloat16):
        row_product(torch.randn(1875, 64), torch.randn(64, 64))
    assert shapes == [(25, 64, 75, 1)]


def test_rows_are_divided_into_at_least_16_images():
    assert [divide_rows(rows) for rows in (1875, 1024, 7500, 997)] == [25, 16, 20, 0]
