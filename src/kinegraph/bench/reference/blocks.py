"""What the plain ST-GCN and AS-GCN have in common: the temporal half of their blocks."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

KERNEL = 9


def temporal(channels: int, stride: int, kernel: int, *, padded: bool = True) -> nn.Sequential:
    """Batch norm, ReLU, a convolution over frames, batch norm; the released code's ``tcn``."""
    padding = (kernel // 2 if padded else 0, 0)
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, channels, (kernel, 1), (stride, 1), padding),
        nn.BatchNorm2d(channels),
    )


def around(c_in: int, c_out: int, stride: int) -> nn.Module:
    """The way around a block: the identity, or a strided 1x1 convolution and batch norm."""
    if c_in == c_out and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1, (stride, 1)), nn.BatchNorm2d(c_out))


def copy_weights(theirs: nn.Module, ours: nn.Module) -> None:
    """Into a plain layer from ours, which must have the same weights by the same names."""
    theirs.load_state_dict(ours.state_dict())


@torch.no_grad()
def copy_temporal(theirs: nn.Module, ours: Any) -> None:
    """Into the temporal half of a plain block, and the way around it, from our block."""
    layers: Any = theirs
    copy_weights(layers.tcn[0], ours.bn)
    copy_weights(layers.tcn[2], ours.tcn)
    copy_weights(layers.tcn[3], ours.tcn_bn)
    if isinstance(layers.residual, nn.Sequential):
        copy_weights(layers.residual[0], ours.residual.conv)
        copy_weights(layers.residual[1], ours.residual.bn)
