"""Parts that the reference networks share: graph blocks, input normalization and pooling.

Shapes: N clips, M persons, n = N*M, C channels, T frames, V joints, K partitions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError
from kinegraph.models.published_weights import published_parts
from kinegraph.models.stgcn import CHANNELS, STRIDES

TEMPORAL_KERNEL = 9
LINK_WEIGHT = 0.5
LINK_KINDS = 2


def apply_graph(g: Tensor, A: Tensor, links: Tensor | None = None) -> Tensor:
    """Sum K groups of channels over A (K, V, V), two more over links (n, 2, V, V) if given."""
    K = len(A)
    groups = g.unflatten(1, (K if links is None else K + LINK_KINDS, -1))
    structural = torch.einsum("nkctv,kvw->nctw", groups[:, :K], A)
    if links is None:
        return structural
    return structural + LINK_WEIGHT * torch.einsum("nkctv,nkvw->nctw", groups[:, K:], links)


class ReferenceBlock(nn.Module):
    """A 1x1 convolution to a group of channels for each graph, the graphs, then the frames."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        groups: int,
        stride: int = 1,
        kernel: int = TEMPORAL_KERNEL,
        *,
        padded: bool = True,
        residual: bool = True,
    ) -> None:
        super().__init__()
        self.gcn = nn.ModuleDict({"conv": nn.Conv2d(c_in, c_out * groups, 1)})
        self.tcn = nn.Sequential(
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
            nn.Conv2d(c_out, c_out, (kernel, 1), (stride, 1), (kernel // 2 if padded else 0, 0)),
            nn.BatchNorm2d(c_out),
        )
        self.residual: nn.Module | None = None
        if residual and c_in == c_out and stride == 1:
            self.residual = nn.Identity()
        elif residual:
            shortcut = nn.Conv2d(c_in, c_out, 1, (stride, 1))
            self.residual = nn.Sequential(shortcut, nn.BatchNorm2d(c_out))

    def forward(self, x: Tensor, A: Tensor, links: Tensor | None = None) -> Tensor:
        y = self.tcn(apply_graph(self.gcn["conv"](x), A, links).contiguous())
        return torch.relu(y if self.residual is None else y + self.residual(x))


class ReferenceGraphNetwork(nn.Module):
    """Blocks over a graph with learned edge importance; the base of ST-GCN and AS-GCN.

    Every person and frame is computed, absent and padded ones too.

    Args:
        A: (K, V, V) adjacency.
        channels, strides: of the blocks; by default those of ST-GCN.
    """

    link_kinds = 0  # number of graphs that differ from clip to clip

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
        sizes = zip((in_channels, *channels), channels, strides, strict=False)
        self.blocks = tuple(
            ReferenceBlock(c_in, c_out, K + self.link_kinds, stride, residual=i > 0)
            for i, (c_in, c_out, stride) in enumerate(sizes)
        )
        self.register_blocks()
        self.edge_importance = nn.ParameterList(torch.ones_like(A) for _ in channels)
        self.fcn = nn.Conv2d(channels[-1], num_classes, 1)

    @classmethod
    def copy_of(cls, model: Any, family: str, A: Tensor) -> Self:
        """Return the reference network of a released model, with its sizes and weights."""
        sizes = zip(*((b.tcn.out_channels, b.tcn.stride[0]) for b in model.blocks), strict=True)
        reference = cls(A, model.head.out_features, model.in_channels, *sizes)
        return copy_weights(reference, model, family)

    def register_blocks(self) -> None:
        """Register the blocks under the released code's names."""
        raise NotImplementedError

    def features(self, x: Tensor, links: Tensor | None = None) -> Tensor:
        """(N, C, T, V, M), links (N*M, 2, V, V) -> (N*M, F, T', V)."""
        y = normalize_input(self.data_bn, x)
        for block, importance in zip(self.blocks, self.edge_importance, strict=True):
            y = block(y, self.A * importance, links)
        return y

    def classify(self, features: Tensor, persons: int) -> Tensor:
        """(N*M, F, T', V) -> (N, classes)."""
        return self.fcn(pool_persons(features, persons)[..., None, None]).flatten(1)

    def forward(self, x: Tensor, links: Tensor | None = None) -> Tensor:
        return self.classify(self.features(x, links), x.shape[4])


ReferenceNetwork = TypeVar("ReferenceNetwork", bound=nn.Module)


def normalize_input(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """Return (N, C, T, V, M) as (N*M, C, T, V), normalized for each joint and channel."""
    N, C, T, V, M = x.shape
    y = norm(x.permute(0, 4, 3, 1, 2).reshape(-1, norm.num_features, T))
    return y.view(N, M, V, C, T).permute(0, 1, 3, 4, 2).reshape(N * M, C, T, V)


def pool_persons(features: Tensor, persons: int) -> Tensor:
    """Return the means (N, C) of features (N*M, C, T, V)."""
    return features.mean(dim=(2, 3)).unflatten(0, (-1, persons)).mean(dim=1)


@torch.no_grad()
def copy_weights(reference: ReferenceNetwork, model: nn.Module, family: str) -> ReferenceNetwork:
    """Copy the weights and the mode of a released model into a reference network of its sizes.

    What the reference network does not compute, the inference of links and the forecast, is left
    out. Its graph convolutions have one tensor for all groups, with the outputs before the inputs;
    MS-G3D's free edges have the target joints before the sources.
    """
    parts: dict[str, list[Tensor]] = {}
    graphs = {name for name, _ in model.named_buffers() if name.endswith(".A")}
    own = reference.state_dict()
    for name, value in model.state_dict().items():
        if name.startswith(("links.", "forecast.")) or name in graphs:
            continue
        for theirs, part in published_parts(name, value, family).values():
            key = theirs.partition("[")[0]
            is_conv = name.endswith(".weight") and own[key].ndim == 4
            by_group = part.ndim == 3 and (is_conv or name.endswith(".free_edges"))
            parts.setdefault(key, []).append((part.mT if by_group else part).flatten())
    copied = {key: torch.cat(values).view_as(own[key]) for key, values in parts.items()}
    reference.load_state_dict({**own, **copied})
    return reference.train(model.training)


def require_released(model: Any, family: str, expected: str, conditions: Iterable[bool]) -> None:
    """Refuse a model whose options differ from those of the released code.

    Raises:
        ModelError: they do.
    """
    if not (model.faithful and model.pool == "mean" and all(conditions)):
        raise ModelError(
            f"the reference {family} computes the released model: expected a model made with "
            f"faithful=True, pool='mean', {expected}"
        )
