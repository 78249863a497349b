"""The released two-stream ST-GCN: one network for joints, one for their change of speed.

It belongs to the code of Yan, Xiong and Lin (AAAI 2018), not to their paper.

Shapes: N clips, M persons, n folded persons that are present, C channels, F features of one
stream, T frames, V joints.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.models.base import SkeletonModel
from kinegraph.models.stgcn import STGCN
from kinegraph.ops.temporal import ZeroPaddedEdge
from kinegraph.skeleton.layout import SkeletonLayout


class RelativeMotion(nn.Module):
    """Each frame minus the mean of the one before and the one after.

    The first and the last frame are zero. So is a joint that is absent, all zero, in any of the
    three frames, unless absent joints count: then they are taken to be at the origin.

    Args:
        count_absent: whether absent joints count.
    """

    def __init__(self, *, count_absent: bool) -> None:
        super().__init__()
        self.layer = _RelativeMotionLayer(1, 1)
        self.layer.count_absent = count_absent

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> the same."""
        moved: Tensor = self.layer(x.permute(0, 2, 3, 1))
        return moved.permute(0, 3, 1, 2)

    def inference_layer(self) -> _RelativeMotionLayer:
        """Return the layer that computes the same from three frames at a time."""
        return self.layer


class _RelativeMotionLayer(ZeroPaddedEdge):
    count_absent: bool

    def valid(self, x: Tensor) -> Tensor:
        """(n, T + 2, V, C) -> (n, T, V, C)."""
        before, now, after = x[:, :-2], x[:, 1:-1], x[:, 2:]
        moved = now - (before + after) / 2
        if self.count_absent:
            return moved
        seen = (x != 0).any(dim=3, keepdim=True)
        return moved * (seen[:, :-2] & seen[:, 1:-1] & seen[:, 2:])


class TwoStreamSTGCN(SkeletonModel):
    """Two `STGCN`, one for the clip and one for its `RelativeMotion`, whose logits are summed.

    Args:
        layout: the skeleton, or its name.
        num_classes: number of actions.
        in_channels: C of the input.
        options: of `STGCN`; both networks have the same. With ``faithful``, joints that come or go
            are also taken to jump from or to the origin, as in the released code.

    Raises:
        ModelError: options that do not make a network.
    """

    options_of = (STGCN, ())

    def __init__(
        self,
        layout: SkeletonLayout | str,
        num_classes: int,
        *,
        in_channels: int = 3,
        **options: Any,
    ) -> None:
        super().__init__()
        self.origin_stream, self.motion_stream = (
            STGCN(layout, num_classes, in_channels=in_channels, **options) for _ in range(2)
        )
        self.layout = self.origin_stream.layout
        self.in_channels = in_channels
        self.num_features = 2 * self.origin_stream.num_features
        self.pool = self.origin_stream.pool
        self.faithful = self.counts_absent = self.origin_stream.faithful
        self.relative_motion = RelativeMotion(count_absent=self.faithful)

    def forward_persons(self, rows: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, 2F, T', V): the joints' features, then the motion's."""
        origin = self.origin_stream.forward_persons(rows)
        motion = self.motion_stream.forward_persons(self.relative_motion(rows))
        return torch.cat([origin, motion], dim=1)

    def apply_head(self, pooled: Tensor) -> Tensor:
        """(N, P) -> (N, classes): the sum of both networks' logits."""
        origin, motion = pooled.chunk(2, dim=1)
        return self.origin_stream.apply_head(origin) + self.motion_stream.apply_head(motion)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace both heads by fresh ones."""
        for stream in (self.origin_stream, self.motion_stream):
            stream.reset_classifier(num_classes)

    def set_classifier(self, weight: Tensor, bias: Tensor) -> None:
        """Replace both heads by linear layers whose sum is ``weight @ pooled + bias``."""
        origin, motion = weight.chunk(2, dim=1)
        self.origin_stream.set_classifier(origin, bias)
        self.motion_stream.set_classifier(motion, torch.zeros_like(bias))
