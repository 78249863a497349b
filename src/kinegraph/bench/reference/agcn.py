"""Reference 2s-AGCN and AAGCN: computed as the released code computes them.

Written from the papers (Shi et al., CVPR 2019 and TIP 2020), with the released code's names of
weights. The subsets are computed one after the other, each with its own three convolutions, and
the attentions one after the other on the features.
Shapes: N clips, M persons, n = N*M, C channels, T frames, V joints, K subsets.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kinegraph.bench.reference.blocks import (
    TEMPORAL_KERNEL,
    copy_weights,
    normalize_input,
    pool_persons,
    require_released,
)
from kinegraph.models.agcn import AAGCN, AGCN
from kinegraph.models.stgcn import CHANNELS, STRIDES


class _GraphUnit(nn.Module):
    def __init__(self, cin: int, cout: int, A: Tensor, *, attentive: bool) -> None:
        super().__init__()
        self.register_buffer("A", A, persistent=False)
        self.attentive = attentive
        V = A.shape[1]
        self.PA = nn.Parameter(A.clone())
        for name, channels in (("conv_a", cout // 4), ("conv_b", cout // 4), ("conv_d", cout)):
            setattr(self, name, nn.ModuleList(nn.Conv2d(cin, channels, 1) for _ in A))
        self.bn = nn.BatchNorm2d(cout)
        self.down: nn.Module = nn.Identity()
        if cin != cout:
            self.down = nn.Sequential(nn.Conv2d(cin, cout, 1), nn.BatchNorm2d(cout))
        if attentive:
            self.alpha = nn.Parameter(torch.zeros(1))
            kernel = V if V % 2 else V - 1
            self.conv_sa = nn.Conv1d(cout, 1, kernel, padding=(kernel - 1) // 2)
            self.conv_ta = nn.Conv1d(cout, 1, TEMPORAL_KERNEL, padding=TEMPORAL_KERNEL // 2)
            self.fc1c = nn.Linear(cout, cout // 2)
            self.fc2c = nn.Linear(cout // 2, cout)

    def graph(self, k: int, x: Tensor) -> Tensor:
        n, v = x.shape[0], x.shape[3]
        theta = self.conv_a[k](x).permute(0, 3, 1, 2).reshape(n, v, -1)
        phi = self.conv_b[k](x).reshape(n, -1, v)
        product = torch.matmul(theta, phi) / phi.shape[1]
        if self.attentive:
            return self.PA[k] + self.alpha * torch.tanh(product)
        return self.A[k] + self.PA[k] + torch.softmax(product, dim=-2)

    def forward(self, x: Tensor) -> Tensor:
        n, c, t, v = x.shape
        y = None
        for k, mix in enumerate(self.conv_d):
            gathered = torch.matmul(x.reshape(n, c * t, v), self.graph(k, x)).view(n, c, t, v)
            y = mix(gathered) if y is None else y + mix(gathered)
        z = torch.relu(self.bn(y) + self.down(x))
        if not self.attentive:
            return z
        z = z + z * torch.sigmoid(self.conv_sa(z.mean(dim=2))).unsqueeze(2)
        z = z + z * torch.sigmoid(self.conv_ta(z.mean(dim=3))).unsqueeze(3)
        g = torch.sigmoid(self.fc2c(torch.relu(self.fc1c(z.mean(dim=(2, 3))))))
        return z + z * g[:, :, None, None]


class _AdaptiveUnit(nn.Module):
    def __init__(
        self, cin: int, cout: int, A: Tensor, stride: int, *, residual: bool, attentive: bool
    ) -> None:
        super().__init__()

        def over_frames(cin: int, kernel: int) -> nn.Sequential:
            conv = nn.Conv2d(cin, cout, (kernel, 1), (stride, 1), (kernel // 2, 0))
            return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(cout)))

        self.gcn1 = _GraphUnit(cin, cout, A, attentive=attentive)
        self.tcn1 = over_frames(cout, TEMPORAL_KERNEL)
        self.residual: nn.Module | None = nn.Identity() if residual else None
        if residual and (cin != cout or stride != 1):
            self.residual = over_frames(cin, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.tcn1(self.gcn1(x))
        return torch.relu(y if self.residual is None else y + self.residual(x))


class ReferenceAGCN(nn.Module):
    """(N, C, T, V, M) -> (N, classes); absent persons and padded frames are computed as others.

    Args:
        A: (K, V, V) adjacency.
        attentive: whether it is AAGCN.
        channels, strides: of the units.
    """

    def __init__(
        self,
        A: Tensor,
        num_classes: int,
        *,
        attentive: bool,
        persons: int = 2,
        channels: Sequence[int] = CHANNELS,
        strides: Sequence[int] = STRIDES,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.data_bn = nn.BatchNorm1d(persons * A.shape[1] * in_channels)
        self.names = [f"l{i}" for i in range(1, len(channels) + 1)]
        sizes = zip(self.names, (in_channels, *channels), channels, strides, strict=False)
        for name, cin, cout, stride in sizes:
            residual = name != self.names[0]
            unit = _AdaptiveUnit(cin, cout, A, stride, residual=residual, attentive=attentive)
            setattr(self, name, unit)
        self.fc = nn.Linear(channels[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        persons = x.shape[4]
        x = normalize_input(self.data_bn, x)
        for name in self.names:
            x = getattr(self, name)(x)
        return self.fc(pool_persons(x, persons))


def build_reference_agcn(model: AGCN) -> ReferenceAGCN:
    """Build the reference network of a released 2s-AGCN or AAGCN, with its weights.

    Raises:
        ModelError: the model is not the released one (``faithful=True``, nothing left out).
    """
    attentive = isinstance(model, AAGCN)
    conditions = (
        block.tcn.kernel_size[0] == TEMPORAL_KERNEL
        and (not attentive or not isinstance(block.attention, nn.Identity))
        for block in model.blocks
    )
    expected = "a temporal kernel of 9, and attention if it is AAGCN"
    require_released(model, type(model).__name__, expected, conditions)
    reference = ReferenceAGCN(
        model.blocks[0].gcn.A,
        model.head.out_features,
        attentive=attentive,
        persons=model.persons,
        channels=[block.tcn.out_channels for block in model.blocks],
        strides=[block.tcn.stride[0] for block in model.blocks],
        in_channels=model.in_channels,
    )
    return copy_weights(reference, model, "agcn")
