"""Reference EfficientGCN: computed as the released code computes it.

Written from the paper (Song et al., TPAMI 2022), with the released code's names of weights.
Shapes: N clips, M persons, n = N*M, C channels, T frames, V joints, K partitions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import hardswish, silu

from kinegraph.bench.reference.blocks import apply_graph, copy_weights, require_released
from kinegraph.models.efficientgcn import EfficientGCN, SandglassLayer


def _sequence(conv: nn.Module) -> nn.Sequential:
    return nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels))


class _SpatialLayer(nn.Module):
    def __init__(self, c_in: int, c_out: int, A: Tensor) -> None:
        super().__init__()
        self.conv = nn.Module()
        self.conv.register_buffer("A", A.clone())
        self.conv.edge = nn.Parameter(torch.ones_like(A))
        self.conv.gcn = nn.Conv2d(c_in, c_out * len(A), 1)
        self.bn = nn.BatchNorm2d(c_out)
        changes = c_in != c_out
        self.residual = _sequence(nn.Conv2d(c_in, c_out, 1)) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = apply_graph(self.conv.gcn(x), self.conv.A * self.conv.edge).contiguous()
        return silu(self.bn(y) + self.residual(x))


class _Basic(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, (5, 1), padding=(2, 0))
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return silu(self.bn(self.conv(x)) + x)


class _Separable(nn.Module):
    """The convolutions of a temporal layer by name, swish after some, and the residual."""

    def __init__(self, layer: nn.Module, active: tuple[str, ...]) -> None:
        super().__init__()
        self.active = active
        self.names = [name for name, part in layer.named_children() if "conv" in name]
        for name in self.names:
            self.add_module(name, _sequence(_copy_conv(layer.get_submodule(name)[0])))
        shortcut = layer.residual
        strided = (
            None
            if shortcut.conv is None
            else nn.Conv2d(*shortcut.conv.weight.shape[1::-1], 1, (shortcut.stride, 1))
        )
        self.residual = nn.Identity() if strided is None else _sequence(strided)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for name in self.names:
            y = self.get_submodule(name)(y)
            y = silu(y) if name in self.active else y
        return y + self.residual(x)


def _copy_conv(conv: nn.Conv2d) -> nn.Conv2d:
    sizes = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
    return nn.Conv2d(*sizes, groups=conv.groups)


class _Attention(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.att = nn.Module()
        self.att.fcn = _sequence(nn.Conv2d(channels, inner, 1))
        self.att.conv_t = nn.Conv2d(inner, channels, 1)
        self.att.conv_v = nn.Conv2d(inner, channels, 1)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        T, V = x.shape[2:]
        means = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], 2)
        by_frame, by_joint = hardswish(self.att.fcn(means)).split([T, V], dim=2)
        a_t = self.att.conv_t(by_frame).sigmoid()
        a_v = self.att.conv_v(by_joint.transpose(2, 3)).sigmoid()
        return silu(self.bn(x * (a_t * a_v)) + x)


class _Stream(nn.Module):
    """Layers one after the other, under the released code's names."""

    def add_blocks(self, blocks: nn.Sequential) -> None:
        """Add the blocks of a model's branch or main stream."""
        for i, block in enumerate(blocks):
            gcn = block.scn.gcn
            c_in, c_out = gcn.weight.shape[1:]
            self.add_module(f"block-{i}_scn", _SpatialLayer(c_in, c_out, gcn.A))
            for j, layer in enumerate(block.tcn):
                sandglass = isinstance(layer, SandglassLayer)
                active = (
                    ("depth_conv1", "point_conv2") if sandglass else ("expand_conv", "depth_conv")
                )
                self.add_module(f"block-{i}_tcn-{j}", _Separable(layer, active))
            inner = block.att.conv_t.in_channels
            self.add_module(f"block-{i}_att", _Attention(c_out, inner))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


class ReferenceEfficientGCN(nn.Module):
    """(N, C, T, V, M) -> (N, classes): every person and frame is computed."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.input_branches = nn.ModuleList()
        for branch in model.input_branches:
            stream = _Stream()
            stem = branch.stem_scn.gcn
            stream.add_module("init_bn", nn.BatchNorm2d(branch.init_bn.num_features))
            c_in, c_out = stem.weight.shape[1:]
            stream.add_module("stem_scn", _SpatialLayer(c_in, c_out, stem.A))
            stream.add_module("stem_tcn", _Basic(stem.weight.shape[2]))
            stream.add_blocks(branch.blocks)
            self.input_branches.append(stream)
        self.main_stream = _Stream()
        self.main_stream.add_blocks(model.main_stream)
        self.classifier = nn.Module()
        self.classifier.fc = nn.Conv3d(model.num_features, model.head.out_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        N, C, T, V, M = x.shape
        rows = x.permute(0, 4, 1, 2, 3).reshape(N * M, C, T, V)
        parts = rows.chunk(len(self.input_branches), dim=1)
        branches = zip(self.input_branches, parts, strict=True)
        y = self.main_stream(torch.cat([branch(part) for branch, part in branches], dim=1))
        by_clip = y.unflatten(0, (N, M)).permute(0, 2, 3, 4, 1)
        return self.classifier.fc(by_clip.mean(dim=(2, 3, 4), keepdim=True)).flatten(1)


def build_reference_efficientgcn(model: EfficientGCN) -> ReferenceEfficientGCN:
    """Build the reference network of a released model, with its weights.

    Raises:
        ModelError: the model is not the released one (``faithful=True``).
    """
    require_released(model, "EfficientGCN", "and nothing added to it", ())
    return copy_weights(ReferenceEfficientGCN(model), model, "efficientgcn")
