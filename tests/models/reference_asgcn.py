"""AS-GCN's future head and link inference, as a reference.

Written from the paper with the original key lists; in evaluation only, every person counted, the
likeliest link types taken. What recognition needs is `kinegraph.bench.reference.asgcn`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, one_hot

from kinegraph.bench.reference.asgcn import ReferenceASGCN as RecognitionNetwork
from kinegraph.bench.reference.blocks import LINK_KINDS, ReferenceBlock, apply_graph
from kinegraph.models.asgcn import CHANNELS, STRIDES


class _Deconv(nn.Module):
    def __init__(self, c_in: int, c_out: int, K: int) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(c_in, c_out * (K + LINK_KINDS), 1)


class _LastBlock(nn.Module):
    def __init__(self, c_in: int, c_out: int, K: int) -> None:
        super().__init__()
        self.gcn_recon = _Deconv(c_in, c_out, K)
        self.tcn_recon = nn.Sequential(
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
            nn.ConvTranspose2d(c_out, c_out, 1),
            nn.BatchNorm2d(c_out),
        )

    def forward(self, x: Tensor, S: Tensor, L: Tensor) -> Tensor:
        return self.tcn_recon(apply_graph(self.gcn_recon.deconv(x), S, L))


class ReferenceASGCN(RecognitionNetwork):
    """(N, 3, 290, V, M), last poses and links -> logits, and poses (N*M, 3, 10, V)."""

    def __init__(self, A: Tensor, classes: int, widths: Sequence[int] = CHANNELS) -> None:
        super().__init__(A, classes, 3, widths, STRIDES)
        K, F, half = len(A), widths[-1], widths[-1] // 2
        groups = K + LINK_KINDS
        self.recon_layer_0 = ReferenceBlock(F, half, groups)
        for i in (1, 2, 3):
            setattr(self, f"recon_layer_{i}", ReferenceBlock(half, half, groups, 2))
        self.recon_layer_4 = ReferenceBlock(half, half, groups, 2, kernel=3)
        self.recon_layer_5 = ReferenceBlock(
            half, half, groups, kernel=5, padded=False, residual=False
        )
        self.recon_layer_6 = _LastBlock(half + 3, 30, K)
        self.edge_importance_recon = nn.ParameterList(torch.ones_like(A) for _ in range(9))

    def forward(self, x: Tensor, last: Tensor, L: Tensor) -> tuple[Tensor, Tensor]:
        N, C, _, V, M = x.shape
        y = self.features(x, L)
        logits = self.classify(y, M)
        for i in range(6):
            y = getattr(self, f"recon_layer_{i}")(y, self.A * self.edge_importance_recon[i], L)
        pose = last.permute(0, 3, 1, 2).reshape(N * M, C, V)
        y = torch.cat([y, pose[:, :, None]], dim=1)
        offset = self.recon_layer_6(y, self.A * self.edge_importance_recon[6], L)[:, :, 0]
        return logits, (pose.repeat(1, 10, 1) + offset).view(N * M, C, 10, V)


class _MLP(nn.Module):
    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.fc1, self.fc2, self.bn = nn.Linear(c_in, 128), nn.Linear(128, 128), nn.BatchNorm1d(128)

    def forward(self, x: Tensor) -> Tensor:
        y = elu(self.fc2(elu(self.fc1(x))))
        return self.bn(y.transpose(1, 2)).transpose(1, 2)


class _Encoder(nn.Module):
    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.mlp1, self.mlp2, self.mlp3, self.mlp4 = _MLP(c_in), _MLP(256), _MLP(128), _MLP(384)
        self.fc_out = nn.Linear(128, 3)


class _Decoder(nn.Module):
    def __init__(self, C: int) -> None:
        super().__init__()
        self.msg_fc1 = nn.ModuleList(nn.Linear(256, 128) for _ in range(3))
        self.msg_fc2 = nn.ModuleList(nn.Linear(128, 128) for _ in range(3))
        for gate in "rin":
            setattr(self, f"hidden_{gate}", nn.Linear(128, 128, bias=False))
            setattr(self, f"input_{gate}", nn.Linear(C, 128))
        self.out_fc1, self.out_fc2, self.out_fc3 = (
            *(nn.Linear(128, 128) for _ in "12"),
            nn.Linear(128, C),
        )


class ReferenceLinks(nn.Module):
    """(n, V, F, C) -> links (n, 2, V, V), probabilities (n, E, 3), next poses (n, V, F-1, C).

    Edges in the original order: sender by sender.
    """

    def __init__(self, V: int, frames: int, C: int = 3) -> None:
        super().__init__()
        self.encoder, self.decoder = _Encoder(frames * C), _Decoder(C)
        pairs = [(i, j) for i in range(V) for j in range(V) if i != j]
        self.senders, self.receivers = ([pair[end] for pair in pairs] for end in (0, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, V = x.shape[:2]
        e, into = self.encoder, one_hot(torch.tensor(self.receivers), V).float().T
        pairs = e.mlp2(self.meet(e.mlp1(x.reshape(n, V, -1))))
        joints = e.mlp3(into @ pairs / V)
        logits = e.fc_out(e.mlp4(torch.cat([self.meet(joints), pairs], dim=2)))
        edges = one_hot(logits.argmax(dim=2), 3).float()
        links = torch.zeros(n, 2, V, V)
        for number, (i, j) in enumerate(zip(self.senders, self.receivers, strict=True)):
            links[:, :, i, j] = edges[:, number, 1:]
        links = links + torch.eye(V)
        links = 0.1 * links / links.sum(dim=2, keepdim=True)
        return links, logits.softmax(dim=2), self.decode(x, edges, into)

    def meet(self, joints: Tensor) -> Tensor:
        return torch.cat([joints[:, self.receivers], joints[:, self.senders]], dim=2)

    def decode(self, x: Tensor, edges: Tensor, into: Tensor) -> Tensor:
        d, hidden, poses = self.decoder, torch.zeros(*x.shape[:2], 128), []
        for t in range(x.shape[2] - 1):
            pose, pairs = x[:, :, t], self.meet(hidden)
            sent = torch.zeros(len(x), len(self.senders), 128)
            for k in (1, 2):
                message = torch.tanh(d.msg_fc2[k](torch.tanh(d.msg_fc1[k](pairs))))
                sent = sent + message * edges[..., k : k + 1] / 2
            heard = into @ sent / pose.shape[2]
            r = torch.sigmoid(d.input_r(pose) + d.hidden_r(heard))
            i = torch.sigmoid(d.input_i(pose) + d.hidden_i(heard))
            new = torch.tanh(d.input_n(pose) + r * d.hidden_n(heard))
            hidden = (1 - i) * new + i * hidden
            y = torch.relu(d.out_fc2(torch.relu(d.out_fc1(hidden))))
            poses.append(pose + d.out_fc3(y))
        return torch.stack(poses, dim=2)
