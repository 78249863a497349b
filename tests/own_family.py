"""A family outside the package, whose graphs depend on the whole clip: CTR-GCN (ICCV 2021), short.

Shapes: N clips, M persons, n folded persons, C channels, T frames, V joints.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.models.layers import DataBatchNorm, Residual
from kinegraph.ops.persons import fold_persons, mean_over_persons, present_persons, unfold_persons
from kinegraph.skeleton.graph import adjacency
from kinegraph.skeleton.layouts import get_layout


class TopologyConv(nn.Module):
    """A graph convolution whose graph is refined for each channel by the clip's mean over time."""

    def __init__(self, c_in: int, c_out: int, reduction: int = 8) -> None:
        super().__init__()
        mid = 8 if c_in <= 9 else c_in // reduction
        self.query, self.key = nn.Conv2d(c_in, mid, 1), nn.Conv2d(c_in, mid, 1)
        self.value, self.relation = nn.Conv2d(c_in, c_out, 1), nn.Conv2d(mid, c_out, 1)

    def forward(self, x: Tensor, A: Tensor, alpha: Tensor) -> Tensor:
        q, k, v = self.query(x).mean(-2), self.key(x).mean(-2), self.value(x)
        graph = self.relation(torch.tanh(q.unsqueeze(-1) - k.unsqueeze(-2))) * alpha + A
        return torch.einsum("ncuv,nctv->nctu", graph, v)


class Unit(nn.Module):
    """Graph convolutions over all partitions, then a temporal convolution, with a residual."""

    def __init__(self, c_in: int, c_out: int, A: Tensor, stride: int) -> None:
        super().__init__()
        self.A, self.alpha = nn.Parameter(A.clone()), nn.Parameter(torch.zeros(1))
        self.convs = nn.ModuleList(TopologyConv(c_in, c_out) for _ in range(len(A)))
        self.bn = nn.BatchNorm2d(c_out)
        self.tcn = nn.Conv2d(c_out, c_out, (9, 1), (stride, 1), (4, 0))
        self.tcn_bn = nn.BatchNorm2d(c_out)
        self.residual = Residual(c_in, c_out, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = sum(conv(x, a, self.alpha) for conv, a in zip(self.convs, self.A, strict=True))
        return torch.relu(self.tcn_bn(self.tcn(torch.relu(self.bn(y)))) + self.residual(x))


class OwnFamily(nn.Module):
    """Keeps the contract without its base class, and is not local in time."""

    def __init__(
        self,
        layout: Any,
        num_classes: int,
        *,
        in_channels: int = 3,
        channels: tuple[int, ...] = (16, 32),
        strides: tuple[int, ...] = (1, 2),
    ) -> None:
        super().__init__()
        self.layout, self.in_channels = get_layout(layout), in_channels
        self.num_features = channels[-1]
        A = torch.from_numpy(adjacency(self.layout, strategy="spatial"))
        self.data_bn = DataBatchNorm(self.layout.num_joints, in_channels)
        widths = (in_channels, *channels)
        self.blocks = nn.Sequential(
            *(Unit(widths[i], widths[i + 1], A, s) for i, s in enumerate(strides))
        )
        self.reset_classifier(num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        present = present_persons(x)
        rows = fold_persons(x)[present.flatten()]
        return unfold_persons(self.blocks(self.data_bn(rows)), present)

    def forward_head(self, features: Tensor, present: Tensor | None = None) -> Tensor:
        return self.head(mean_over_persons(features.mean(dim=(3, 4)), present))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x), present_persons(x))

    def reset_classifier(self, num_classes: int) -> None:
        self.head = nn.Linear(self.num_features, num_classes)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters()), "weight_decay": weight_decay}]
