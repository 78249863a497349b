"""Shift-GCN: skeleton-based action recognition with shift graph convolutions (CVPR 2020).

Ke Cheng, Yifan Zhang, Xiangyu He, Weihan Chen, Jian Cheng and Hanqing Lu.
Shapes: N clips, M persons, n folded persons, C channels, T frames, V joints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError, unknown_name
from kinegraph.models.backbone import Backbone, stack_blocks
from kinegraph.models.excitation_config import TemporalUnit, excite
from kinegraph.models.joint_axes import JointAxes
from kinegraph.models.layers import (
    DataBatchNorm,
    Residual,
    new_wide_classifier,
)
from kinegraph.models.shift_layers import (
    GradMode,
    Spatial,
    SpatialShift,
    Temporal,
    TemporalShift,
    naive_shifts,
)
from kinegraph.models.stgcn import CHANNELS, STRIDES
from kinegraph.ops.layers import mix_channels, scale_features
from kinegraph.ops.persons import Pool
from kinegraph.skeleton.layout import SkeletonLayout


class ShiftGraphConv(nn.Module):
    """Spatial shift graph convolution: shift in, mask, mix the channels, shift back.

    ``mask`` learns how much each shifted feature counts: a factor tanh(m) + 1, 1 at the start.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        layout: SkeletonLayout,
        *,
        spatial: Spatial,
        mask: bool,
    ) -> None:
        super().__init__()
        V = layout.num_joints
        self.shift_in = SpatialShift(layout, in_channels, spatial, direction=1)
        self.mask = nn.Parameter(torch.zeros(V * in_channels)) if mask else None
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.shift_out = SpatialShift(layout, out_channels, spatial, direction=-1)
        self.bn = DataBatchNorm(V, out_channels)
        self.residual = Residual(in_channels, out_channels, stride=1)
        nn.init.normal_(self.weight, 0, out_channels**-0.5)

    def joint_axes(self) -> dict[str, JointAxes]:
        """Return the joint axis of the mask."""
        return {"mask": JointAxes((0,), (-1, self.weight.shape[0]))}

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', T, V)."""
        y = self.shift_in(x)
        if self.mask is not None:
            y = scale_features(y, torch.tanh(self.mask) + 1)
        y = self.bn(self.shift_out(mix_channels(y, self.weight, self.bias)))
        return torch.relu_(y + self.residual(x))


class ShiftTemporalConv(nn.Module):
    """Temporal shift graph convolution: shift, mix the channels, shift again with the stride."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        *,
        temporal: Temporal,
        reach: int,
        shift_init: float,
        grad_mode: GradMode,
    ) -> None:
        super().__init__()

        def shift(channels: int, stride: int) -> TemporalShift:
            if temporal == "naive":
                return TemporalShift(naive_shifts(channels, reach), stride, None)
            drawn = torch.empty(channels).uniform_(-shift_init, shift_init)
            return TemporalShift(drawn, stride, grad_mode)

        self.bn_in = nn.BatchNorm2d(in_channels)
        self.shift_in = shift(in_channels, 1)
        self.conv = nn.Conv2d(in_channels, out_channels, 1)
        self.shift_out = shift(out_channels, stride)
        self.bn_out = nn.BatchNorm2d(out_channels)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', ceil(T / stride), V)."""
        y = torch.relu_(self.conv(self.shift_in(self.bn_in(x))))
        return self.bn_out(self.shift_out(y))


class ShiftGCNBlock(nn.Module):
    """Spatial, then temporal shift graph convolution, with a residual around both."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        residual: bool,
        dropout: float,
        graph_conv: Callable[[int, int], nn.Module],
        temporal_conv: TemporalUnit,
    ) -> None:
        super().__init__()
        self.shape = (in_channels, out_channels, stride)
        self.gcn = graph_conv(in_channels, out_channels)
        self.tcn = temporal_conv(out_channels, out_channels, stride)
        self.dropout = nn.Dropout(dropout)
        self.residual = Residual(in_channels, out_channels, stride) if residual else None
        self.before: nn.Module = nn.Identity()
        self.beside: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', ceil(T / stride), V)."""
        y = self.tcn(self.gcn(self.before(x)))
        y = self.dropout(y if self.beside is None else y + self.beside(x))
        return torch.relu_(y if self.residual is None else y + self.residual(x))

    def set_temporal(self, temporal: nn.Module) -> None:
        """Replace the temporal shift convolution."""
        self.tcn = temporal


class ShiftGCN(Backbone):
    """Shift-GCN for any layout and any number of persons.

    Learned masks decide which joints inform each other.

    Args:
        layout: the skeleton, or its name.
        num_classes: number of actions.
        in_channels: C of the input.
        channels: output channels of each block; the published network has ten.
        strides: temporal stride of each block.
        spatial: ``nonlocal``, features of every joint reach every other, or ``local``, the
            neighbors in the skeleton only.
        temporal: ``adaptive``, each channel learns by how many frames it is shifted, or ``naive``,
            groups of channels are shifted by 1 to ``reach`` frames both ways.
        reach: frames, of ``naive``; 1 is the shift of TSM (Lin et al., ICCV 2019), 4 is what the
            authors took.
        mask: learn how much each shifted feature counts.
        shift_init: ``adaptive`` shifts start evenly drawn from -shift_init to shift_init frames.
        grad_mode: of ``adaptive`` shifts: ``exact``, or ``official``: only the sign of the
            gradient counts (0.01 times the sign), as in the released code.
        dropout: in every block but the first, before the residual is added.
        pool: ``mean`` (the paper) or ``joints``, see `kinegraph.ops.persons.pool_places`.
        head_dropout: before the classifier.
        excitation: blocks that stress motion or channels: a name of `WIRINGS` or the keys of
            `Excitation` (kinegraph.models.excitation_config).
        persons: M of the clips, if ``faithful``.
        faithful: reproduce the released code: every joint of each of ``persons`` persons has its
            own data normalization, and absent persons, all zero, are counted. Needed for
            published weights.

    Raises:
        ModelError: options that do not make a network.
    """

    def __init__(
        self,
        layout: SkeletonLayout | str,
        num_classes: int,
        *,
        in_channels: int = 3,
        channels: Sequence[int] = CHANNELS,
        strides: Sequence[int] = STRIDES,
        spatial: Spatial = "nonlocal",
        temporal: Temporal = "adaptive",
        reach: int = 1,
        mask: bool = True,
        shift_init: float = 1.0,
        grad_mode: GradMode = "exact",
        dropout: float = 0.0,
        pool: Pool = "mean",
        head_dropout: float = 0.0,
        excitation: str | Mapping[str, Any] | None = None,
        persons: int = 2,
        faithful: bool = False,
    ) -> None:
        super().__init__(
            layout,
            num_classes,
            in_channels=in_channels,
            channels=channels,
            strides=strides,
            pool=pool,
            head_dropout=head_dropout,
            faithful=faithful,
            persons=persons,
        )
        _check_shifts(spatial, temporal, grad_mode, reach, shift_init)
        graph_conv = partial(ShiftGraphConv, layout=self.layout, spatial=spatial, mask=mask)
        temporal_conv = partial(
            ShiftTemporalConv,
            temporal=temporal,
            reach=reach,
            shift_init=shift_init,
            grad_mode=grad_mode,
        )
        new_block = partial(ShiftGCNBlock, graph_conv=graph_conv, temporal_conv=temporal_conv)
        self.blocks = stack_blocks(new_block, in_channels, channels, strides, dropout)
        self.reset_classifier(num_classes)
        self.apply(_init_residual)
        excite(self.blocks, excitation, self.layout, temporal_conv)
        self.to(memory_format=torch.channels_last)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a fresh one, see `new_wide_classifier`."""
        self.head = new_wide_classifier(self.pooled_features, num_classes, self.pool)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for an optimizer: the weights that mix joints decay ten times as fast (published:
        0.001 and 0.0001), masks do not decay.
        """
        convs = [module for module in self.modules() if isinstance(module, ShiftGraphConv)]
        mixing = [conv.weight for conv in convs]
        masks = [conv.mask for conv in convs if conv.mask is not None]
        apart = {id(parameter) for parameter in (*mixing, *masks)}
        others = [parameter for parameter in self.parameters() if id(parameter) not in apart]
        groups = ((others, 1), (mixing, 10), (masks, 0))
        return [{"params": p, "weight_decay": factor * weight_decay} for p, factor in groups if p]


def _init_residual(module: nn.Module) -> None:
    if isinstance(module, Residual) and module.conv is not None:
        nn.init.kaiming_normal_(module.conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(module.conv.bias)


def _check_shifts(
    spatial: str, temporal: str, grad_mode: str, reach: int, shift_init: float
) -> None:
    for kind, name, names in (
        ("spatial shift", spatial, get_args(Spatial)),
        ("temporal shift", temporal, get_args(Temporal)),
        ("grad_mode", grad_mode, get_args(GradMode)),
    ):
        if name not in names:
            raise unknown_name(kind, name, names)
    if reach < 1 or not 0 <= shift_init < float("inf"):
        raise ModelError(
            f"expected a reach of at least 1 and a shift_init of at least 0 frames, "
            f"got reach={reach}, shift_init={shift_init}"
        )
