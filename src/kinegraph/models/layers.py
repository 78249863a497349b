"""Building blocks shared by the model families.

Shapes: N clips, M persons, n folded persons that are present (n <= N*M), C channels, T frames,
V joints, K partitions. Activations are kept channels-last, (n, T, V, C) in memory, because the
graph product, the channel product and the temporal convolution then all read contiguous rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError, unknown_name
from kinegraph.models.joint_axes import GRAPH, JointAxes
from kinegraph.ops.layers import Affine, GraphMix, batch_norm_affine, mix_channels, pick_frames
from kinegraph.ops.persons import Pool
from kinegraph.ops.row_product import row_product
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout


class DataBatchNorm(nn.BatchNorm1d):
    """Batch norm with statistics of each joint and channel, feature (m*V + v)*C + c.

    Args:
        num_joints: V.
        channels: C.
        persons: M, where the persons of a clip have statistics of their own; 1: all share them.
    """

    def __init__(self, num_joints: int, channels: int, persons: int = 1) -> None:
        super().__init__(persons * num_joints * channels)
        self.shape = (persons, num_joints, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C, T, V)."""
        persons, t = self.shape[0], x.shape[2]
        frames = x.permute(0, 2, 3, 1).unflatten(0, (-1, persons)).transpose(1, 2)
        rows = super().forward(frames.flatten(2).flatten(0, 1))
        normalized = rows.view(-1, t, *self.shape).transpose(1, 2).flatten(0, 1)
        return normalized.permute(0, 3, 1, 2)

    def joint_axes(self) -> dict[str, JointAxes]:
        """Return the joint axis of each statistic and parameter."""
        names = ("weight", "bias", "running_mean", "running_var")
        return dict.fromkeys(names, JointAxes((1,), self.shape))

    def inference_layer(self) -> Affine:
        """Return the factor and summand of each joint and channel."""
        shape = self.shape if self.shape[0] > 1 else self.shape[1:]
        scale, bias = batch_norm_affine(self)
        return Affine(scale.view(shape), bias.view(shape))


class PointConv(nn.Conv2d):
    """A 1x1 convolution, computed as a product of rows with a matrix."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', T, V)."""
        return mix_channels(x, self.weight.flatten(1).T, self.bias)


class GraphParts(NamedTuple):
    """What a graph convolution adds up that is the same for all clips, for figures.

    Each is (K, V, V), indexed partition, source, target, or None.

    Attributes:
        fixed: the given adjacency.
        importance: the learned factor of each of its entries.
        free: a learned weight of each pair of joints, about 0 before training.
        learned: an adjacency that is learned as a whole.
    """

    fixed: Tensor | None = None
    importance: Tensor | None = None
    free: Tensor | None = None
    learned: Tensor | None = None


class GraphConv(nn.Module):
    """Spatial graph convolution over K partitions with learned edge importance.

    y[w] = sum_k (W_k sum_v A'[k, v, w] x[v] + b_k sum_v A'[k, v, w]), A' = A * importance
    (ST-GCN, Yan et al. 2018, equation 10). The graph is applied first: the K neighborhood sums
    stand side by side as K*C channels, and one matrix product mixes them.

    ``adaptive`` adds a free weight for every pair of joints, zero at the start (the B_k of 2s-AGCN,
    Shi et al. 2019, equation 4), so that joints which no bone connects can inform each other.
    ``learned_A`` makes A itself a parameter that starts at the given graph (ST-GCN++).
    """

    A: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A: Tensor,
        *,
        edge_importance: bool = False,
        adaptive: bool = False,
        learned_A: bool = False,
    ) -> None:
        super().__init__()
        K = A.shape[0]
        if learned_A:
            self.A = nn.Parameter(A.clone())
        else:
            self.register_buffer("A", A.clone())
        self.weight = nn.Parameter(torch.empty(K, in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(K, out_channels))
        self.edge_importance = nn.Parameter(torch.ones_like(A)) if edge_importance else None
        self.free_edges = nn.Parameter(torch.zeros_like(A)) if adaptive else None

    def weighted_adjacency(self) -> Tensor:
        """(K, V, V): A times the learned importance of each edge, plus the free edges."""
        weighted = self.A if self.edge_importance is None else self.A * self.edge_importance
        return weighted if self.free_edges is None else weighted + self.free_edges

    def joint_axes(self) -> dict[str, JointAxes]:
        """Return the joint axes of the learned parts of the graph."""
        return dict.fromkeys(("A", "edge_importance", "free_edges"), GRAPH)

    def graph_parts(self) -> GraphParts:
        """Return the graph and what is learned of it."""
        if isinstance(self.A, nn.Parameter):
            return GraphParts(learned=self.A)
        return GraphParts(self.A, self.edge_importance, self.free_edges)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', T, V)."""
        n, c, t, v = x.shape
        A = self.weighted_adjacency()
        K = A.shape[0]
        gather_wk_v = A.permute(2, 0, 1).reshape(v * K, v)
        frames = x.permute(0, 2, 3, 1).reshape(n * t, v, c)
        summed = torch.bmm(gather_wk_v.expand(n * t, -1, -1), frames)
        mixed = row_product(summed.view(n * t * v, K * c), self.weight.flatten(0, 1))
        bias_wc = torch.einsum("kvw,kc->wc", A, self.bias)
        return (mixed.view(n, t, v, -1) + bias_wc).permute(0, 3, 1, 2)

    def inference_layer(self) -> GraphMix:
        """Return the layer with the edge importance multiplied into the adjacency."""
        A = self.weighted_adjacency().detach()
        bias_wc = torch.einsum("kvw,kc->wc", A, self.bias.detach())
        return GraphMix(A, self.weight.detach(), bias_wc)


class Residual(nn.Module):
    """The way around a block: identity, or a strided 1x1 convolution where the shape changes.

    The frames are picked before a convolution without stride: PyTorch's own strided one writes
    beyond its memory where it learns from fewer than 8 channels (2.13, CPU, channels last).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        changes = in_channels != out_channels or stride != 1
        self.stride = stride
        self.conv = PointConv(in_channels, out_channels) if changes else None
        self.bn = nn.BatchNorm2d(out_channels) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', ceil(T / stride), V)."""
        if self.conv is None or self.bn is None:
            return x
        return self.bn(self.conv(pick_frames(x, self.stride)))


def find_graph_layout(layout: SkeletonLayout, other: str | None) -> SkeletonLayout:
    """Return the layout whose bones make the graph: the clips' own, or another of these joints.

    Raises:
        ModelError: the other layout has other joints.
        UnknownNameError: there is no such layout.
    """
    graph = layout if other is None else get_layout(other)
    if graph.joints != layout.joints:
        raise ModelError(
            f"graph_layout {other!r} does not have the joints of layout {layout.name!r} in their "
            f"order: {graph.num_joints} joints, {layout.num_joints} expected"
        )
    return graph


def init_published(module: nn.Module) -> None:
    """ST-GCN's released initialization: N(0, 0.02), batch-norm weights N(1, 0.02)."""
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear | GraphConv):
        nn.init.normal_(module.weight, 0, 0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1, 0.02)
        nn.init.zeros_(module.bias)


def init_kaiming(module: nn.Module) -> None:
    """Variance-keeping weights (He et al. 2015): small sets are learned better from these."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(module.bias)
    elif isinstance(module, GraphConv):
        nn.init.normal_(module.weight, 0, (2 / module.weight.shape[2]) ** 0.5)


def new_wide_classifier(features: int, num_classes: int, pool: Pool) -> nn.Linear:
    """Return a head as those of Shift-GCN, AGCN and CTR-GCN start.

    Its published spread of sqrt(2 / classes) suits 256 features; with the features of every
    joint side by side it would drown what is learned, so these start as small as ST-GCN's.
    """
    head = nn.Linear(features, num_classes)
    nn.init.normal_(head.weight, 0, (2 / num_classes) ** 0.5 if pool == "mean" else 0.02)
    return head


def check_backbone(
    num_classes: int,
    in_channels: int,
    channels: Sequence[int],
    strides: Sequence[int],
    pool: Pool,
    temporal_kernel: int = 1,
) -> None:
    """Refuse options, shared by the recognisers, that make no network.

    Raises:
        UnknownNameError: an unknown pool.
        ModelError: numbers that are not positive, lists that are not as long as each other.
    """
    if pool not in get_args(Pool):
        raise unknown_name("pool", pool, get_args(Pool))
    if num_classes < 1 or in_channels < 1:
        raise ModelError(
            f"expected at least one class and one channel, got num_classes={num_classes}, "
            f"in_channels={in_channels}"
        )
    if not channels or len(channels) != len(strides):
        raise ModelError(
            f"channels and strides must be as long as each other (one entry a block), "
            f"got {len(channels)} and {len(strides)}"
        )
    if temporal_kernel < 1 or temporal_kernel % 2 == 0:
        raise ModelError(f"temporal_kernel must be odd and positive, got {temporal_kernel}")
    if min(*channels, *strides) < 1:
        raise ModelError(
            f"channels and strides must be positive, got {list(channels)} and {list(strides)}"
        )


def frames_at(x: Tensor, index: Tensor) -> Tensor:
    """Return (N, C, t, V, M): the frames of each clip (N, C, T, V, M) that index (N, t) lists."""
    clips = torch.arange(x.shape[0], device=x.device)[:, None]  # len(x) could not be exported
    return x.movedim(2, 1)[clips, index].movedim(1, 2)


def check_last_pose(context: Tensor, last: Tensor) -> None:
    """Refuse a last pose that does not belong to its context (N, C, T, V, M).

    Raises:
        ModelError: last is not (N, C, V, M).
    """
    expected = (*context.shape[:2], *context.shape[3:])
    if last.shape != expected:
        raise ModelError(
            f"expected the last pose (N, C, V, M) of a context {tuple(context.shape)} to be "
            f"{expected}, got {tuple(last.shape)}"
        )
