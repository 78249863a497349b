"""ST-GCN++: ST-GCN with a learned graph and temporal branches (Duan et al., ACM MM 2022).

Haodong Duan, Jiaqi Wang, Kai Chen and Dahua Lin, "PYSKL: Towards Good Practices for Skeleton
Action Recognition". Shapes: N clips, M persons, n folded persons, C channels, T frames, V joints,
K partitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.models.backbone import Backbone, stack_blocks
from kinegraph.models.layers import (
    GraphConv,
    Residual,
    find_graph_layout,
)
from kinegraph.models.multi_branch import MultiBranchTemporalConv
from kinegraph.models.stgcn import CHANNELS, STRIDES
from kinegraph.ops.persons import Pool
from kinegraph.skeleton.graph import adjacency
from kinegraph.skeleton.layout import SkeletonLayout

BRANCH_FRAMES = 3
DILATIONS = (1, 2, 3, 4)
HEAD_STD = 0.01


class BranchedTemporalConv(nn.Module):
    """Six temporal branches, then batch norm, ReLU and a 1x1 convolution that mixes them."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.branches = MultiBranchTemporalConv(
            channels, channels, stride, kernel=BRANCH_FRAMES, dilations=DILATIONS, norm=False
        )
        self.mix_bn = nn.BatchNorm2d(channels)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C, ceil(T / stride), V)."""
        return self.mix_branches(self.branches(x))

    def mix_branches(self, y: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C, T, V): the branches' channels, side by side, as new ones."""
        mixed: Tensor = self.bn(self.mix(torch.relu_(self.mix_bn(y))))
        return mixed


class BranchedBlock(nn.Module):
    """Graph convolution with a residual, then temporal branches, with a residual around both.

    Args:
        in_channels: C.
        out_channels: C'.
        gcn: the graph convolution, (n, C, T, V) -> (n, C', T, V).
        tcn: the temporal branches, (n, C', T, V) -> (n, C', ceil(T / stride), V).
        stride: over frames.
        dropout: before the residual is added.
        residual: whether there is one around both.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        gcn: nn.Module,
        tcn: nn.Module,
        *,
        stride: int,
        dropout: float,
        residual: bool,
    ) -> None:
        super().__init__()
        self.gcn = gcn
        self.gcn_bn = nn.BatchNorm2d(out_channels)
        self.gcn_residual = Residual(in_channels, out_channels, 1)
        self.tcn = tcn
        self.dropout = nn.Dropout(dropout)
        self.residual = Residual(in_channels, out_channels, stride) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', ceil(T / stride), V)."""
        y = torch.relu_(self.gcn_bn(self.gcn(x)) + self.gcn_residual(x))
        y = self.dropout(self.tcn(y))
        return torch.relu_(y if self.residual is None else y + self.residual(x))


class STGCNPlusBlock(BranchedBlock):
    """Block of ST-GCN++: the graph starts at the skeleton and is learned."""

    def __init__(
        self, in_channels: int, out_channels: int, A: Tensor, *, stride: int, **options: Any
    ) -> None:
        gcn = GraphConv(in_channels, out_channels, A, learned_A=True)
        reach = in_channels**-0.5  # as PyTorch's 1x1 convolutions start
        nn.init.uniform_(gcn.weight, -reach, reach)
        nn.init.uniform_(gcn.bias, -reach, reach)
        tcn = BranchedTemporalConv(out_channels, stride)
        super().__init__(in_channels, out_channels, gcn, tcn, stride=stride, **options)


class STGCNPlus(Backbone):
    """ST-GCN++ for any layout and any number of persons.

    The graph of every block is a parameter that starts at the skeleton's: each joint itself, its
    parent and its children (`kinegraph.skeleton.graph.directed_adjacency`).

    Args:
        layout: the skeleton, or its name.
        num_classes: number of actions.
        in_channels: C of the input.
        channels: output channels of each block, at least six; the published network has ten blocks.
        strides: temporal stride of each block.
        graph_layout: the layout whose bones make the graphs, if it is not that of the clips.
        dropout: in every block but the first, before the residual is added.
        pool: ``mean`` (the paper) or ``joints``, see `kinegraph.ops.persons.pool_places`.
        head_dropout: before the classifier.
        faithful: count absent persons, all zero, in batch-norm statistics and in the mean over
            persons, as the released code does. Needed for published weights.

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
        graph_layout: str | None = None,
        dropout: float = 0.0,
        pool: Pool = "mean",
        head_dropout: float = 0.0,
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
        )
        skeleton = find_graph_layout(self.layout, graph_layout)
        A = torch.from_numpy(adjacency(skeleton, strategy="agcn"))
        new_block = partial(STGCNPlusBlock, A=A)
        self.blocks = stack_blocks(new_block, in_channels, channels, strides, dropout)
        self.reset_classifier(num_classes)
        self.to(memory_format=torch.channels_last)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a new linear one with weights N(0, 0.01)."""
        self.head = new_classifier(self.pooled_features, num_classes)


def new_classifier(features: int, num_classes: int) -> nn.Linear:
    """Return a linear layer as PYSKL's heads start: weights N(0, 0.01), no bias."""
    head = nn.Linear(features, num_classes)
    nn.init.normal_(head.weight, 0, HEAD_STD)
    nn.init.zeros_(head.bias)
    return head
