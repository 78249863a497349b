"""Reference Shift-GCN: computed as the released code computes it.

Written from the paper (Cheng et al., CVPR 2020), with the released code's names of weights. Joints
are shifted by gathers, frames by gathering two and blending them, masks are applied to each frame.
Shapes: N clips, M persons, n = N*M, C channels, T frames, V joints.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kinegraph.bench.reference.blocks import (
    copy_weights,
    normalize_input,
    pool_persons,
    require_released,
)
from kinegraph.models.shiftgcn import ShiftGCN
from kinegraph.models.stgcn import CHANNELS, STRIDES


def shift_frames_by_gather(x: Tensor, position: Tensor, stride: int) -> Tensor:
    """Return (1 - d) x[h s + k] + d x[h s + k + 1] for each h, zero outside.

    s is the stride, k the floor of the position and d its fraction.
    """
    n, C, T, V = x.shape
    frame, rows = position.detach().floor(), x.reshape(n, C * T, V)
    d = position - frame
    moments = torch.arange(math.ceil(T / stride)) * stride + frame[:, None].long()
    channel = torch.arange(C)[:, None] * T
    blended = x.new_zeros(())
    for read, weight in ((moments, 1 - d), (moments + 1, d)):
        inside = (read >= 0) & (read < T)
        chosen = rows.index_select(1, (channel + read.clamp(0, T - 1)).flatten())
        blended = blended + chosen.view(n, C, -1, V) * (weight[:, None] * inside)[..., None]
    return blended


class _Shift(nn.Module):
    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.xpos = nn.Parameter(torch.zeros(channels))
        self.ypos = nn.Parameter(2 * torch.rand(channels) - 1)

    def forward(self, x: Tensor) -> Tensor:
        return shift_frames_by_gather(x, self.ypos + (self.stride - 1) / 2, self.stride)


class _Spatial(nn.Module):
    def __init__(self, cin: int, cout: int, V: int) -> None:
        super().__init__()
        self.Linear_weight = nn.Parameter(torch.randn(cin, cout) / cout**0.5)
        self.Linear_bias = nn.Parameter(torch.zeros(1, 1, cout))
        self.Feature_Mask = nn.Parameter(torch.zeros(1, V, cin))
        for name, channels, sign in (("shift_in", cin, 1), ("shift_out", cout, -1)):
            order = [
                (v * channels + c + sign * c * channels) % (V * channels)
                for v in range(V)
                for c in range(channels)
            ]
            setattr(self, name, nn.Parameter(torch.tensor(order), requires_grad=False))
        self.bn = nn.BatchNorm1d(V * cout)
        self.down: nn.Module = nn.Identity()
        if cin != cout:
            self.down = nn.Sequential(nn.Conv2d(cin, cout, 1), nn.BatchNorm2d(cout))

    def forward(self, x0: Tensor) -> Tensor:
        n, c, t, v = x0.shape
        x = x0.permute(0, 2, 3, 1).reshape(n * t, v * c)
        x = torch.index_select(x, 1, self.shift_in).view(n * t, v, c)
        x = x * (torch.tanh(self.Feature_Mask) + 1)
        x = torch.einsum("nvc,cd->nvd", x, self.Linear_weight).contiguous() + self.Linear_bias
        x = self.bn(torch.index_select(x.flatten(1), 1, self.shift_out))
        x = x.view(n, t, v, -1).permute(0, 3, 1, 2).contiguous()
        return torch.relu(x + self.down(x0))


class _Temporal(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shift_in = _Shift(channels)
        self.shift_out = _Shift(channels, stride)
        self.temporal_linear = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.temporal_linear(self.shift_in(self.bn(x))))
        return self.bn2(self.shift_out(x))


class _Unit(nn.Module):
    def __init__(self, cin: int, cout: int, V: int, stride: int, *, residual: bool) -> None:
        super().__init__()
        self.gcn1 = _Spatial(cin, cout, V)
        self.tcn1 = _Temporal(cout, stride)
        self.residual: nn.Module | None = nn.Identity() if residual else None
        if residual and (cin != cout or stride != 1):
            conv, bn = nn.Conv2d(cin, cout, 1, (stride, 1)), nn.BatchNorm2d(cout)
            self.residual = nn.Sequential(OrderedDict(conv=conv, bn=bn))

    def forward(self, x: Tensor) -> Tensor:
        y = self.tcn1(self.gcn1(x))
        return torch.relu(y if self.residual is None else y + self.residual(x))


class ReferenceShiftGCN(nn.Module):
    """(N, C, T, V, M) -> (N, classes); absent persons and padded frames are computed as others."""

    def __init__(
        self,
        num_classes: int,
        V: int = 25,
        persons: int = 2,
        channels: Sequence[int] = CHANNELS,
        strides: Sequence[int] = STRIDES,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.data_bn = nn.BatchNorm1d(persons * V * in_channels)
        self.names = [f"l{i}" for i in range(1, len(channels) + 1)]
        for i, name in enumerate(self.names):
            c_in = (in_channels, *channels)[i]
            setattr(self, name, _Unit(c_in, channels[i], V, strides[i], residual=i > 0))
        self.fc = nn.Linear(channels[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        persons = x.shape[4]
        x = normalize_input(self.data_bn, x)
        for name in self.names:
            x = getattr(self, name)(x)
        return self.fc(pool_persons(x, persons))


def build_reference_shiftgcn(model: ShiftGCN) -> ReferenceShiftGCN:
    """Build the reference network of a released model, with its weights.

    Raises:
        ModelError: the model is not the released one (``faithful=True``, nothing added).
    """
    blocks = list(model.blocks)
    conditions = (
        block.gcn.mask is not None
        and block.gcn.shift_in.back is not None
        and getattr(getattr(block.tcn, "shift_in", None), "grad_mode", None) is not None
        and isinstance(block.before, nn.Identity)
        and block.beside is None
        for block in blocks
    )
    expected = "non-local and adaptive shifts, masks, and nothing added to it"
    require_released(model, "Shift-GCN", expected, conditions)
    reference = ReferenceShiftGCN(
        model.head.out_features,
        model.layout.num_joints,
        model.fixed_persons or 1,
        [len(block.gcn.bias) for block in blocks],
        [block.tcn.shift_out.stride for block in blocks],
        model.in_channels,
    )
    return copy_weights(reference, model, "shiftgcn")
