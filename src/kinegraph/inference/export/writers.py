"""Writers of a traced program, one for each file format."""

from __future__ import annotations

import errno
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kinegraph.inference.backends.file_checksum import append_checksum
from kinegraph.inference.backends.runtimes import EXTRA, KEY, import_package
from kinegraph.inference.export.opset import EXPORTER_MIN_OPSET, OPSET, lower_opset
from kinegraph.inference.export.quantize import Feeds, quantize
from kinegraph.inference.export.trace import TracedNetwork

#: Writes the file, with this text as its manifest.
Writer = Callable[[Path, str], None]


def writer(
    traced: TracedNetwork, format: str, precision: str, feeds: Feeds | None, opset: int = OPSET
) -> Writer:
    """Return a function that writes a program as a file; the conversion is done once.

    Args:
        traced: the network, already of the precision where it is one of torch.
        format, precision, opset: see `kinegraph.inference.export.export_run`.
        feeds: for int8: inputs of the network for clips of the training split.

    Raises:
        ExportError: a package is missing, or the opset lacks an operation of the network.
    """
    with _quiet_exporters():
        if format == "torch":
            return partial(_write_torch, traced)
        model = None if format == "openvino" and feeds is None else _onnx(traced, feeds, opset)
        if format == "onnx":
            return partial(_write_onnx, model)
        compress = precision in ("fp16", "bf16")
        return partial(_write_openvino, _openvino(traced, model), compress)


def _write_torch(traced: TracedNetwork, path: Path, manifest: str) -> None:
    with _quiet_exporters():
        buffer = io.BytesIO()  # torch's own file writer aborts the process on a full disk
        torch.export.save(traced.program, buffer, extra_files={EXTRA: manifest})
    path.write_bytes(buffer.getvalue())


def _onnx(traced: TracedNetwork, feeds: Feeds | None, opset: int) -> Any:
    """Return the program as an ONNX model, in int8 if there are inputs to calibrate with."""
    for package in ("onnx", "onnxscript"):
        import_package(package)
    program = torch.onnx.export(
        traced.program,
        dynamo=True,
        input_names=traced.interface.inputs,
        output_names=traced.interface.outputs,
        opset_version=max(opset, EXPORTER_MIN_OPSET),
        verbose=False,
    )
    model = program.model_proto
    if feeds is not None:
        exact = [
            name
            for name, module in traced.network.named_modules()
            if getattr(module, "keeps_full_precision", False)
        ]
        model = quantize(model, traced.interface.inputs, feeds, exact)
    if opset < EXPORTER_MIN_OPSET:
        model = lower_opset(model, opset)
    _tidy(model, traced)
    return model


def _tidy(model: Any, traced: TracedNetwork) -> None:
    """Name the sizes, and delete the metadata of the exporter."""
    names = {0: "streams"} if traced.interface.hop else {0: "clips", 2: "frames", 4: "persons"}
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    known = {sizes[i].dim_param: name for i, name in names.items() if sizes[i].dim_param}
    symbol = re.compile(r"\b(" + "|".join(map(re.escape, known)) + r")\b")
    graph = model.graph
    for value in [*graph.input, *graph.output, *graph.value_info]:
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = symbol.sub(lambda found: known[found[0]], size.dim_param)
    for part in [graph, *graph.node, *graph.input, *graph.output, *graph.value_info]:
        del part.metadata_props[:]


def _write_onnx(model: Any, path: Path, manifest: str) -> None:
    import onnx

    onnx.helper.set_model_props(model, {KEY: manifest})
    onnx.save(model, path)
    append_checksum(path)


def _write_openvino(model: Any, compress: bool, path: Path, manifest: str) -> None:
    import openvino

    model.set_rt_info(manifest, KEY)
    try:
        openvino.save_model(model, path, compress_to_fp16=compress)
    except RuntimeError as error:  # its file streams do not say why they fail
        raise OSError(errno.ENOSPC, "OpenVINO cannot write here, the disk may be full") from error
    append_checksum(path)


def _openvino(traced: TracedNetwork, quantized_model: Any) -> Any:
    openvino = import_package("openvino")
    if quantized_model is not None:
        return openvino.Core().read_model(quantized_model.SerializeToString())
    model = openvino.convert_model(traced.program)
    # the conversion loses the names and the fixed sizes
    examples, _ = traced.program.example_inputs
    shapes = {}
    free = {0} if traced.interface.hop else {0, 2, 4}
    if traced.interface.persons:
        free -= {4}
    for port, name, example in zip(model.inputs, traced.interface.inputs, examples, strict=True):
        port.get_tensor().set_names({name})
        sizes = [-1 if i in free else n for i, n in enumerate(example.shape)]
        shapes[name] = openvino.PartialShape(sizes)
    for port, name in zip(model.outputs, traced.interface.outputs, strict=True):
        port.get_tensor().set_names({name})
    model.reshape(shapes)
    return model


@contextmanager
def _quiet_exporters() -> Iterator[None]:
    """Silence warnings of the exporters about their own code, which a user cannot change."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`isinstance.treespec, LeafSpec.` is deprecated")
            # weights are channels-last in memory; all their bytes are written
            warnings.filterwarnings("ignore", "No complete tensor found in the group")
            yield
    finally:
        logging.disable(before)
