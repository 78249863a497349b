"""Reference ST-GCN: computed as the released code computes it.

Written from the paper (Yan, Xiong and Lin, AAAI 2018), with the released code's names of weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kinegraph.bench.reference.blocks import (
    TEMPORAL_KERNEL,
    ReferenceGraphNetwork,
    require_released,
)
from kinegraph.models.stgcn import STGCN
from kinegraph.models.twostream import TwoStreamSTGCN


class ReferenceSTGCN(ReferenceGraphNetwork):
    """(N, C, T, V, M) -> (N, classes)."""

    def register_blocks(self) -> None:
        """Register the blocks as ``st_gcn_networks``."""
        self.st_gcn_networks = nn.ModuleList(self.blocks)


class ReferenceTwoStreamSTGCN(nn.Module):
    """(N, C, T, V, M) -> (N, classes): one network for the joints, one for their motion."""

    def __init__(self, origin: ReferenceSTGCN, motion: ReferenceSTGCN) -> None:
        super().__init__()
        self.origin_stream = origin
        self.motion_stream = motion

    def forward(self, x: Tensor) -> Tensor:
        still = torch.zeros_like(x[:, :, :1])
        moved = x[:, :, 1:-1] - 0.5 * x[:, :, 2:] - 0.5 * x[:, :, :-2]
        motion = torch.cat([still, moved, still], dim=2)
        return self.origin_stream(x) + self.motion_stream(motion)


def build_reference_stgcn(model: STGCN) -> ReferenceSTGCN:
    """Build the reference network of a released model, with its weights.

    Raises:
        ModelError: the model is not the released one (``faithful=True``, nothing added).
    """
    conditions = (
        isinstance(block.tcn, nn.Conv2d)
        and block.tcn.kernel_size[0] == TEMPORAL_KERNEL
        and isinstance(block.before, nn.Identity)
        and block.beside is None
        and block.gcn.edge_importance is not None
        and block.gcn.free_edges is None
        for block in model.blocks
    )
    expected = "a temporal kernel of 9, edge importance, and nothing added to it"
    require_released(model, "ST-GCN", expected, conditions)
    return ReferenceSTGCN.copy_of(model, "stgcn", model.blocks[0].gcn.A)


def build_reference_twostream(model: TwoStreamSTGCN) -> ReferenceTwoStreamSTGCN:
    """Build the reference network of the released two-stream model, with its weights."""
    streams = (model.origin_stream, model.motion_stream)
    return ReferenceTwoStreamSTGCN(*map(build_reference_stgcn, streams)).train(model.training)
