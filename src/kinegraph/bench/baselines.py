"""Models to measure, their reference networks, and random clips."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.bench.reference.agcn import build_reference_agcn
from kinegraph.bench.reference.asgcn import build_reference_asgcn
from kinegraph.bench.reference.ctrgcn import build_reference_ctrgcn
from kinegraph.bench.reference.efficientgcn import build_reference_efficientgcn
from kinegraph.bench.reference.msg3d import build_reference_msg3d
from kinegraph.bench.reference.pyskl import build_reference_dgstgcn, build_reference_stgcnpp
from kinegraph.bench.reference.shiftgcn import build_reference_shiftgcn
from kinegraph.bench.reference.skateformer import build_reference_skateformer
from kinegraph.bench.reference.stgcn import build_reference_stgcn, build_reference_twostream
from kinegraph.models import MODELS, create_model, model_options
from kinegraph.skeleton.layout import SkeletonLayout

#: A released model -> the same function, computed as the released code computes it.
REFERENCE_BUILDERS: dict[str, Callable[[Any], nn.Module]] = {
    "aagcn": build_reference_agcn,
    "agcn": build_reference_agcn,
    "asgcn": build_reference_asgcn,
    "ctrgcn": build_reference_ctrgcn,
    "dgstgcn": build_reference_dgstgcn,
    "msg3d": build_reference_msg3d,
    "efficientgcn": build_reference_efficientgcn,
    "shiftgcn": build_reference_shiftgcn,
    "skateformer": build_reference_skateformer,
    "stgcn": build_reference_stgcn,
    "stgcn_twostream": build_reference_twostream,
    "stgcnpp": build_reference_stgcnpp,
}

DROPOUT_OPTIONS = ("dropout", "head_dropout", "attention_dropout", "drop_path")

#: Parameters whose start values leave out a part of the network.
STARTS_NEUTRAL = (
    "edge_importance",
    ".mask",
    ".alpha",
    ".beta",
    ".body_share",
    ".edges",
    "gcn_bn.weight",
    ".frames.weight",
    ".expand.weight",
)
#: Options of a released model, where they are not the defaults.
RELEASED_OPTIONS: dict[str, dict[str, Any]] = {
    "efficientgcn": {"in_channels": 18},
}

BENCH_LAYOUT = "ntu25"
NUM_CLASSES = 60
CLIP_FRAMES = 300
#: Frames of the clips of networks that need another number.
OTHER_CLIP_FRAMES = {"skateformer": 64}
CLIP_PERSONS = 2


def clip_frames(model: str) -> int:
    """Return the number of frames of the clips on which a model is measured."""
    return OTHER_CLIP_FRAMES.get(model, CLIP_FRAMES)


def random_clips(
    clips: int = 1,
    frames: int = CLIP_FRAMES,
    persons: int = CLIP_PERSONS,
    joints: int = 25,
    channels: int = 3,
    seed: int = 0,
) -> Tensor:
    """Return (clips, channels, frames, joints, persons): random walks of joints, in meters."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(clips, channels, 1, joints, persons, generator=generator)
    steps = torch.randn(clips, channels, frames, joints, persons, generator=generator)
    return start + (steps / 50).cumsum(dim=2)


def random_clips_for(name: str, model: Any, clips: int = 1) -> Tensor:
    """Return random clips (clips, C, frames, V, persons) of a model's length and channels."""
    frames = clip_frames(name)
    joints, channels = model.layout.num_joints, model.in_channels
    return random_clips(clips, frames, joints=joints, channels=channels)


def create_warmed_up_model(
    name: str, *, layout: SkeletonLayout | str = BENCH_LAYOUT, **options: Any
) -> nn.Module:
    """Create a model with non-initial weights and the batch statistics of a few clips."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = create_model(name, layout=layout, num_classes=NUM_CLASSES, **options)
        _warm_up(model, options.get("persons", CLIP_PERSONS))
    return model.eval()


def create_released_model(name: str, **options: Any) -> nn.Module:
    """Create a warmed-up model that computes what the released code computes, without dropout.

    A family without a reference network has no such form: it is created with its defaults.

    Raises:
        UnknownNameError: there is no such model.
    """
    if name in REFERENCE_BUILDERS:
        dropout = {key: 0.0 for key in DROPOUT_OPTIONS if key in model_options(name)}
        options = {"faithful": True, **dropout, **RELEASED_OPTIONS.get(name, {}), **options}
    return create_warmed_up_model(name, **options)


def create_reference(model: nn.Module) -> nn.Module:
    """Create the reference network of a released model, with the same weights.

    For a family without a reference network it is a copy of the model.

    Raises:
        ModelError: the model has a reference network, but is not the released one.
    """
    for name, build in REFERENCE_BUILDERS.items():
        if isinstance(model, MODELS[name]):
            return build(model)
    return deepcopy(model)


@torch.no_grad()
def _warm_up(model: nn.Module, persons: int) -> None:
    for name, parameter in model.named_parameters():
        if name.endswith(STARTS_NEUTRAL):
            parameter.add_(0.2 * torch.randn_like(parameter))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the mean over all batches; there is one
    net: Any = model
    model.train()
    model(random_clips(16, 24, persons, net.layout.num_joints, net.in_channels, seed=1))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
