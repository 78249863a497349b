"""Translation of a trained module, traced with `torch.fx`, into a graph of inference layers.

Modules work on (n, C, T, V), inference layers on (n, T, V, C). A module is translated if all that
it computes has a layer: convolutions, batch norms, functions of single numbers, sums and products,
and every module with a method ``inference_layer()``, which returns its own.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from kinegraph.errors import UntranslatableError
from kinegraph.ops.layers import (
    Affine,
    Combination,
    Combine,
    InferenceLayer,
    Linear,
    Pointwise,
    Scale,
    batch_norm_affine,
    mix_channels,
    pick_frames,
    scale_features,
)
from kinegraph.ops.temporal import TemporalConv, TemporalPool, TemporalStride
from kinegraph.runtime.graph import LayerGraph

POINTWISE_MODULES = (nn.ELU, nn.GELU, nn.Hardswish, nn.LeakyReLU, nn.Sigmoid, nn.SiLU, nn.Tanh)
POINTWISE: dict[Any, Callable[[Tensor], Tensor]] = {
    **dict.fromkeys((torch.relu, torch.relu_, functional.relu, "relu", "relu_"), torch.relu),
    **dict.fromkeys((torch.sigmoid, "sigmoid"), torch.sigmoid),
    **dict.fromkeys((torch.tanh, "tanh"), torch.tanh),
}
BINARY: dict[Any, Combination] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add"), "sum"),
    **dict.fromkeys((operator.sub, torch.sub, "sub"), "difference"),
    **dict.fromkeys((operator.mul, torch.mul, "mul"), "product"),
}
#: With a number in place of the second or of the first operand.
WITH_NUMBER = {
    "sum": (torch.add, torch.add),
    "difference": (torch.sub, torch.rsub),
    "product": (torch.mul, torch.mul),
}
ALL = slice(None)


@dataclass(frozen=True)
class Value:
    """The number of a value in the graph of layers."""

    number: int


#: `torch.fx` replaces methods of all modules while it traces, so only one trace runs at a time.
_TRACE_LOCK = threading.Lock()


class _Tracer(fx.Tracer):
    def __init__(self, method: str = "forward") -> None:  # unpickling passes no argument
        super().__init__()
        self.traced_func_name = method

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Record the call, but not that of a network which another thread runs meanwhile."""
        if not any(isinstance(arg, fx.Proxy) for arg in (*args, *kwargs.values())):
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return hasattr(m, "inference_layer") or super().is_leaf_module(m, module_qualified_name)


def trace_method(module: nn.Module, method: str) -> fx.Graph:
    """Return the operations of a method.

    Args:
        module: no other thread may run it; others may run other modules.
        method: its name.

    Raises:
        UntranslatableError: the method decides by the values or sizes of its inputs what to do.
    """
    try:
        with _TRACE_LOCK:
            graph = _Tracer(method).trace(module)
    except Exception as error:
        # a model's own code runs here with stand-ins for tensors, and may fail in any way
        raise UntranslatableError(f"{type(module).__name__}.{method}: {error}") from error
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
    for node in graph.nodes:
        node.type = None  # postponed annotations are strings, with which no graph can be pickled
    return graph


class _Classifier(nn.Module):
    """The root of the graph of `SkeletonModel.classify`, with no name that a graph module has."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pooled: Tensor) -> Any:
        """(N, P) -> (N, classes)."""
        return self.model.classify(pooled)


def copy_classifier(model: nn.Module) -> fx.GraphModule:
    """Return a copy of what `SkeletonModel.classify` computes, without the rest of the model.

    Raises:
        UntranslatableError: see `trace_method`.
    """
    root = _Classifier(model)
    return deepcopy(fx.GraphModule(root, trace_method(root, "forward")))


def translate(module: nn.Module, method: str = "forward") -> LayerGraph:
    """Return the inference layers that compute what a method does in evaluation mode, one each.

    Args:
        module: its method takes features (n, C, T, V), and further inputs for modules with an
            ``inference_layer`` of several inputs.
        method: its name.

    Raises:
        UntranslatableError: with the first operation that has no layer.
    """
    graph = trace_method(module, method)
    translation = _Translation(module, graph)
    for node in graph.nodes:
        translation.add(node)
    return translation.graph()


class _Translation:
    """Layers and what each reads, made from the nodes of a graph, one after the other."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        self.module = module
        self.layers: list[InferenceLayer] = []
        self.inputs: list[tuple[int, ...]] = []
        self.num_inputs = sum(node.op == "placeholder" for node in graph.nodes)
        self.output = -1
        self._results: dict[fx.Node, Any] = {}  # a `Value`, a constant, or a tuple of them
        self._constants: set[fx.Node] = set()

    def add(self, node: fx.Node) -> None:
        args = fx.map_arg(node.args, self._results.__getitem__)
        kwargs = fx.map_arg(node.kwargs, self._results.__getitem__)
        if node.op == "placeholder":
            number = sum(other.op == "placeholder" for other in self._results)
            self._results[node] = Value(number)
        elif node.op == "get_attr":
            found: Any = operator.attrgetter(str(node.target))(self.module)
            self._results[node] = found.detach() if isinstance(found, Tensor) else found
            self._constants.add(node)
        elif node.op == "output":
            self.output = self._number(args[0], node)
        elif node.op == "call_module":
            self._results[node] = self._module(node, args)
        elif self._constants.issuperset(node.all_input_nodes):
            self._results[node] = _constant(node, args, kwargs)
            self._constants.add(node)
        else:
            self._results[node] = self._function(node, args, dict(kwargs))

    def graph(self) -> LayerGraph:
        if not self.layers or self.output != self.num_inputs + len(self.layers) - 1:
            raise UntranslatableError("the output is not that of the last operation")
        return LayerGraph(self.layers, self.inputs, self.num_inputs)

    def _append(self, layer: InferenceLayer, *values: Value) -> Value:
        self.layers.append(layer)
        self.inputs.append(tuple(value.number for value in values))
        return Value(self.num_inputs + len(self.layers) - 1)

    def _number(self, value: Any, node: fx.Node) -> int:
        if not isinstance(value, Value):
            raise _untranslatable(node)
        return value.number

    def _module(self, node: fx.Node, args: Sequence[Any]) -> Value:
        module = self.module.get_submodule(str(node.target))
        for value in args:
            self._number(value, node)
        if hasattr(module, "inference_layer"):
            return self._append(module.inference_layer(), *args)
        if len(args) != 1:
            raise _untranslatable(node)
        (x,) = args
        if isinstance(module, nn.Dropout | nn.Identity):
            return x
        if isinstance(module, nn.Conv2d):
            stride, layer = _convolution(module, node)
            thinned = self._append(TemporalStride(stride), x) if stride > 1 else x
            return self._append(layer, thinned)
        if isinstance(module, nn.BatchNorm2d):
            return self._append(Affine(*batch_norm_affine(module)), x)
        if isinstance(module, nn.AvgPool2d | nn.MaxPool2d):
            return self._append(_pool(module, node), x)
        if isinstance(module, nn.ReLU):
            return self._append(Pointwise(torch.relu), x)
        if isinstance(module, POINTWISE_MODULES):
            return self._append(Pointwise(deepcopy(module)), x)
        raise _untranslatable(node, type(module).__name__)

    def _function(self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = node.target
        if name in POINTWISE:
            return self._append(Pointwise(POINTWISE[name]), args[0])
        if name in BINARY and len(args) == 2 and not kwargs:
            return self._binary(BINARY[name], node, *args)
        if name is mix_channels:
            return self._append(Linear(args[1], args[2]), args[0])
        if name is pick_frames:
            return args[0] if args[1] == 1 else self._append(TemporalStride(args[1]), args[0])
        if name is scale_features:
            return self._append(Scale(args[1]), args[0])
        if name is operator.getitem:
            return self._item(node, *args)
        if name in (torch.cat, "mean", torch.mean, "chunk", torch.chunk):
            return self._along(node, *args, **kwargs)
        raise _untranslatable(node)

    def _binary(self, combination: Combination, node: fx.Node, a: Any, b: Any) -> Value:
        if isinstance(a, Value) and isinstance(b, Value):
            return self._append(Combine(combination), a, b)
        second, first = WITH_NUMBER[combination]
        if isinstance(a, Value) and isinstance(b, int | float):
            return self._append(Pointwise(partial(second, other=b)), a)
        if isinstance(b, Value) and isinstance(a, int | float):
            return self._append(Pointwise(partial(first, other=a)), b)
        raise _untranslatable(node)

    def _item(self, node: fx.Node, x: Any, key: Any) -> Any:
        if isinstance(x, tuple) and isinstance(key, int):
            return x[key]
        slices = key if isinstance(key, tuple) else (key,)
        if isinstance(x, Value) and all(isinstance(s, slice) for s in slices):
            if len(slices) == 3 and slices[:2] == (ALL, ALL) and slices[2].start is None:
                step = slices[2].step or 1
                if slices[2].stop is None and step > 0:
                    return x if step == 1 else self._append(TemporalStride(step), x)
            if len(slices) == 2 and slices[0] == ALL:
                return self._append(Pointwise(operator.itemgetter((..., slices[1]))), x)
        raise _untranslatable(node)

    def _along(
        self, node: fx.Node, x: Any, *args: Any, dim: Any = None, keepdim: bool = False
    ) -> Any:
        """Translate a concatenation or parts of the channels, or a mean over joints or channels."""
        rest = list(args)
        chunks = rest.pop(0) if node.target in ("chunk", torch.chunk) and rest else 0
        dim = rest.pop(0) if rest and dim is None else dim
        keepdim = rest.pop(0) if rest else keepdim
        (axis,) = dim if isinstance(dim, tuple | list) and len(dim) == 1 else (dim,)
        axis = axis + 4 if isinstance(axis, int) and axis < 0 else axis
        if node.target is torch.cat and axis == 1:
            return self._append(Combine("concat"), *x)
        if chunks and axis == 1:
            parts = range(int(chunks))
            return tuple(
                self._append(Pointwise(partial(_chunk, chunks=chunks, i=i)), x) for i in parts
            )
        if node.target in ("mean", torch.mean) and axis in (1, 3) and keepdim:
            last = {1: 3, 3: 2}[axis]
            return self._append(Pointwise(partial(torch.mean, dim=last, keepdim=True)), x)
        raise _untranslatable(node)


def _convolution(conv: nn.Conv2d, node: fx.Node) -> tuple[int, InferenceLayer]:
    """Return how many frames to skip first, and the layer of a convolution over time and joints."""
    weight = conv.weight.detach()
    bias = None if conv.bias is None else conv.bias.detach()
    (k, width), (stride, wide), (dilation, apart) = conv.kernel_size, conv.stride, conv.dilation
    if (k, width) == (1, 1) and conv.groups == 1 and conv.padding == (0, 0) and wide == 1:
        return stride, Linear(weight[:, :, 0, 0].T, bias)
    same = (dilation * (k - 1) // 2, width // 2)
    odd = (k - 1) * dilation % 2 == 0 and width % 2 == 1
    if conv.padding != same or not odd or wide != 1 or apart != 1 or conv.padding_mode != "zeros":
        raise _untranslatable(node, "a convolution that changes the number of frames or joints")
    options = {"stride": stride, "groups": conv.groups, "dilation": dilation}
    return 1, TemporalConv(weight, bias, left=same[0], **options)


def _pool(pool: nn.AvgPool2d | nn.MaxPool2d, node: fx.Node) -> TemporalPool:
    """Return the layer of a pool over frames."""
    sizes = (pool.kernel_size, pool.stride, pool.padding)
    (k, width), (stride, wide), (left, side) = (
        (size, size) if isinstance(size, int) else size for size in sizes
    )
    average = isinstance(pool, nn.AvgPool2d)
    usual = pool.count_include_pad if average else pool.dilation in (1, (1, 1))
    if (width, wide, side) != (1, 1, 0) or 2 * left != k - 1 or not usual or pool.ceil_mode:
        raise _untranslatable(node, "a pool that changes the number of frames or joints")
    return TemporalPool("mean" if average else "max", k, left=left, stride=stride)


def _constant(node: fx.Node, args: Any, kwargs: Any) -> Any:
    with torch.no_grad():
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]


def _chunk(x: Tensor, chunks: int, i: int) -> Tensor:
    return x.chunk(chunks, dim=3)[i]


def _untranslatable(node: fx.Node, what: str | None = None) -> UntranslatableError:
    return UntranslatableError(f"there is no inference layer for {what or node.format_node()}")
