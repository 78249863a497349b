"""Runtimes of exported files: readers of their manifest and their network."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinegraph.errors import ExportError, install_command
from kinegraph.inference.backends.pt2_archive import Pt2Archive
from kinegraph.inference.backends.pt2_program import read_program

#: The key of the manifest in a file's metadata.
KEY = "kinegraph"
EXTRA = f"{KEY}.json"
Run = Callable[[Sequence[Tensor]], list[Tensor]]

#: Precision hints for OpenVINO; processors without that precision compute in fp32.
HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        suffix: of its name.
        precisions: that it supports.
        read: returns the manifest's text, None if there is none.
        open: loads the network, for a path and the precision it was exported in.
    """

    suffix: str
    precisions: tuple[str, ...]
    read: Callable[[Path], str | None]
    open: Callable[[Path, str], Run]


def format_of(path: Path) -> str | None:
    """Return the format of a file by its suffix; None for any other file."""
    return next((name for name, form in FORMATS.items() if path.suffix == form.suffix), None)


def import_package(name: str) -> Any:
    """Import a package that is needed for exported files only.

    Raises:
        ExportError: it is not installed.
    """
    if name == "openvino":
        # without this package it has a stub for telemetry, and reports nothing to its makers
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return import_module(name)
    except ImportError as error:
        raise ExportError(
            f"the package {name} is needed here ({error}): {install_command('export')}"
        ) from error


def _damaged(path: Path, error: Exception) -> ExportError:
    # the last line is the reason, those before it name places in the runtime's own source
    *_, reason = [type(error).__name__, *filter(None, map(str.strip, str(error).splitlines()))]
    return ExportError(f"{path} cannot be opened, it is damaged or of another kind: {reason}")


def _onnx_session(path: Path) -> Any:
    onnxruntime = import_package("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has error classes without a common base
        raise _damaged(path, error) from error


def _read_onnx(path: Path) -> str | None:
    text: str | None = _onnx_session(path).get_modelmeta().custom_metadata_map.get(KEY)
    return text


def _open_onnx(path: Path, precision: str) -> Run:
    session = _onnx_session(path)
    names = [given.name for given in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        arrays = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return [torch.from_numpy(array) for array in session.run(None, arrays)]

    return run


def _openvino_model(path: Path) -> Any:
    openvino = import_package("openvino")
    try:
        if not path.read_bytes()[:5].startswith(b"<?xml"):  # it would try to read other kinds
            raise ValueError("expected XML")
        return openvino.Core().read_model(path)
    except Exception as error:  # RuntimeError, and TypeError for what is not a model at all
        raise _damaged(path, error) from error


def _read_openvino(path: Path) -> str | None:
    model = _openvino_model(path)
    return model.get_rt_info(KEY).astype(str) if model.has_rt_info(KEY) else None


def _open_openvino(path: Path, precision: str) -> Run:
    model = _openvino_model(path)
    import openvino

    threads = torch.get_num_threads()
    options = {"INFERENCE_PRECISION_HINT": HINTS[precision], "INFERENCE_NUM_THREADS": threads}
    try:
        compiled = openvino.compile_model(model, "CPU", options)
    except RuntimeError as error:
        raise _damaged(path, error) from error

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        given = [np.ascontiguousarray(tensor.numpy()) for tensor in inputs]
        return [torch.from_numpy(np.array(array)) for array in compiled(given).to_tuple()]

    return run


def _read_torch(path: Path) -> str | None:
    with _pt2_errors(path):
        return Pt2Archive.read(path).text(f"extra/{EXTRA}")


def _open_torch(path: Path, precision: str) -> Run:
    with _pt2_errors(path):
        return read_program(Pt2Archive.read(path), str(path))


@contextmanager
def _pt2_errors(path: Path) -> Iterator[None]:
    try:
        yield
    # the structure of a program is checked where it is used, so damage shows in many errors
    except Exception as error:
        raise _damaged(path, error) from error


FORMATS = {
    "onnx": Format(".onnx", ("fp32", "fp16", "int8"), _read_onnx, _open_onnx),
    "openvino": Format(".xml", ("fp32", "fp16", "bf16", "int8"), _read_openvino, _open_openvino),
    "torch": Format(".pt2", ("fp32", "fp16", "bf16"), _read_torch, _open_torch),
}
