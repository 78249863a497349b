"""Reference MS-G3D: computed as the released code computes it.

Written from the paper (Liu et al., CVPR 2020), with the released code's names of weights: windows
are unfolded, every scale sums the joints, then one convolution mixes all scales.
Shapes: N clips, M persons, n = N*M, C channels, T frames, V joints, K scales, w frames of a window.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from kinegraph.bench.reference.blocks import (
    copy_weights,
    normalize_input,
    pool_persons,
    require_released,
)
from kinegraph.bench.reference.pyskl import DILATIONS, NormedConv
from kinegraph.models.msg3d import MSG3D

KERNEL = 3


class ReferenceScales(nn.Module):
    """Joints summed by each scale, then a 1x1 convolution, batch norm and ReLU."""

    def __init__(self, c_in: int, c_out: int, A: Tensor) -> None:
        super().__init__()
        self.register_buffer("A", A.transpose(1, 2).flatten(0, 1), persistent=False)
        self.A_res = nn.Parameter(torch.zeros_like(self.A))
        layers = [nn.Conv2d(len(A) * c_in, c_out, 1), nn.BatchNorm2d(c_out), nn.ReLU()]
        self.mlp = nn.ModuleDict({"layers": nn.Sequential(*layers)})

    def forward(self, x: Tensor) -> Tensor:
        V = x.shape[3]
        sums = torch.einsum("vu,nctu->nctv", self.A + self.A_res, x)
        by_scale = sums.unflatten(3, (-1, V)).permute(0, 3, 1, 2, 4).flatten(1, 2)
        return self.mlp["layers"](by_scale)


class ReferenceUnfold(nn.Module):
    """Windows of frames: (n, C, T, V) -> (n, C, T', w * V)."""

    def __init__(self, window: int, stride: int) -> None:
        super().__init__()
        self.window, self.stride = window, stride

    def forward(self, x: Tensor) -> Tensor:
        n, C, _, V = x.shape
        columns = unfold(
            x, (self.window, 1), stride=(self.stride, 1), padding=(self.window // 2, 0)
        )
        windows = columns.view(n, C, self.window, -1, V)
        return windows.permute(0, 1, 3, 2, 4).flatten(3).contiguous()


class ReferenceWindow(nn.Module):
    """Graph convolution of windows, then a convolution over the frames of each."""

    def __init__(self, branch: Any) -> None:
        super().__init__()
        gcn = branch.gcn
        mid, c_out = gcn.conv.out_channels, branch.bn.num_features
        scales = ReferenceScales(gcn.conv.in_channels // len(gcn.A), mid, gcn.A)
        self.gcn3d = nn.Sequential(ReferenceUnfold(gcn.window, gcn.stride), scales)
        self.out_conv = nn.Conv3d(mid, c_out, (1, gcn.window, 1))
        self.out_bn = nn.BatchNorm2d(c_out)
        self.window = gcn.window

    def forward(self, x: Tensor) -> Tensor:
        nodes = self.gcn3d(x).unflatten(3, (self.window, -1))
        return self.out_bn(self.out_conv(nodes).squeeze(3))


class ReferenceTemporal(nn.Module):
    """Six branches over frames, one after the other, and a residual."""

    def __init__(self, c_in: int, c_out: int, stride: int, *, relu: bool = True) -> None:
        super().__init__()
        width = c_out // (len(DILATIONS) + 2)
        first = c_out - width * (len(DILATIONS) + 1)
        reduced = [
            [nn.Conv2d(c_in, size, 1), nn.BatchNorm2d(size), nn.ReLU()]
            for size in (first, *[width] * len(DILATIONS))
        ]
        for layers, d in zip(reduced, DILATIONS, strict=False):
            layers.append(_NormedFrames(layers[0].out_channels, stride, d))
        reduced[-1] += [nn.MaxPool2d((3, 1), (stride, 1), (1, 0)), nn.BatchNorm2d(width)]
        point = [nn.Conv2d(c_in, width, 1, (stride, 1)), nn.BatchNorm2d(width)]
        self.branches = nn.ModuleList(nn.Sequential(*layers) for layers in (*reduced, point))
        same = c_in == c_out and stride == 1
        self.residual = nn.Identity() if same else NormedConv(c_in, c_out, stride)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([branch(x) for branch in self.branches], dim=1) + self.residual(x)
        return torch.relu(y) if self.relu else y


class _NormedFrames(nn.Module):
    def __init__(self, channels: int, stride: int, d: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, (KERNEL, 1), (stride, 1), (d, 0), (d, 1))
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class ReferenceMSG3D(nn.Module):
    """(N, C, T, V, M) -> (N, classes)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.data_bn = nn.BatchNorm1d(model.data_bn.num_features)
        self.stages = range(1, len(model.blocks) + 1)
        widths = [model.in_channels, *model.channels]
        for i, (block, (c_in, c_out)) in enumerate(
            zip(model.blocks, pairwise(widths), strict=True)
        ):
            graph = block.factorized[0]
            hidden, stride = graph.conv.out_channels, block.factorized[1].branches[-1].stride
            windows = nn.ModuleList(ReferenceWindow(branch) for branch in block.windows)
            self.add_module(f"gcn3d{i + 1}", nn.ModuleDict({"gcn3d": windows}))
            path = nn.Sequential(
                ReferenceScales(c_in, hidden, graph.A),
                ReferenceTemporal(hidden, c_out, stride),
                ReferenceTemporal(c_out, c_out, 1, relu=False),
            )
            self.add_module(f"sgcn{i + 1}", path)
            self.add_module(f"tcn{i + 1}", ReferenceTemporal(c_out, c_out, 1))
        self.fc = nn.Linear(model.num_features, model.head.out_features)

    def forward(self, x: Tensor) -> Tensor:
        y = normalize_input(self.data_bn, x)
        for i in self.stages:
            path: Any = self.get_submodule(f"sgcn{i}")
            windows: Any = self.get_submodule(f"gcn3d{i}")
            total = path(y)
            for branch in windows["gcn3d"]:
                total = total + branch(y)
            y = self.get_submodule(f"tcn{i}")(torch.relu(total))
        return self.fc(pool_persons(y, x.shape[4]))


def build_reference_msg3d(model: MSG3D) -> ReferenceMSG3D:
    """Build the reference network of a released model, with its weights.

    Raises:
        ModelError: the model is not the released one (``faithful=True``, pooled by means).
    """
    require_released(model, "MS-G3D", "pyskl=False", [not model.pyskl])
    return copy_weights(ReferenceMSG3D(model), model, "msg3d")
