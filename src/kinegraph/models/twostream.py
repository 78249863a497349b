"""The released two-stream ST-GCN: one network for the joints, one for how they speed up.

It belongs to the code of Yan, Xiong and Lin (AAAI 2018), not to their paper.

Shapes: N clips, M persons, n folded persons that are present, C channels, F features of one
stream, T frames, V joints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.models.layers import (
    Pool,
    check_input,
    fold_persons,
    present_persons,
    unfold_persons,
)
from kinegraph.models.stgcn import CHANNELS, STGCN, STRIDES
from kinegraph.skeleton.graph import Strategy
from kinegraph.skeleton.layout import SkeletonLayout


def relative_motion(x: Tensor, *, ghosts: bool = False) -> Tensor:
    """(N, C, T, V, M) -> the same: each frame minus the mean of the one before and the one after.

    The first and the last frame are zero. So is a joint that is absent, all zero, in any of the
    three frames, unless ``ghosts``: then the absent one counts as if it stood at the origin.
    """
    before, now, after = x[:, :, :-2], x[:, :, 1:-1], x[:, :, 2:]
    moved = now - (before + after) / 2
    if not ghosts:
        seen = (x != 0).any(dim=1, keepdim=True)
        moved = moved * (seen[:, :, :-2] & seen[:, :, 1:-1] & seen[:, :, 2:])
    motion = torch.zeros_like(x)
    motion[:, :, 1:-1] = moved
    return motion


class TwoStreamSTGCN(nn.Module):
    """Two `STGCN`, one for the clip and one for its `relative_motion`, whose logits are summed.

    Args:
        layout: the skeleton, or its name.
        num_classes: number of actions.
        in_channels: C of the input.
        channels: see `STGCN`, as for all options; both streams have the same.
        strides: temporal stride of each block.
        temporal_kernel: frames that a temporal convolution sees; odd.
        strategy: partition strategy of `kinegraph.adjacency`.
        max_hop: reach of the partitions.
        dropout: in every block but the first.
        edge_importance: learn one weight per edge, partition and block.
        adaptive: also learn a free weight for every pair of joints.
        pool: how features become one vector a person.
        head_dropout: before the classifiers.
        excitation: blocks that stress motion or channels.
        faithful: reproduce the released code: as in `STGCN`, and joints that come or go are
            taken to jump from or to the origin.

    Raises:
        ModelError: options that do not make a network.
    """

    def __init__(
        self,
        layout: SkeletonLayout | str,
        num_classes: int,
        *,
        in_channels: int = 3,
        channels: Sequence[int] = CHANNELS,
        strides: Sequence[int] = STRIDES,
        temporal_kernel: int = 9,
        strategy: Strategy = "spatial",
        max_hop: int = 1,
        dropout: float = 0.0,
        edge_importance: bool = True,
        adaptive: bool = False,
        pool: Pool = "mean",
        head_dropout: float = 0.0,
        excitation: str | Mapping[str, Any] | None = None,
        faithful: bool = False,
    ) -> None:
        super().__init__()

        def stream() -> STGCN:
            return STGCN(
                layout,
                num_classes,
                in_channels=in_channels,
                channels=channels,
                strides=strides,
                temporal_kernel=temporal_kernel,
                strategy=strategy,
                max_hop=max_hop,
                dropout=dropout,
                edge_importance=edge_importance,
                adaptive=adaptive,
                pool=pool,
                head_dropout=head_dropout,
                excitation=excitation,
                faithful=faithful,
            )

        self.origin_stream = stream()
        self.motion_stream = stream()
        self.layout = self.origin_stream.layout
        self.in_channels = in_channels
        self.num_features = 2 * self.origin_stream.num_features
        self.faithful = faithful

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, C, T, V, M) -> (N, M, 2F, T', V): the joints' features, then the motion's.

        Zero where a person is absent (if corrected); one who keeps still is not.
        """
        check_input(x, self.layout, self.in_channels)
        present = present_persons(x)
        if self.faithful:
            present = torch.ones_like(present)
        motion = relative_motion(x, ghosts=self.faithful)
        parts = []
        for stream, clips in ((self.origin_stream, x), (self.motion_stream, motion)):
            rows = fold_persons(clips)[present.flatten()]
            parts.append(unfold_persons(stream.blocks(stream.data_bn(rows)), present))
        return torch.cat(parts, dim=2)

    def forward_head(self, features: Tensor, present: Tensor | None = None) -> Tensor:
        """(N, M, 2F, T', V) and (N, M) bool -> (N, classes); all persons count if None."""
        origin, motion = features.chunk(2, dim=2)
        logits = self.origin_stream.forward_head(origin, present)
        return logits + self.motion_stream.forward_head(motion, present)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V, M) -> logits (N, classes)."""
        present = None if self.faithful else present_persons(x)
        return self.forward_head(self.forward_features(x), present)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace both heads by fresh ones."""
        for stream in (self.origin_stream, self.motion_stream):
            stream.reset_classifier(num_classes)

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Groups for an optimizer; every parameter decays alike."""
        return [{"params": list(self.parameters()), "weight_decay": weight_decay}]
