"""Static quantization: products in 8-bit integers, with ranges measured on training clips."""

from __future__ import annotations

import math
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinegraph.inference.backends.runtimes import import_package
from kinegraph.inference.export.trace import TracedNetwork
from kinegraph.training.batch import Batch

#: Inputs of the network, call after call.
Feeds = Iterator[Sequence[Tensor]]
#: Sums, pooling and comparisons stay in fp32: they cost little. So do products of few terms, among
#: them those that read the coordinates, where eight bits are a coarse grid.
QUANTIZED = ["Conv", "Gemm", "MatMul"]
MIN_TERMS = 32


def iterate_inputs(traced: TracedNetwork, clips: Iterable[Batch]) -> Feeds:
    """Yield the inputs of every call of a network for some clips."""
    calls: deque[Sequence[Tensor]] = deque()

    @torch.no_grad()
    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        calls.append(inputs)
        outputs = traced.network(*inputs)
        return [outputs] if isinstance(outputs, Tensor) else list(outputs)

    for clip in clips:
        traced.interface.compute(run, clip.x, clip.lengths)
        while calls:
            yield calls.popleft()


def quantize(model: Any, names: Sequence[str], feeds: Feeds, exact: Sequence[str]) -> Any:
    """Return an ONNX model with quantized products, weights by channel.

    Args:
        model: in fp32.
        names: of its inputs.
        feeds: inputs to measure the ranges of activations on.
        exact: names of modules that stay in fp32, because they decide between alternatives: there
            a rounding changes more than the last digits.
    """
    onnx = import_package("onnx")
    import_package("onnxruntime")
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            given = next(feeds, None)
            if given is None:
                return None
            return {name: t.numpy() for name, t in zip(names, given, strict=True)}

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            path,
            Reader(),
            op_types_to_quantize=QUANTIZED,
            nodes_to_exclude=_unquantized(model, exact),
            per_channel=True,
            # seven bits for weights: with eight, sums saturate on processors without VNNI
            reduce_range=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(path)


def _unquantized(model: Any, exact: Sequence[str]) -> list[str]:
    """Return the names of the nodes that stay in fp32."""
    shapes = {weight.name: list(weight.dims) for weight in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if _is_within(node, exact) or _terms(node, shapes) < MIN_TERMS
    ]


def _terms(node: Any, shapes: dict[str, list[int]]) -> int:
    """Return how many products with weights are summed for each number of a node's output."""
    if node.op_type not in QUANTIZED:
        return 0
    left, right = (shapes.get(name) for name in node.input[:2])
    if right is None:
        return 0 if left is None else left[-1]
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return math.prod(right[1:]) if node.op_type == "Conv" or transposed else right[-2]


def _is_within(node: Any, modules: Sequence[str]) -> bool:
    scopes = [entry.value for entry in node.metadata_props if "name_scopes" in entry.key]
    return any(f"'{name}" in scope for scope in scopes for name in modules)
