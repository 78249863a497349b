"""Reference CTR-GCN: computed as the released code computes it.

Written from the paper (Chen et al., ICCV 2021), with the released code's names of weights: subset
by subset, branch by branch. Shapes: N clips, M persons, n = N*M, C channels, T frames, V joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.bench.reference.blocks import (
    copy_weights,
    normalize_input,
    pool_persons,
    require_released,
)
from kinegraph.bench.reference.pyskl import NormedConv
from kinegraph.models.ctrgcn import CTRGCN


class ReferenceSubset(nn.Module):
    """The graph convolution of one subset."""

    def __init__(self, c_in: int, c_out: int, relation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, relation, 1)
        self.conv2 = nn.Conv2d(c_in, relation, 1)
        self.conv3 = nn.Conv2d(c_in, c_out, 1)
        self.conv4 = nn.Conv2d(relation, c_out, 1)

    def forward(self, x: Tensor, A: Tensor, alpha: Tensor) -> Tensor:
        first, second = self.conv1(x).mean(dim=2), self.conv2(x).mean(dim=2)
        relations = torch.tanh(first.unsqueeze(3) - second.unsqueeze(2))
        topology = alpha * self.conv4(relations) + A
        return torch.einsum("ncuv,nctv->nctu", topology, self.conv3(x))


class ReferenceGraphUnit(nn.Module):
    """The sum of three subsets, batch norm, and a residual."""

    def __init__(self, gcn: Any) -> None:
        super().__init__()
        K, c_out, c_in = gcn.transform.weight.shape
        self.PA = nn.Parameter(torch.zeros_like(gcn.topology))
        self.alpha = nn.Parameter(torch.zeros(1))
        relation = gcn.psi.weight.shape[1]
        self.convs = nn.ModuleList(ReferenceSubset(c_in, c_out, relation) for _ in range(K))
        self.down: nn.Module = nn.Identity()
        if c_in != c_out:
            self.down = nn.Sequential(nn.Conv2d(c_in, c_out, 1), nn.BatchNorm2d(c_out))
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        parts = [conv(x, A, self.alpha) for conv, A in zip(self.convs, self.PA, strict=True)]
        return torch.relu(self.bn(parts[0] + parts[1] + parts[2]) + self.down(x))


class ReferenceDilated(NormedConv):
    """A dilated convolution over frames and a batch norm."""

    def __init__(self, width: int, kernel: int, stride: int, dilation: int) -> None:
        super().__init__(width, width, stride)
        padding = (kernel - 1) * dilation // 2
        self.conv = nn.Conv2d(width, width, (kernel, 1), (stride, 1), (padding, 0), (dilation, 1))


class ReferenceTemporalUnit(nn.Module):
    """Four branches over frames, one after the other."""

    def __init__(self, tcn: Any) -> None:
        super().__init__()
        layers = []
        *dilated, pool, point = tcn.branches
        for branch in (*dilated, pool):
            width, c_in = branch.reduce.weight.shape[:2]
            reduced = [nn.Conv2d(c_in, width, 1), nn.BatchNorm2d(width), nn.ReLU()]
            if branch is pool:
                frames, stride = (size[0] for size in (pool.pool.kernel_size, pool.pool.stride))
                reduced.append(nn.MaxPool2d((frames, 1), (stride, 1), (frames // 2, 0)))
                reduced.append(nn.BatchNorm2d(width))
            else:
                conv = branch.conv
                sizes = (conv.kernel_size[0], conv.stride[0], conv.dilation[0])
                reduced.append(ReferenceDilated(width, *sizes))
            layers.append(nn.Sequential(*reduced))
        width, c_in = point.conv.weight.shape[:2]
        convolution = nn.Conv2d(c_in, width, 1, (point.stride, 1))
        layers.append(nn.Sequential(convolution, nn.BatchNorm2d(width)))
        self.branches = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class ReferenceTopologyBlock(nn.Module):
    """Graph unit, temporal unit, and a residual around both."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.gcn1 = ReferenceGraphUnit(block.gcn)
        self.tcn1 = ReferenceTemporalUnit(block.tcn)
        self.residual: nn.Module | None = None
        if block.residual is not None:
            conv = block.residual.conv
            self.residual = nn.Identity()
            if conv is not None:
                c_out, c_in = conv.weight.shape[:2]
                self.residual = NormedConv(c_in, c_out, block.residual.stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.tcn1(self.gcn1(x))
        return torch.relu(y if self.residual is None else y + self.residual(x))


class ReferenceCTRGCN(nn.Module):
    """(N, C, T, V, M) -> (N, classes); absent persons and padded frames are computed as others."""

    def __init__(self, model: CTRGCN) -> None:
        super().__init__()
        self.data_bn = nn.BatchNorm1d(model.data_bn.num_features)
        blocks: Sequence[Any] = list(model.blocks)
        self.names = [f"l{i}" for i in range(1, len(blocks) + 1)]
        for name, block in zip(self.names, blocks, strict=True):
            setattr(self, name, ReferenceTopologyBlock(block))
        head: Any = model.head
        self.fc = nn.Linear(head.in_features, head.out_features)

    def forward(self, x: Tensor) -> Tensor:
        persons = x.shape[4]
        x = normalize_input(self.data_bn, x)
        for name in self.names:
            x = getattr(self, name)(x)
        return self.fc(pool_persons(x, persons))


def build_reference_ctrgcn(model: CTRGCN) -> ReferenceCTRGCN:
    """Build the reference network of a released model, with its weights.

    Raises:
        ModelError: the model is not the released one (``faithful=True``, nothing added).
    """
    blocks: Sequence[Any] = list(model.blocks)
    released = [model.contraction == "target", all(len(b.tcn.branches) == 4 for b in blocks)]
    released.append(not any(isinstance(block.tcn_relu, nn.ReLU) for block in blocks))
    require_released(model, "CTR-GCN", "contraction='target' and two dilations", released)
    return copy_weights(ReferenceCTRGCN(model), model, "ctrgcn")
