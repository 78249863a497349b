"""Against what the fast path can be measured: the plain implementation, or the model elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.bench.baselines import baseline
from kinegraph.errors import unknown_name
from kinegraph.runtime.fuse import fast

Network = Callable[[Tensor], Tensor]

FORMATS = ("onnx", "openvino", "torch")
#: The plain implementation, the module that is trained, and its exports in their own runtimes.
OPPONENTS = ("plain", "module", *FORMATS)


@contextmanager
def opponent(name: str, model: nn.Module) -> Iterator[Network]:
    """The network of a released model that the fast path is compared with, in fp32.

    Args:
        name: one of `OPPONENTS`.
        model: in evaluation mode.

    Raises:
        UnknownNameError: no such opponent.
        ExportError: the runtime is not installed, or cannot take the model.
    """
    if name == "plain":
        yield baseline(model).eval()
    elif name == "module":
        yield model.eval()
    elif name in FORMATS:
        with TemporaryDirectory(prefix="kinegraph-bench-") as folder:
            yield _exported(name, model, Path(folder))
    else:
        raise unknown_name("opponent", name, OPPONENTS)


def _exported(name: str, model: nn.Module, folder: Path) -> Network:
    from kinegraph.inference.backends.runtimes import FORMATS as RUNTIMES
    from kinegraph.inference.export.trace import trace_clips
    from kinegraph.inference.export.writers import writer

    runtime, path = RUNTIMES[name], folder / f"model{RUNTIMES[name].suffix}"
    traced = trace_clips(fast(model))
    writer(traced, name, "fp32", None)(path, "{}")
    run = runtime.open(path, "fp32")
    takes_lengths: Any = getattr(traced.network, "takes_lengths", False)

    def network(x: Tensor) -> Tensor:
        lengths = [torch.full((len(x),), x.shape[2])] if takes_lengths else []
        return run([x, *lengths])[0]

    return network
