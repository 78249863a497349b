"""2s-AGCN and AAGCN: adaptive graph convolutional networks (CVPR 2019; IEEE TIP 2020).

Lei Shi, Yifan Zhang, Jian Cheng and Hanqing Lu: "Two-Stream Adaptive Graph Convolutional Networks
for Skeleton-Based Action Recognition" and "Skeleton-Based Action Recognition with Multi-Stream
Adaptive Graph Convolutional Networks".
Shapes: N clips, M persons, n folded persons, C channels, T frames, V joints, K subsets, R
channels of an embedding. Graphs are indexed [subset, source joint v, target joint w].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kinegraph.models.backbone import Backbone, stack_blocks
from kinegraph.models.joint_axes import GRAPH, JointAxes
from kinegraph.models.layers import (
    GraphParts,
    Residual,
    find_graph_layout,
    init_kaiming,
    new_wide_classifier,
)
from kinegraph.models.stgcn import CHANNELS, STRIDES
from kinegraph.ops.persons import Pool
from kinegraph.ops.row_product import row_product
from kinegraph.skeleton.graph import adjacency
from kinegraph.skeleton.layout import SkeletonLayout

#: An embedding has the channels of the output divided by this.
EMBEDDING_RATIO = 4
#: Initial value of every free edge, and of the factor of the batch norm after a graph convolution.
INITIAL_SCALE = 1e-6
#: Frames that the attention over frames sees.
ATTENTION_KERNEL = 9
#: The attention over channels reduces them by this.
ATTENTION_RATIO = 2


class AdaptiveGraphConv(nn.Module):
    """Graph convolution over the skeleton, a learned graph, and one that depends on the clip.

    y[w] = sum_k W_k sum_v (A_k + B_k + C_k)[v, w] x[v] (2s-AGCN, equation 3): A_k is the skeleton,
    B_k a free weight for every pair of joints, and C_k[v, w] the softmax over v of the product of
    two embeddings of joints v and w, summed over all frames of the person. The graph is applied
    first: the K sums over joints stand side by side as K*C channels, and one product mixes them.
    """

    A: Tensor

    def __init__(self, in_channels: int, out_channels: int, A: Tensor) -> None:
        super().__init__()
        self.register_buffer("A", A.clone(), persistent=False)
        self.edges = nn.Parameter(self.initial_edges())
        width = max(1, out_channels // EMBEDDING_RATIO)
        self.source, self.target, self.mix = (
            nn.ModuleList(nn.Conv2d(in_channels, channels, 1) for _ in A)
            for channels in (width, width, out_channels)
        )

    def initial_edges(self) -> Tensor:
        """Return (K, V, V): the learned graph before training."""
        return torch.full_like(self.A, INITIAL_SCALE)

    def joint_axes(self) -> dict[str, JointAxes]:
        """Return the joint axes of the learned graph."""
        return {"edges": GRAPH}

    def graph_parts(self) -> GraphParts:
        """Return A and B."""
        return GraphParts(fixed=self.A, free=self.edges)

    def graphs(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, K, V, V): the graphs of each person."""
        return torch.softmax(self.similarity(x), dim=2) + (self.A + self.edges)

    def similarity(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, K, V, V): mean product of the embeddings of source and target."""
        n, c, t, v = x.shape
        embeddings = [conv for pair in zip(self.source, self.target, strict=True) for conv in pair]
        weight = torch.cat([conv.weight.flatten(1) for conv in embeddings])
        bias = torch.cat([conv.bias for conv in embeddings])
        embedded = row_product(x.permute(0, 2, 3, 1).reshape(-1, c), weight.T, bias)
        source, target = (
            part.permute(0, 3, 2, 1, 4).flatten(3)
            for part in embedded.view(n, t, v, len(self.A), 2, -1).unbind(4)
        )
        return source @ target.mT / source.shape[3]

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', T, V)."""
        n, _, t, v = x.shape
        gather_wk_v = self.graphs(x).permute(0, 3, 1, 2).flatten(1, 2)
        summed = gather_wk_v.unsqueeze(1) @ x.permute(0, 2, 3, 1)
        weight = torch.cat([conv.weight.flatten(1) for conv in self.mix], dim=1)
        bias = torch.stack([conv.bias for conv in self.mix]).sum(dim=0)
        mixed = row_product(summed.reshape(n * t * v, -1), weight.T, bias)
        return mixed.view(n, t, v, -1).permute(0, 3, 1, 2)


class JointFrameChannelAttention(nn.Module):
    """Factors 1 + g of joints, then of frames, then of channels (AAGCN, section III.C).

    Each g is a sigmoid, of a convolution over the joints' means, of one over the frames' means of
    what the first gives, and of two layers on the channels' means of what the second gives.
    """

    def __init__(self, channels: int, num_joints: int) -> None:
        super().__init__()
        kernel = num_joints - (num_joints + 1) % 2
        self.joints = nn.Conv1d(channels, 1, kernel, padding=kernel // 2)
        self.frames = nn.Conv1d(channels, 1, ATTENTION_KERNEL, padding=ATTENTION_KERNEL // 2)
        self.reduce = nn.Linear(channels, channels // ATTENTION_RATIO)
        self.expand = nn.Linear(channels // ATTENTION_RATIO, channels)
        nn.init.xavier_normal_(self.joints.weight)
        nn.init.kaiming_normal_(self.reduce.weight)
        for layer in (self.frames, self.expand):
            nn.init.zeros_(layer.weight)
        for layer in (self.joints, self.frames, self.reduce, self.expand):
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> the same. The means are of x: no product but the last is computed."""
        of_joints = 1 + torch.sigmoid(self.joints(x.mean(dim=2)))
        means = (of_joints[:, :, None] @ x.permute(0, 2, 3, 1)).squeeze(2).mT / x.shape[3]
        of_frames = 1 + torch.sigmoid(self.frames(means))
        pooled = (means * of_frames).mean(dim=2)
        of_channels = 1 + torch.sigmoid(self.expand(torch.relu(self.reduce(pooled))))
        of_places = (of_frames.mT @ of_joints).flatten(1)
        factors_ntvc = (of_places[:, :, None] @ of_channels[:, None]).view(
            x.shape[0], x.shape[2], x.shape[3], x.shape[1]
        )
        return x * factors_ntvc.permute(0, 3, 1, 2)


class GatedGraphConv(AdaptiveGraphConv):
    """The graph convolution of AAGCN: y[w] = sum_k W_k sum_v (B_k + alpha C_k)[v, w] x[v].

    B_k is a free weight for every pair of joints that starts at the skeleton, C_k the tanh of the
    product of the embeddings, and alpha a factor that starts at 0.
    """

    def __init__(self, in_channels: int, out_channels: int, A: Tensor) -> None:
        super().__init__(in_channels, out_channels, A)
        self.alpha = nn.Parameter(torch.zeros(1))

    def initial_edges(self) -> Tensor:
        return self.A.clone()

    def graph_parts(self) -> GraphParts:
        """Return B."""
        return GraphParts(learned=self.edges)

    def graphs(self, x: Tensor) -> Tensor:
        return torch.tanh(self.similarity(x)) * self.alpha + self.edges


class AGCNBlock(nn.Module):
    """Graph convolution with a residual, attention, then a temporal convolution with a residual."""

    def __init__(
        self,
        gcn: AdaptiveGraphConv,
        in_channels: int,
        out_channels: int,
        *,
        stride: int,
        temporal_kernel: int,
        dropout: float,
        residual: bool,
    ) -> None:
        super().__init__()
        self.gcn = gcn
        self.gcn_bn = nn.BatchNorm2d(out_channels)
        self.gcn_residual = Residual(in_channels, out_channels, 1)
        self.attention: nn.Module = nn.Identity()
        self.tcn = nn.Conv2d(
            out_channels,
            out_channels,
            (temporal_kernel, 1),
            (stride, 1),
            (temporal_kernel // 2, 0),
        )
        self.tcn_bn = nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.residual = Residual(in_channels, out_channels, stride) if residual else None

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', ceil(T / stride), V)."""
        y = torch.relu_(self.gcn_bn(self.gcn(x)) + self.gcn_residual(x))
        y = self.dropout(self.tcn_bn(self.tcn(self.attention(y))))
        return torch.relu_(y if self.residual is None else y + self.residual(x))


class AGCN(Backbone):
    """The network of 2s-AGCN for any layout and any number of persons.

    The paper trains it on joints and on bones and adds the logits of both (`kinegraph fuse`).

    Args:
        layout: the skeleton, or its name.
        num_classes: number of actions.
        in_channels: C of the input.
        channels: output channels of each block; the published network has ten.
        strides: temporal stride of each block.
        graph_layout: the layout whose bones make the graph, if it is not that of the clips.
        temporal_kernel: frames that a temporal convolution sees; odd.
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

    graph_conv: ClassVar[type[AdaptiveGraphConv]] = AdaptiveGraphConv

    def __init__(
        self,
        layout: SkeletonLayout | str,
        num_classes: int,
        *,
        in_channels: int = 3,
        channels: Sequence[int] = CHANNELS,
        strides: Sequence[int] = STRIDES,
        graph_layout: str | None = None,
        temporal_kernel: int = 9,
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
        graph = find_graph_layout(self.layout, graph_layout)
        A = torch.from_numpy(adjacency(graph, strategy="agcn"))

        def new_block(before: int, after: int, **options: Any) -> AGCNBlock:
            gcn = self.graph_conv(before, after, A)
            return AGCNBlock(gcn, before, after, temporal_kernel=temporal_kernel, **options)

        self.blocks = stack_blocks(new_block, in_channels, channels, strides, dropout)
        self.apply(_init_weights)
        self.reset_classifier(num_classes)
        self.to(memory_format=torch.channels_last)

    def graph_parameters(self) -> list[nn.Parameter]:
        """Return the learned graphs, which `train.freeze_graph_epochs` of a recipe freezes."""
        return [block.gcn.edges for block in self.blocks]

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a fresh one, see `new_wide_classifier`."""
        self.head = new_wide_classifier(self.pooled_features, num_classes, self.pool)


class AAGCN(AGCN):
    """The network of AAGCN (MS-AAGCN with four streams) for any layout and number of persons.

    It differs from `AGCN` in its graph convolution, see `GatedGraphConv`, and in the
    `JointFrameChannelAttention` after it.

    Args:
        layout: the skeleton, or its name.
        num_classes: number of actions.
        in_channels: C of the input.
        attention: weigh joints, frames and channels after each graph convolution.
        options: of `AGCN`.

    Raises:
        ModelError: options that do not make a network.
    """

    graph_conv = GatedGraphConv
    options_of = (AGCN, ())

    def __init__(
        self,
        layout: SkeletonLayout | str,
        num_classes: int,
        *,
        in_channels: int = 3,
        attention: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(layout, num_classes, in_channels=in_channels, **options)
        if attention:
            for block in self.blocks:
                block.attention = JointFrameChannelAttention(
                    block.tcn.out_channels, self.layout.num_joints
                )


def _init_weights(module: nn.Module) -> None:
    """Initialize as released: the sum of the K products keeps the variance, and starts at 0."""
    init_kaiming(module)
    if isinstance(module, AdaptiveGraphConv):
        for conv in module.mix:
            spread = (2 / (conv.weight.numel() * len(module.mix))) ** 0.5
            nn.init.normal_(conv.weight, 0, spread)
    elif isinstance(module, AGCNBlock):
        nn.init.constant_(module.gcn_bn.weight, INITIAL_SCALE)
