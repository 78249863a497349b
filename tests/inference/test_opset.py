"""Older opsets: the same numbers from other nodes, and what they cannot express is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from kinegraph.errors import ExportError
from kinegraph.inference.export.opset import MIN_OPSET, check_opset, lower_opset


def constant(name: str, *values: int) -> Any:
    return numpy_helper.from_array(np.array(values, dtype=np.int64), name)


def model_of(*nodes: Any, outputs: tuple[str, ...], constants: tuple[Any, ...] = ()) -> Any:
    """A model of opset 18 with the input x, (n, 3, 4)."""
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4])]
    made = [
        helper.make_value_info(name, helper.make_tensor_type_proto(0, None)) for name in outputs
    ]
    for info in made:
        info.ClearField("type")
    graph = helper.make_graph(list(nodes), "g", given, made, list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def outputs_of(model: Any) -> list[Any]:
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})


NODES = helper.make_node
ALL = model_of(
    NODES("Pad", ["x", "pads", "", "last"], ["padded"]),
    NODES("ReduceMean", ["padded", "middle"], ["mean"], keepdims=0),
    NODES("ReduceSum", ["padded", "middle"], ["sum"], keepdims=0),
    NODES("Shape", ["x"], ["length"], start=0, end=1),
    NODES("Max", ["length", "five"], ["longest"]),
    NODES("GreaterOrEqual", ["length", "five"], ["is_long"]),
    NODES("Clip", ["length", "", "cap"], ["clipped"]),
    NODES("Unsqueeze", ["sum", "middle"], ["column"]),
    NODES("Reshape", ["column", "flat"], ["row"], allowzero=1),
    NODES("Split", ["x"], ["one", "two"], axis=2, num_outputs=2),
    outputs=("mean", "longest", "is_long", "clipped", "row", "one", "two"),
    constants=(
        constant("pads", 2, 1),
        constant("last", -1),
        constant("middle", 1),
        constant("five", 5),
        constant("flat", -1),
        numpy_helper.from_array(np.array(1), "cap"),
    ),
)


@pytest.mark.parametrize("opset", [11, 12, 13, 14, 15, 17])
def test_an_older_opset_gives_the_same_numbers(opset: int) -> None:
    lowered = lower_opset(ALL, opset)
    assert [imported.version for imported in lowered.opset_import] == [opset]
    assert lowered.ir_version <= 8
    for made, expected in zip(outputs_of(lowered), outputs_of(ALL), strict=True):
        np.testing.assert_array_equal(made, expected)


def test_the_given_model_stays_as_it_is() -> None:
    before = ALL.SerializeToString()
    lower_opset(ALL, 11)
    assert ALL.SerializeToString() == before


def test_what_an_opset_cannot_express_is_refused() -> None:
    model = model_of(NODES("GatherND", ["x", "i"], ["y"], batch_dims=1), outputs=("y",))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((2, 1), np.int64), "i"))
    with pytest.raises(ExportError, match=r"opset 11 cannot express this model: .*batch_dims"):
        lower_opset(model, 11)
    computed = model_of(
        NODES("Shape", ["x"], ["axes"], start=1, end=2),
        NODES("ReduceMean", ["x", "axes"], ["y"]),
        outputs=("y",),
    )
    with pytest.raises(ExportError, match="cannot express ReduceMean with computed axes"):
        lower_opset(computed, 13)


@pytest.mark.parametrize("opset", [MIN_OPSET - 1, 24])
def test_opsets_that_no_export_has(opset: int) -> None:
    with pytest.raises(ExportError, match=f"expected an opset from 11 to 23, got {opset}"):
        check_opset(opset, "onnx")


def test_only_onnx_files_have_an_opset() -> None:
    with pytest.raises(ExportError, match="format 'torch' has no opset: only onnx files have one"):
        check_opset(17, "torch")
