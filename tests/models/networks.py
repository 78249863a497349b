"""Small networks of every family and variant, with statistics and weights off their start."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from kinegraph.models import create_model, model_options
from kinegraph.models.excitation_config import WIRINGS

SMALL = {"channels": (8, 8, 16), "strides": (1, 2, 2)}
#: Options that make a model narrow, where it has them.
NARROW: dict[str, Any] = {
    "channels": [8, 16],
    "strides": [1, 2],
    "branch_channels": [8],
    "stem_channels": 8,
    "depth": 1,
    "scales": 3,
    "window_scales": 2,
    "windows": [3],
}
#: One block, of families that take seconds to export.
ONE_BLOCK: dict[str, dict[str, Any]] = {
    **{
        name: {"channels": [16], "strides": [2]}
        for name in ("aagcn", "ctrgcn", "dgstgcn", "efficientgcn", "msg3d")
    },
    "skateformer": {"channels": [8], "strides": [1]},
}
EXCITATIONS: list[Any] = [
    *({**wiring, "reduction": 4} if name != "mta" else wiring for name, wiring in WIRINGS.items()),
    {"kind": "ste", "wiring": "parallel", "temporal_branch": True},
    {"kind": "me_tea", "kernel": "v3", "reduction": 2},
    {"kind": "mta", "kernel": "tv3"},
    {"kind": "me+ce+ste", "kernel": "point", "reduction": 2},
]

#: Of models that are local in time: (name, options).
LOCAL: list[tuple[str, dict[str, Any]]] = [
    *(
        (name, {**SMALL, **more})
        for name in ("stgcn", "shiftgcn", "stgcn_twostream", "stgcnpp")
        for more in (
            {},
            {"faithful": True},
            {"pool": "joints"},
            {"channels": (8,), "strides": (1,)},
        )
    ),
    *((name, {**SMALL, "excitation": e}) for name in ("stgcn", "shiftgcn") for e in EXCITATIONS),
    ("stgcn", {**SMALL, "strides": (3, 1, 2), "temporal_kernel": 5}),
    ("stgcn", {**SMALL, "adaptive": True, "strategy": "distance", "max_hop": 2}),
    ("shiftgcn", {**SMALL, "temporal": "naive", "reach": 2}),
    ("shiftgcn", {**SMALL, "spatial": "local"}),
    ("shiftgcn", {**SMALL, "mask": False, "shift_init": 6.0}),
    *(
        ("msg3d", {**SMALL, "scales": 4, "window_scales": 3, **more})
        for more in ({}, {"faithful": True}, {"pyskl": True}, {"windows": (5,)}, {"windows": ()})
    ),
    ("stgcn_autoencoder", SMALL),
]
WHOLE: list[tuple[str, dict[str, Any]]] = [
    ("ctrgcn", SMALL),
    ("ctrgcn", {**SMALL, "faithful": True}),
    ("ctrgcn", {**SMALL, "contraction": "source", "temporal_relu": True, "dilations": (1, 2, 3)}),
    ("ctrgcn", {**SMALL, "pool": "joints", "temporal_kernel": 3}),
    ("asgcn", SMALL),
    ("asgcn", {**SMALL, "actional": False}),
    ("asgcn", {**SMALL, "faithful": True}),
    ("agcn", SMALL),
    ("agcn", {**SMALL, "faithful": True}),
    ("aagcn", SMALL),
    ("aagcn", {**SMALL, "pool": "joints", "attention": False}),
    ("dgstgcn", SMALL),
    ("dgstgcn", {**SMALL, "faithful": True, "pool": "joints"}),
    ("efficientgcn", {**SMALL, "stem_channels": 8, "branch_channels": (8,)}),
    ("efficientgcn", {**SMALL, "variant": "sep", "branches": 3, "branch_depth": 1}),
    ("efficientgcn", {**SMALL, "depth": 2, "pool": "joints", "faithful": True}),
    ("skateformer", SMALL),
    ("skateformer", {**SMALL, "faithful": True}),
]


def narrow(name: str, persons: int = 2) -> dict[str, Any]:
    """Return options that make a model of this name narrow, for clips of so many persons."""
    options = {**NARROW, "persons": persons}
    return {key: value for key, value in options.items() if key in model_options(name)}


def case_name(case: tuple[str, dict[str, Any]]) -> str:
    """The model and what sets its options apart."""
    name, options = case
    apart = [f"{k}={v}" for k, v in options.items() if SMALL.get(k) != v]
    return "-".join([name, *apart])


def settled(name: str, options: dict[str, Any], layout: str = "kinect20") -> nn.Module:
    """The network in evaluation mode, its batch norms as if it had been trained."""
    torch.manual_seed(0)
    model = create_model(name, layout=layout, num_classes=5, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return model.eval()


def clips(frames: int, joints: int = 20) -> torch.Tensor:
    """(3, 3, T, V, 2): two persons; one who comes late; one alone, then nobody."""
    x = torch.randn(3, 3, frames, joints, 2, generator=torch.Generator().manual_seed(frames))
    x[1, :, : frames // 2, :, 1] = 0
    x[2, ..., 1] = 0
    return x
