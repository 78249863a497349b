"""Backends that the optimized network is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.bench.baselines import create_reference
from kinegraph.errors import unknown_name
from kinegraph.runtime.fuse import optimize_for_inference

Network = Callable[[Tensor], Tensor]

EXPORT_FORMATS = ("onnx", "openvino", "torch")
#: The reference network, the module that is trained, and exports of it in their own runtimes.
BACKENDS = ("reference", "module", *EXPORT_FORMATS)


@contextmanager
def open_backend(name: str, model: nn.Module) -> Iterator[Network]:
    """Open a network that computes a released model in fp32.

    Args:
        name: one of `BACKENDS`.
        model: in evaluation mode.

    Raises:
        UnknownNameError: no such backend.
        ExportError: the runtime is not installed, or does not support the model.
    """
    if name == "reference":
        yield create_reference(model).eval()
    elif name == "module":
        yield model.eval()
    elif name in EXPORT_FORMATS:
        with TemporaryDirectory(prefix="kinegraph-bench-") as folder:
            yield _export(name, model, Path(folder))
    else:
        raise unknown_name("backend", name, BACKENDS)


def _export(name: str, model: nn.Module, folder: Path) -> Network:
    from kinegraph.inference.backends.runtimes import FORMATS
    from kinegraph.inference.export.trace import trace_clips
    from kinegraph.inference.export.writers import writer

    runtime, path = FORMATS[name], folder / f"model{FORMATS[name].suffix}"
    traced = trace_clips(optimize_for_inference(model))
    writer(traced, name, "fp32", None)(path, "{}")
    run = runtime.open(path, "fp32")
    takes_lengths: Any = getattr(traced.network, "takes_lengths", False)

    def network(x: Tensor) -> Tensor:
        lengths = [torch.full((len(x),), x.shape[2])] if takes_lengths else []
        return run([x, *lengths])[0]

    return network
