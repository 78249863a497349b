"""Mixup: weighted means of two clips, and their losses weighted alike (Zhang et al., ICLR 2018)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from kinegraph.training.batch import Batch
from kinegraph.training.objectives import LossOutput, Objective, label_loss


def compute_mixup_loss(
    objective: Objective,
    model: nn.Module,
    batch: Batch,
    alpha: float,
    smoothing: float,
    clip_weights: Callable[[Batch], Tensor | None],
) -> LossOutput:
    """Return the loss of a batch whose clips are mixed with those in a random order.

    ``x = s x_a + (1 - s) x_b`` and ``loss = s loss(y_a) + (1 - s) loss(y_b)``, with one s for the
    batch: the larger part of a draw from Beta(alpha, alpha), so that the labels of the batch stay
    the likely ones.

    Args:
        clip_weights: returns the factors of the clips' losses by their labels.
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    share = max(share, 1 - share)
    order = torch.randperm(len(batch.labels)).to(batch.labels.device)
    x = torch.lerp(batch.x[order], batch.x, share)
    mixed = Batch(x, batch.labels, torch.maximum(batch.lengths, batch.lengths[order]))
    output = objective.compute_loss(model, mixed, smoothing, clip_weights(mixed))
    if output.logits is None:
        return output
    other = mixed._replace(labels=batch.labels[order])
    second = label_loss(output.logits, other.labels, smoothing, clip_weights(other))
    return replace(output, loss=share * output.loss + (1 - share) * second)
