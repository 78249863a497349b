"""Shift-GCN as the paper and the released code's parameter names describe it, and no quicker.

Frames are gathered and blended one channel at a time; the names are those of published files.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def plain_moments(x: Tensor, position: Tensor, stride: int) -> Tensor:
    """out[h] = (1 - d) x[h s + k] + d x[h s + k + 1], k = floor(p), d = p - k, zero outside."""
    n, C, T, V = x.shape
    out = x.new_zeros(n, C, math.ceil(T / stride), V)
    for c in range(C):
        k = math.floor(position[c])
        d = position[c] - k
        for h in range(out.shape[2]):
            for frame, weight in ((h * stride + k, 1 - d), (h * stride + k + 1, d)):
                if 0 <= frame < T:
                    out[:, c, h] += weight * x[:, c, frame]
    return out


class Shift(nn.Module):
    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.xpos = nn.Parameter(torch.zeros(channels))
        self.ypos = nn.Parameter(2 * torch.rand(channels) - 1)

    def forward(self, x: Tensor) -> Tensor:
        position = self.ypos + (0.5 if self.stride == 2 else 0)
        return plain_moments(x, position, self.stride)


class Spatial(nn.Module):
    def __init__(self, cin: int, cout: int, V: int) -> None:
        super().__init__()
        self.V = V
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
        if cin != cout:
            self.down = nn.Sequential(nn.Conv2d(cin, cout, 1), nn.BatchNorm2d(cout))

    def forward(self, x0: Tensor) -> Tensor:
        n, c, t, v = x0.shape
        x = x0.permute(0, 2, 3, 1).reshape(n * t, v * c)[:, self.shift_in].view(n * t, v, c)
        x = x * (torch.tanh(self.Feature_Mask) + 1)
        x = torch.einsum("nvc,cd->nvd", x, self.Linear_weight) + self.Linear_bias
        x = self.bn(x.flatten(1)[:, self.shift_out])
        x = x.view(n, t, v, -1).permute(0, 3, 1, 2)
        return torch.relu(x + (self.down(x0) if hasattr(self, "down") else x0))


class Temporal(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shift_in = Shift(channels)
        self.shift_out = Shift(channels, stride)
        self.temporal_linear = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.temporal_linear(self.shift_in(self.bn(x))))
        return self.bn2(self.shift_out(x))


class Around(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, 1, (stride, 1))
        self.bn = nn.BatchNorm2d(cout)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class Unit(nn.Module):
    def __init__(self, cin: int, cout: int, V: int, stride: int, residual: bool = True) -> None:
        super().__init__()
        self.gcn1 = Spatial(cin, cout, V)
        self.tcn1 = Temporal(cout, stride)
        if cin != cout and residual:
            self.residual = Around(cin, cout, stride)
        self.around = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.tcn1(self.gcn1(x))
        if self.around:
            y = y + (self.residual(x) if hasattr(self, "residual") else x)
        return torch.relu(y)


class PlainShiftGCN(nn.Module):
    def __init__(
        self, classes: int, V: int = 25, persons: int = 2, channels: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        channels = channels or (64, 64, 64, 64, 128, 128, 128, 256, 256, 256)
        self.blocks = len(channels)
        self.data_bn = nn.BatchNorm1d(persons * V * 3)
        for i, (cin, cout) in enumerate(zip((3, *channels), channels, strict=False), start=1):
            stride = 2 if i > 1 and cin != cout else 1
            setattr(self, f"l{i}", Unit(cin, cout, V, stride, residual=i > 1))
        self.fc = nn.Linear(channels[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        N, C, T, V, M = x.shape
        x = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(N, M * V * C, T))
        x = x.view(N, M, V, C, T).permute(0, 1, 3, 4, 2).reshape(N * M, C, T, V)
        for i in range(self.blocks):
            x = getattr(self, f"l{i + 1}")(x)
        return self.fc(x.mean(dim=(2, 3)).view(N, M, -1).mean(dim=1))
