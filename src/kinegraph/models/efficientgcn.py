"""EfficientGCN: stronger and faster baselines for skeleton action recognition (Song et al. 2022).

Yi-Fan Song, Zhang Zhang, Caifeng Shan and Liang Wang, IEEE TPAMI 2022 (arXiv 2106.15125).
Several input branches, joined early; separable temporal layers; attention over frames and joints.
Shapes: N clips, M persons, n folded persons, C channels, T frames, V joints, K partitions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError, unknown_name
from kinegraph.models.base import SkeletonModel
from kinegraph.models.layers import GraphConv, PointConv, Residual, check_backbone
from kinegraph.ops.persons import Pool
from kinegraph.skeleton.graph import adjacency
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout

TemporalVariant = Literal["sg", "sep"]
ModelScale = Literal["B0", "B1", "B2", "B3", "B4"]

STEM_CHANNELS = 64
KERNEL_FRAMES = 5
PARTITIONS = 3  # joints at 0, 1 and 2 bones; farther ones only count in the normalization
EXPANSION = 2  # of the channels within a temporal layer of "sep"
PUBLISHED_BRANCHES = 3
#: Channels of the three published inputs together, in 2D and 3D, see `kinegraph.transforms`.
PUBLISHED_CHANNELS = (12, 18)
BASE_BRANCH = ((48, 0.5), (24, 0.5))  # channels and depth of each block of B0, before rounding
BASE_MAIN = ((64, 1.0), (128, 1.0))
MAIN_STRIDES = (2, 2)
WIDTH_FACTOR, DEPTH_FACTOR = 1.2, 1.35  # from one scale to the next
CHANNEL_UNIT = 16
_RELEASED_HEAD = "classifier.fc.weight"


class VariantSettings(NamedTuple):
    """What else the two published variants differ in.

    Attributes:
        reduction: factor by which attention, and the temporal layers of "sg", reduce channels.
        max_hop: bones within which joints count in the normalization of the graph.
    """

    reduction: int
    max_hop: int


VARIANTS: dict[str, VariantSettings] = {
    "sg": VariantSettings(reduction=2, max_hop=10),
    "sep": VariantSettings(reduction=4, max_hop=3),
}


class SpatialLayer(nn.Module):
    """Graph convolution over three distances, with a residual: swish(BN(conv(x)) + R(x))."""

    def __init__(self, in_channels: int, out_channels: int, A: Tensor) -> None:
        super().__init__()
        self.gcn = GraphConv(in_channels, out_channels, A, edge_importance=True, adaptive=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.residual = Residual(in_channels, out_channels, stride=1)
        self.swish = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', T, V)."""
        y: Tensor = self.swish(self.bn(self.gcn(x)) + self.residual(x))
        return y


class BasicTemporalLayer(nn.Module):
    """A full temporal convolution with a residual: swish(BN(conv(x)) + x)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = _frame_conv(channels, stride=1)
        self.bn = nn.BatchNorm2d(channels)
        self.swish = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> the same."""
        y: Tensor = self.swish(self.bn(self.conv(x)) + x)
        return y


class SandglassLayer(nn.Module):
    """Depth-wise, reducing, expanding and again depth-wise convolution (variant SG).

    After MobileNeXt (Zhou et al., ECCV 2020). No activation follows the residual.
    """

    def __init__(self, channels: int, stride: int, reduction: int) -> None:
        super().__init__()
        inner = max(1, channels // reduction)
        self.depth_conv1 = _with_norm(_frame_conv(channels, stride=1, groups=channels))
        self.point_conv1 = _with_norm(PointConv(channels, inner))
        self.point_conv2 = _with_norm(PointConv(inner, channels))
        self.depth_conv2 = _with_norm(_frame_conv(channels, stride, groups=channels))
        self.residual = Residual(channels, channels, stride)
        self.swish = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C, ceil(T / stride), V)."""
        y = self.point_conv1(self.swish(self.depth_conv1(x)))
        y = self.depth_conv2(self.swish(self.point_conv2(y)))
        return y + self.residual(x)


class SeparableLayer(nn.Module):
    """Expanding, depth-wise and reducing convolution (variant Sep).

    After MobileNetV2 (Sandler et al., CVPR 2018). No activation follows the residual.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        inner = EXPANSION * channels
        self.expand_conv = _with_norm(PointConv(channels, inner))
        self.depth_conv = _with_norm(_frame_conv(inner, stride, groups=inner))
        self.point_conv = _with_norm(PointConv(inner, channels))
        self.residual = Residual(channels, channels, stride)
        self.swish = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C, ceil(T / stride), V)."""
        y = self.swish(self.depth_conv(self.swish(self.expand_conv(x))))
        y = self.point_conv(y)
        return y + self.residual(x)


class JointFrameAttention(nn.Module):
    """Attention to frames and joints together: swish(BN(x * a_t * a_v) + x) (ST-JointAtt).

    The means over joints and over frames stand side by side, (C, T + V), and are reduced by one
    convolution; a_t (C', T) and a_v (C', V) are sigmoids of one convolution each.
    """

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        inner = max(1, channels // reduction)
        self.fcn = _with_norm(PointConv(channels, inner))
        self.hardswish = nn.Hardswish()
        self.conv_t = nn.Conv2d(inner, channels, 1)
        self.conv_v = nn.Conv2d(inner, channels, 1)
        self.bn = nn.BatchNorm2d(channels)
        self.swish = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> the same."""
        frames, joints = x.mean(dim=3, keepdim=True), x.mean(dim=2, keepdim=True)
        both = self.hardswish(self.fcn(torch.cat([frames, joints.transpose(2, 3)], dim=2)))
        T = x.shape[2]
        a_t = torch.sigmoid(self.conv_t(both[:, :, :T]))
        a_v = torch.sigmoid(self.conv_v(both[:, :, T:])).transpose(2, 3)
        y: Tensor = self.swish(self.bn(x * (a_t * a_v)) + x)
        return y


class EfficientGCNBlock(nn.Module):
    """A spatial layer, ``depth`` temporal layers of which the first has the stride, attention."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A: Tensor,
        *,
        stride: int,
        depth: int,
        variant: TemporalVariant,
        reduction: int,
    ) -> None:
        super().__init__()
        self.scn = SpatialLayer(in_channels, out_channels, A)
        self.tcn = nn.Sequential(
            *(
                SandglassLayer(out_channels, stride if i == 0 else 1, reduction)
                if variant == "sg"
                else SeparableLayer(out_channels, stride if i == 0 else 1)
                for i in range(depth)
            )
        )
        self.att = JointFrameAttention(out_channels, reduction)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', ceil(T / stride), V); the stride counts where depth > 0."""
        y: Tensor = self.att(self.tcn(self.scn(x)))
        return y


class InputBranch(nn.Module):
    """Batch norm of each channel, a stem of two layers, and the blocks of one input."""

    def __init__(self, in_channels: int, stem: int, A: Tensor, blocks: nn.Sequential) -> None:
        super().__init__()
        self.init_bn = nn.BatchNorm2d(in_channels)
        self.stem_scn = SpatialLayer(in_channels, stem, A)
        self.stem_tcn = BasicTemporalLayer(stem)
        self.blocks = blocks

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', T, V)."""
        y: Tensor = self.blocks(self.stem_tcn(self.stem_scn(self.init_bn(x))))
        return y


class EfficientGCN(SkeletonModel):
    """EfficientGCN for any layout and any number of persons.

    The published network reads three inputs, the streams ``position+velocity+bone_angles`` (18
    channels in 3D), in a branch each.

    Args:
        layout: the skeleton, or its name.
        num_classes: number of actions.
        in_channels: C of the input, divided evenly among the branches.
        scale: B0 to B4; each is 1.2 times as wide and 1.35 times as deep as the one before it.
        variant: ``sg``, sandglass temporal layers and a graph normalized over 10 bones (arXiv
            version 1), or ``sep``, separable ones and 3 bones (the journal).
        branches: number of input branches; None: three for the 18 (in 2D 12) channels of the
            published inputs, else one.
        channels: output channels of each block after the branches; None: those of the scale.
        strides: temporal stride of each of these blocks.
        depth: temporal layers of each of these blocks; None: that of the scale.
        branch_channels: output channels of each block of a branch; None: those of the scale.
        branch_depth: temporal layers of each of them; None: that of the scale.
        stem_channels: channels of the first two layers of a branch.
        max_hop: bones within which joints count in the normalization of the graph; None: that of
            the variant.
        pool: ``mean`` (the paper) or ``joints``, see `kinegraph.ops.persons.pool_places`.
        head_dropout: before the classifier.
        faithful: count absent persons, all zero or not, in batch-norm statistics and in the mean
            over persons, as the released code does. Needed for published weights.

    Raises:
        ModelError: options that do not make a network.
    """

    def __init__(
        self,
        layout: SkeletonLayout | str,
        num_classes: int,
        *,
        in_channels: int = 3,
        scale: ModelScale = "B0",
        variant: TemporalVariant = "sg",
        branches: int | None = None,
        channels: Sequence[int] | None = None,
        strides: Sequence[int] = MAIN_STRIDES,
        depth: int | None = None,
        branch_channels: Sequence[int] | None = None,
        branch_depth: int | None = None,
        stem_channels: int = STEM_CHANNELS,
        max_hop: int | None = None,
        pool: Pool = "mean",
        head_dropout: float = 0.25,
        faithful: bool = False,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise unknown_name("variant", variant, VARIANTS)
        if branches is None:
            branches = PUBLISHED_BRANCHES if in_channels in PUBLISHED_CHANNELS else 1
        widths, depths = scale_blocks(BASE_MAIN, scale)
        branch_widths, branch_depths = scale_blocks(BASE_BRANCH, scale)
        widths = widths if channels is None else [*channels]
        branch_widths = branch_widths if branch_channels is None else [*branch_channels]
        depth = depths[0] if depth is None else depth
        branch_depth = branch_depths[0] if branch_depth is None else branch_depth
        check_backbone(num_classes, in_channels, widths, strides, pool)
        check_backbone(num_classes, in_channels, branch_widths, [1] * len(branch_widths), pool)
        _check_branches(in_channels, branches, depth, branch_depth, stem_channels)
        self.layout = get_layout(layout)
        self.in_channels = in_channels
        self.num_features = widths[-1]
        self.pool = pool
        self.faithful = self.counts_absent = faithful
        reduction, usual_hops = VARIANTS[variant]
        A = distance_adjacency(self.layout, usual_hops if max_hop is None else max_hop)

        def make_blocks(
            first: int, widths: Sequence[int], strides: Sequence[int], depth: int
        ) -> nn.Sequential:
            return nn.Sequential(
                *(
                    EfficientGCNBlock(
                        (first, *widths)[i],
                        widths[i],
                        A,
                        stride=strides[i],
                        depth=depth,
                        variant=variant,
                        reduction=reduction,
                    )
                    for i in range(len(widths))
                )
            )

        unstrided = [1] * len(branch_widths)
        self.input_branches = nn.ModuleList(
            InputBranch(
                in_channels // branches,
                stem_channels,
                A,
                make_blocks(stem_channels, branch_widths, unstrided, branch_depth),
            )
            for _ in range(branches)
        )
        self.main_stream = make_blocks(branches * branch_widths[-1], widths, strides, depth)
        self.head_dropout = nn.Dropout(head_dropout)
        self.apply(_init_by_fan_out)
        self.reset_classifier(num_classes)
        self.to(memory_format=torch.channels_last)

    def forward_persons(self, rows: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', T', V)."""
        size = self.in_channels // len(self.input_branches)
        inputs = (rows[:, i * size : (i + 1) * size] for i in range(len(self.input_branches)))
        parts = [branch(x) for branch, x in zip(self.input_branches, inputs, strict=True)]
        features: Tensor = self.main_stream(torch.cat(parts, dim=1))
        return features

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a new one, N(0, 0.001) as published."""
        self.head = nn.Linear(self.pooled_features, num_classes)
        nn.init.normal_(self.head.weight, 0, 0.001)
        nn.init.zeros_(self.head.bias)


def recognize_variant(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the options ``variant``, ``scale`` and ``max_hop`` of a released state dict.

    The variant shows in the names, the scale in the width of the classifier, max_hop in the graph.
    What does not show is left out: loading then names the first tensor that does not fit.

    Args:
        state: the tensors of NTU RGB+D by their released names, without prefixes.
    """
    variant = "sep" if any(".expand_conv." in key for key in state) else "sg"
    options: dict[str, Any] = {"variant": variant}
    head = state.get(_RELEASED_HEAD)
    for scale in get_args(ModelScale):
        if head is not None and head.shape[1:2] == (scale_blocks(BASE_MAIN, scale)[0][-1],):
            options["scale"] = scale
    graph = next((value for key, value in state.items() if key.endswith(".A")), None)
    for settings in VARIANTS.values():
        own = distance_adjacency(get_layout("ntu25"), settings.max_hop)
        if graph is not None and graph.shape == own.shape and torch.allclose(graph.to(own), own):
            options["max_hop"] = settings.max_hop
    return options


def scale_blocks(blocks: Sequence[tuple[int, float]], scale: str) -> tuple[list[int], list[int]]:
    """Return channels and depths of blocks at a scale.

    The released code rounds by Python's `round`, halves to the even number: the 24 channels of B0
    become 32, its depth of 0.5 becomes 0.

    Args:
        blocks: channels and depth of each block at B0, before rounding.
        scale: B0 to B4.

    Raises:
        UnknownNameError: an unknown scale.
    """
    if scale not in get_args(ModelScale):
        raise unknown_name("scale", scale, get_args(ModelScale))
    step = get_args(ModelScale).index(scale)
    width, depth = WIDTH_FACTOR**step, DEPTH_FACTOR**step
    channels = [
        max(round(c * width / CHANNEL_UNIT) * CHANNEL_UNIT, CHANNEL_UNIT) for c, _ in blocks
    ]
    return channels, [round(d * depth) for _, d in blocks]


def distance_adjacency(layout: SkeletonLayout, max_hop: int) -> Tensor:
    """Return the partitions (K, V, V) of joints at 0, 1 and 2 bones.

    They are normalized over all joints within ``max_hop`` bones, so that their columns do not sum
    to 1 where max_hop is above 2. A smaller layout has fewer partitions.

    Raises:
        ModelError: max_hop below 1.
    """
    within = min(max_hop, max(1, layout.num_joints - 1))
    return torch.from_numpy(adjacency(layout, strategy="distance", max_hop=within)[:PARTITIONS])


def _frame_conv(channels: int, stride: int, groups: int = 1) -> nn.Conv2d:
    padding = (KERNEL_FRAMES // 2, 0)
    return nn.Conv2d(channels, channels, (KERNEL_FRAMES, 1), (stride, 1), padding, groups=groups)


def _with_norm(conv: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels))


def _init_by_fan_out(module: nn.Module) -> None:
    """He et al. 2015 by the fan-out, which counts the channels of all partitions."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(module.bias)
    elif isinstance(module, GraphConv):
        K, _, C_out = module.weight.shape
        nn.init.normal_(module.weight, 0, (2 / (K * C_out)) ** 0.5)


def _check_branches(
    in_channels: int, branches: int, depth: int, branch_depth: int, stem_channels: int
) -> None:
    if branches < 1 or in_channels % branches:
        raise ModelError(
            f"expected in_channels to be a multiple of branches, got in_channels={in_channels}, "
            f"branches={branches}"
        )
    if min(depth, branch_depth) < 0 or stem_channels < 1:
        raise ModelError(
            f"expected a depth of at least 0 and at least one stem channel, got depth={depth}, "
            f"branch_depth={branch_depth}, stem_channels={stem_channels}"
        )
