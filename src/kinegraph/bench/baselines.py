"""The plain implementation of each model family, by the model's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.bench.reference.asgcn import plain_asgcn
from kinegraph.bench.reference.shiftgcn import plain_shiftgcn
from kinegraph.bench.reference.stgcn import plain_stgcn, plain_twostream
from kinegraph.errors import ModelError, unknown_name
from kinegraph.models import MODELS, create_model
from kinegraph.skeleton.layout import SkeletonLayout

#: A faithful model -> the same function, computed as released code computes it.
BASELINES: dict[str, Callable[[Any], nn.Module]] = {
    "asgcn": plain_asgcn,
    "shiftgcn": plain_shiftgcn,
    "stgcn": plain_stgcn,
    "stgcn_twostream": plain_twostream,
}

LAYOUT = "ntu25"
CLASSES = 60
FRAMES = 300
PERSONS = 2


def dense_clips(
    clips: int = 1,
    frames: int = FRAMES,
    persons: int = PERSONS,
    joints: int = 25,
    channels: int = 3,
    seed: int = 0,
) -> Tensor:
    """(clips, channels, frames, joints, persons): joints that wander, in metres."""
    draw = torch.Generator().manual_seed(seed)
    start = torch.randn(clips, channels, 1, joints, persons, generator=draw)
    steps = torch.randn(clips, channels, frames, joints, persons, generator=draw)
    return start + (steps / 50).cumsum(dim=2)


def settled(name: str, *, layout: SkeletonLayout | str = LAYOUT, **options: Any) -> nn.Module:
    """A fresh model, its weights off their start, its batch statistics those of a few clips.

    Args:
        name: one of `kinegraph.models.MODELS`.
        layout: the skeleton, or its name.
        options: of the model.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create_model(name, layout=layout, num_classes=CLASSES, **options)
        _settle(model, options.get("persons", PERSONS))
    return model.eval()


def released(name: str, *, layout: SkeletonLayout | str = LAYOUT, **options: Any) -> nn.Module:
    """As `settled`, of the released code's function, without dropout.

    Raises:
        UnknownNameError: a model that has no plain implementation.
    """
    if name not in BASELINES:
        raise unknown_name("model with a plain implementation", name, BASELINES)
    return settled(name, layout=layout, faithful=True, dropout=0.0, **options)


def baseline(model: nn.Module) -> nn.Module:
    """The plain implementation of a released model, with its weights.

    Raises:
        ModelError: the model is not the released one, or of a family that has none.
    """
    for name, make in BASELINES.items():
        if isinstance(model, MODELS[name]):
            return make(model)
    raise ModelError(
        f"{type(model).__name__} has no plain implementation; known: {', '.join(BASELINES)}"
    )


@torch.no_grad()
def _settle(model: nn.Module, persons: int) -> None:
    for name, parameter in model.named_parameters():
        if name.endswith(("edge_importance", ".mask")):
            parameter.add_(0.2 * torch.randn_like(parameter))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the mean of all batches, which is one
    net: Any = model
    model.train()
    model(dense_clips(16, 24, persons, net.layout.num_joints, net.in_channels, seed=1))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
