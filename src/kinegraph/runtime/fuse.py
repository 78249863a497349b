"""The fast path: a trained model as a fast network, the same function with less work."""

from __future__ import annotations

from copy import deepcopy
from functools import singledispatch

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError
from kinegraph.models.asgcn import ASGCN
from kinegraph.models.autoencoder import STGCNAutoEncoder
from kinegraph.models.shiftgcn import ShiftGCN
from kinegraph.models.stgcn import STGCN
from kinegraph.models.twostream import TwoStreamSTGCN
from kinegraph.runtime.fast_actional import ActionalUnit, ActionalUnits, FastDataNorm
from kinegraph.runtime.layers import Chain, FastLayer, RelativeMotion
from kinegraph.runtime.lowering import lower, normalised
from kinegraph.runtime.network import FastNetwork, Path

#: Largest difference of logits, as a share of the largest logit, that a conversion may make.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 5e-2}


def fastest_dtype(device: torch.device) -> torch.dtype:
    """The precision in which a device multiplies quickest: bfloat16 if it has units for it."""
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        has_units = bool(able.get("amx_bf16") or able.get("avx512_bf16"))
    else:
        supported = getattr(torch.get_device_module(device), "is_bf16_supported", lambda: False)
        has_units = bool(supported())
    return torch.bfloat16 if has_units else torch.float32


def fast(model: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A network that answers as a trained model does, but faster.

    Batch norms are folded, edge importances multiplied in, shifts become convolutions with fixed
    taps. What comes out is compared with the model on a random clip before it is returned.

    Args:
        model: of `MODELS`; it is not changed, and may be trained on.
        dtype: of the activations; see `fastest_dtype`.

    Returns:
        A network that is called like the model: (N, C, T, V, M) -> (N, classes); a `FastNetwork`
        for the families that are local in time. Its attribute ``difference`` says how far the
        logits of the two were apart, as a share of the largest.

    Raises:
        ModelError: the model has no fast form, or the two do not agree (a network with absurd
            weights, such as one whose training has diverged).
    """
    network = _fast(model).eval().requires_grad_(False)
    if dtype != torch.float32:
        layers = network.blocks if isinstance(network, ASGCN) else network
        layers.to_dtype(dtype)
    network.difference = _checked_difference(model, network, TOLERANCE[dtype])
    return network


@singledispatch
def _fast(model: nn.Module) -> nn.Module:
    raise ModelError(f"{type(model).__name__} has no fast form")


@_fast.register
def _(network: FastNetwork) -> nn.Module:
    return network


@_fast.register
def _(model: STGCN) -> nn.Module:
    return FastNetwork([_path(model)], model.layout, model.in_channels, ghosts=model.faithful)


@_fast.register
def _(model: ShiftGCN) -> nn.Module:
    persons = model.persons if model.faithful else 0
    return FastNetwork(
        [_path(model, persons=persons)],
        model.layout,
        model.in_channels,
        ghosts=model.faithful,
        persons=persons,
    )


@_fast.register
def _(model: TwoStreamSTGCN) -> nn.Module:
    motion = RelativeMotion(ghosts=model.faithful)
    paths = [_path(model.origin_stream), _path(model.motion_stream, motion)]
    return FastNetwork(paths, model.layout, model.in_channels, ghosts=model.faithful)


@_fast.register
def _(model: STGCNAutoEncoder) -> nn.Module:
    return _fast(model.encoder)


@_fast.register
def _(model: ASGCN) -> nn.Module:
    if isinstance(model.data_bn, FastDataNorm):
        return model
    network = deepcopy(model)
    network.data_bn = FastDataNorm(normalised(model.data_bn, model.layout.num_joints, 0))
    network.blocks = ActionalUnits(ActionalUnit(block) for block in model.blocks)
    network.forecast = None  # what only training and future poses need is left out
    if network.links is not None:
        del network.links.decoder
    return network


def _path(model: STGCN | ShiftGCN, *before: FastLayer, persons: int = 0) -> Path:
    norm = normalised(model.data_bn, model.layout.num_joints, persons)
    units = (lower(block) for block in model.blocks)
    return Path(Chain(*before, norm, *units), deepcopy(model.head), model.pool)


@torch.inference_mode()
def _checked_difference(model: nn.Module, network: nn.Module, tolerance: float) -> float:
    """How far the network's logits of a random clip are from the model's."""
    modes = {module: module.training for module in model.modules()}
    persons = getattr(model, "persons", 2) if getattr(model, "faithful", False) else 2
    frames = 24 + getattr(model, "future", 0)
    device = next(model.parameters()).device
    draw = torch.Generator().manual_seed(0)
    shape = (1, model.in_channels, frames, model.layout.num_joints, persons)
    clip = torch.randn(shape, generator=draw)
    try:
        expected, got = model.eval()(clip.to(device)), network(clip.to(device))
    finally:
        for module, mode in modes.items():
            module.training = mode
    error = relative_error(got, expected)
    if not error <= tolerance:
        raise ModelError(
            f"the fast form of this {type(model).__name__} does not agree with it: logits differ "
            f"by {error:.1g} of the largest, at most {tolerance:.0e} is allowed"
        )
    return error


def relative_error(got: Tensor, expected: Tensor) -> float:
    """Largest difference as a share of the largest expected value."""
    largest = expected.float().abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return float((got.float() - expected.float()).abs().max() / largest)
