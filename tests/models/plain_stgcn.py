"""An independent plain ST-GCN with the original key list, written from the paper for comparison."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTHS = (64, 64, 64, 64, 128, 128, 128, 256, 256, 256)


class _Gcn(nn.Module):
    def __init__(self, c_in: int, c_out: int, K: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out * K, 1)


class _Block(nn.Module):
    def __init__(self, c_in: int, c_out: int, K: int, stride: int) -> None:
        super().__init__()
        self.gcn = _Gcn(c_in, c_out, K)
        self.tcn = nn.Sequential(
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
            nn.Conv2d(c_out, c_out, (9, 1), (stride, 1), (4, 0)),
            nn.BatchNorm2d(c_out),
        )
        if c_in not in (c_out, 3, 2):
            self.residual = nn.Sequential(
                nn.Conv2d(c_in, c_out, 1, (stride, 1)), nn.BatchNorm2d(c_out)
            )


class PlainSTGCN(nn.Module):
    """(N, C, T, V, M) -> (N, classes), absent persons counted."""

    def __init__(self, A: Tensor, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        K, V, _ = A.shape
        self.register_buffer("A", A)
        self.data_bn = nn.BatchNorm1d(in_channels * V)
        self.st_gcn_networks = nn.ModuleList(
            _Block((in_channels, *WIDTHS)[i], WIDTHS[i], K, 2 if i in (4, 7) else 1)
            for i in range(10)
        )
        self.edge_importance = nn.ParameterList(nn.Parameter(torch.ones_like(A)) for _ in WIDTHS)
        self.fcn = nn.Conv2d(256, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Three explicit sums per graph convolution: partition, source joint, channel."""
        N, C, T, V, M = x.shape
        x = x.permute(0, 4, 3, 1, 2).reshape(N * M, V * C, T)
        x = self.data_bn(x).view(N * M, V, C, T).permute(0, 2, 3, 1)
        for i, block in enumerate(self.st_gcn_networks):
            g = block.gcn.conv(x)
            c_out = WIDTHS[i]
            y = torch.zeros(g.shape[0], c_out, *g.shape[2:], dtype=g.dtype)
            A = self.A * self.edge_importance[i]
            for k in range(A.shape[0]):
                for v, w in (A[k] != 0).nonzero().tolist():
                    y[..., w] += g[:, k * c_out : (k + 1) * c_out, :, v] * A[k, v, w]
            residual = 0 if i == 0 else getattr(block, "residual", nn.Identity())(x)
            x = torch.relu(block.tcn(y) + residual)
        pooled = x.mean(dim=(2, 3)).view(N, M, -1).mean(dim=1)
        return self.fcn(pooled[..., None, None]).flatten(1)
