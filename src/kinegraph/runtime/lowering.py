"""How trained modules become fast layers: batch norms folded, shifts and edges precomputed."""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError
from kinegraph.models.excitation import (
    Action,
    ChannelExcitation,
    GraphMean,
    MotionExcitation,
    MultipleTemporalAggregation,
    SpatioTemporalExcitation,
)
from kinegraph.models.layers import DataBatchNorm, GraphConv, Residual
from kinegraph.models.shift_layers import TemporalShift
from kinegraph.models.shiftgcn import ShiftGCNBlock, ShiftGraphConv, ShiftTemporalConv
from kinegraph.models.stgcn import STGCNBlock
from kinegraph.runtime.layers import (
    Affine,
    Chain,
    Difference,
    FastLayer,
    GraphMix,
    Mean,
    Mix,
    Neighbours,
    Pick,
    Relu,
    Reorder,
    Sigmoid,
    Thin,
    TimeConv,
    Together,
)
from kinegraph.runtime.minimal_filtering import MinimalTimeConv

FARTHEST = 4096  # frames; a temporal shift beyond is a mistake of training


@singledispatch
def lower(module: nn.Module) -> FastLayer:
    """The fast layer that computes what a module does in evaluation mode.

    Raises:
        ModelError: a module whose fast form is not known, or is not local in time.
    """
    raise ModelError(f"{type(module).__name__} has no fast form")


def folded(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """(F,) factor and summand of a batch norm in evaluation mode."""
    if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
        raise ModelError(f"expected a batch norm to fold, got {type(norm).__name__}")
    variance, mean = norm.running_var, norm.running_mean
    if variance is None or mean is None:
        raise ModelError("a batch norm without running statistics has no fast form")
    scale = norm.weight.double() / (variance.double() + norm.eps).sqrt()
    bias = norm.bias.double() - mean.double() * scale
    return scale.float().detach(), bias.float().detach()


def normalised(norm: DataBatchNorm, joints: int, persons: int) -> Affine:
    """The fast form of a data batch norm, of ``persons`` persons side by side or of any."""
    scale, bias = folded(norm)
    shape = (persons, joints, -1) if persons else (joints, -1)
    return Affine(scale.view(shape), bias.view(shape))


def graph_mix(conv: GraphConv, norm: nn.Module, *, relu: bool) -> GraphMix:
    """A graph convolution with the batch norm after it."""
    A = conv.weighted_adjacency().detach()
    scale, shift = folded(norm)
    bias_wc = torch.einsum("kvw,kc->wc", A, conv.bias.detach())
    return GraphMix(A, conv.weight.detach() * scale, bias_wc * scale + shift, relu=relu)


def convolution(conv: nn.Conv2d, norm: nn.Module | None = None, *, relu: bool = False) -> Chain:
    """A convolution over time and joints, with the batch norm and ReLU after it."""
    weight, bias = conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
    if norm is not None:
        scale, shift = folded(norm)
        weight = weight * scale[:, None, None, None]
        bias = shift if bias is None else bias * scale + shift
    stride, after = int(conv.stride[0]), [Relu()] if relu else []
    if conv.kernel_size == (1, 1) and conv.groups == 1:
        thin = [Thin(stride)] if stride > 1 else []
        return Chain(*thin, Mix(weight[:, :, 0, 0].T, bias, relu=relu))
    padding = conv.padding[0]
    if not isinstance(padding, int) or 2 * padding != conv.kernel_size[0] - 1:
        raise ModelError("a temporal convolution that shortens the clip has no fast form")
    if bias is not None and MinimalTimeConv.fits(weight, stride, conv.groups):
        return Chain(MinimalTimeConv(weight, bias, left=padding, stride=stride), *after)
    return Chain(TimeConv(weight, bias, left=padding, stride=stride, groups=conv.groups), *after)


def temporal_shift(shift: TemporalShift, norm: nn.Module | None = None) -> TimeConv:
    """A temporal shift as a depthwise convolution over the frames that its channels read."""
    middle = 0.0 if shift.grad_mode is None else (shift.stride - 1) / 2
    position = shift.shift.detach() + middle
    if not bool((position.abs() < FARTHEST).all()):
        raise ModelError(f"a temporal shift of {position.abs().max()} frames: training went wrong")
    frame = position.floor()
    left, right = int((-frame.min()).clamp(min=0)), int((frame.max() + 1).clamp(min=0))
    taps = torch.arange(-left, right + 1, device=position.device)
    kernel = (1 - (position[:, None] - taps).abs()).clamp(min=0)
    if right and not kernel[:, -1].any():
        kernel = kernel[:, :-1]
    scale, bias = (None, None) if norm is None else folded(norm)
    kernel = kernel if scale is None else kernel * scale[:, None]
    weight = kernel[:, None, :, None]
    return TimeConv(weight, bias, left=left, stride=shift.stride, groups=len(kernel))


def sequence(modules: Iterable[nn.Module]) -> Chain:
    """Modules one after the other; a convolution takes in the batch norm and ReLU after it."""
    rest, layers = list(modules), []
    while rest:
        module = rest.pop(0)
        if isinstance(module, nn.Conv2d):
            norm = rest.pop(0) if rest and isinstance(rest[0], nn.BatchNorm2d) else None
            relu = bool(rest) and isinstance(rest[0], nn.ReLU)
            if relu:
                rest.pop(0)
            layers.append(convolution(module, norm, relu=relu))
        else:
            layers.append(lower(module))
    return Chain(*layers)


def unit(main: FastLayer, x: STGCNBlock | ShiftGCNBlock) -> FastLayer:
    """A unit of a network: the main way, what stands beside it, the residual, then ReLU."""
    others = [lower(way) for way in (x.beside, x.residual) if way is not None]
    return Together(main, *others, relu=True) if others else Chain(main, Relu())


@lower.register
def _(block: STGCNBlock) -> FastLayer:
    graph = graph_mix(block.gcn, block.bn, relu=True)
    tcn = block.tcn
    temporal = convolution(tcn, block.tcn_bn) if isinstance(tcn, nn.Conv2d) else lower(tcn)
    return unit(Chain(lower(block.before), graph, temporal), block)


@lower.register
def _(block: ShiftGCNBlock) -> FastLayer:
    return unit(Chain(lower(block.before), lower(block.gcn), lower(block.tcn)), block)


@lower.register
def _(conv: ShiftGraphConv) -> FastLayer:
    scale, bias = folded(conv.bn)
    joints = len(scale) // len(conv.bias)
    shifted = conv.bias.detach().repeat(joints)[conv.shift_out.index]
    mask = None if conv.mask is None else torch.tanh(conv.mask.detach()) + 1
    main = Chain(
        Reorder(conv.shift_in.index, mask),
        Mix(conv.weight.detach(), None),
        Reorder(conv.shift_out.index),
        Affine(scale.view(joints, -1), (bias + scale * shifted).view(joints, -1)),
    )
    return Together(main, lower(conv.residual), relu=True)


@lower.register
def _(conv: ShiftTemporalConv) -> FastLayer:
    return Chain(
        Affine(*folded(conv.bn_in)),
        temporal_shift(conv.shift_in),
        convolution(conv.conv, relu=True),
        temporal_shift(conv.shift_out, conv.bn_out),
    )


@lower.register
def _(residual: Residual) -> FastLayer:
    if residual.conv is None:
        return Chain()
    thin = [Thin(residual.stride)] if residual.stride > 1 else []
    return Chain(*thin, convolution(residual.conv, residual.bn))


@lower.register
def _(modules: nn.Sequential) -> FastLayer:
    return sequence(modules)


@lower.register
def _(_: nn.Identity) -> FastLayer:
    return Chain()


@lower.register
def _(_: nn.ReLU) -> FastLayer:
    return Relu()


@lower.register
def _(conv: nn.Conv2d) -> FastLayer:
    return convolution(conv)


@lower.register
def _(mean: GraphMean) -> FastLayer:
    return Neighbours(mean.get_buffer("A"))


@lower.register
def _(gate: MotionExcitation) -> FastLayer:
    later, now = Chain(lower(gate.spatial), Mean(2)), Mean(2)
    tea = gate.variant == "tea"
    gain = Chain(
        convolution(gate.squeeze, gate.squeeze_bn),
        Together(later, now, combination="concat"),
        Difference(),
        convolution(gate.expand, gate.expand_bn if tea else None),
        Sigmoid(0.5 if tea else 1.0),
    )
    return Together(Chain(), gain, combination="gate")


@lower.register
def _(gate: ChannelExcitation) -> FastLayer:
    convs = sequence((gate.squeeze, gate.temporal, nn.ReLU(), gate.expand))
    return Together(Chain(), Chain(Mean(2), convs, Sigmoid(1.0)), combination="gate")


@lower.register
def _(gate: SpatioTemporalExcitation) -> FastLayer:
    gain = Chain(Mean(3), convolution(gate.conv), Sigmoid(1.0))
    return Together(Chain(), gain, combination="gate")


@lower.register
def _(action: Action) -> FastLayer:
    paths = [lower(path) for path in action.paths]
    gates = Together(*paths) if len(paths) > 1 else paths[0]
    return Chain(convolution(action.shift), gates)


@lower.register
def _(mta: MultipleTemporalAggregation) -> FastLayer:
    width = mta.mix.in_channels // 4
    last = 3 * width, 4 * width
    pool = _average(mta.pool, width) if isinstance(mta.pool, nn.AvgPool2d) else Chain()
    neighbours = Chain(Pick(*last), convolution(mta.neighbours), pool)
    if mta.stride > 1:
        groups = [
            Chain(Pick(i * width, (i + 1) * width), lower(step)) for i, step in enumerate(mta.steps)
        ]
        cascade: FastLayer = Together(*groups, neighbours, combination="concat")
    else:
        stages: list[FastLayer] = [
            _stage(lower(step), i, width, 4 * width) for i, step in enumerate(mta.steps)
        ]
        ends = Together(Pick(0, last[0]), neighbours, combination="concat")
        cascade = Chain(*stages, ends)
    return Chain(cascade, convolution(mta.mix, mta.bn))


def _stage(step: FastLayer, number: int, width: int, channels: int) -> Together:
    """One group of MTA is worked on, with the result of the one before; the others pass by."""
    start, stop = number * width, (number + 1) * width
    group = Pick(start, stop, add=start - width if number else None)
    ways = [Pick(0, start)] if number else []
    return Together(*ways, Chain(group, step), Pick(stop, channels), combination="concat")


def _average(pool: nn.AvgPool2d, channels: int) -> TimeConv:
    """An average over frames; frames outside the clip count as zeros."""
    kernel, stride, padding = (
        int(size[0]) for size in (pool.kernel_size, pool.stride, pool.padding)
    )
    weight = torch.full((channels, 1, kernel, 1), 1 / kernel)
    return TimeConv(weight, None, left=padding, stride=stride, groups=channels)
