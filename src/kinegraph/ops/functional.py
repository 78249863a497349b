"""Functions of features (n, C, T, V) that the runtime replaces by inference layers.

Shapes: n folded persons, C channels, T frames, V joints. Features are channels-last in memory, so
that all views of them as rows (n*T, V*C) or (n*T*V, C) are free.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from kinegraph.errors import UntranslatableError

F = TypeVar("F", bound=Callable[..., Any])


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
    return torch.addmm(bias, rows, weight).view(n, t, v, -1).permute(0, 3, 1, 2)


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
