"""Optimization of a trained model for inference: folded batch norms, fused operations."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError, UntranslatableError
from kinegraph.ops.layers import Affine, InferenceLayer, Permute, Pointwise, Scale
from kinegraph.ops.minimal_filtering import WinogradTemporalConv
from kinegraph.ops.temporal import TemporalConv
from kinegraph.runtime.graph import LayerGraph
from kinegraph.runtime.network import FusedModule, InferenceNetwork, PersonNetwork, WholeClipNetwork
from kinegraph.runtime.trace import copy_classifier, translate

#: Largest difference of logits, as a share of the largest logit, that the optimization may make.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 5e-2}

#: A module is replaced where it computes at least so many matrix products or convolutions.
MIN_PRODUCTS = 2


def optimize_for_inference(
    model: nn.Module, dtype: torch.dtype = torch.float32
) -> InferenceNetwork:
    """Return a network that computes what a trained model does, but faster.

    Batch norms are folded into the layers before them, edge importances are multiplied in, shifts
    become convolutions with fixed kernels. The result is compared with the model on a random clip
    before it is returned.

    Args:
        model: keeps the contract of `kinegraph.models.base.SkeletonModel`; it is not changed.
        dtype: of the activations.

    Returns:
        A network that is called like the model: a `PersonNetwork` where the model works on each
        person by itself and is local in time; else a `WholeClipNetwork`, with fused modules
        where it has any.

    Raises:
        ModelError: the two do not agree (a network with extreme weights, such as one whose
            training has diverged).
    """
    if isinstance(model, InferenceNetwork):
        return model
    if missing := [name for name in ("layout", "in_channels") if not hasattr(model, name)]:
        raise ModelError(
            f"{type(model).__name__} does not implement the model contract: it has no "
            f"{' and no '.join(missing)} (see kinegraph.models.base.SkeletonModel)"
        )
    try:
        network: InferenceNetwork = _fuse_persons(model, dtype)
    except UntranslatableError as error:
        network = _fuse_modules(model, dtype)
        network.reason = str(error)
    network.difference = _compare(model, network, TOLERANCE[dtype])
    return network


def _fuse_persons(model: nn.Module, dtype: torch.dtype) -> PersonNetwork:
    """Return the network of a model that works on each person by itself and is local in time."""
    if not getattr(model, "works_by_person", lambda: False)():
        raise UntranslatableError(f"{type(model).__name__} does not work on each person by itself")
    traced = deepcopy(model).eval()  # another thread may run the model itself
    layers = fuse_layers(translate(traced, "forward_persons"))
    return PersonNetwork(model, layers, copy_classifier(traced), dtype)


def fuse_layers(graph: LayerGraph) -> LayerGraph:
    """Fold batch norms and factors into the layers before them, and fuse ReLUs.

    Returns:
        a graph that shares no tensor with the model.
    """
    uses = [value for read in graph.inputs for value in read]
    layers: list[InferenceLayer] = []
    inputs: list[tuple[int, ...]] = []
    renumbered = {i: i for i in range(graph.num_inputs)}
    for i, (layer, read) in enumerate(zip(graph.layers, graph.inputs, strict=True)):
        given = tuple(renumbered[value] for value in read)
        producer = given[0] - graph.num_inputs
        alone = len(read) == 1 and uses.count(read[0]) == 1 and producer >= 0
        if alone and _fold_batch_norm(layers[producer], layer):
            renumbered[graph.num_inputs + i] = given[0]
            continue
        layers.append(layer)
        inputs.append(given)
        renumbered[graph.num_inputs + i] = graph.num_inputs + len(layers) - 1
    fastest = [
        WinogradTemporalConv.replace(layer) if isinstance(layer, TemporalConv) else layer
        for layer in layers
    ]
    return deepcopy(LayerGraph(fastest, inputs, graph.num_inputs)).eval().requires_grad_(False)


def _fold_batch_norm(before: InferenceLayer, layer: InferenceLayer) -> bool:
    """Fold a batch norm, factor or ReLU into the layer before it; return whether it fits."""
    if isinstance(layer, Affine) and layer.scale.ndim == 1:
        return before.fold_affine(layer.scale, layer.bias)
    if isinstance(layer, Scale) and isinstance(before, Permute):
        before.fold_scale(layer.scale)
        return True
    relu = isinstance(layer, Pointwise) and layer.function is torch.relu
    return relu and before.fuse_relu()


def _fuse_modules(model: nn.Module, dtype: torch.dtype) -> WholeClipNetwork:
    """Return a copy of a model, with inference layers in place of its blocks where possible."""
    network = deepcopy(model).eval()
    getattr(network, "strip_training_parts", lambda: None)()
    fused = _replace_modules(network)
    for module in fused:
        module.layers.to(dtype)
    cast = dtype != torch.float32 and not fused
    return WholeClipNetwork(model, network, dtype, cast=cast)


def _replace_modules(module: nn.Module) -> list[FusedModule]:
    """Replace the largest modules that can be translated; return what they became."""
    fused = []
    for name, child in module.named_children():
        try:
            layers = fuse_layers(translate(child))
        except UntranslatableError:
            fused += _replace_modules(child)
            continue
        products = [layer for layer in layers.layers if getattr(layer, "weight", None) is not None]
        if len(products) >= MIN_PRODUCTS:
            fused.append(FusedModule(layers))
            setattr(module, name, fused[-1])
    return fused


@torch.inference_mode()
def _compare(model: nn.Module, network: InferenceNetwork, tolerance: float) -> float:
    """Return how far the network's logits of a random clip are from the model's."""
    modes = {module: module.training for module in model.modules()}
    device = next(model.parameters()).device
    draw = torch.Generator().manual_seed(0)
    frames, V = 23 + network.min_frames, network.layout.num_joints
    clip = torch.randn((1, network.in_channels, frames, V, network.persons or 2), generator=draw)
    try:
        expected, got = model.eval()(clip.to(device)), network(clip.to(device))
    finally:
        for module, mode in modes.items():
            module.training = mode
    error = relative_error(got, expected)
    if not error <= tolerance:
        raise ModelError(
            f"the optimized form of this {type(model).__name__} does not agree with it: logits "
            f"differ by {error:.1g} of the largest, at most {tolerance:.0e} is allowed"
        )
    return error


def relative_error(got: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of the largest expected value."""
    largest = expected.float().abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return float((got.float() - expected.float()).abs().max() / largest)
