"""AS-GCN's units as fast layers; its links differ from clip to clip, so they are no layers.

Shapes: n folded persons, C channels, T frames, V joints, K partitions of the skeleton.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kinegraph.models.asgcn_layers import ASGCNBlock
from kinegraph.runtime.layers import Affine, neighbour_mix
from kinegraph.runtime.lowering import convolution, folded, lower


class FastDataNorm(nn.Module):
    """A data batch norm as one product and sum."""

    def __init__(self, affine: Affine) -> None:
        super().__init__()
        self.affine = affine

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> the same."""
        y: Tensor = self.affine(x.permute(0, 2, 3, 1))
        return y.permute(0, 3, 1, 2)


class ActionalUnit(nn.Module):
    """A unit of AS-GCN: neighbourhood sums over the skeleton's links and the clip's own at once."""

    def __init__(self, block: ASGCNBlock) -> None:
        super().__init__()
        graph, actional = block.gcn.structural, block.gcn.actional
        scale, shift = folded(block.bn)
        A = graph.weighted_adjacency().detach()
        weights = [graph.weight.detach()]
        bias_wc = torch.einsum("kvw,kc->wc", A, graph.bias.detach())
        if actional is not None:
            weights.append(actional.weight.detach())
            self.register_buffer("link_bias", actional.bias.detach() * scale)
        self.register_buffer("A", A)
        self.register_buffer("weight", (torch.cat(weights) * scale).flatten(0, 1))
        self.register_buffer("bias", bias_wc * scale + shift)
        self.temporal = convolution(block.tcn, block.tcn_bn)
        self.residual = None if block.residual is None else lower(block.residual)

    def forward(self, x: Tensor, links: Tensor | None) -> Tensor:
        """(n, C, T, V) and (n, 2, V, V) -> (n, C', ceil(T / stride), V)."""
        dtype = self.weight.dtype
        given = x.permute(0, 2, 3, 1).contiguous().to(dtype)
        y = self.temporal(self._mix(given, links if links is None else links.to(dtype)))
        y = y if self.residual is None else y + self.residual(given)
        return y.relu_().permute(0, 3, 1, 2)

    def _mix(self, x: Tensor, links: Tensor | None) -> Tensor:
        """(n, T, V, C) -> (n, T, V, C'), after ReLU."""
        n, v = x.shape[0], x.shape[2]
        A, bias = self.A.unsqueeze(0), self.bias.unsqueeze(0)
        if links is not None:
            A = torch.cat([A.expand(n, -1, -1, -1), links], dim=1)
            bias = bias + links.sum(dim=2).transpose(1, 2) @ self.link_bias
        gather = A.permute(0, 3, 1, 2).reshape(A.shape[0], -1, v)
        return neighbour_mix(x, gather, self.weight, bias, relu=True)


class ActionalUnits(nn.ModuleList):
    """The units of AS-GCN; what comes before and after them stays in float32."""

    def to_dtype(self, dtype: torch.dtype) -> None:
        """Activations in another precision. In place."""
        self.to(dtype)
        self.append(_Float32())


class _Float32(nn.Module):
    def forward(self, x: Tensor, links: Tensor | None) -> Tensor:
        """(n, C, T, V) -> the same, in float32."""
        return x.float()
