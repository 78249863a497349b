"""Reference ST-GCN++ and DG-STGCN: computed as the released code computes them.

Written from the equations of both papers (Duan et al. 2022), with the released code's names of
weights. Shapes: N clips, M persons, n = N*M, C channels, T frames, V joints, K graphs.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.bench.reference.blocks import (
    apply_graph,
    copy_weights,
    normalize_input,
    pool_persons,
    require_released,
)
from kinegraph.models.dgstgcn import DGSTGCN
from kinegraph.models.stgcnpp import STGCNPlus

DILATIONS = (1, 2, 3, 4)


class WrappedConv(nn.Module):
    """A convolution under the name ``conv``."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class NormedConv(WrappedConv):
    """A 1x1 convolution and a batch norm."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__(nn.Conv2d(c_in, c_out, 1, (stride, 1)))
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class ReferenceBranches(nn.Module):
    """Six branches over frames, one after the other; with shares also over the mean joint."""

    def __init__(self, channels: int, stride: int, shares: int) -> None:
        super().__init__()
        width = channels // (len(DILATIONS) + 2)
        first = channels - width * (len(DILATIONS) + 1)
        reduced = [
            [nn.Conv2d(channels, size, 1), nn.BatchNorm2d(size), nn.ReLU()]
            for size in (first, *[width] * len(DILATIONS))
        ]
        for layers, d in zip(reduced, DILATIONS, strict=False):
            size = layers[0].out_channels
            conv = nn.Conv2d(size, size, (3, 1), (stride, 1), (d, 0), (d, 1))
            layers.append(WrappedConv(conv))
        reduced[-1].append(nn.MaxPool2d((3, 1), (stride, 1), (1, 0)))
        point = nn.Conv2d(channels, width, 1, (stride, 1))
        self.branches = nn.ModuleList([*(nn.Sequential(*layers) for layers in reduced), point])
        self.transform = nn.Sequential(
            nn.BatchNorm2d(channels), nn.ReLU(), nn.Conv2d(channels, channels, 1)
        )
        self.bn = nn.BatchNorm2d(channels)
        self.add_coeff = nn.Parameter(torch.zeros(shares)) if shares else None

    def forward(self, x: Tensor) -> Tensor:
        if self.add_coeff is None:
            y = torch.cat([branch(x) for branch in self.branches], dim=1)
        else:
            V = x.shape[3]
            joints = torch.cat([x, x.mean(dim=3, keepdim=True)], dim=3)
            branched = torch.cat([branch(joints) for branch in self.branches], dim=1)
            body = torch.einsum("nct,v->nctv", branched[..., V], self.add_coeff[:V])
            y = branched[..., :V] + body
        return self.bn(self.transform(y))


class ReferenceGraph(nn.Module):
    """Three learned graphs, each with a group of channels, and a residual."""

    def __init__(self, c_in: int, c_out: int, A: Tensor) -> None:
        super().__init__()
        self.A = nn.Parameter(A)
        self.conv = nn.Conv2d(c_in, c_out * len(A), 1)
        self.bn = nn.BatchNorm2d(c_out)
        self.down = _shortcut(c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(apply_graph(self.conv(x), self.A)) + self.down(x))


class ReferenceDynamicGraph(nn.Module):
    """K graphs, each with its channels: learned, and computed from the mean over frames."""

    def __init__(self, c_in: int, c_out: int, A: Tensor) -> None:
        super().__init__()
        K = len(A)
        width = K * max(1, c_out // 8)
        self.A = nn.Parameter(A)
        self.alpha, self.beta = (nn.Parameter(torch.zeros(K)) for _ in "ab")
        self.pre = nn.Sequential(nn.Conv2d(c_in, width, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.conv1, self.conv2 = nn.Conv2d(c_in, width, 1), nn.Conv2d(c_in, width, 1)
        self.post = nn.Conv2d(width, c_out, 1)
        self.bn = nn.BatchNorm2d(c_out)
        self.down = _shortcut(c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        K = len(self.A)
        mean = x.mean(dim=2, keepdim=True)
        a, b = (conv(mean).squeeze(2).unflatten(1, (K, -1)) for conv in (self.conv1, self.conv2))
        difference = torch.tanh(a.unsqueeze(-1) - b.unsqueeze(-2))
        similarity = torch.softmax(torch.einsum("nkcu,nkcv->nkuv", a, b), dim=-2)
        graph = difference * self.alpha[0] + self.A[:, None]
        graph = (similarity * self.beta[0]).unsqueeze(2) + graph
        values = self.pre(x).unflatten(1, (K, -1))
        y = torch.einsum("nkctu,nkcuv->nkctv", values, graph).contiguous().flatten(1, 2)
        return torch.relu(self.bn(self.post(y)) + self.down(x))


class ReferenceUnit(nn.Module):
    """Graph convolution, then temporal branches, with a residual around both."""

    def __init__(
        self, graph: nn.Module, c_in: int, c_out: int, stride: int, *, shares: int, residual: bool
    ) -> None:
        super().__init__()
        self.gcn = graph
        self.tcn = ReferenceBranches(c_out, stride, shares)
        same = c_in == c_out and stride == 1
        self.residual: nn.Module | None = None
        if residual:
            self.residual = nn.Identity() if same else NormedConv(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.tcn(self.gcn(x))
        return torch.relu(y if self.residual is None else y + self.residual(x))


class ReferencePyskl(nn.Module):
    """(N, C, T, V, M) -> (N, classes)."""

    def __init__(self, model: STGCNPlus | DGSTGCN) -> None:
        super().__init__()
        net: Any = model
        channels = [net.in_channels, *(block.gcn_bn.num_features for block in net.blocks)]
        units = nn.ModuleList()
        for i, (c_in, c_out) in enumerate(pairwise(channels)):
            block = net.blocks[i]
            dynamic = isinstance(model, DGSTGCN)
            kind = ReferenceDynamicGraph if dynamic else ReferenceGraph
            graph = kind(c_in, c_out, torch.empty_like(block.gcn.A))
            stride = block.tcn.branches.branches[-1].stride
            shares = len(block.tcn.body_share) if dynamic else 0
            units.append(ReferenceUnit(graph, c_in, c_out, stride, shares=shares, residual=i > 0))
        norm = nn.BatchNorm1d(net.in_channels * net.layout.num_joints)
        self.backbone = nn.ModuleDict({"data_bn": norm, "gcn": units})
        head = nn.Linear(net.num_features, net.head.out_features)
        self.cls_head = nn.ModuleDict({"fc_cls": head})

    def forward(self, x: Tensor) -> Tensor:
        y = normalize_input(self.backbone["data_bn"], x)
        for unit in self.backbone["gcn"]:
            y = unit(y)
        return self.cls_head["fc_cls"](pool_persons(y, x.shape[4]))


def build_reference_stgcnpp(model: STGCNPlus) -> ReferencePyskl:
    """Build the reference network of a released model, with its weights.

    Raises:
        ModelError: the model is not the released one (``faithful=True``, pooled by means).
    """
    require_released(model, "ST-GCN++", "and nothing added to it", [])
    return copy_weights(ReferencePyskl(model), model, "stgcnpp")


def build_reference_dgstgcn(model: DGSTGCN) -> ReferencePyskl:
    """Build the reference network of a released model, with its weights.

    Raises:
        ModelError: the model is not the released one (``faithful=True``, pooled by means).
    """
    require_released(model, "DG-STGCN", "and nothing added to it", [])
    return copy_weights(ReferencePyskl(model), model, "dgstgcn")


def _shortcut(c_in: int, c_out: int) -> nn.Module:
    if c_in == c_out:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(c_in, c_out, 1), nn.BatchNorm2d(c_out))
