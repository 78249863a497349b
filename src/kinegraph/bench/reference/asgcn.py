"""AS-GCN computed the way released code computes it: what the fast path is measured against.

Written from the paper (Li et al., CVPR 2019), with the released code's names of weights. Only what
recognition needs; the links of a clip are given by the inference of the model that is compared.
Shapes: N clips, M persons, n = N*M, C channels, T frames, V joints, K partitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.bench.reference.blocks import KERNEL, around, copy_temporal, copy_weights, temporal
from kinegraph.errors import ModelError
from kinegraph.models.asgcn import ASGCN, CHANNELS, STRIDES

LINK_WEIGHT = 0.5
LINK_KINDS = 2


def over_links(g: Tensor, S: Tensor, L: Tensor) -> Tensor:
    """K structural groups of channels over S (K, V, V), two actional ones over L (n, 2, V, V)."""
    groups = g.unflatten(1, (len(S) + LINK_KINDS, -1))
    structural = torch.einsum("nkctv,kvw->nctw", groups[:, : len(S)], S)
    actional = torch.einsum("nkctv,nkvw->nctw", groups[:, len(S) :], L)
    return structural + LINK_WEIGHT * actional


class _Conv(nn.Module):
    def __init__(self, c_in: int, c_out: int, K: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out * (K + LINK_KINDS), 1)


class PlainBlock(nn.Module):
    """Links after a 1x1 convolution to (K + 2) C' channels, then a convolution over frames."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        K: int,
        stride: int = 1,
        kernel: int = KERNEL,
        *,
        padded: bool = True,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.gcn = _Conv(c_in, c_out, K)
        self.tcn = temporal(c_out, stride, kernel, padded=padded)
        self.residual = around(c_in, c_out, stride) if residual else None

    def forward(self, x: Tensor, S: Tensor, L: Tensor) -> Tensor:
        y = self.tcn(over_links(self.gcn.conv(x), S, L).contiguous())
        return torch.relu(y if self.residual is None else y + self.residual(x))


class PlainASGCN(nn.Module):
    """(N, C, T, V, M) and links (N*M, 2, V, V) -> (N, classes); every person and frame counts."""

    def __init__(
        self,
        A: Tensor,
        num_classes: int,
        channels: Sequence[int] = CHANNELS,
        strides: Sequence[int] = STRIDES,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        K, V, _ = A.shape
        self.register_buffer("A", A.clone())
        self.data_bn = nn.BatchNorm1d(in_channels * V)
        self.names = [f"class_layer_{i}" for i in range(len(channels))]
        for i, name in enumerate(self.names):
            c_in = (in_channels, *channels)[i]
            setattr(self, name, PlainBlock(c_in, channels[i], K, strides[i], residual=i > 0))
        self.edge_importance = nn.ParameterList(torch.ones_like(A) for _ in channels)
        self.fcn = nn.Conv2d(channels[-1], num_classes, 1)

    def features(self, x: Tensor, L: Tensor) -> Tensor:
        """(N, C, T, V, M) -> (N*M, F, T', V)."""
        N, C, T, V, M = x.shape
        y = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(N * M, V * C, T))
        y = y.view(N, M, V, C, T).permute(0, 1, 3, 4, 2).reshape(N * M, C, T, V)
        for name, importance in zip(self.names, self.edge_importance, strict=True):
            y = getattr(self, name)(y, self.A * importance, L)
        return y

    def classify(self, features: Tensor, persons: int) -> Tensor:
        """(N*M, F, T', V) -> (N, classes)."""
        pooled = features.mean(dim=(2, 3)).unflatten(0, (-1, persons)).mean(dim=1)
        return self.fcn(pooled[..., None, None]).flatten(1)

    def forward(self, x: Tensor, L: Tensor) -> Tensor:
        return self.classify(self.features(x, L), x.shape[4])


class PlainRecogniser(nn.Module):
    """(N, C, T, V, M) -> (N, classes): links by the model's own inference, the rest plainly.

    Attributes:
        network: computes plainly.
        links: infers the links.
    """

    def __init__(self, network: PlainASGCN, model: ASGCN) -> None:
        super().__init__()
        self.network = network
        self.links: Any = model.links
        self._infer = model.infer_links
        self._future = model.future

    def train(self, mode: bool = True) -> PlainRecogniser:
        """The inference of links stays in evaluation mode, as a frozen one does."""
        super().train(mode)
        self.links.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            links = self._infer(x).adjacency.flatten(0, 1)
        return self.network(x[:, :, : x.shape[2] - self._future], links)


def plain_asgcn(model: ASGCN) -> PlainRecogniser:
    """The function of a faithful model with its weights, computed plainly.

    Raises:
        ModelError: the model is not the released one (``faithful=True``, no additions).
    """
    _check_released(model)
    blocks = list(model.blocks)
    plain = PlainASGCN(
        blocks[0].gcn.structural.A,
        model.head.out_features,
        [block.tcn.out_channels for block in blocks],
        [block.tcn.stride[0] for block in blocks],
        model.in_channels,
    )
    with torch.no_grad():
        copy_weights(plain.data_bn, model.data_bn)
        for name, importance, ours in zip(plain.names, plain.edge_importance, blocks, strict=True):
            importance.copy_(ours.gcn.structural.edge_importance)
            _fill(plain.get_submodule(name), ours)
        plain.fcn.weight.copy_(model.head.weight[..., None, None])
        plain.fcn.bias.copy_(model.head.bias)
    return PlainRecogniser(plain, model).train(model.training)


def _fill(theirs: nn.Module, ours: nn.Module) -> None:
    """The weights of one block."""
    parts = (ours.gcn.structural, ours.gcn.actional)
    weight = torch.cat([part.weight for part in parts]).transpose(1, 2).flatten(0, 1)
    theirs.gcn.conv.weight.copy_(weight[..., None, None])
    theirs.gcn.conv.bias.copy_(torch.cat([part.bias for part in parts]).flatten())
    copy_temporal(theirs, ours)


def _check_released(model: ASGCN) -> None:
    block = next(iter(model.blocks))
    released = (
        model.faithful
        and model.pool == "mean"
        and model.link_weight == LINK_WEIGHT
        and block.tcn.kernel_size[0] == KERNEL
        and block.gcn.actional is not None
        and block.gcn.structural.edge_importance is not None
    )
    if not released:
        raise ModelError(
            "the plain AS-GCN is the released one: expected a model made with faithful=True, "
            "pool='mean', a temporal kernel of 9, edge importance, and actional links"
        )
