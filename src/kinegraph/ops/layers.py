"""Inference layers that treat each frame by itself, and functions that such layers replace.

Shapes: n folded persons, C channels, T frames of a clip, f frames of a step, V joints, K graph
partitions.
All activations are (n, T, V, C) and contiguous, so that the graph product, the channel product and
the temporal convolution all read whole rows. Functions of models are given the same memory as
(n, C, T, V), so that all views of it as rows (n*T, V*C) or (n*T*V, C) are free.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from kinegraph.errors import UntranslatableError
from kinegraph.ops.row_product import row_product
from kinegraph.ops.step_context import StepContext

F = TypeVar("F", bound=Callable[..., Any])
Combination = Literal["sum", "difference", "product", "concat"]

CACHE_BLOCK = 32  # frames whose neighborhood sums are computed at a time


class InferenceLayer(nn.Module):
    """A layer of a trained network, on whole clips or on a few frames at a time.

    This class is for layers that treat each frame by itself; `kinegraph.ops.temporal` has those
    that look at neighboring frames. A module whose forward pass has a faster form returns it,
    made of such layers, from a method ``inference_layer()``.
    """

    #: Whether negative values become zero, and whether the layer can do that.
    relu = False
    supports_relu = False

    def infer_delay(self, first: int, rate: int) -> tuple[int, int]:
        """Store the number of the first frame of the first step, and how many make one here.

        Returns:
            both for the layer that follows.
        """
        return first, rate

    def step(self, x: Tensor, context: StepContext) -> Tensor:
        """(n, f, V, C) -> (n, f', V, C'): the frames that can be known by now."""
        y: Tensor = self(x)
        return y

    def fold_affine(self, scale: Tensor, bias: Tensor) -> bool:
        """Take in a factor and a summand (C',) of the output; return whether that is possible."""
        return False

    def fuse_relu(self) -> bool:
        """Take in a ReLU after the layer; return whether that is possible."""
        self.relu = self.supports_relu
        return self.relu

    @cached_property
    def size(self) -> int:
        """Count the parameters: about as many multiplications for each joint of a frame."""
        return sum(buffer.numel() for buffer in self.buffers())


class Affine(InferenceLayer):
    """A factor and a summand for each joint and channel, or each channel.

    Args:
        scale: (V, C) or (C,), or (M, V, C) for M folded persons.
        bias: of the same shape.
    """

    def __init__(self, scale: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> the same."""
        if self.scale.ndim < 3:
            return torch.addcmul(self.bias, x, self.scale)
        persons = x.unflatten(0, (-1, len(self.scale))).transpose(1, 2)
        return torch.addcmul(self.bias, persons, self.scale).transpose(1, 2).flatten(0, 1)


class Linear(InferenceLayer):
    """A product with a (C, C') matrix, then ReLU if asked for.

    Args:
        weight: (C, C').
        bias: (C',) or None.
    """

    weight: Tensor
    bias: Tensor | None
    supports_relu = True

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight.contiguous())
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> (n, T, V, C')."""
        rows = x.reshape(-1, x.shape[-1])
        mixed = row_product(rows, self.weight, self.bias)
        return (mixed.relu_() if self.relu else mixed).view(*x.shape[:-1], -1)

    def fold_affine(self, scale: Tensor, bias: Tensor) -> bool:
        """Scale the columns of the matrix."""
        if self.relu:
            return False
        self.weight = self.weight * scale
        self.bias = bias if self.bias is None else self.bias * scale + bias
        return True


def graph_product(x: Tensor, gather: Tensor, weight: Tensor, bias: Tensor, *, relu: bool) -> Tensor:
    """Sum over the neighbors of each partition, then multiply the channels by one matrix.

    Args:
        x: (n, T, V, C).
        gather: (n, V*K, V), or (1, V*K, V) for all persons alike.
        weight: (K*C, C').
        bias: (n, V, C') or (1, V, C').
        relu: whether negative values become zero.

    Returns:
        (n, T, V, C').
    """
    n, t, v, c = x.shape
    learns = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    in_one = torch.compiler.is_exporting() or learns
    if in_one or t <= CACHE_BLOCK or x.device.type != "cpu":
        summed = (gather.unsqueeze(1) @ x).reshape(n * t * v, -1)
        mixed = row_product(summed, weight).view(n, t, v, -1).add_(bias.unsqueeze(1))
        return mixed.relu_() if relu else mixed
    mixed = x.new_empty(n, t, v, weight.shape[1])
    sums = x.new_empty(CACHE_BLOCK, gather.shape[1], c)
    for i in range(n):
        own = i if len(gather) > 1 else 0
        for start in range(0, t, CACHE_BLOCK):  # so that the sums of these frames stay in the cache
            frames, out = x[i, start : start + CACHE_BLOCK], mixed[i, start : start + CACHE_BLOCK]
            block = sums[: len(frames)]
            torch.bmm(gather[own].expand(len(frames), -1, -1), frames, out=block)
            product = row_product(block.view(-1, len(weight)), weight)
            torch.add(product.view_as(out), bias[own], out=out)
            if relu:
                out.relu_()
    return mixed


class GraphMix(Linear):
    """A graph convolution: neighborhood sums over the skeleton, and the product of their channels.

    Args:
        A: (K, V, V) adjacency; joint w of the output reads A[k, v, w] of joint v.
        weight: (K, C, C').
        bias: (V, C').
    """

    bias: Tensor

    def __init__(self, A: Tensor, weight: Tensor, bias: Tensor) -> None:
        super().__init__(weight.flatten(0, 1), bias.unsqueeze(0))
        K, V = A.shape[:2]
        self.register_buffer("gather", A.permute(2, 0, 1).reshape(1, V * K, V).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> (n, T, V, C')."""
        return graph_product(x, self.gather, self.weight, self.bias, relu=self.relu)


class Permute(InferenceLayer):
    """Features of one frame in another order, each times a factor.

    Args:
        index: (V*C,) the source of each feature v*C + c.
    """

    scale: Tensor | None

    def __init__(self, index: Tensor) -> None:
        super().__init__()
        self.register_buffer("index", index)
        self.register_buffer("scale", None)

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> the same."""
        rows = x.reshape(x.shape[0] * x.shape[1], -1).index_select(1, self.index)
        return (rows if self.scale is None else rows.mul_(self.scale)).view_as(x)

    def fold_scale(self, scale: Tensor) -> None:
        """Take in a factor (V*C,) of each feature."""
        self.scale = scale if self.scale is None else self.scale * scale


class Scale(InferenceLayer):
    """A factor for each feature of a frame.

    Args:
        scale: (V*C,) of the features v*C + c.
    """

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> the same."""
        return x * self.scale.view(x.shape[2:])


class NodeMix(InferenceLayer):
    """A weighted sum of joints for every joint, each channel by itself.

    Args:
        A: (V, V); joint w of the output reads A[v, w] of joint v.
    """

    def __init__(self, A: Tensor) -> None:
        super().__init__()
        self.register_buffer("gather", A.T.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> the same."""
        return self.gather @ x


class Pointwise(InferenceLayer):
    """A function that treats every number, joint or channel of a frame by itself.

    Args:
        function: (n, T, V, C) -> (n, T, V', C').
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> (n, T, V', C')."""
        return self.function(x)


class Combine(InferenceLayer):
    """Several inputs as one: their sum, difference, product, or channels side by side.

    Args:
        combination: how.
    """

    supports_relu = True

    def __init__(self, combination: Combination) -> None:
        super().__init__()
        self.combination = combination

    def forward(self, *inputs: Tensor) -> Tensor:
        """Each (n, T, V, C) -> (n, T, V, C')."""
        if self.combination == "concat":
            y = torch.cat(inputs, dim=3)
        else:
            function = {"sum": torch.add, "difference": torch.sub, "product": torch.mul}
            y = function[self.combination](*inputs)
        return y.relu_() if self.relu else y


def traced_whole(function: F) -> F:
    """Record calls of a function as one node when `torch.fx` traces a model."""

    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        proxies = [arg for arg in (*args, *kwargs.values()) if isinstance(arg, Proxy)]
        if proxies:
            return proxies[0].tracer.create_proxy("call_function", wrapper, args, kwargs)
        return function(*args, **kwargs)

    return cast(F, wrapper)


@traced_whole
def mix_channels(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return (n, C', T, V): each joint's channels (C,) times weight (C, C'), plus bias (C',)."""
    n, c, t, v = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(n * t * v, c)
    return row_product(rows, weight, bias).view(n, t, v, -1).permute(0, 3, 1, 2)


@traced_whole
def pick_frames(x: Tensor, stride: int) -> Tensor:
    """Return (n, C, ceil(T / stride), V): every ``stride``-th frame.

    Gradients keep the order of the features in memory, which those of `x[:, :, ::stride]` do not.
    """
    return x if stride == 1 else x.permute(0, 2, 3, 1)[:, ::stride].permute(0, 3, 1, 2)


@traced_whole
def scale_features(x: Tensor, scale: Tensor) -> Tensor:
    """Return (n, C, T, V): feature v*C + c of each frame times ``scale`` (V*C,)."""
    rows, unflatten = flatten_features(x)
    return unflatten(rows * scale)


def flatten_features(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return the rows (n*T, V*C) of (n, C, T, V), and a function that undoes this for any C."""
    n, c, t, v = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(n * t, v * c)
    return rows, lambda rows: rows.view(n, t, v, -1).permute(0, 3, 1, 2)


def batch_norm_affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return (F,) factor and summand of a batch norm in evaluation mode.

    Raises:
        UntranslatableError: it has no running statistics.
    """
    variance, mean = norm.running_var, norm.running_mean
    if variance is None or mean is None:
        raise UntranslatableError("a batch norm without running statistics depends on the batch")
    scale = (variance.double() + norm.eps).rsqrt()
    scale = scale if norm.weight is None else norm.weight.double() * scale
    bias = -mean.double() * scale
    bias = bias if norm.bias is None else norm.bias.double() + bias
    return scale.float().detach(), bias.float().detach()
