"""Multi-branch temporal convolution, shared by MS-G3D, CTR-GCN, ST-GCN++ and DG-STGCN.

Every branch reduces the channels, then looks at its own span of frames: dilated convolutions, a
max-pool, and a 1x1 convolution (MS-G3D, Liu et al. 2020, figure 4; CTR-GCN, Chen et al. 2021,
figure 3). Shapes: n folded persons, C channels, T frames, V joints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _NormBase as NormBase

from kinegraph.errors import ModelError
from kinegraph.ops.layers import mix_channels, pick_frames

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
        y: Tensor = self.bn(self.span(torch.relu_(self.reduce_bn(self.reduce(x)))))
        return y

    def span(self, x: Tensor) -> Tensor:
        """Look at the frames of reduced channels."""
        y: Tensor = self.conv(x)
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
        y: Tensor = self.bn(self.span(torch.relu_(self.reduce_bn(self.reduce(x)))))
        return y

    def span(self, x: Tensor) -> Tensor:
        """Look at the frames of reduced channels."""
        y: Tensor = self.pool(x)
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
        y: Tensor = self.bn(self.span(x))
        return y

    def span(self, x: Tensor) -> Tensor:
        """Reduce the channels of the frames that are left."""
        y: Tensor = self.conv(pick_frames(x, self.stride))
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
        self.norm = norm
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
        if self.training and all(map(_uses_batch_statistics, self.modules())):
            return self._train_together(x)
        return torch.cat([branch(x) for branch in self.branches], dim=1)

    def _train_together(self, x: Tensor) -> Tensor:
        """The same, with one reduction for all branches and one batch norm for each stage.

        The branches are narrow: one product of all their channels, and one normalization, take
        less than half the time of one for each of them.
        """
        *reduced, point = self.branches
        kernel, bias = (
            torch.cat([getattr(branch.reduce, name) for branch in reduced])
            for name in ("weight", "bias")
        )
        y = normalize_together(
            mix_channels(x, kernel.flatten(1).T, bias), [branch.reduce_bn for branch in reduced]
        )
        parts = torch.relu_(y).split([len(branch.reduce.bias) for branch in reduced], dim=1)
        spans = [branch.span(part) for branch, part in zip(reduced, parts, strict=True)]
        joined = torch.cat([*spans, point.span(x)], dim=1)
        norms = [branch.bn for branch in self.branches]
        return normalize_together(joined, norms) if self.norm else joined


def _uses_batch_statistics(module: nn.Module) -> bool:
    return not isinstance(module, NormBase) or (
        type(module) is nn.BatchNorm2d
        and module.training
        and module.track_running_stats
        and module.momentum is not None
    )


def normalize_together(x: Tensor, norms: Sequence[nn.BatchNorm2d]) -> Tensor:
    """Apply batch norms in training mode, each to its own channels, as one.

    Args:
        x: (n, C, T, V), the channels of all of them side by side.
        norms: of the same momentum and eps, with running statistics.
    """
    mean, variance, weight, bias = (
        torch.cat([getattr(norm, name) for norm in norms])
        for name in ("running_mean", "running_var", "weight", "bias")
    )
    y = batch_norm(x, mean, variance, weight, bias, True, norms[0].momentum, norms[0].eps)
    sizes = [norm.num_features for norm in norms]
    with torch.no_grad():
        for norm, own_mean, own_variance in zip(
            norms, mean.split(sizes), variance.split(sizes), strict=True
        ):
            norm.running_mean.copy_(own_mean)
            norm.running_var.copy_(own_variance)
            norm.num_batches_tracked.add_(1)
    return y
