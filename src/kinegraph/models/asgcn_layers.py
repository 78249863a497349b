"""Blocks of AS-GCN: graph convolutions over the links of each clip, and the future head.

Li et al., CVPR 2019.

Shapes: n folded persons, C channels, F features, T frames, V joints, K partitions, k future
frames.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from kinegraph.models.layers import GraphConv, Residual, init_kaiming, init_published
from kinegraph.models.link_inference import LINK_TYPES
from kinegraph.ops.layers import GraphMix, graph_product
from kinegraph.ops.row_product import row_product

#: Frames that are left before the future head's last temporal convolution, of this kernel.
REST = 5


class ActionalConv(nn.Module):
    """Graph convolution over links that every clip has for itself: sum_k (W_k x + b_k) L_k."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(LINK_TYPES - 1, in_channels, out_channels))
        self.bias = nn.Parameter(torch.zeros(LINK_TYPES - 1, out_channels))

    def forward(self, x: Tensor, links: Tensor, to: Tensor) -> Tensor:
        """(n, C, T, V), (n, 2, V, V) and what to add it to, (n, C', T, V) -> (n, C', T, V)."""
        n, c, t, v = x.shape
        k = links.shape[1]
        gather_wk_v = links.permute(0, 3, 1, 2).reshape(n, 1, v * k, v)
        summed = (gather_wk_v @ x.permute(0, 2, 3, 1)).view(n * t * v, k * c)
        before = to.permute(0, 2, 3, 1).reshape(n * t * v, -1)
        mixed = before + row_product(summed, self.weight.flatten(0, 1))
        bias_wc = links.sum(dim=2).transpose(1, 2) @ self.bias
        return (mixed.view(n, t, v, -1) + bias_wc.unsqueeze(1)).permute(0, 3, 1, 2)


class ActionalStructuralConv(nn.Module):
    """Graph convolution over the skeleton's links plus the one over links inferred from a clip.

    The links given, (n, 2, V, V), already hold the weight lambda of actional links (Li et al.
    2019, equation 10).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A: Tensor,
        *,
        edge_importance: bool,
        actional: bool,
    ) -> None:
        super().__init__()
        self.structural = GraphConv(
            in_channels, out_channels, A, edge_importance=edge_importance, adaptive=False
        )
        self.actional: ActionalConv | None = None
        if actional:
            self.actional = ActionalConv(in_channels, out_channels)

    def forward(self, x: Tensor, links: Tensor | None) -> Tensor:
        """(n, C, T, V) and (n, 2, V, V) -> (n, C', T, V)."""
        y = self.structural(x)
        return y if self.actional is None or links is None else self.actional(x, links, y)

    def inference_layer(self) -> ActionalMix:
        """Return the layer that sums over both kinds of links at once."""
        return ActionalMix(self)


class ActionalMix(GraphMix):
    """`ActionalStructuralConv` as one product over the skeleton's links and those of each clip."""

    link_bias: Tensor | None

    def __init__(self, conv: ActionalStructuralConv) -> None:
        graph, actional = conv.structural, conv.actional
        A = graph.weighted_adjacency().detach()
        weight = torch.cat([c.weight.detach() for c in (graph, actional) if c is not None])
        super().__init__(A, weight, torch.einsum("kvw,kc->wc", A, graph.bias.detach()))
        self.register_buffer("link_bias", None if actional is None else actional.bias.detach())

    def forward(self, x: Tensor, links: Tensor | None = None) -> Tensor:
        """(n, T, V, C) and (n, 2, V, V) -> (n, T, V, C')."""
        gather, bias = self.gather, self.bias
        if links is not None and self.link_bias is not None:
            own = gather.unflatten(1, (x.shape[2], -1)).expand(x.shape[0], -1, -1, -1)
            gather = torch.cat([own, links.permute(0, 3, 1, 2)], dim=2).flatten(1, 2)
            bias = bias + links.sum(dim=2).transpose(1, 2) @ self.link_bias
        return graph_product(x, gather, self.weight, bias, relu=self.relu)

    def fold_affine(self, scale: Tensor, bias: Tensor) -> bool:
        """Scale the columns of the matrices."""
        folded = super().fold_affine(scale, bias)
        if folded and self.link_bias is not None:
            self.link_bias = self.link_bias * scale
        return folded


class ASGCNBlock(nn.Module):
    """Graph convolution, then a temporal convolution, with a residual around both."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A: Tensor,
        *,
        kernel: int,
        stride: int = 1,
        padded: bool = True,
        residual: bool = True,
        dropout: float,
        **graph: bool,
    ) -> None:
        super().__init__()
        self.gcn = ActionalStructuralConv(in_channels, out_channels, A, **graph)
        self.bn = nn.BatchNorm2d(out_channels)
        padding = (kernel // 2 if padded else 0, 0)
        self.tcn = nn.Conv2d(out_channels, out_channels, (kernel, 1), (stride, 1), padding)
        self.tcn_bn = nn.BatchNorm2d(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.residual = Residual(in_channels, out_channels, stride) if residual else None

    def forward(self, x: Tensor, links: Tensor | None) -> Tensor:
        """(n, C, T, V) and (n, 2, V, V) -> (n, C', T', V)."""
        y = torch.relu(self.bn(self.gcn(x, links)))
        y = self.dropout(self.tcn_bn(self.tcn(y)))
        return torch.relu(y if self.residual is None else y + self.residual(x))


class FutureHead(nn.Module):
    """How far each joint will have moved from the last pose, k frames ahead (section 4.3).

    Strided blocks shorten the features until 5 frames are left (of the published 290: 73, 37, 19,
    10, 5); clips of other lengths are averaged, or repeated, to 5. A convolution makes them one.
    The last pose stands beside it, and a graph and a 1x1 convolution give the offsets.

    Corrected, all offsets are zero at the start. ``faithful`` starts from random ones, drops half
    of them out in training, and holds the two edge importances that the released code never uses.
    """

    def __init__(
        self,
        num_features: int,
        in_channels: int,
        future: int,
        A: Tensor,
        *,
        kernel: int,
        dropout: float,
        faithful: bool,
        **graph: bool,
    ) -> None:
        super().__init__()
        width, offsets = max(num_features // 2, 1), in_channels * future
        block: dict[str, Any] = {"dropout": dropout, **graph}
        self.blocks = nn.ModuleList(
            [
                ASGCNBlock(num_features, width, A, kernel=kernel, **block),
                *(ASGCNBlock(width, width, A, kernel=kernel, stride=2, **block) for _ in range(3)),
                ASGCNBlock(width, width, A, kernel=3, stride=2, **block),
                ASGCNBlock(width, width, A, kernel=REST, padded=False, residual=False, **block),
            ]
        )
        self.gcn = ActionalStructuralConv(width + in_channels, offsets, A, **graph)
        self.bn = nn.BatchNorm2d(offsets)
        self.offset = nn.Conv2d(offsets, offsets, 1)
        self.offset_bn = nn.BatchNorm2d(offsets)
        self.dropout = nn.Dropout(dropout if faithful else 0.0)
        unused = 2 if faithful and graph["edge_importance"] else 0
        self.unused_importance = nn.ParameterList(torch.ones_like(A) for _ in range(unused))
        self.apply(init_released if faithful else init_corrected)
        if faithful:
            self._init_as_transposed()
        else:
            nn.init.zeros_(self.offset_bn.weight)

    def forward(self, features: Tensor, last: Tensor, links: Tensor | None) -> Tensor:
        """(n, F, T', V), (n, C, 1, V) and (n, 2, V, V) -> offsets (n, C, k, V)."""
        y = features
        for block in self.blocks[:-1]:
            y = block(y, links)
        if y.shape[2] != REST:
            y = to_rest(y)
        y = torch.cat([self.blocks[-1](y, links), last], dim=1)
        y = torch.relu(self.bn(self.gcn(y, links)))
        y = self.dropout(self.offset_bn(self.offset(y)))
        return y[:, :, 0].unflatten(1, (last.shape[1], -1))

    def _init_as_transposed(self) -> None:
        """The released layers are transposed convolutions and keep PyTorch's start weights."""
        convs = [conv for conv in (self.gcn.structural, self.gcn.actional) if conv is not None]
        groups = sum(len(conv.weight) for conv in convs)
        for conv in (*convs, self.offset):
            fan = self.offset.out_channels * (1 if conv is self.offset else groups)
            nn.init.uniform_(conv.weight, -(fan**-0.5), fan**-0.5)
            nn.init.uniform_(conv.bias, -(fan**-0.5), fan**-0.5)


def to_rest(y: Tensor) -> Tensor:
    """(n, C, T, V) -> (n, C, 5, V): means over even, overlapping stretches of frames.

    On a GPU PyTorch's own has no deterministic gradient, which training insists on.
    """
    return adaptive_avg_pool2d(y, (REST, y.shape[3])) if y.is_cpu else even_means(y)


def even_means(y: Tensor) -> Tensor:
    """What `to_rest` says, as a matrix product."""
    T = y.shape[2]
    place, frame = torch.arange(REST, device=y.device)[:, None], torch.arange(T, device=y.device)
    inside = (frame >= place * T // REST) & (frame < -((place + 1) * -T // REST))
    weights = inside / inside.sum(dim=1, keepdim=True)
    return torch.einsum("rt,nctv->ncrv", weights.to(y.dtype), y)


def init_released(module: nn.Module) -> None:
    """As `init_published`; the actional weights like the structural ones."""
    init_published(module)
    if isinstance(module, ActionalConv):
        nn.init.normal_(module.weight, 0, 0.02)


def init_corrected(module: nn.Module) -> None:
    """As `init_kaiming`; the actional weights like the structural ones."""
    init_kaiming(module)
    if isinstance(module, ActionalConv):
        nn.init.normal_(module.weight, 0, (2 / module.weight.shape[2]) ** 0.5)
