"""DG-STGCN: graphs without a skeleton, learned and computed from the clip (Duan et al., 2022).

Haodong Duan, Jiaqi Wang, Kai Chen and Dahua Lin, "DG-STGCN: Dynamic Spatial-Temporal Modeling for
Skeleton-based Action Recognition". Shapes: N clips, M persons, n folded persons, C channels,
T frames, V joints, K graphs, D channels of a graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError
from kinegraph.models.backbone import Backbone, stack_blocks
from kinegraph.models.joint_axes import GRAPH, JointAxes
from kinegraph.models.layers import GraphParts
from kinegraph.models.stgcn import CHANNELS, STRIDES
from kinegraph.models.stgcnpp import BranchedBlock, BranchedTemporalConv, new_classifier
from kinegraph.ops.persons import Pool
from kinegraph.ops.row_product import row_product
from kinegraph.skeleton.layout import SkeletonLayout

SUBSETS = 8
#: Channels of a block for one channel of each of its graphs.
CHANNEL_RATIO = 8
A_MEAN, A_STD = 0.04, 0.02
#: The released code holds so many shares of the body's mean, whatever the number of joints.
RELEASED_JOINTS = 25


class DynamicGraphConv(nn.Module):
    """K graphs over all pairs of joints, each with its own part of the channels.

    From source joint u to target joint v, for channel c of graph k (section 3.2 of the paper):

        Q[k,c,u,v] = A[k,u,v] + alpha_k tanh(a[k,c,u] - b[k,c,v])
                     + beta_k softmax_u(sum_c a[k,c,u] b[k,c,v])
        y[k,c,t,v] = sum_u p[k,c,t,u] Q[k,c,u,v]

    A is free; a and b are two projections of the features' mean over time, p one of the features.
    alpha and beta start at 0.

    Args:
        in_channels: C.
        out_channels: C'.
        num_joints: V.
        subsets: K.
        shared: whether all graphs take the alpha and beta of the first (the released code).
    """

    def __init__(
        self, in_channels: int, out_channels: int, num_joints: int, *, subsets: int, shared: bool
    ) -> None:
        super().__init__()
        width = subsets * max(1, out_channels // CHANNEL_RATIO)
        self.A = nn.Parameter(torch.empty(subsets, num_joints, num_joints))
        self.alpha = nn.Parameter(torch.zeros(subsets))
        self.beta = nn.Parameter(torch.zeros(subsets))
        self.shared = shared
        self.values = nn.Conv2d(in_channels, width, 1)
        self.values_bn = nn.BatchNorm2d(width)
        self.source = nn.Conv2d(in_channels, width, 1)
        self.target = nn.Conv2d(in_channels, width, 1)
        self.mix = nn.Conv2d(width, out_channels, 1)
        nn.init.normal_(self.A, A_MEAN, A_STD)

    def joint_axes(self) -> dict[str, JointAxes]:
        """Return the joint axes of A."""
        return {"A": GRAPH}

    def graph_parts(self) -> GraphParts:
        """Return A."""
        return GraphParts(learned=self.A)

    def graphs(self, mean: Tensor) -> Tensor:
        """(n, C, 1, V) means over time -> (n, K, D, V, V): the weight of source u for target v."""
        K = len(self.A)
        a, b = (conv(mean).squeeze(2).unflatten(1, (K, -1)) for conv in (self.source, self.target))
        alpha, beta = (w[:1].expand(K) if self.shared else w for w in (self.alpha, self.beta))
        similarity = torch.softmax(a.transpose(2, 3) @ b, dim=2)
        static = self.A + beta[:, None, None] * similarity
        difference = torch.tanh(a.unsqueeze(4) - b.unsqueeze(3))
        return static.unsqueeze(2) + alpha.view(K, 1, 1, 1) * difference

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', T, V)."""
        n, _, t, v = x.shape
        graphs = self.graphs(x.mean(dim=2, keepdim=True)).flatten(1, 2)
        # one matrix product for every channel: joints, not channels, have to lie side by side
        p = torch.relu_(self.values_bn(self.values(x))).contiguous()
        y = torch.matmul(p, graphs)
        rows = y.permute(0, 2, 3, 1).reshape(n * t * v, -1)
        mixed = row_product(rows, self.mix.weight.flatten(1).T, self.mix.bias)
        return mixed.view(n, t, v, -1).permute(0, 3, 1, 2)


class BodyTemporalConv(BranchedTemporalConv):
    """Temporal branches over the joints and their mean, of which each joint takes a share.

    Args:
        channels: C.
        stride: over frames.
        shares: learned shares, 0 at the start; one a joint, further ones are not used.
    """

    def __init__(self, channels: int, stride: int, shares: int) -> None:
        super().__init__(channels, stride)
        self.body_share = nn.Parameter(torch.zeros(shares))

    def joint_axes(self) -> dict[str, JointAxes]:
        """Return the joint axis of the shares."""
        return {"body_share": JointAxes((0,))}

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C, ceil(T / stride), V)."""
        V = x.shape[3]
        joints = x.permute(0, 2, 3, 1)  # as they lie in memory
        joints = torch.cat([joints, joints.mean(dim=2, keepdim=True)], dim=2)
        y = self.branches(joints.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        y = torch.addcmul(y[:, :, :V], y[:, :, V:], self.body_share[:V, None])
        return self.mix_branches(y.permute(0, 3, 1, 2))


class DGSTGCNBlock(BranchedBlock):
    """Block of DG-STGCN: dynamic graphs, and temporal branches over the joints and the body."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_joints: int,
        *,
        stride: int,
        subsets: int,
        shares: int,
        shared: bool,
        **options: Any,
    ) -> None:
        gcn = DynamicGraphConv(
            in_channels, out_channels, num_joints, subsets=subsets, shared=shared
        )
        tcn = BodyTemporalConv(out_channels, stride, shares)
        super().__init__(in_channels, out_channels, gcn, tcn, stride=stride, **options)


class DGSTGCN(Backbone):
    """DG-STGCN for any layout and any number of persons; of a layout it uses V only.

    Args:
        layout: the skeleton, or its name.
        num_classes: number of actions.
        in_channels: C of the input.
        channels: output channels of each block, at least six; the published network has ten blocks.
        strides: temporal stride of each block.
        subsets: K, graphs of each block.
        dropout: in every block but the first, before the residual is added.
        pool: ``mean`` (the paper) or ``joints``, see `kinegraph.ops.persons.pool_places`.
        head_dropout: before the classifier.
        faithful: reproduce the released code: all graphs of a block take the alpha and beta of the
            first, there are 25 shares of the body's mean for any skeleton, and absent persons, all
            zero, are counted. Needed for published weights.

    Raises:
        ModelError: options that do not make a network; more than 25 joints with ``faithful``.
    """

    def __init__(
        self,
        layout: SkeletonLayout | str,
        num_classes: int,
        *,
        in_channels: int = 3,
        channels: Sequence[int] = CHANNELS,
        strides: Sequence[int] = STRIDES,
        subsets: int = SUBSETS,
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
        V = self.layout.num_joints
        _check_graphs(V, subsets, faithful)
        new_block = partial(
            DGSTGCNBlock,
            num_joints=V,
            subsets=subsets,
            shares=RELEASED_JOINTS if faithful else V,
            shared=faithful,
        )
        self.blocks = stack_blocks(new_block, in_channels, channels, strides, dropout)
        self.reset_classifier(num_classes)
        self.to(memory_format=torch.channels_last)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a new linear one with weights N(0, 0.01)."""
        self.head = new_classifier(self.pooled_features, num_classes)


def _check_graphs(num_joints: int, subsets: int, faithful: bool) -> None:
    if subsets < 1:
        raise ModelError(f"expected at least one graph a block, got subsets={subsets}")
    if faithful and num_joints > RELEASED_JOINTS:
        raise ModelError(
            f"the released DG-STGCN (faithful=True) takes at most {RELEASED_JOINTS} joints, the "
            f"layout has {num_joints}; leave faithful out for any number of joints"
        )
