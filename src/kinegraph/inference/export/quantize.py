"""Static quantization: products in 8-bit integers, with ranges measured on training clips."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinegraph.inference.backends.exported_model import Talk
from kinegraph.inference.backends.runtimes import missing

#: Makes the inputs of the network anew, one call of it after the other.
Feeds = Callable[[], Iterator[Sequence[Tensor]]]
#: Sums, pooling and comparisons stay in fp32: they cost little. So do products of few terms, among
#: them those that read the coordinates, where eight bits are a coarse grid.
QUANTIZED = ["Conv", "Gemm", "MatMul"]
FEWEST_TERMS = 32


def feeds_of(talks: Iterator[Talk], network: torch.nn.Module) -> Iterator[Sequence[Tensor]]:
    """What goes into a network when it answers for these clips."""
    for talk in talks:
        given = next(talk)
        while True:
            yield given
            with torch.no_grad():
                answer = network(*given)
            try:
                given = talk.send([answer] if isinstance(answer, Tensor) else answer)
            except StopIteration:
                break


def quantized(model: Any, names: Sequence[str], feeds: Feeds) -> Any:
    """An ONNX model with quantized products, weights by channel.

    AS-GCN's link inference stays as it is: it decides between kinds of links, where a rounding
    changes more than the last digits.

    Args:
        model: in fp32.
        names: of its inputs.
        feeds: what to measure the ranges of activations with.
    """
    try:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    except ImportError as error:
        raise missing("onnxruntime", error) from error

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """One call of the network after the other."""

        def __init__(self) -> None:
            self._feeds = feeds()

        def get_next(self) -> dict[str, Any] | None:
            """The next inputs by name, None after the last."""
            given = next(self._feeds, None)
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
            nodes_to_exclude=_kept(model),
            per_channel=True,
            # seven bits for weights: with eight, sums saturate on processors without VNNI
            reduce_range=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(path)


def _kept(model: Any) -> list[str]:
    """Names of the nodes that stay in fp32."""
    shapes = {weight.name: list(weight.dims) for weight in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if _infers_links(node) or _terms(node, shapes) < FEWEST_TERMS
    ]


def _terms(node: Any, shapes: dict[str, list[int]]) -> int:
    """How many products with weights are added up for each number that a node gives."""
    if node.op_type not in QUANTIZED:
        return 0
    left, right = (shapes.get(name) for name in node.input[:2])
    if right is None:
        return 0 if left is None else left[-1]
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return math.prod(right[1:]) if node.op_type == "Conv" or transposed else right[-2]


def _infers_links(node: Any) -> bool:
    scopes = [entry.value for entry in node.metadata_props if "name_scopes" in entry.key]
    return any("'links" in scope for scope in scopes)
