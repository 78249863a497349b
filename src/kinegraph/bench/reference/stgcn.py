"""ST-GCN computed the way released code computes it: what the fast path is measured against.

Written from the paper (Yan, Xiong and Lin, AAAI 2018), with the released code's names of weights.
Shapes: N clips, M persons, n = N*M, C channels, T frames, V joints, K partitions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kinegraph.bench.reference.blocks import KERNEL, around, copy_temporal, copy_weights, temporal
from kinegraph.errors import ModelError
from kinegraph.models.stgcn import CHANNELS, STGCN, STRIDES
from kinegraph.models.twostream import TwoStreamSTGCN


class _GraphConv(nn.Module):
    """A 1x1 convolution to K*C' channels, then the graph."""

    def __init__(self, c_in: int, c_out: int, K: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out * K, 1)

    def forward(self, x: Tensor, A: Tensor) -> Tensor:
        g = self.conv(x).unflatten(1, (len(A), -1))
        return torch.einsum("nkctv,kvw->nctw", g, A).contiguous()


class _Block(nn.Module):
    def __init__(self, c_in: int, c_out: int, K: int, stride: int, *, residual: bool) -> None:
        super().__init__()
        self.gcn = _GraphConv(c_in, c_out, K)
        self.tcn = temporal(c_out, stride, KERNEL)
        self.residual = around(c_in, c_out, stride) if residual else None

    def forward(self, x: Tensor, A: Tensor) -> Tensor:
        y = self.tcn(self.gcn(x, A))
        return torch.relu(y if self.residual is None else y + self.residual(x))


class PlainSTGCN(nn.Module):
    """(N, C, T, V, M) -> (N, classes); absent persons and padded frames are worked on as others.

    Args:
        A: (K, V, V) adjacency.
        num_classes: number of actions.
        in_channels: C.
        channels: output channels of each block.
        strides: temporal stride of each block.
    """

    def __init__(
        self,
        A: Tensor,
        num_classes: int,
        in_channels: int = 3,
        channels: Sequence[int] = CHANNELS,
        strides: Sequence[int] = STRIDES,
    ) -> None:
        super().__init__()
        K, V, _ = A.shape
        self.register_buffer("A", A.clone())
        self.data_bn = nn.BatchNorm1d(in_channels * V)
        self.st_gcn_networks = nn.ModuleList(
            _Block(c_in, c_out, K, stride, residual=i > 0)
            for i, (c_in, c_out, stride) in enumerate(
                zip((in_channels, *channels), channels, strides, strict=False)
            )
        )
        self.edge_importance = nn.ParameterList(torch.ones_like(A) for _ in channels)
        self.fcn = nn.Conv2d(channels[-1], num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        N, C, T, V, M = x.shape
        x = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(N * M, V * C, T))
        x = x.view(N, M, V, C, T).permute(0, 1, 3, 4, 2).reshape(N * M, C, T, V)
        for block, importance in zip(self.st_gcn_networks, self.edge_importance, strict=True):
            x = block(x, self.A * importance)
        pooled = x.mean(dim=(2, 3)).view(N, M, -1).mean(dim=1)
        return self.fcn(pooled[..., None, None]).flatten(1)


class PlainTwoStreamSTGCN(nn.Module):
    """(N, C, T, V, M) -> (N, classes): one network for the joints, one for their motion."""

    def __init__(self, origin: PlainSTGCN, motion: PlainSTGCN) -> None:
        super().__init__()
        self.origin_stream = origin
        self.motion_stream = motion

    def forward(self, x: Tensor) -> Tensor:
        still = torch.zeros_like(x[:, :, :1])
        moved = x[:, :, 1:-1] - 0.5 * x[:, :, 2:] - 0.5 * x[:, :, :-2]
        motion = torch.cat([still, moved, still], dim=2)
        return self.origin_stream(x) + self.motion_stream(motion)


def plain_stgcn(model: STGCN) -> PlainSTGCN:
    """The function of a faithful model with its weights, computed plainly.

    Raises:
        ModelError: the model is not the released one (``faithful=True``, no additions).
    """
    _check_released(model)
    blocks = list(model.blocks)
    plain = PlainSTGCN(
        blocks[0].gcn.A,
        model.head.out_features,
        model.in_channels,
        [block.tcn.out_channels for block in blocks],
        [block.tcn.stride[0] for block in blocks],
    )
    copy_weights(plain.data_bn, model.data_bn)
    pairs = zip(blocks, plain.st_gcn_networks, plain.edge_importance, strict=True)
    with torch.no_grad():
        for ours, theirs, importance in pairs:
            weight = ours.gcn.weight.transpose(1, 2).flatten(0, 1)
            theirs.gcn.conv.weight.copy_(weight[..., None, None])
            theirs.gcn.conv.bias.copy_(ours.gcn.bias.flatten())
            importance.copy_(ours.gcn.edge_importance)
            copy_temporal(theirs, ours)
        plain.fcn.weight.copy_(model.head.weight[..., None, None])
        plain.fcn.bias.copy_(model.head.bias)
    return plain.train(model.training)


def plain_twostream(model: TwoStreamSTGCN) -> PlainTwoStreamSTGCN:
    """As `plain_stgcn`, of the two-stream network."""
    streams = (model.origin_stream, model.motion_stream)
    return PlainTwoStreamSTGCN(*map(plain_stgcn, streams)).train(model.training)


def _check_released(model: STGCN) -> None:
    blocks = list(model.blocks)
    released = (
        model.faithful
        and model.pool == "mean"
        and all(
            isinstance(block.tcn, nn.Conv2d)
            and block.tcn.kernel_size[0] == KERNEL
            and isinstance(block.before, nn.Identity)
            and block.beside is None
            and block.gcn.edge_importance is not None
            and block.gcn.free_edges is None
            for block in blocks
        )
    )
    if not released:
        raise ModelError(
            "the plain ST-GCN is the released one: expected a model made with faithful=True, "
            "pool='mean', a temporal kernel of 9, edge importance, and nothing added to it"
        )
