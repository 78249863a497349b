"""CTR-GCN: channel-wise topology refinement graph convolution (Chen et al., ICCV 2021).

Yuxin Chen, Ziqi Zhang, Chunfeng Yuan, Bing Li, Ying Deng and Weiming Hu. Shapes: N clips, M
persons, n folded persons, C channels, T frames, V joints, K subsets of the graph, R channels of the
relations.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from kinegraph.errors import ModelError, unknown_name
from kinegraph.models.backbone import Backbone, stack_blocks
from kinegraph.models.joint_axes import GRAPH, JointAxes
from kinegraph.models.layers import (
    GraphParts,
    Residual,
    find_graph_layout,
    init_kaiming,
    new_wide_classifier,
)
from kinegraph.models.multi_branch import MultiBranchTemporalConv
from kinegraph.models.stgcn import CHANNELS, STRIDES
from kinegraph.ops.persons import Pool
from kinegraph.skeleton.graph import directed_adjacency
from kinegraph.skeleton.layout import SkeletonLayout

Contraction = Literal["target", "source"]

#: R of the first block, whose inputs are coordinates.
FIRST_RELATION_CHANNELS = 8
#: Of the batch norm after a graph convolution, so that a block starts as the way around it.
INITIAL_SCALE = 1e-6


class SubsetMaps(nn.Module):
    """Weights of one linear map of the channels for each subset of the graph.

    Args:
        subsets: K.
        in_channels: C.
        out_channels: C'.
    """

    def __init__(self, subsets: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(subsets, out_channels, in_channels))
        self.bias = nn.Parameter(torch.zeros(subsets, out_channels))
        nn.init.normal_(self.weight, 0, (2 / out_channels) ** 0.5)  # He et al. 2015, by fan-out

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., K*C')."""
        return linear(x, self.weight.flatten(0, 1), self.bias.flatten())


class ChannelTopologyConv(nn.Module):
    """Graph convolution whose topology differs from clip to clip and channel to channel (CTR-GC).

    For subset k and output channel c, with x̄ the mean of x over the frames (equations 5 to 8):
    Q[c, u, v] = topology[k, u, v] + alpha xi(tanh(psi(x̄_u) - phi(x̄_v)))[c],
    y[c, t, u] = sum_v Q[c, u, v] transform(x)[c, t, v], summed over the subsets, then batch norm,
    the way around, ReLU.

    Args:
        in_channels: C.
        out_channels: C'.
        A: (K, V, V), where the learned topology starts.
        relation_channels: R.
        contraction: which index of Q is summed over: ``target``, its second one, although A is
            indexed source, target (the released code; the columns of A, which are normalized, are
            then not those that are summed over), or ``source``, its first one (PYSKL).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A: Tensor,
        *,
        relation_channels: int,
        contraction: Contraction,
    ) -> None:
        super().__init__()
        K = A.shape[0]
        self.contraction = contraction
        self.topology = nn.Parameter(A.clone())
        self.alpha = nn.Parameter(torch.zeros(1))
        self.psi = SubsetMaps(K, in_channels, relation_channels)
        self.phi = SubsetMaps(K, in_channels, relation_channels)
        self.xi = SubsetMaps(K, relation_channels, out_channels)
        self.transform = SubsetMaps(K, in_channels, out_channels)
        self.residual = Residual(in_channels, out_channels, 1)
        self.bn = nn.BatchNorm2d(out_channels)
        nn.init.constant_(self.bn.weight, INITIAL_SCALE)

    def joint_axes(self) -> dict[str, JointAxes]:
        """Return the joint axes of the learned topology."""
        return {"topology": GRAPH}

    def graph_parts(self) -> GraphParts:
        """Return the learned topology."""
        by_source = self.contraction == "source"
        return GraphParts(learned=self.topology if by_source else self.topology.mT)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', T, V)."""
        n, c, t, v = x.shape
        weight, bias = self.transform.weight, self.transform.bias
        K, width = weight.shape[:2]
        affine = torch.cat([weight, bias.unsqueeze(2)], dim=2)  # the bias meets a channel of ones
        by_channel = affine.transpose(0, 1).reshape(width * K, c + 1).expand(n, -1, -1)
        joints_first = torch.cat([x.transpose(2, 3), x.new_ones(n, 1, v, t)], dim=1)
        features = torch.bmm(by_channel, joints_first.view(n, c + 1, v * t))
        gather = self.topologies(x).view(n * width, K * v, v).transpose(1, 2)
        y = torch.bmm(gather, features.view(n * width, K * v, t)).view(n, width, v, t)
        y = y.transpose(2, 3).contiguous(memory_format=torch.channels_last)
        return torch.relu_(self.bn(y) + self.residual(x))

    def topologies(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', K, V, V), indexed source, target."""
        n, _, t, v = x.shape
        K, width, relation = self.xi.weight.shape
        # the gradient of a sum, unlike that of a mean, is not written out for every frame
        pooled = x.sum(dim=2).transpose(1, 2) / t
        first, second = self.psi(pooled).transpose(1, 2), self.phi(pooled).transpose(1, 2)
        by_target = self.contraction == "target"  # the joints of psi are then the targets
        if by_target:
            difference = first.unsqueeze(2) - second.unsqueeze(3)
        else:
            difference = first.unsqueeze(3) - second.unsqueeze(2)
        relations = torch.tanh(difference).view(n, K * relation, v * v)
        subsets = torch.eye(K, dtype=x.dtype, device=x.device).view(1, K, K, 1)
        refine = self.alpha * self.xi.weight.transpose(0, 1).unsqueeze(2) * subsets
        start = self.topology.transpose(1, 2) if by_target else self.topology
        shared = start + (self.alpha * self.xi.bias).T[..., None, None]
        refined = torch.baddbmm(
            shared.reshape(width * K, v * v),
            refine.reshape(width * K, K * relation).expand(n, -1, -1),
            relations,
        )
        return refined.view(n, width, K, v, v)


class CTRGCNBlock(nn.Module):
    """Channel-wise topology convolution, then temporal branches, with a residual around both."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A: Tensor,
        *,
        stride: int,
        reduction: int,
        contraction: Contraction,
        temporal_kernel: int,
        dilations: Sequence[int],
        temporal_relu: bool,
        dropout: float,
        residual: bool,
    ) -> None:
        super().__init__()
        self.gcn = ChannelTopologyConv(
            in_channels,
            out_channels,
            A,
            relation_channels=max(1, in_channels // reduction)
            if residual
            else FIRST_RELATION_CHANNELS,
            contraction=contraction,
        )
        self.tcn = MultiBranchTemporalConv(
            out_channels, out_channels, stride, kernel=temporal_kernel, dilations=dilations
        )
        self.tcn_relu = nn.ReLU(inplace=True) if temporal_relu else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.residual = Residual(in_channels, out_channels, stride) if residual else None
        for module in self.tcn.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', ceil(T / stride), V)."""
        y = self.dropout(self.tcn_relu(self.tcn(self.gcn(x))))
        return torch.relu(y) if self.residual is None else torch.relu_(y + self.residual(x))


class CTRGCN(Backbone):
    """CTR-GCN for any layout and any number of persons.

    Args:
        layout: the skeleton, or its name.
        num_classes: number of actions.
        in_channels: C of the input.
        channels: output channels of each block; the published network has ten.
        strides: temporal stride of each block.
        temporal_kernel: frames that a dilated convolution reads; odd.
        dilations: one temporal branch each, beside a pool and a 1x1 convolution.
        reduction: the relations between joints have this part of a block's input channels, in the
            first block 8.
        contraction: ``target`` (the released code) or ``source`` (PYSKL), see
            `ChannelTopologyConv`.
        graph_layout: the layout whose bones make the graph, if it is not that of the clips.
        temporal_relu: a ReLU after the temporal branches (PYSKL).
        dropout: in every block but the first, before the residual is added.
        pool: ``mean`` (the paper) or ``joints``, see `kinegraph.ops.persons.pool_places`.
        head_dropout: before the classifier.
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
        temporal_kernel: int = 5,
        dilations: Sequence[int] = (1, 2),
        reduction: int = 8,
        contraction: Contraction = "target",
        graph_layout: str | None = None,
        temporal_relu: bool = False,
        dropout: float = 0.0,
        pool: Pool = "mean",
        head_dropout: float = 0.0,
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
            temporal_kernel=temporal_kernel,
            persons=persons,
        )
        _check_relations(contraction, reduction, dilations)
        self.contraction = contraction
        self.graph_layout = find_graph_layout(self.layout, graph_layout)
        A = torch.from_numpy(directed_adjacency(self.graph_layout))
        new_block = partial(
            CTRGCNBlock,
            A=A,
            reduction=reduction,
            contraction=contraction,
            temporal_kernel=temporal_kernel,
            dilations=dilations,
            temporal_relu=temporal_relu,
        )
        self.blocks = stack_blocks(new_block, in_channels, channels, strides, dropout)
        self.apply(init_kaiming)
        self.reset_classifier(num_classes)
        self.to(memory_format=torch.channels_last)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a fresh one, see `new_wide_classifier`."""
        self.head = new_wide_classifier(self.pooled_features, num_classes, self.pool)


def _check_relations(contraction: str, reduction: int, dilations: Sequence[int]) -> None:
    if contraction not in get_args(Contraction):
        raise unknown_name("contraction", contraction, get_args(Contraction))
    if reduction < 1 or min(dilations, default=0) < 1:
        raise ModelError(
            "expected reduction and at least one of dilations to be 1 or more, got "
            f"reduction={reduction}, dilations={list(dilations)}"
        )
