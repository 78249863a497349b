"""Conversion of the published graph of MoveNet MultiPose Lightning from TensorFlow.js to ONNX."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import ModelProto

MOVENET_OPSET = 17
MOVENET_IR_VERSION = 8
_FLOAT16_MIN_VALUES = 256  # smaller constants are stored as float32
_TO_END = np.iinfo(np.int64).max
_NUMPY_DTYPES = {
    "DT_FLOAT": np.float32,
    "DT_INT32": np.int64,
}  # shapes and indices of ONNX are int64

#: Operations that have another name, or the same one, and the same inputs and output.
_SAME = {
    "Abs": "Abs",
    "AddN": "Sum",
    "AddV2": "Add",
    "Equal": "Equal",
    "Exp": "Exp",
    "GatherNd": "GatherND",
    "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual",
    "Identity": "Identity",
    "Less": "Less",
    "LogicalAnd": "And",
    "Maximum": "Max",
    "Minimum": "Min",
    "Mul": "Mul",
    "RealDiv": "Div",
    "Range": "Range",
    "Reciprocal": "Reciprocal",
    "Reshape": "Reshape",
    "Select": "Where",
    "Shape": "Shape",
    "Sigmoid": "Sigmoid",
    "Size": "Size",
    "Sub": "Sub",
    "Tile": "Tile",
}
#: Elementwise operations that are computed with channels first if their inputs are.
_KEEP_CHANNELS_FIRST = {"AddV2", "Sigmoid"}
_ACTIVATIONS = {"Relu", "Relu6"}


def convert_to_onnx(graph: Mapping[str, Any], weights: bytes) -> ModelProto:
    """Return the ONNX model of a TensorFlow.js graph that uses the operations of MoveNet.

    Args:
        graph: the parsed JSON file, with the topology and the list of weights.
        weights: the binary file of weights.

    Returns:
        a model with the inputs and outputs of the graph; convolutions have channels first.

    Raises:
        ValueError, KeyError: the graph is damaged, or has an operation that MoveNet does not use.
    """
    converter = _GraphConverter(_read_constants(graph["weightsManifest"][0]["weights"], weights))
    nodes = {node["name"]: node for node in graph["modelTopology"]["node"]}
    links = {name: [_node_name(i) for i in node.get("input", ())] for name, node in nodes.items()}
    for name in TopologicalSorter(links).static_order():
        converter.add(nodes[name])
    signature = graph["signature"]
    [entry] = [_node_name(one["name"]) for one in signature["inputs"].values()]
    [result] = [_node_name(one["name"]) for one in signature["outputs"].values()]
    return converter.finish(entry, result)


def _node_name(tensor: str) -> str:
    return tensor.lstrip("^").partition(":")[0]


def _read_constants(entries: Sequence[Mapping[str, Any]], data: bytes) -> dict[str, NDArray[Any]]:
    """Return the constants by node; they lie one after the other in the file."""
    found, offset = {}, 0
    for entry in entries:
        stored = np.dtype(entry.get("quantization", entry)["dtype"]).newbyteorder("<")
        count = math.prod(entry["shape"])
        values = np.frombuffer(data, stored, count, offset).reshape(entry["shape"])
        found[entry["name"]] = values.astype(_NUMPY_DTYPES[_tensorflow_dtype(entry["dtype"])])
        offset += count * stored.itemsize
    if offset != len(data):
        raise ValueError(f"expected {offset} bytes of weights, got {len(data)}")
    return found


def _tensorflow_dtype(name: str) -> str:
    return {"float32": "DT_FLOAT", "int32": "DT_INT32"}[name]


class _Attributes:
    """The attributes of a node; those that are zero may be missing."""

    def __init__(self, node: Mapping[str, Any]) -> None:
        self._values = node.get("attr", {})

    def integer(self, name: str) -> int:
        return int(self._values.get(name, {}).get("i", 0))

    def integers(self, name: str) -> list[int]:
        return [int(one) for one in self._values.get(name, {}).get("list", {}).get("i", ())]

    def flag(self, name: str) -> bool:
        return bool(self._values.get(name, {}).get("b", False))

    def text(self, name: str) -> str:
        return base64.b64decode(self._values[name]["s"]).decode()

    def texts(self, name: str) -> list[str]:
        entries = self._values.get(name, {}).get("list", {}).get("s", ())
        return [base64.b64decode(one).decode() for one in entries]

    def dtype(self, name: str) -> Any:
        return _NUMPY_DTYPES[self._values[name]["type"]]


class _GraphConverter:
    """Translates nodes in topological order.

    Tensors of TensorFlow have channels last, convolutions of ONNX need them first. Both forms of a
    tensor are known by its name; the missing one is made by a transposition when it is needed.
    """

    def __init__(self, constants: dict[str, NDArray[Any]]) -> None:
        self._constants = constants
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []
        self._last: dict[str, str] = {}  # tensor of the graph -> value with its own axes
        self._first: dict[str, str] = {}  # tensor of the graph -> value with channels first
        self._count = 0

    def add(self, node: Mapping[str, Any]) -> None:
        """Translate a node; its inputs have been translated before."""
        name, operation = node["name"], node["op"]
        inputs = [i.removesuffix(":0") for i in node.get("input", ()) if not i.startswith("^")]
        if operation == "Const":
            return  # read from the weights where it is used
        if operation == "Placeholder":
            self._last[name] = name
            return
        attributes = _Attributes(node)
        if operation in _SAME:
            first = operation in _KEEP_CHANNELS_FIRST and all(i in self._first for i in inputs)
            operands = [self._first[i] if first else self._value(i) for i in inputs]
            (self._first if first else self._last)[name] = self._emit(_SAME[operation], operands)
            return
        method = getattr(self, f"_add_{operation.strip('_').lower()}", None)
        if method is None:
            raise ValueError(f"operation {operation!r} is not supported")
        method(name, inputs, attributes)

    def finish(self, entry: str, result: str) -> ModelProto:
        """Return the model from one input (1, H, W, 3) to one output."""
        from onnx import TensorProto, checker, helper

        self._nodes.append(helper.make_node("Identity", [self._value(result)], ["output"]))
        size: list[str | int | None] = [1, "height", "width", 3]
        graph = helper.make_graph(
            self._nodes,
            "movenet_multipose",
            [helper.make_tensor_value_info(entry, TensorProto.INT32, size)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 6, 56])],
            self._initializers,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", MOVENET_OPSET)])
        model.ir_version = MOVENET_IR_VERSION
        checker.check_model(model)
        return model

    # ---------------------------------------------------------------- values

    def _emit(self, operation: str, inputs: Sequence[str], **attributes: Any) -> str:
        return self._emit_many(operation, inputs, 1, **attributes)[0]

    def _emit_many(
        self, operation: str, inputs: Sequence[str], outputs: int, **attributes: Any
    ) -> list[str]:
        from onnx import helper

        names = [self._new_name() for _ in range(outputs)]
        self._nodes.append(helper.make_node(operation, inputs, names, **attributes))
        return names

    def _new_name(self) -> str:
        self._count += 1
        return f"value_{self._count}"

    def _store(self, values: Any, dtype: Any = None) -> str:
        """Add a constant; large ones are stored in half the size, as they were published."""
        from onnx import TensorProto, numpy_helper

        array = np.array(values, dtype)
        halve = array.dtype == np.float32 and array.size >= _FLOAT16_MIN_VALUES
        name = self._new_name()
        stored = array.astype(np.float16) if halve else array
        self._initializers.append(numpy_helper.from_array(stored, name))
        return self._emit("Cast", [name], to=TensorProto.FLOAT) if halve else name

    def _constant(self, tensor: str) -> NDArray[Any]:
        return self._constants[tensor]

    def _value(self, tensor: str) -> str:
        """Return the value of a tensor with its own axes."""
        if tensor not in self._last:
            if tensor in self._constants:
                self._last[tensor] = self._store(self._constants[tensor])
            else:
                to_last = {"perm": [0, 2, 3, 1]}
                self._last[tensor] = self._emit("Transpose", [self._first[tensor]], **to_last)
        return self._last[tensor]

    def _channels_first(self, tensor: str) -> str:
        if tensor not in self._first:
            value = self._value(tensor)
            self._first[tensor] = self._emit("Transpose", [value], perm=[0, 3, 1, 2])
        return self._first[tensor]

    def _axes(self, axes: Sequence[int]) -> str:
        return self._store(axes, np.int64)

    # ---------------------------------------------------------------- convolutions and images

    def _convolve(
        self, name: str, inputs: list[str], at: _Attributes, weights: NDArray[Any], groups: int
    ) -> None:
        fused = at.texts("fused_ops")
        activation = fused[-1] if fused and fused[-1] in _ACTIVATIONS else None
        if fused not in ([], ["BiasAdd"], ["BiasAdd", activation]):
            raise ValueError(f"fused operations {fused} are not supported")
        operands = [self._channels_first(inputs[0]), self._store(weights)]
        if fused:
            operands.append(self._store(self._constant(inputs[2])))
        out = self._emit(
            "Conv",
            operands,
            group=groups,
            kernel_shape=weights.shape[2:],
            strides=at.integers("strides")[1:3],
            dilations=at.integers("dilations")[1:3],
            auto_pad=_padding(at),
        )
        if activation == "Relu6":
            limits = [self._store(limit, np.float32) for limit in (0, 6)]
            out = self._emit("Clip", [out, *limits])
        elif activation == "Relu":
            out = self._emit("Relu", [out])
        self._first[name] = out

    def _add_fusedconv2d(self, name: str, inputs: list[str], at: _Attributes) -> None:
        self._convolve(name, inputs, at, self._constant(inputs[1]).transpose(3, 2, 0, 1), 1)

    def _add_depthwiseconv2dnative(self, name: str, inputs: list[str], at: _Attributes) -> None:
        weights = self._constant(inputs[1])  # (H, W, C, M)
        height, width, channels, _ = weights.shape
        own = weights.transpose(2, 3, 0, 1).reshape(-1, 1, height, width)
        self._convolve(name, inputs, at, own, channels)

    _add_fuseddepthwiseconv2dnative = _add_depthwiseconv2dnative

    def _add_maxpool(self, name: str, inputs: list[str], at: _Attributes) -> None:
        self._first[name] = self._emit(
            "MaxPool",
            [self._channels_first(inputs[0])],
            kernel_shape=at.integers("ksize")[1:3],
            strides=at.integers("strides")[1:3],
            auto_pad=_padding(at),
        )

    def _add_resizebilinear(self, name: str, inputs: list[str], at: _Attributes) -> None:
        if not at.flag("half_pixel_centers") or at.flag("align_corners"):
            raise ValueError("expected a resize operation with half-pixel centers")
        image = self._channels_first(inputs[0])
        shape = self._emit("Shape", [image], start=0, end=2)
        sizes = self._emit("Concat", [shape, self._value(inputs[1])], axis=0)
        options = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        self._first[name] = self._emit("Resize", [image, "", "", sizes], **options)

    # ---------------------------------------------------------------- shapes and indices

    def _add_cast(self, name: str, inputs: list[str], at: _Attributes) -> None:
        from onnx import helper

        to = helper.np_dtype_to_tensor_dtype(np.dtype(at.dtype("DstT")))
        self._last[name] = self._emit("Cast", [self._value(inputs[0])], to=to)

    def _add_fill(self, name: str, inputs: list[str], at: _Attributes) -> None:
        dims, value = (self._value(one) for one in inputs)
        self._last[name] = self._emit("Expand", [value, dims])

    def _add_expanddims(self, name: str, inputs: list[str], at: _Attributes) -> None:
        axis = self._axes([int(self._constant(inputs[1]))])
        self._last[name] = self._emit("Unsqueeze", [self._value(inputs[0]), axis])

    def _add_squeeze(self, name: str, inputs: list[str], at: _Attributes) -> None:
        axes = self._axes(at.integers("squeeze_dims"))
        self._last[name] = self._emit("Squeeze", [self._value(inputs[0]), axes])

    def _add_pack(self, name: str, inputs: list[str], at: _Attributes) -> None:
        axis = at.integer("axis")
        axes = self._axes([axis])
        parts = [self._emit("Unsqueeze", [self._value(one), axes]) for one in inputs]
        self._last[name] = self._emit("Concat", parts, axis=axis)

    def _add_unpack(self, name: str, inputs: list[str], at: _Attributes) -> None:
        axis, axes = at.integer("axis"), self._axes([at.integer("axis")])
        parts = self._emit_many("Split", [self._value(inputs[0])], at.integer("num"), axis=axis)
        self._set_outputs(name, [self._emit("Squeeze", [part, axes]) for part in parts])

    def _add_split(self, name: str, inputs: list[str], at: _Attributes) -> None:
        axis, value = int(self._constant(inputs[0])), self._value(inputs[1])
        outputs = at.integer("num_split")
        self._set_outputs(name, self._emit_many("Split", [value], outputs, axis=axis))

    def _add_concatv2(self, name: str, inputs: list[str], at: _Attributes) -> None:
        values = [self._value(one) for one in inputs[:-1]]
        axis = int(self._constant(inputs[-1]))
        self._last[name] = self._emit("Concat", values, axis=axis)

    def _add_stridedslice(self, name: str, inputs: list[str], at: _Attributes) -> None:
        if at.integer("ellipsis_mask"):
            raise ValueError("expected slices without an ellipsis")
        masks = {n: at.integer(f"{n}_mask") for n in ("begin", "end", "shrink_axis", "new_axis")}
        starts: list[int] = []
        ends: list[int] = []
        steps: list[int] = []
        squeezed: list[int] = []
        added: list[int] = []
        spans = zip(*(self._constant(one).tolist() for one in inputs[1:]), strict=True)
        for bit, (begin, end, step) in enumerate(spans):
            is_set = {mask: bool(value >> bit & 1) for mask, value in masks.items()}
            if is_set["new_axis"]:
                added.append(len(starts) - len(squeezed) + len(added))
                continue
            if is_set["shrink_axis"]:
                squeezed.append(len(starts))
                end = begin + 1 or _TO_END
            starts.append(0 if is_set["begin"] else begin)
            ends.append(_TO_END if is_set["end"] and not is_set["shrink_axis"] else end)
            steps.append(step)
        spec = [self._axes(one) for one in (starts, ends, range(len(starts)), steps)]
        out = self._emit("Slice", [self._value(inputs[0]), *spec])
        if squeezed:
            out = self._emit("Squeeze", [out, self._axes(squeezed)])
        if added:
            out = self._emit("Unsqueeze", [out, self._axes(added)])
        self._last[name] = out

    # ---------------------------------------------------------------- arithmetic

    def _add_floordiv(self, name: str, inputs: list[str], at: _Attributes) -> None:
        out = self._emit("Div", [self._value(one) for one in inputs])
        if at.dtype("T") is np.float32:  # integers are not negative here, so truncation is enough
            out = self._emit("Floor", [out])
        self._last[name] = out

    def _add_squareddifference(self, name: str, inputs: list[str], at: _Attributes) -> None:
        difference = self._emit("Sub", [self._value(one) for one in inputs])
        self._last[name] = self._emit("Mul", [difference, difference])

    def _add_topkv2(self, name: str, inputs: list[str], at: _Attributes) -> None:
        count = self._axes([int(self._constant(inputs[1]))])
        self._set_outputs(name, self._emit_many("TopK", [self._value(inputs[0]), count], 2))

    def _add_argmax(self, name: str, inputs: list[str], at: _Attributes) -> None:
        axis = int(self._constant(inputs[1]))
        self._last[name] = self._emit("ArgMax", [self._value(inputs[0])], axis=axis, keepdims=0)

    def _add_sum(self, name: str, inputs: list[str], at: _Attributes) -> None:
        axes = self._axes(np.atleast_1d(self._constant(inputs[1])).tolist())
        keep = int(at.flag("keep_dims"))
        self._last[name] = self._emit("ReduceSum", [self._value(inputs[0]), axes], keepdims=keep)

    def _add_max(self, name: str, inputs: list[str], at: _Attributes) -> None:
        axes = np.atleast_1d(self._constant(inputs[1])).tolist()
        keep = int(at.flag("keep_dims"))
        value = self._value(inputs[0])
        self._last[name] = self._emit("ReduceMax", [value], axes=axes, keepdims=keep)

    def _set_outputs(self, name: str, values: Sequence[str]) -> None:
        for number, value in enumerate(values):
            self._last[f"{name}:{number}" if number else name] = value


def _padding(at: _Attributes) -> str:
    return {"SAME": "SAME_UPPER", "VALID": "VALID"}[at.text("padding")]
