"""Parts that the reference networks share: graph blocks, input normalization and pooling.

Shapes: N clips, M persons, n = N*M, C channels, T frames, V joints, K partitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError

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


class _GroupConv(nn.Module):
    def __init__(self, c_in: int, c_out: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out * groups, 1)


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
        self.gcn = _GroupConv(c_in, c_out, groups)
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
        y = self.tcn(apply_graph(self.gcn.conv(x), A, links).contiguous())
        return torch.relu(y if self.residual is None else y + self.residual(x))


class ReferenceGraphNetwork(nn.Module):
    """Blocks over a graph with learned edge importance; the base of ST-GCN and AS-GCN.

    Every person and frame is computed, absent and padded ones too.

    Args:
        A: (K, V, V) adjacency.
    """

    default_channels: tuple[int, ...]
    default_strides: tuple[int, ...]
    link_kinds = 0  # number of graphs that differ from clip to clip

    def __init__(
        self,
        A: Tensor,
        num_classes: int,
        in_channels: int = 3,
        channels: Sequence[int] = (),
        strides: Sequence[int] = (),
    ) -> None:
        super().__init__()
        K, V, _ = A.shape
        self.register_buffer("A", A.clone())
        self.data_bn = nn.BatchNorm1d(in_channels * V)
        channels, strides = channels or self.default_channels, strides or self.default_strides
        sizes = zip((in_channels, *channels), channels, strides, strict=False)
        self.blocks = tuple(
            ReferenceBlock(c_in, c_out, K + self.link_kinds, stride, residual=i > 0)
            for i, (c_in, c_out, stride) in enumerate(sizes)
        )
        self.register_blocks()
        self.edge_importance = nn.ParameterList(torch.ones_like(A) for _ in channels)
        self.fcn = nn.Conv2d(channels[-1], num_classes, 1)

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


ReferenceNetwork = TypeVar("ReferenceNetwork", bound=ReferenceGraphNetwork)


def normalize_input(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """Return (N, C, T, V, M) as (N*M, C, T, V), normalized for each joint and channel."""
    N, C, T, V, M = x.shape
    y = norm(x.permute(0, 4, 3, 1, 2).reshape(-1, norm.num_features, T))
    return y.view(N, M, V, C, T).permute(0, 1, 3, 4, 2).reshape(N * M, C, T, V)


def pool_persons(features: Tensor, persons: int) -> Tensor:
    """Return the means (N, C) of features (N*M, C, T, V)."""
    return features.mean(dim=(2, 3)).unflatten(0, (-1, persons)).mean(dim=1)


def copy_weights(theirs: nn.Module, ours: nn.Module) -> None:
    """Copy weights into a reference layer from a layer with the same names."""
    theirs.load_state_dict(ours.state_dict())


@torch.no_grad()
def copy_network(
    kind: type[ReferenceNetwork], model: Any, graph_convs: Callable[[Any], list[Any]]
) -> ReferenceNetwork:
    """Return a reference network with the weights and the mode of a released model.

    Args:
        graph_convs: returns the graph convolutions of one of its blocks, the structural one first.
    """
    reference = kind(
        graph_convs(model.blocks[0])[0].A,
        model.head.out_features,
        model.in_channels,
        [block.tcn.out_channels for block in model.blocks],
        [block.tcn.stride[0] for block in model.blocks],
    )
    copy_weights(reference.data_bn, model.data_bn)
    pairs = zip(reference.blocks, reference.edge_importance, model.blocks, strict=True)
    for theirs, importance, ours in pairs:
        convs = graph_convs(ours)
        importance.copy_(convs[0].edge_importance)
        weight = torch.cat([conv.weight for conv in convs]).transpose(1, 2).flatten(0, 1)
        theirs.gcn.conv.weight.copy_(weight[..., None, None])
        theirs.gcn.conv.bias.copy_(torch.cat([conv.bias for conv in convs]).flatten())
        for number, layer in ((0, ours.bn), (2, ours.tcn), (3, ours.tcn_bn)):
            copy_weights(theirs.tcn[number], layer)
        if isinstance(theirs.residual, nn.Sequential):
            copy_weights(theirs.residual[0], ours.residual.conv)
            copy_weights(theirs.residual[1], ours.residual.bn)
    reference.fcn.weight.copy_(model.head.weight[..., None, None])
    reference.fcn.bias.copy_(model.head.bias)
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
