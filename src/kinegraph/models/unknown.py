"""The logit of "none of these actions", by the distance of a clip's features from the examples.

Shapes: N clips, P pooled features, K actions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class UnknownLogit(nn.Module):
    """A further class beside K actions, for clips whose features are far from all of them.

    With d the Euclidean distance of the features from the nearest center, the probability of the
    further class is the logistic function of ``slope * (d - radius)``, whatever the logits of the
    actions; the rest is divided among the actions by their softmax.

    Args:
        centers: (K, P), the mean features of each action.
        slope: growth of the logit per unit of distance.
        radius: the distance at which both answers are equally probable.
    """

    centers: Tensor
    slope: Tensor
    radius: Tensor

    def __init__(self, centers: Tensor, slope: float, radius: float) -> None:
        super().__init__()
        self.register_buffer("centers", centers)
        self.register_buffer("slope", torch.tensor(slope))
        self.register_buffer("radius", torch.tensor(radius))

    def forward(self, pooled: Tensor, logits: Tensor) -> Tensor:
        """(N, P) and logits of the actions (N, K) -> logits (N, K + 1)."""
        squares = (pooled.unsqueeze(1) - self.centers).square().sum(dim=2)
        nearest = squares.amin(dim=1, keepdim=True).sqrt()
        unknown = self.slope * (nearest - self.radius)
        return torch.cat([torch.log_softmax(logits, dim=1), unknown], dim=1)
