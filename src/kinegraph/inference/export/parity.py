"""Comparison of an exported network with the model that it was made from."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from kinegraph.errors import ExportError
from kinegraph.inference.backends.exported_model import ExportedModel
from kinegraph.models.base import predict_logits
from kinegraph.runtime.fuse import relative_error
from kinegraph.training.batch import Batch


@dataclass(frozen=True)
class Bounds:
    """Limits of a precision.

    Attributes:
        relative: largest difference of logits, as a share of the largest logit.
        agreement: smallest share of clips, or of frames, with the same most probable class.
    """

    relative: float
    agreement: float


BOUNDS = {
    "fp32": Bounds(1e-4, 0.0),
    "fp16": Bounds(5e-2, 0.99),
    "bf16": Bounds(5e-2, 0.99),
    "int8": Bounds(float("inf"), 0.95),
}


@dataclass(frozen=True)
class Parity:
    """How an exported network compares with its model.

    Attributes:
        clips: how many were compared.
        source: which they were.
        difference: largest, of two logits.
        relative: the same as a share of the largest logit.
        agreement: share of the clips with the same most probable class; for segmentation, of the
            frames.
        speed: of the file, relative to the model, a clip at a time (medians of interleaved calls
            with the same number of threads).
        size: bytes of the file or files.
    """

    clips: int
    source: str
    difference: float
    relative: float
    agreement: float
    speed: float
    size: int


def compare(
    model: nn.Module, exported: nn.Module, clips: Iterable[Batch], source: str, size: int
) -> Parity:
    """Run both on the same batches of one clip, in turn; for source and size see `Parity`."""
    expected: list[Tensor] = []
    got: list[Tensor] = []
    seconds: tuple[list[float], list[float]] = ([], [])
    for batch in clips:
        if not expected:  # the first call, which a runtime uses to prepare, is not timed
            _logits(model, batch)
            _logits(exported, batch)
        for network, logits, times in ((model, expected, seconds[0]), (exported, got, seconds[1])):
            begun = time.perf_counter()
            logits.append(_logits(network, batch))
            times.append(time.perf_counter() - begun)
    theirs, ours = torch.cat(expected), torch.cat(got)
    return Parity(
        clips=len(expected),
        source=source,
        difference=float((ours - theirs).abs().max()),
        relative=relative_error(ours, theirs),
        agreement=float((ours.argmax(dim=1) == theirs.argmax(dim=1)).float().mean()),
        speed=median(seconds[0]) / median(seconds[1]),
        size=size,
    )


def check_sizes(model: nn.Module, exported: ExportedModel, precision: str) -> None:
    """Refuse a file that differs for other numbers of clips, frames and persons.

    Raises:
        ExportError: logits of random clips differ by more than the limit.
    """
    (C, V), M = exported.shape, exported.interface.persons
    draw = torch.Generator().manual_seed(0)
    for N, T, persons in ((2, 37, M or 3), (1, 38, M or 1)):
        x = torch.randn(N, C, max(T, exported.interface.least), V, persons, generator=draw)
        batch = Batch(x, torch.zeros(N), torch.full((N,), x.shape[2]))
        error = relative_error(_logits(exported, batch), _logits(model, batch))
        if not error <= BOUNDS[precision].relative:
            raise ExportError(
                f"the exported network does not agree with the run on random clips of the size "
                f"{tuple(x.shape)}: logits differ by {error:.2g} of the largest (at most "
                f"{BOUNDS[precision].relative:g}); no file is left"
            )


@torch.inference_mode()
def _logits(network: nn.Module, batch: Batch) -> Tensor:
    """Return the logits of clips, or those of their frames, one after another (rows, classes)."""
    logits = predict_logits(network, batch.x, batch.lengths).float()
    return logits.movedim(1, -1).flatten(0, -2)


def check(parity: Parity, precision: str) -> None:
    """Refuse a file that differs too much from the model.

    Raises:
        ExportError: a figure is out of its limits, or not a number.
    """
    bounds = BOUNDS[precision]
    if not (parity.relative <= bounds.relative and parity.agreement >= bounds.agreement):
        raise ExportError(
            f"the exported network does not agree with the run on {parity.source}: logits differ "
            f"by {parity.relative:.2g} of the largest (at most {bounds.relative:g}), top-1 is the "
            f"same in {parity.agreement:.1%} of them (at least {bounds.agreement:.0%}); no "
            "file is left"
        )
