"""Conversion of an ONNX model to an older opset, for compilers that do not know the current ones.

The exporter of PyTorch writes opset 18 or later. Older opsets state the same operations otherwise:
what became an input of a node was an attribute, and padding named all axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from kinegraph.errors import ExportError

#: The opsets that an export can have, the one by default, and the oldest one of the exporter.
MIN_OPSET, MAX_OPSET, OPSET, EXPORTER_MIN_OPSET = 11, 23, 20, 18
#: Per operator: the opset in which the input of this place replaced the attribute ``axes``.
_AXES_INPUTS = {
    "ReduceSum": (13, 1),
    "Squeeze": (13, 1),
    "Unsqueeze": (13, 1),
    "ReduceMax": (18, 1),
    "ReduceMean": (18, 1),
    "ReduceMin": (18, 1),
    "ReduceProd": (18, 1),
    "ReduceL1": (18, 1),
    "ReduceL2": (18, 1),
    "ReduceSumSquare": (18, 1),
}
#: Comparisons of opset 12, and the older ones that they are the opposites of.
_OPPOSITES = {"GreaterOrEqual": "Less", "LessOrEqual": "Greater"}
#: Operators that take whole numbers since opset 12 (as Clip does), and what selects the same.
_EXTREMES = {"Max": "Greater", "Min": "Less"}
#: Per operator: attributes, and the opset in which they were added; they repeat a default here.
_NEW_ATTRIBUTES = {
    "Reshape": {"allowzero": 14},
    "Split": {"num_outputs": 18},
    **{name: {"noop_with_empty_axes": since} for name, (since, _) in _AXES_INPUTS.items()},
}


def check_opset(opset: int, format: str) -> None:
    """Check that an export of a format can have an opset.

    Raises:
        ExportError: it cannot.
    """
    if format != "onnx":
        raise ExportError(f"format {format!r} has no opset: only onnx files have one")
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise ExportError(f"expected an opset from {MIN_OPSET} to {MAX_OPSET}, got {opset}")


def lower_opset(model: Any, opset: int) -> Any:
    """Return a model of `EXPORTER_MIN_OPSET` as one of an older opset.

    Raises:
        ExportError: the opset lacks an operation of the model.
    """
    import onnx

    lowered = onnx.shape_inference.infer_shapes(model)
    nodes = list(_lower_nodes(lowered.graph, opset))
    del lowered.graph.node[:]
    lowered.graph.node.extend(nodes)
    (main,) = (imported for imported in lowered.opset_import if not imported.domain)
    main.version = opset
    lowered.ir_version = onnx.helper.find_min_ir_version_for([main])
    try:
        onnx.checker.check_model(lowered)
    except onnx.checker.ValidationError as error:
        reason = str(error).splitlines()[0]
        raise ExportError(f"opset {opset} cannot express this model: {reason}") from error
    return lowered


def _lower_nodes(graph: Any, opset: int) -> Iterable[Any]:
    import onnx

    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    ranks = {
        info.name: len(info.type.tensor_type.shape.dim)
        for info in (*graph.input, *graph.value_info, *graph.output)
    }
    for node in graph.node:
        if node.op_type == "Constant":
            (value,) = (a.t for a in node.attribute if a.name == "value")
            values[node.output[0]] = onnx.numpy_helper.to_array(value)
        since, place = _AXES_INPUTS.get(node.op_type, (0, 0))
        if opset < since:
            _move_to_attribute(node, place, "axes", values)
        if node.op_type == "Split" and opset < 13:
            _move_to_attribute(node, 1, "split", values)
        if node.op_type == "Pad" and opset < 18 and len(node.input) > 3:
            yield from _pad_all_axes(node, values, ranks)
        elif node.op_type == "Shape" and opset < 15 and node.attribute:
            yield from _slice_shape(node)
        elif node.op_type in _OPPOSITES and opset < 12:
            yield from _negate_opposite(node)
        elif node.op_type in _EXTREMES and opset < 12 and len(node.input) == 2:
            yield from _select_extreme(node)
        elif node.op_type == "Clip" and opset < 12:
            yield from _clip_by_selection(node)
        else:
            _remove_new_attributes(node, opset)
            yield node


def _remove_new_attributes(node: Any, opset: int) -> None:
    added = _NEW_ATTRIBUTES.get(node.op_type, {})
    kept = [a for a in node.attribute if opset >= added.get(a.name, 0)]
    del node.attribute[:]
    node.attribute.extend(kept)


def _move_to_attribute(node: Any, place: int, name: str, values: dict[str, Any]) -> None:
    import onnx

    if len(node.input) <= place or not node.input[place]:
        return
    value = _constant_input(node, place, values)
    del node.input[place:]
    node.attribute.append(onnx.helper.make_attribute(name, np.atleast_1d(value).tolist()))


def _constant_input(node: Any, place: int, values: dict[str, Any]) -> Any:
    if node.input[place] not in values:
        raise ExportError(f"an older opset cannot express {node.op_type} with computed axes")
    return values[node.input[place]]


def _pad_all_axes(node: Any, values: dict[str, Any], ranks: dict[str, int]) -> Iterable[Any]:
    """Yield a padding of all axes: the amounts of the others are zero."""
    rank, axes = ranks[node.input[0]], _constant_input(node, 3, values)
    made, add = _node_maker(node)
    amounts = node.input[1]
    parts = [add("Constant", [], value=_integers([0]))] * (2 * rank)
    for number, axis in enumerate(axes):
        for offset in (0, 1):
            index = add("Constant", [], value=_integers([number + offset * len(axes)]))
            parts[axis % rank + offset * rank] = add("Gather", [amounts, index], axis=0)
    del node.input[3:]
    node.input[1] = add("Concat", parts, axis=0)
    yield from made
    yield node


def _slice_shape(node: Any) -> Iterable[Any]:
    """Yield the whole shape and a slice of it."""
    import onnx

    limits = {a.name: a.i for a in node.attribute}
    made, add = _node_maker(node)
    start = add("Constant", [], value=_integers([limits.get("start", 0)]))
    end = add("Constant", [], value=_integers([limits.get("end", np.iinfo(np.int64).max)]))
    del node.attribute[:]
    sliced = node.output[0]
    node.output[0] = f"{sliced}_whole"
    yield from made
    yield node
    yield onnx.helper.make_node("Slice", [node.output[0], start, end], [sliced])


def _negate_opposite(node: Any) -> Iterable[Any]:
    import onnx

    made, add = _node_maker(node)
    opposite = add(_OPPOSITES[node.op_type], list(node.input))
    yield from made
    yield onnx.helper.make_node("Not", [opposite], list(node.output))


def _select_extreme(node: Any) -> Iterable[Any]:
    import onnx

    made, add = _node_maker(node)
    is_first = add(_EXTREMES[node.op_type], list(node.input))
    yield from made
    yield onnx.helper.make_node("Where", [is_first, *node.input], list(node.output))


def _clip_by_selection(node: Any) -> Iterable[Any]:
    import onnx

    made, add = _node_maker(node)
    value = node.input[0]
    for limit, comparison in zip(node.input[1:], ("Greater", "Less"), strict=False):
        if limit:
            is_inside = add(comparison, [value, limit])
            value = add("Where", [is_inside, value, limit])
    yield from made
    yield onnx.helper.make_node("Identity", [value], list(node.output))


def _integers(values: list[int]) -> Any:
    import onnx

    return onnx.numpy_helper.from_array(np.array(values, dtype=np.int64))


def _node_maker(node: Any) -> tuple[list[Any], Callable[..., str]]:
    """Return a list of new nodes, and a function that appends one and returns its output."""
    import onnx

    made: list[Any] = []

    def add(kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{node.output[0]}_{kind}_{len(made)}"
        made.append(onnx.helper.make_node(kind, inputs, [name], **attributes))
        return name

    return made, add
