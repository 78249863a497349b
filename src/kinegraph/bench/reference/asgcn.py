"""Reference AS-GCN: computed as the released code computes it.

Written from the paper (Li et al., CVPR 2019), with the released code's names of weights. Only what
recognition needs; the links of a clip are inferred by the model that is compared.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.bench.reference.blocks import (
    LINK_KINDS,
    LINK_WEIGHT,
    TEMPORAL_KERNEL,
    ReferenceGraphNetwork,
    require_released,
)
from kinegraph.models.asgcn import ASGCN


class ReferenceASGCN(ReferenceGraphNetwork):
    """(N, C, T, V, M) and links (N*M, 2, V, V) -> (N, classes)."""

    link_kinds = LINK_KINDS

    def register_blocks(self) -> None:
        """Register the blocks as ``class_layer_0``, ``class_layer_1``, ..."""
        for i, block in enumerate(self.blocks):
            self.add_module(f"class_layer_{i}", block)


class ReferenceRecognizer(nn.Module):
    """(N, C, T, V, M) -> (N, classes): links by the model, the rest by reference."""

    def __init__(self, network: ReferenceASGCN, model: ASGCN) -> None:
        super().__init__()
        self.network = network
        self.links: Any = model.links
        self._infer = model.infer_links
        self._future = model.future

    def train(self, mode: bool = True) -> ReferenceRecognizer:
        """Set the mode of the network; the frozen inference of links stays in evaluation mode."""
        super().train(mode)
        self.links.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            links = self._infer(x).adjacency.flatten(0, 1)
        return self.network(x[:, :, : x.shape[2] - self._future], links)


def build_reference_asgcn(model: ASGCN) -> ReferenceRecognizer:
    """Build the reference network of a released model, with its weights.

    Raises:
        ModelError: the model is not the released one (``faithful=True``, nothing added).
    """
    first: Any = model.blocks[0]
    conditions = (
        model.link_weight == LINK_WEIGHT,
        first.tcn.kernel_size[0] == TEMPORAL_KERNEL,
        first.gcn.actional is not None,
        first.gcn.structural.edge_importance is not None,
    )
    expected = "a temporal kernel of 9, edge importance, and actional links"
    require_released(model, "AS-GCN", expected, conditions)
    reference = ReferenceASGCN.copy_of(model, "asgcn", first.gcn.structural.A)
    return ReferenceRecognizer(reference, model).train(model.training)
