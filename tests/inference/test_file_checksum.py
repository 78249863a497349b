"""Exported files with a checksum: no flipped bit changes what is computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kinegraph.errors import ExportError
from kinegraph.inference.backends.exported_model import (
    VERSION,
    Interface,
    Manifest,
    load_exported,
    read_manifest,
)
from kinegraph.inference.backends.file_checksum import append_checksum
from kinegraph.inference.backends.runtimes import FORMATS, KEY
from kinegraph.training.checkpoint import CheckpointHeader

SHAPE = (1, 1, 4, 2, 1)
WEIGHTS = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)


def manifest(format: str, version: int = VERSION) -> Manifest:
    layout = {"name": "two", "joints": ["a", "b"], "bones": [[1, 0]], "center": 0}
    header = CheckpointHeader(
        {"name": "stgcn", "options": {}}, layout, 3, 1, None, 1, False, "joint", [], {}, {}, {}, {}
    )
    interface = Interface(["x"], ["logits"])
    return Manifest(header, format, "fp32", interface, None, {}, version)


def write_onnx(path: Path, text: str) -> None:
    import onnx
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 3])
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [x], [logits], [onnx.numpy_helper.from_array(WEIGHTS, "w")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, {KEY: text})
    onnx.save(model, path)


def write_openvino(path: Path, text: str) -> None:
    import openvino
    from openvino import opset8

    x = opset8.parameter(SHAPE, np.float32, name="x")
    flat = opset8.reshape(x, opset8.constant([1, 8]), special_zero=False)
    model = openvino.Model([opset8.matmul(flat, opset8.constant(WEIGHTS), False, False)], [x], "m")
    model.set_rt_info(text, KEY)
    openvino.save_model(model, path, compress_to_fp16=False)


WRITERS = {"onnx": write_onnx, "openvino": write_openvino}


@pytest.fixture(params=sorted(WRITERS))
def path(request, tmp_path: Path) -> Path:
    """The name of a file of each format."""
    pytest.importorskip({"onnx": "onnxruntime"}.get(request.param, request.param))
    return tmp_path / f"action{FORMATS[request.param].suffix}"


def write(path: Path, version: int = VERSION, checksum: bool = True) -> list[Path]:
    name = next(name for name, form in FORMATS.items() if form.suffix == path.suffix)
    WRITERS[name](path, manifest(name, version).to_json())
    if checksum:
        append_checksum(path)
    return [path, *([path.with_suffix(".bin")] if name == "openvino" else [])]


def logits(path: Path) -> torch.Tensor:
    model, _ = load_exported(path)
    return model(torch.arange(8.0).reshape(SHAPE))


def test_every_flipped_bit_is_found(path):
    files, expected = write(path), torch.arange(8.0) @ torch.from_numpy(WEIGHTS)
    assert torch.allclose(logits(path), expected[None], rtol=1e-5)
    rng = np.random.default_rng(0)
    for file in files:
        whole = file.read_bytes()
        for place in [*rng.integers(0, len(whole), 60), *range(len(whole) - 95, len(whole), 3)]:
            damaged = bytearray(whole)
            damaged[place] ^= 1 << rng.integers(8)
            file.write_bytes(damaged)
            with pytest.raises(ExportError, match=r"damaged|not written by"):
                read_manifest(path)
        file.write_bytes(whole)


def test_a_file_without_its_checksum_is_refused_unless_it_is_of_an_earlier_version(path):
    write(path, checksum=False)
    with pytest.raises(ExportError, match="does not match its checksum; export the run again"):
        load_exported(path)
    write(path, version=1, checksum=False)
    assert logits(path).shape == (1, 3)
    assert read_manifest(path) == replace(read_manifest(path), version=1)


def test_a_file_that_is_cut_short_or_longer_is_refused(path):
    for file in write(path):
        whole = file.read_bytes()
        for content in (whole[:-1], whole + b"\n", whole[: len(whole) // 2], b""):
            file.write_bytes(content)
            with pytest.raises(ExportError, match="action"):
                load_exported(path)
        file.write_bytes(whole)


def test_the_weights_of_another_file_are_refused(tmp_path):
    pytest.importorskip("openvino")
    _, weights = write(tmp_path / "action.xml")
    weights.write_bytes(weights.read_bytes()[::-1])
    with pytest.raises(ExportError, match="does not match its checksum"):
        load_exported(tmp_path / "action.xml")
    weights.unlink()
    with pytest.raises(ExportError, match=r"action\.xml: cannot read .*action\.bin"):
        load_exported(tmp_path / "action.xml")
