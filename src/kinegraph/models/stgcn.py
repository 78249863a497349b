"""ST-GCN: spatial temporal graph convolutional networks (Yan, Xiong and Lin, AAAI 2018).

Shapes: N clips, M persons, n folded persons, C channels, T frames, V joints, K partitions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.models.backbone import Backbone, stack_blocks
from kinegraph.models.excitation_config import excite
from kinegraph.models.layers import (
    GraphConv,
    Residual,
    find_graph_layout,
    init_kaiming,
    init_published,
)
from kinegraph.ops.persons import Pool
from kinegraph.skeleton.graph import Strategy, adjacency
from kinegraph.skeleton.layout import SkeletonLayout

CHANNELS = (64, 64, 64, 64, 128, 128, 128, 256, 256, 256)
STRIDES = (1, 1, 1, 1, 2, 1, 1, 2, 1, 1)


class STGCNBlock(nn.Module):
    """Graph convolution, then a temporal convolution, with a residual around both."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A: Tensor,
        *,
        stride: int,
        temporal_kernel: int,
        dropout: float,
        residual: bool,
        edge_importance: bool,
        adaptive: bool,
    ) -> None:
        super().__init__()
        self.shape = (in_channels, out_channels, stride)
        self.gcn = GraphConv(
            in_channels, out_channels, A, edge_importance=edge_importance, adaptive=adaptive
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.tcn = _temporal_conv(out_channels, out_channels, stride, temporal_kernel)
        self.tcn_bn = nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.residual = Residual(in_channels, out_channels, stride) if residual else None
        self.before: nn.Module = nn.Identity()
        self.beside: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', ceil(T / stride), V)."""
        y = torch.relu(self.bn(self.gcn(self.before(x))))
        y = self.tcn_bn(self.tcn(y))
        y = self.dropout(y if self.beside is None else y + self.beside(x))
        return torch.relu(y if self.residual is None else y + self.residual(x))

    def set_temporal(self, temporal: nn.Module) -> None:
        """Replace the temporal convolution and its batch norm."""
        self.tcn, self.tcn_bn = temporal, nn.Identity()


class STGCN(Backbone):
    """ST-GCN for any layout and any number of persons.

    Args:
        layout: the skeleton, or its name.
        num_classes: number of actions.
        in_channels: C of the input (3 for x, y, z or x, y, confidence).
        channels: output channels of each block; the published network has ten.
        strides: temporal stride of each block.
        temporal_kernel: frames that a temporal convolution sees; odd.
        strategy: partition strategy of `kinegraph.adjacency`.
        max_hop: reach of the partitions.
        graph_layout: the layout whose bones make the graph, if it is not that of the clips: PYSKL
            puts the fingers at the hand in its graph, and at each other in its bone streams.
        dropout: in every block but the first.
        edge_importance: learn one weight per edge, partition and block.
        adaptive: also learn a free weight for every pair of joints, bone or not. Not in the paper;
            small sets gain by it (docs/numbers.md).
        pool: ``mean`` (the paper) or ``joints``, see `kinegraph.ops.persons.pool_places`.
        head_dropout: before the classifier.
        excitation: blocks that stress motion or channels: a name of `WIRINGS` or the keys of
            `Excitation` (kinegraph.models.excitation_config).
        faithful: reproduce the released code: its initialization, distances to the center
            truncated at ``max_hop`` (almost all edges fall into one partition), and absent
            persons, all zero, counted in batch-norm statistics and in the mean over persons.
            Needed for published weights.

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
        temporal_kernel: int = 9,
        strategy: Strategy = "spatial",
        max_hop: int = 1,
        graph_layout: str | None = None,
        dropout: float = 0.0,
        edge_importance: bool = True,
        adaptive: bool = False,
        pool: Pool = "mean",
        head_dropout: float = 0.0,
        excitation: str | Mapping[str, Any] | None = None,
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
            temporal_kernel=temporal_kernel,
        )
        A = torch.from_numpy(
            adjacency(
                find_graph_layout(self.layout, graph_layout),
                strategy=strategy,
                max_hop=max_hop,
                center_distance="truncated" if faithful else "full",
            )
        )
        self.block_options: dict[str, Any] = {
            "temporal_kernel": temporal_kernel,
            "edge_importance": edge_importance,
            "adaptive": adaptive,
        }
        new_block = partial(STGCNBlock, A=A, **self.block_options)
        self.blocks = stack_blocks(new_block, in_channels, channels, strides, dropout)
        init = init_published if faithful else init_kaiming
        self.apply(init)
        self.reset_classifier(num_classes)
        branch = partial(_temporal_branch, kernel=temporal_kernel, init=init)
        excite(self.blocks, excitation, self.layout, branch)
        self.to(memory_format=torch.channels_last)


def _temporal_conv(in_channels: int, out_channels: int, stride: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, (kernel, 1), (stride, 1), (kernel // 2, 0))


def _temporal_branch(
    in_channels: int, out_channels: int, stride: int, *, kernel: int, init: Callable[..., None]
) -> nn.Module:
    conv = _temporal_conv(in_channels, out_channels, stride, kernel)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels)).apply(init)
