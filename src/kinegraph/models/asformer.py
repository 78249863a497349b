"""ASFormer: transformer for action segmentation (Yi, Wen, Jiang: BMVC 2021).

Shapes: N recordings, C channels, K classes, T frames, S stages, w frames of a block.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from kinegraph.models.frame_heads import (
    DilatedConv,
    FrameHead,
    check_counts,
    check_dropout,
)

_EPSILON = 1e-5


class MaskedInstanceNorm(nn.Module):
    """Each channel of a recording with mean 0 and variance 1 over its real frames."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, C, T) and the mask of real frames (N, 1, T) -> (N, C, T)."""
        count = mask.sum(dim=2, keepdim=True).clamp(min=1)
        centered = (x - (x * mask).sum(dim=2, keepdim=True) / count) * mask
        return centered * (centered.square().sum(dim=2, keepdim=True) / count + _EPSILON).rsqrt()


class LocalAttention(nn.Module):
    """Attention of each block of w frames to the frames of the block and w / 2 on both sides.

    Args:
        channels: C of the queries and keys; the values have as many.
        reduction: the inner channels are C divided by it.
        width: w.
    """

    def __init__(self, query_channels: int, channels: int, reduction: int, width: int) -> None:
        super().__init__()
        inner = max(1, channels // reduction)
        self.query, self.key = (nn.Conv1d(query_channels, inner, 1) for _ in range(2))
        self.value = nn.Conv1d(channels, inner, 1)
        self.leave = nn.Conv1d(inner, channels, 1)
        self.width = width

    def forward(self, x: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """(N, C', T) queries and keys, (N, C, T) values, mask (N, 1, T) -> (N, C, T)."""
        T, w = x.shape[2], self.width
        after = -T % w
        query = pad(self.query(x), (0, after)).unflatten(2, (-1, w))  # (N, c, blocks, w)
        key, value, seen = (
            pad(part, (w // 2, w // 2 + after)).unfold(2, w + w // 2 * 2, w)
            for part in (self.key(x), self.value(values), mask)
        )  # (N, c, blocks, w + 2 (w // 2))
        energy = torch.einsum("ncbq,ncbk->nbqk", query, key) / query.shape[1] ** 0.5
        # far below every energy, but finite: a block may have no real frame at all
        energy = energy.masked_fill(seen[:, 0, :, None] == 0, -1e4)
        mixed = torch.einsum("nbqk,ncbk->ncbq", energy.softmax(dim=3), value)
        attended: Tensor = self.leave(relu(mixed.flatten(2)[..., :T]))
        return attended


class ASFormerLayer(nn.Module):
    """A dilated convolution, then local attention, then a 1x1 convolution, with a residual.

    Args:
        channels: C.
        dilation: of the convolution, and the width of the attention.
        reduction: of the attention's channels.
        dropout: before the sum.
        crosses: whether queries and keys are taken of the layer's input and the encoder's.
    """

    def __init__(
        self, channels: int, dilation: int, reduction: int, dropout: float, *, crosses: bool
    ) -> None:
        super().__init__()
        self.dilated = DilatedConv(channels, dilation)
        self.norm = MaskedInstanceNorm()
        self.attention = LocalAttention((1 + crosses) * channels, channels, reduction, dilation)
        self.point = nn.Conv1d(channels, channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, encoded: Tensor | None, mask: Tensor, weight: float) -> Tensor:
        """(N, C, T), of the encoder (N, C, T) or None, mask (N, 1, T) -> (N, C, T).

        Args:
            weight: of the attention beside the convolution.
        """
        y = relu(self.dilated(x))
        normal = self.norm(y, mask)
        pair = normal if encoded is None else torch.cat([normal, encoded], dim=1)
        y = weight * self.attention(pair, normal, mask) + y
        return (x + self.dropout(self.point(y))) * mask


class ASFormerStage(nn.Module):
    """The encoder or a decoder: layers of growing reach, then the logits.

    Args:
        features: channels of the input.
        weight: of the attention in every layer.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        layers: int,
        channels: int,
        *,
        reduction: int,
        dropout: float,
        weight: float,
        crosses: bool,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.enter = nn.Conv1d(features, channels, 1)
        self.layers = nn.ModuleList(
            ASFormerLayer(channels, 2**i, reduction, dropout, crosses=crosses)
            for i in range(layers)
        )
        self.leave = nn.Conv1d(channels, classes, 1)

    def forward(self, x: Tensor, encoded: Tensor | None, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(N, F, T) -> features (N, C, T) and logits (N, K, T)."""
        x = self.enter(x) * mask
        for layer in self.layers:
            x = layer(x, encoded, mask, self.weight)
        return x, self.leave(x) * mask


class ASFormerHead(FrameHead):
    """ASFormer: an encoder of local attention, and decoders that refine class probabilities.

    Layer l convolves with dilation 2^l and attends to blocks of 2^l frames with half a block on
    both sides. The attention of decoder d (from 0) has the weight exp(-3 d / decoders), as in the
    released code; the paper only says that it decreases.

    Args:
        layers: of the encoder and of each decoder (9 in the paper).
        decoders: number of decoders (3 in the paper).
        channels: C (64 in the paper).
        reduction: of the channels in the attention (2 in the paper).
        dropout: of every layer.
        input_dropout: share of the input's channels that training drops (0.3 in the paper).
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        layers: int = 9,
        decoders: int = 3,
        channels: int = 64,
        reduction: int = 2,
        dropout: float = 0.3,
        input_dropout: float = 0.3,
    ) -> None:
        super().__init__()
        check_counts(layers=layers, channels=channels, reduction=reduction)
        check_dropout(dropout)
        check_dropout(input_dropout)
        options: dict[str, Any] = {"reduction": reduction, "dropout": dropout}
        self.input_dropout = nn.Dropout1d(input_dropout)
        self.encoder = ASFormerStage(
            features, classes, layers, channels, weight=1.0, crosses=False, **options
        )
        self.decoders = nn.ModuleList(
            ASFormerStage(
                classes,
                classes,
                layers,
                channels,
                weight=float(torch.tensor(-3 * i / decoders).exp()),
                crosses=True,
                **options,
            )
            for i in range(decoders)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, F, T) and (N, 1, T) -> (S, N, K, T)."""
        encoded, logits = self.encoder(self.input_dropout(x), None, mask)
        found = [logits]
        for decoder in self.decoders:
            encoded, logits = decoder(found[-1].softmax(dim=1) * mask, encoded, mask)
            found.append(logits)
        return torch.stack(found)
