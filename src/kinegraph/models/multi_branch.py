"""Multi-branch temporal convolution, shared by MS-G3D, CTR-GCN, ST-GCN++ and DG-STGCN.

Every branch reduces the channels, then looks at its own span of frames: dilated convolutions, a
max-pool, and a 1x1 convolution (MS-G3D, Liu et al. 2020, figure 4; CTR-GCN, Chen et al. 2021,
figure 3). Shapes: n folded persons, C channels, T frames, V joints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError
from kinegraph.ops.layers import pick_frames

POOL_FRAMES = 3


class DilatedBranch(nn.Module):
    """1x1 convolution, batch norm, ReLU, then a dilated convolution over frames."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        *,
        kernel: int,
        dilation: int,
        norm: bool,
    ) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(in_channels, out_channels, 1)
        self.reduce_bn = nn.BatchNorm2d(out_channels)
        self.conv = nn.Conv2d(
            out_channels,
            out_channels,
            (kernel, 1),
            stride=(stride, 1),
            padding=((kernel - 1) * dilation // 2, 0),
            dilation=(dilation, 1),
        )
        self.bn = nn.BatchNorm2d(out_channels) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', ceil(T / stride), V)."""
        y: Tensor = self.bn(self.conv(torch.relu_(self.reduce_bn(self.reduce(x)))))
        return y


class PoolBranch(nn.Module):
    """1x1 convolution, batch norm, ReLU, then the maximum of three frames."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, norm: bool) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(in_channels, out_channels, 1)
        self.reduce_bn = nn.BatchNorm2d(out_channels)
        self.pool = nn.MaxPool2d((POOL_FRAMES, 1), (stride, 1), (POOL_FRAMES // 2, 0))
        self.bn = nn.BatchNorm2d(out_channels) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', ceil(T / stride), V)."""
        y: Tensor = self.bn(self.pool(torch.relu_(self.reduce_bn(self.reduce(x)))))
        return y


class PointBranch(nn.Module):
    """1x1 convolution of every ``stride``-th frame, which are picked first: see `Residual`."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, norm: bool) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(in_channels, out_channels, 1)
        self.bn = nn.BatchNorm2d(out_channels) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', ceil(T / stride), V)."""
        y: Tensor = self.bn(self.conv(pick_frames(x, self.stride)))
        return y


class MultiBranchTemporalConv(nn.Module):
    """Dilated branches, a pool branch and a point branch, their channels side by side.

    The channels are divided evenly; the first branch takes the remainder.

    Args:
        in_channels: C.
        out_channels: C'.
        stride: over frames.
        kernel: frames of the dilated convolutions, odd.
        dilations: one dilated branch each.
        norm: whether a batch norm ends every branch.

    Raises:
        ModelError: fewer output channels than branches.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int = 1,
        *,
        kernel: int = 5,
        dilations: Sequence[int] = (1, 2),
        norm: bool = True,
    ) -> None:
        super().__init__()
        count = len(dilations) + 2
        width = out_channels // count
        if width < 1:
            raise ModelError(
                f"a temporal convolution of {count} branches needs at least {count} channels, "
                f"got {out_channels}"
            )
        widths = [out_channels - width * (count - 1), *[width] * (count - 1)]
        self.branches = nn.ModuleList(
            DilatedBranch(in_channels, widths[i], stride, kernel=kernel, dilation=d, norm=norm)
            for i, d in enumerate(dilations)
        )
        self.branches.append(PoolBranch(in_channels, widths[-2], stride, norm=norm))
        self.branches.append(PointBranch(in_channels, widths[-1], stride, norm=norm))

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', ceil(T / stride), V)."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)
