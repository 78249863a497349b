"""The joints of NTU RGB+D in another order, and the parameters of a network that follow them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout

NTU = get_layout("ntu25")
#: The numbers of the joints of `NTU`, as they follow each other in the other order.
ORDER = torch.randperm(NTU.num_joints, generator=torch.Generator().manual_seed(1))


def permuted_layout() -> SkeletonLayout:
    """Return the layout of NTU with its joints in the other order."""
    place = ORDER.argsort().tolist()
    return SkeletonLayout(
        name="permuted",
        joints=tuple(NTU.joints[i] for i in ORDER),
        bones=tuple((place[a], place[b]) for a, b in NTU.bones),
        center=place[NTU.center],
    )


def permuted_state(model: nn.Module, graphs: str, shares: str = "none") -> dict[str, Tensor]:
    """Return the state dict of a network whose joints stand in the other order.

    Args:
        model: a network of `NTU` for clips of three channels whose persons share one data batch
            norm.
        graphs: how the names of tensors (..., w * V, w * V) end, of one or more frames.
        shares: how the names of tensors (V,) end.
    """
    V, state = NTU.num_joints, model.state_dict()
    for key, value in state.items():
        if key.endswith(graphs):
            nodes = torch.cat([ORDER + V * frame for frame in range(value.shape[-1] // V)])
            state[key] = value[..., nodes, :][..., nodes]
        elif key.endswith(shares):
            state[key] = value[ORDER]
        elif key.startswith("data_bn") and value.ndim:
            state[key] = value.view(V, 3)[ORDER].flatten()
    return state
