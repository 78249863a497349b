"""Excitation blocks: gates on motion, channels and frames.

ACTION-Net (Wang, She and Smolic, CVPR 2021) and TEA (Li et al., CVPR 2020) made them for images;
here the places of an image are the joints of a skeleton.

Shapes: n folded persons, C channels, r the reduction, T frames, V joints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, pad

from kinegraph.errors import ModelError, unknown_name
from kinegraph.ops.layers import NodeMix
from kinegraph.ops.temporal import ZeroPaddedEdge
from kinegraph.skeleton.graph import normalized_adjacency
from kinegraph.skeleton.layout import SkeletonLayout

Variant = Literal["action", "tea"]
Kernel = Literal["graph", "v3", "point", "tv3"]


class _Gate(nn.Module):
    """Multiplies the features by 1 + gain: where the gain is 0, nothing changes."""

    def gain(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> what fits beside it, 1 where all channels, frames or joints share."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C, T, V)."""
        return x * (1 + self.gain(x))


class MotionExcitation(_Gate):
    """ME: channels gain where neighboring frames differ.

    z = BN(W1 x), d[t] = mean over joints of (S z)[t + 1] - z[t], d = 0 in the last frame, and
    out = x + x sigmoid(W2 d) (ACTION-Net, section 3.3) or x + x (sigmoid(BN(W2 d)) - 0.5) (TEA,
    section 3.1). So ACTION-Net's multiplies what stands still by 1.5, TEA's by 1 at the start.

    Args:
        channels: C.
        variant: ``action`` or ``tea``.
        kernel: S, how a joint's neighbors are mixed: ``graph``, the mean over the joint and those
            at its bones, whatever their order; ``point``, not at all; ``v3``, a depthwise
            convolution over three joints in their order; ``tv3``, a depthwise separable one over
            three frames and three joints.
        reduction: r; W1 leaves C // r channels.
        layout: of the joints, needed by ``graph`` only.

    Raises:
        ModelError: fewer channels than ``reduction``, an unknown variant or kernel, ``graph``
            without layout.
    """

    def __init__(
        self,
        channels: int,
        variant: Variant = "action",
        kernel: Kernel = "graph",
        reduction: int = 16,
        layout: SkeletonLayout | str | None = None,
    ) -> None:
        super().__init__()
        check_name("ME variant", variant, get_args(Variant))
        width = _reduced(channels, reduction)
        self.variant = variant
        self.squeeze = nn.Conv2d(channels, width, 1, bias=False)
        self.squeeze_bn = nn.BatchNorm2d(width)
        self.spatial = _spatial(kernel, width, layout)
        self.difference = FrameDifference()
        self.expand = nn.Conv2d(width, channels, 1, bias=False)
        self.expand_bn = nn.BatchNorm2d(channels) if variant == "tea" else nn.Identity()

    def gain(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C, T, 1): within (0, 1), or (-0.5, 0.5) of TEA's variant."""
        z = self.squeeze_bn(self.squeeze(x))
        later, now = self.spatial(z).mean(dim=3, keepdim=True), z.mean(dim=3, keepdim=True)
        motion = self.difference(torch.cat([later, now], dim=1))
        gate = torch.sigmoid(self.expand_bn(self.expand(motion)))
        return gate - 0.5 if self.variant == "tea" else gate


class ChannelExcitation(_Gate):
    """CE: channels gain by what all of them do in three frames (ACTION-Net, section 3.2).

    out = x + x sigmoid(W2 relu(K * W1 mean over joints of x)), K a convolution over time.

    Args:
        channels: C.
        reduction: r; W1 leaves C // r channels.

    Raises:
        ModelError: fewer channels than ``reduction``.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        width = _reduced(channels, reduction)
        self.squeeze = nn.Conv2d(channels, width, 1, bias=False)
        self.temporal = nn.Conv2d(width, width, (3, 1), padding=(1, 0), bias=False)
        self.expand = nn.Conv2d(width, channels, 1, bias=False)

    def gain(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C, T, 1), within (0, 1)."""
        y = self.squeeze(x.mean(dim=3, keepdim=True))
        return torch.sigmoid(self.expand(torch.relu(self.temporal(y))))


class SpatioTemporalExcitation(_Gate):
    """STE: moments and joints gain, all channels alike (ACTION-Net, section 3.1).

    out = x + x sigmoid(K * mean over channels of x), K a convolution over three frames and three
    joints in their order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)

    def gain(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, 1, T, V), within (0, 1)."""
        return torch.sigmoid(self.conv(x.mean(dim=1, keepdim=True)))


class Action(nn.Module):
    """The block of ACTION-Net: a part of the channels shifted in time, then the sum of gates.

    At the start one eighth of the channels reads the next frame, one eighth the frame before; the
    kernels are learned. The paths are summed, not averaged.

    Args:
        channels: C.
        paths: modules (n, C, T, V) -> (n, C, T, V): in the paper STE, CE and ME.
    """

    def __init__(self, channels: int, paths: Iterable[nn.Module]) -> None:
        super().__init__()
        moved = channels // 8
        self.shift = _reading([1] * moved + [-1] * moved + [0] * (channels - 2 * moved))
        self.paths = nn.ModuleList(paths)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C, T, V)."""
        y = self.shift(x)
        out = self.paths[0](y)
        for path in self.paths[1:]:
            out = out + path(y)
        return out


class MultipleTemporalAggregation(nn.Module):
    """MTA: a quarter of the channels each sees 3, 5 and 7 frames, the last its neighbors (TEA).

    y1 = f1(x1), y2 = f2(x2 + y1), y3 = f3(x3 + y2), y4 = g(x4); out = BN(W [y1, y2, y3, y4]).
    Each f is a depthwise convolution over time, one over space, BN and ReLU; f reads its own frame
    at the start, half of g the next and half the one before (TEA, section 3.2). With a stride the
    groups do not wait for each other, and y4 is an average over three frames. Like a temporal
    convolution it ends with its batch norm: a residual and a ReLU belong around it.

    Args:
        channels: C, a multiple of 4.
        stride: temporal.
        kernel: how f mixes a joint's neighbors before its 1x1 convolution, see
            `MotionExcitation`.
        layout: of the joints, needed by ``graph`` only.

    Raises:
        ModelError: channels that do not make four groups, an unknown kernel, ``graph`` without
            layout.
    """

    def __init__(
        self,
        channels: int,
        stride: int = 1,
        kernel: Kernel = "graph",
        layout: SkeletonLayout | str | None = None,
    ) -> None:
        super().__init__()
        if channels < 1 or channels % 4:
            raise ModelError(f"MTA needs a multiple of 4 channels, got {channels}")
        width = channels // 4
        self.stride = stride
        self.steps = nn.ModuleList(
            nn.Sequential(
                _reading([0] * width, stride),
                _spatial(kernel, width, layout),
                nn.Conv2d(width, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            )
            for _ in range(3)
        )
        self.neighbours = _reading([1] * (width // 2) + [-1] * (width - width // 2))
        self.pool = nn.AvgPool2d((3, 1), (stride, 1), (1, 0)) if stride > 1 else nn.Identity()
        self.mix = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C, ceil(T / stride), V)."""
        groups = x.chunk(4, dim=1)
        done: list[Tensor] = []
        for i, step in enumerate(self.steps):
            wait = done and self.stride == 1
            done.append(step(groups[i] + done[-1] if wait else groups[i]))
        done.append(self.pool(self.neighbours(groups[3])))
        return self.bn(self.mix(torch.cat(done, dim=1)))


class GraphMean(nn.Module):
    """The mean over a joint and those at its bones, the same in whatever order joints come."""

    def __init__(self, layout: SkeletonLayout | str) -> None:
        super().__init__()
        self.register_buffer("A", torch.from_numpy(normalized_adjacency(layout)))

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C, T, V)."""
        A_wv = self.get_buffer("A").T
        return (A_wv @ x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def inference_layer(self) -> NodeMix:
        """Return the layer that averages the joints of each frame."""
        return NodeMix(self.get_buffer("A"))


class FrameDifference(nn.Module):
    """The first half of the channels one frame later, minus the second half; zero at the end."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, 2C, T, V) -> (n, C, T, V)."""
        later, now = x.chunk(2, dim=1)
        return pad(later[:, :, 1:] - now[:, :, :-1], (0, 0, 0, 1))

    def inference_layer(self) -> ZeroPaddedEdge:
        """Return the layer that computes the same from two frames at a time."""
        return _FrameDifferenceLayer(0, 1)


class _FrameDifferenceLayer(ZeroPaddedEdge):
    def valid(self, x: Tensor) -> Tensor:
        """(n, T + 1, V, 2C) -> (n, T, V, C)."""
        later, now = x.chunk(2, dim=3)
        return later[:, 1:] - now[:, :-1]


def depthwise_separable(in_channels: int, out_channels: int) -> nn.Sequential:
    """A convolution over 3 frames and 3 joints, each channel by itself, then 1x1 over channels."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels),
        nn.Conv2d(in_channels, out_channels, 1),
    )


def check_name(what: str, name: Any, known: Iterable[str]) -> None:
    """Refuse a name that is not known.

    Raises:
        ModelError: with the nearest known name.
    """
    if name not in (known := list(known)):
        raise ModelError(str(unknown_name(what, str(name), known)))


def _reduced(channels: int, reduction: int) -> int:
    if channels < reduction:
        raise ModelError(
            f"excitation with reduction {reduction} needs at least {reduction} channels, got "
            f"{channels}: lower the reduction or leave out this unit"
        )
    return channels // reduction


def _spatial(kernel: Kernel, channels: int, layout: SkeletonLayout | str | None) -> nn.Module:
    """How a joint's neighbors are mixed, each channel by itself (but for ``tv3``)."""
    check_name("excitation kernel", kernel, get_args(Kernel))
    if kernel == "v3":
        return nn.Conv2d(channels, channels, (1, 3), padding=(0, 1), groups=channels, bias=False)
    if kernel == "tv3":
        return depthwise_separable(channels, channels)
    if kernel == "point":
        return nn.Identity()
    if layout is None:
        raise ModelError("excitation kernel 'graph' needs the layout whose bones it follows")
    return GraphMean(layout)


def _reading(frames: Sequence[int], stride: int = 1) -> nn.Conv2d:
    """A depthwise convolution over 3 frames; at the start channel c reads frames[c] ahead."""
    C = len(frames)
    conv = nn.Conv2d(C, C, (3, 1), (stride, 1), (1, 0), groups=C, bias=False)
    taps = one_hot(torch.tensor(frames) + 1, 3).to(conv.weight.dtype)
    conv.weight.data.copy_(taps[:, None, :, None])
    return conv
