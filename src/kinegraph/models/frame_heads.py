"""Heads that name the action of every frame: temporal networks on the features of a backbone.

Shapes: N recordings, F features of a frame, C channels, K classes, T frames, S stages.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, conv1d, pad, relu

from kinegraph.errors import ModelError

KERNEL = 3  # frames that a dilated convolution reads
SHARPNESS = 4.0  # power of class probabilities that are averaged: nearly a vote of the frames
_LEAST_SHARE = 1e-12  # smallest class probability whose logarithm is taken


class DilatedConv(nn.Conv1d):
    """A convolution over every ``dilation``-th frame that keeps T.

    Args:
        causal: read the frame and those before it; else as many after it as before it.
    """

    def __init__(self, channels: int, dilation: int, *, causal: bool = False) -> None:
        super().__init__(channels, channels, KERNEL, dilation=dilation)
        self.reach = (KERNEL - 1) * dilation
        self.causal = causal

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T) -> the same; frames outside of x count as zeros."""
        ahead = 0 if self.causal else self.reach // 2
        return self.valid(pad(x, (self.reach - ahead, ahead)))

    def valid(self, x: Tensor) -> Tensor:
        """(N, C, T + reach) -> (N, C, T)."""
        return conv1d(x, self.weight, self.bias, dilation=self.dilation)


class DilatedLayer(nn.Module):
    """Dilated convolution, ReLU, 1x1 convolution and dropout, added to the input."""

    def __init__(
        self, channels: int, dilation: int, dropout: float, *, causal: bool = False
    ) -> None:
        super().__init__()
        self.dilated = DilatedConv(channels, dilation, causal=causal)
        self.point = nn.Conv1d(channels, channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, C, T) and the mask of real frames (N, 1, T) -> (N, C, T)."""
        return (x + self.finish(self.dilated(x))) * mask

    def finish(self, y: Tensor) -> Tensor:
        """(N, C, T), what follows the dilated convolution before the sum."""
        point: Tensor = self.dropout(self.point(relu(y)))
        return point


class DualDilatedLayer(nn.Module):
    """Two dilated convolutions, one of a growing and one of a shrinking dilation, fused."""

    def __init__(self, channels: int, dilations: tuple[int, int], dropout: float) -> None:
        super().__init__()
        self.near, self.far = (DilatedConv(channels, dilation) for dilation in dilations)
        self.fuse = nn.Conv1d(2 * channels, channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, C, T) and the mask of real frames (N, 1, T) -> (N, C, T)."""
        y = self.fuse(torch.cat([self.near(x), self.far(x)], dim=1))
        return (x + self.dropout(relu(y))) * mask


class FrameStage(nn.Module):
    """A 1x1 convolution to the channels, layers one after the other, a 1x1 convolution to K."""

    def __init__(self, features: int, classes: int, layers: Sequence[nn.Module], channels: int):
        super().__init__()
        self.enter = nn.Conv1d(features, channels, 1)
        self.layers = nn.ModuleList(layers)
        self.leave = nn.Conv1d(channels, classes, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, F, T) and the mask of real frames (N, 1, T) -> logits (N, K, T)."""
        x = self.enter(x) * mask
        for layer in self.layers:
            x = layer(x, mask)
        logits: Tensor = self.leave(x) * mask
        return logits


class FrameHead(nn.Module):
    """Base class of the heads: the features of every frame to the logits of every frame.

    A head is constructed with ``(features, classes, *, ...)``; a recipe may set the further
    options under ``head``.

    Attributes:
        delay: frames after a frame that its answer reads; None for the whole recording.
    """

    delay: int | None = None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, F, T) and the mask of real frames (N, 1, T) -> logits of each stage (S, N, K, T)."""
        raise NotImplementedError


class LinearHead(FrameHead):
    """A linear classifier of every frame by itself; the backbone alone sees other frames."""

    delay = 0

    def __init__(self, features: int, classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.point = nn.Conv1d(features, classes, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, F, T) and (N, 1, T) -> (1, N, K, T)."""
        logits: Tensor = self.point(self.dropout(x)) * mask
        return logits[None]


class MSTCNHead(FrameHead):
    """MS-TCN++ (Li, Abu Farha, Liu, Cheng, Gall: TPAMI 2020).

    One stage of dual dilated layers predicts; further stages of dilated layers refine the class
    probabilities of the stage before them.

    Args:
        layers: dual dilated layers of the first stage (11 in the paper); the dilations of layer l
            of L are 2^l and 2^(L-1-l).
        refinements: number of refinement stages (3 in the paper).
        refinement_layers: layers of each (10 in the paper), with dilation 2^l.
        channels: C (64 in the paper).
        dropout: of every layer (0.5 in the paper).
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        layers: int = 11,
        refinements: int = 3,
        refinement_layers: int = 10,
        channels: int = 64,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_counts(layers=layers, refinement_layers=refinement_layers, channels=channels)
        check_dropout(dropout)
        dual = [
            DualDilatedLayer(channels, (2**i, 2 ** (layers - 1 - i)), dropout)
            for i in range(layers)
        ]
        self.predict = FrameStage(features, classes, dual, channels)
        self.refine = nn.ModuleList(
            FrameStage(
                classes,
                classes,
                [DilatedLayer(channels, 2**i, dropout) for i in range(refinement_layers)],
                channels,
            )
            for _ in range(refinements)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, F, T) and (N, 1, T) -> (S, N, K, T)."""
        return _refine(self.predict(x, mask), self.refine, mask)


class CausalHead(FrameHead):
    """Stages of causal dilated convolutions, for streams: a frame's answer reads earlier frames.

    Args:
        layers: layers of each stage, with dilation 2^l.
        refinements: number of stages after the first, which refine class probabilities.
        channels: C.
        dropout: of every layer.
        delay: frames after a frame that the network reads too. The logits of frame t are those that
            it gives at frame t + delay; frames after the end count as zeros.
        smooth: frames before and after a frame that vote on its class in evaluation: the class
            probabilities of all are sharpened and averaged. At the ends there are fewer.

    Attributes:
        shift: the option ``delay``.
        delay: ``shift`` and ``smooth``.
    """

    delay: int

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        layers: int = 8,
        refinements: int = 1,
        channels: int = 64,
        dropout: float = 0.5,
        delay: int = 0,
        smooth: int = 0,
    ) -> None:
        super().__init__()
        check_counts(layers=layers, channels=channels)
        check_dropout(dropout)
        if min(refinements, delay, smooth) < 0:
            raise ModelError(
                "expected refinements, delay and smooth of 0 or more, got "
                f"{refinements}, {delay} and {smooth}"
            )
        self.shift, self.smooth = delay, smooth
        self.delay = delay + smooth
        self.stages = nn.ModuleList(
            FrameStage(
                classes if number else features,
                classes,
                [DilatedLayer(channels, 2**i, dropout, causal=True) for i in range(layers)],
                channels,
            )
            for number in range(refinements + 1)
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(N, F, T) and (N, 1, T) -> (S, N, K, T)."""
        x, ahead = pad(x, (0, self.shift)), pad(mask, (self.shift, 0), value=1.0)
        logits = _refine(self.stages[0](x, ahead), self.stages[1:], ahead)
        logits = logits[..., self.shift :] * mask
        if self.smooth and not self.training:
            smoothed = average_neighbors(self.vote(logits[-1]), mask, self.smooth)
            logits = torch.cat([logits[:-1], smoothed.clamp(min=_LEAST_SHARE).log()[None] * mask])
        return logits

    def vote(self, logits: Tensor) -> Tensor:
        """(N, K, T) -> the same: what `smooth` averages, or the class probabilities without it."""
        return (SHARPNESS * logits if self.smooth else logits).softmax(dim=1)

    def initial_state(self, rows: int) -> list[Tensor]:
        """Return the state before the first frame of ``rows`` streams: what each layer has read."""
        return [
            layer.dilated.weight.new_zeros(rows, layer.dilated.in_channels, layer.dilated.reach)
            for layer in self._layers()
        ]

    def step(self, x: Tensor, state: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the logits (N, K, T) that the network gives at T further frames, and the state.

        Those of the first ``shift`` frames of a stream are not an answer to any frame. They are not
        smoothed.

        Args:
            x: (N, F, T), features of the frames that follow those of the state.
            state: of `initial_state`, or of the step before.
        """
        kept, states = [], iter(state)
        for number, stage in enumerate(self.stages):
            x = stage.enter(x.softmax(dim=1) if number else x)
            for layer in stage.layers:
                read = torch.cat([next(states), x], dim=2)
                kept.append(read[..., -layer.dilated.reach :])
                x = x + layer.finish(layer.dilated.valid(read))
            x = stage.leave(x)
        return x, kept

    def _layers(self) -> list[DilatedLayer]:
        return [module for module in self.modules() if isinstance(module, DilatedLayer)]


def average_neighbors(shares: Tensor, mask: Tensor, reach: int) -> Tensor:
    """Return the mean (N, K, T) of each frame and up to ``reach`` real frames before and after it.

    Args:
        shares: (N, K, T), class probabilities.
        mask: (N, 1, T), 1 for real frames.
        reach: frames on either side.
    """
    width = 2 * reach + 1
    summed, counted = (avg_pool1d(part, width, 1, reach) for part in (shares * mask, mask))
    return summed / counted.clamp(min=0.5 / width)  # padding has no real frame nearby


def _refine(logits: Tensor, stages: Sequence[nn.Module] | nn.ModuleList, mask: Tensor) -> Tensor:
    """Return the logits of a stage and of those after it, each of which refines the last ones."""
    found = [logits]
    for stage in stages:
        found.append(stage(found[-1].softmax(dim=1) * mask, mask))
    return torch.stack(found)


def check_counts(**counts: int) -> None:
    """Refuse numbers below 1.

    Raises:
        ModelError: with the name of the option.
    """
    for name, value in counts.items():
        if value < 1:
            raise ModelError(f"expected {name} of at least 1, got {value}")


def check_dropout(dropout: float) -> None:
    """Refuse a dropout that is not a fraction below 1.

    Raises:
        ModelError: with the number.
    """
    if not 0 <= dropout < 1:
        raise ModelError(f"expected a dropout of at least 0 and below 1, got {dropout}")
