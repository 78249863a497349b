"""Minimal filtering (Winograd): nine-tap convolutions with a third of the multiplications.

Shapes: n folded persons, C channels, T frames, V joints, P groups of nine outputs, Q products.

Nine taps are three threes: frame 9p + 3a + c of the output is a sum over the taps 3j + i of frames
9p + 3(a + j) + (c + i). That is a convolution over a grid of 5 x 5 frames, 3 x 3 outputs from 3 x 3
taps, for which Winograd's F(3 x 3, 3 x 3) needs 25 products in place of 81 (Winograd 1980; for
convolutions: Lavin and Gray, CVPR 2016, arXiv 1509.09308, eq. 8). A stride of 2 is a convolution of
the even frames with five taps, plus one of the odd frames with four: F(3 x 3, 2 x 3) each, 20
products. The points are 0, 1, -1, 1/2 and infinity.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from kinegraph.ops.temporal import TemporalConv

POINTS = (0.0, 1.0, -1.0, 0.5)  # and infinity; larger or more points cost accuracy
TAPS = OUTPUTS = 9
ROWS = {1: 3, 2: 2}  # of a stride: into how many threes the taps of its frames are cut
MIN_CHANNELS = 64  # channels; with fewer, moving numbers takes longer than what is saved


@cache
def filter_matrices(rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Float64 matrices of F(3 x 3, rows x 3): of frames (Q, F), taps (Q, 3 rows), products (9, Q).

    Args:
        rows: threes of taps.
    """
    (far_out, far_taps, far_frames), (out, taps, frames) = _line(rows), _line(3)
    grid = [
        torch.kron(far_frames[:, a].clone(), frames[:, c].clone())
        for a in range(rows + 2)
        for c in range(5)
    ]
    window = torch.zeros(len(grid[0]), 3 * (rows + 1) + 5, dtype=torch.float64)
    for place, column in enumerate(grid):
        a, c = divmod(place, 5)
        window[:, 3 * a + c] += column
    return window, torch.kron(far_taps, taps), torch.kron(far_out, out)


def _line(taps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of products (3, taps + 2), of taps (taps + 2, taps), of frames, of F(3, taps)."""

    def powers(width: int) -> Tensor:
        infinity = [0.0] * (width - 1) + [1.0]
        rows = [[point**j for j in range(width)] for point in POINTS[: taps + 1]]
        return torch.tensor([*rows, infinity], dtype=torch.float64)

    return powers(3).T, powers(taps), torch.linalg.inv(powers(taps + 2)).T


class WinogradTemporalConv(TemporalConv):
    """`TemporalConv` of nine taps, for clips in float32 on a processor; else it is that.

    The largest rounding error is some 3e-6 of the largest output.

    Args:
        weight: (C', C, 9, 1).
        bias: (C',).
        left: frames before.
        stride: 1 or 2.
    """

    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, *, left: int, stride: int) -> None:
        super().__init__(weight, bias, left=left, stride=stride)
        frames, taps, products = filter_matrices(ROWS[stride])
        own = {"dtype": weight.dtype, "device": weight.device}
        exact = weight[..., 0].double().cpu()
        mixed = [
            torch.einsum("qk,dck->qcd", taps[:, : phase.shape[2]], phase)
            for phase in (exact[..., first::stride] for first in range(stride))
        ]
        self.register_buffer("mixed", torch.stack(mixed).to(**own).contiguous())
        self.register_buffer("frames", frames.to(**own))
        self.register_buffer("products", products.to(**own))

    @classmethod
    def replace(cls, layer: TemporalConv) -> TemporalConv:
        """Return this form of a convolution where it exists and is faster, else the layer."""
        nine = layer.weight.shape[2:] == (TAPS, 1)
        plain = layer.groups == 1 and layer.dilation == 1 and layer.bias is not None
        if not (nine and plain and layer.stride in ROWS):
            return layer
        if min(layer.weight.shape[:2]) < MIN_CHANNELS:
            return layer
        return cls(layer.weight, layer.bias, left=layer.left, stride=layer.stride)

    @property
    def size(self) -> int:  # type: ignore[override]
        """Of a hop, where it is a convolution as any other."""
        return self.weight.numel() + self.bias.numel()

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> (n, ceil(T / stride), V, C')."""
        plainly = (
            x.device.type != "cpu"
            or x.dtype != torch.float32
            or torch.compiler.is_compiling()
            or torch.compiler.is_exporting()
            or (torch.is_grad_enabled() and x.requires_grad)
        )
        return super().forward(x) if plainly else self._filtered(x)

    def _filtered(self, x: Tensor) -> Tensor:
        n, T, V, C = x.shape
        frames = -(-T // self.stride)
        groups = -(-frames // OUTPUTS)
        window = self.frames.shape[1]
        length = self.stride * (OUTPUTS * groups + window - OUTPUTS)
        y = x.new_empty(n, groups, OUTPUTS, V * self.mixed.shape[3])
        for person, out in zip(x, y, strict=True):  # one by one: what is made of one stays cached
            padded = x.new_zeros(length, V * C)
            padded[self.left : self.left + T].view(T, V, C).copy_(person)
            self._person(padded, out, V)
        return y.view(n, groups * OUTPUTS, V, -1)[:, :frames]

    def _person(self, frames: Tensor, out: Tensor, joints: int) -> None:
        """(F, V*C), with the frames before and after -> out (P, 9, V*C')."""
        groups, width, stride = len(out), frames.shape[1], self.stride
        products, window = self.frames.shape
        strides = (OUTPUTS * stride * width, stride * width, 1)
        grids = frames.new_empty(products, groups, width)
        mixed = frames.new_zeros(products, groups * joints, self.mixed.shape[3])
        for first in range(stride):
            windows = frames[first:].as_strided((groups, window, width), strides)
            torch.bmm(self.frames.expand(groups, -1, -1), windows, out=grids.transpose(0, 1))
            mixed.baddbmm_(grids.view(products, groups * joints, -1), self.mixed[first])
        rows = mixed.view(products, groups, -1).transpose(0, 1)
        bias = self.bias.repeat(joints).expand_as(out)
        torch.baddbmm(bias, self.products.expand(groups, -1, -1), rows, out=out)
