"""Benchmarks of recognition: the optimized network against the reference network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kinegraph.bench import baselines
from kinegraph.bench.count import count_cost
from kinegraph.bench.machine import PRECISIONS
from kinegraph.bench.result import (
    DEFAULT_OPTIONS,
    BenchOptions,
    BenchResult,
    peak_shares,
    summarize_comparison,
)
from kinegraph.bench.timing import time_interleaved
from kinegraph.clips.store import ClipStore
from kinegraph.errors import BenchError, unknown_name
from kinegraph.runtime.fuse import optimize_for_inference, relative_error
from kinegraph.transforms.to_model_input import to_array

#: Largest difference of logits between the two sides, relative to the largest logit.
LOGIT_TOLERANCE = {"fp32": 1e-5, "bf16": 5e-2}
NUM_RECORDED_CLIPS = 8

Network = Callable[[Tensor], Tensor]

EXPORT_FORMATS = ("onnx", "openvino", "torch")
#: The reference network, the module that is trained, and exports of it in their own runtimes.
BACKENDS = ("reference", "module", *EXPORT_FORMATS)


def bench_infer(
    name: str,
    options: BenchOptions = DEFAULT_OPTIONS,
    *,
    against: str = "reference",
    batch: int = 1,
) -> BenchResult:
    """Recognize dense clips of 300 frames and two persons: the same function on both sides.

    Args:
        options: precision, rounds and progress.
        against: one of `BACKENDS`, always in fp32; ``reference`` is ``module`` for a family that
            has no reference network.
        batch: clips at a time.

    Raises:
        BenchError: the logits of the two sides differ.
    """
    if against == "reference" and name not in baselines.REFERENCE_BUILDERS:
        against = "module"
    model, precision = baselines.create_released_model(name), options.precision
    ours = optimize_for_inference(model, PRECISIONS[precision])
    x = baselines.random_clips_for(name, model, batch)
    with open_backend(against, model) as theirs, torch.inference_mode():
        error = check_agreement(theirs(x), ours(x), precision)
        comparison = time_interleaved(
            lambda _: theirs(x), lambda _: ours(x), options.rounds or 11, options.progress
        )
    cost = count_cost(baselines.create_reference(model).eval(), x)
    return summarize_comparison(
        f"{name}, {batch} dense clip{'s' * (batch > 1)} of {x.shape[2]} frames, "
        f"{baselines.CLIP_PERSONS} persons",
        comparison,
        item="clips",
        names=(f"{against} fp32", f"kinegraph {precision}"),
        items_per_round=(batch, batch),
        per_side=(
            peak_shares(cost, float(np.median(comparison.baseline))),
            peak_shares(cost, float(np.median(comparison.ours)), precision),
        ),
        figures={
            "GFLOP a clip": cost.flops / batch / 1e9,
            "parameters": cost.parameters,
            "relative error": error,
        },
    )


def bench_recorded(
    name: str,
    store: ClipStore,
    options: BenchOptions = DEFAULT_OPTIONS,
    *,
    clips: int = NUM_RECORDED_CLIPS,
) -> BenchResult:
    """Recognize recorded clips at their own length, against the same clips padded to 300 frames.

    The corrected model skips absent persons and padding; the released one and the reference
    network do not. These are different functions: only the released one's logits are compared.

    Args:
        name: a model with a reference network.
        store: the clips; some are taken, evenly from the shortest to the longest.
        options: precision, rounds and progress.

    Raises:
        BenchError: the logits of the two sides differ on the padded clips.
    """
    precision, dtype = options.precision, PRECISIONS[options.precision]
    made: dict[str, Any] = {"layout": store.layout, "in_channels": store.num_channels}
    released = baselines.create_released_model(name, **made)
    theirs = baselines.create_reference(released).eval()
    ours = optimize_for_inference(baselines.create_warmed_up_model(name, **made), dtype)
    recorded = [load_clip(store, i) for i in select_evenly(store, clips)]
    padded = [pad_clip(x) for x in recorded]
    with torch.inference_mode():
        optimized = optimize_for_inference(released, dtype)
        expected = torch.cat([theirs(x) for x in padded])
        got = torch.cat([optimized(x) for x in padded])
        error = check_agreement(expected, got, precision)
        agreement = float((expected.argmax(1) == got.argmax(1)).float().mean())
        comparison = time_interleaved(
            lambda _: [theirs(x) for x in padded],
            lambda _: [ours(x) for x in recorded],
            options.rounds or 5,
            options.progress,
        )
    lengths = sorted(x.shape[2] for x in recorded)
    return summarize_comparison(
        f"{name}, {len(recorded)} recorded clips of {lengths[0]} to {lengths[-1]} frames",
        comparison,
        item="clips",
        names=("reference fp32, padded", f"kinegraph {precision}, own lengths"),
        items_per_round=(len(recorded), len(recorded)),
        figures={
            "median frames": float(np.median(lengths)),
            "relative error, padded": error,
            "top-1 agreement, padded": agreement,
        },
    )


@contextmanager
def open_backend(name: str, model: nn.Module) -> Iterator[Network]:
    """Open one of `BACKENDS` for a model in evaluation mode: a network in fp32.

    Raises:
        UnknownNameError: no such backend.
        ExportError: the runtime is not installed, or does not support the model.
    """
    if name == "reference":
        yield baselines.create_reference(model).eval()
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


def check_agreement(expected: Tensor, got: Tensor, precision: str) -> float:
    """Return the relative error between two sides.

    Raises:
        BenchError: it is larger than this precision explains.
    """
    error, tolerance = relative_error(got, expected), LOGIT_TOLERANCE[precision]
    if not error <= tolerance:
        raise BenchError(
            f"the logits of the two sides differ by {error:.1g} of the largest, at most "
            f"{tolerance:.0e} is allowed in {precision}; nothing was timed"
        )
    return error


def select_evenly(store: ClipStore, clips: int) -> list[int]:
    """Return the numbers of some clips of a store, evenly from the shortest to the longest."""
    order = np.argsort(store.frames, kind="stable")
    positions = np.linspace(0, len(order) - 1, min(clips, len(order))).round().astype(int)
    return [int(i) for i in order[positions]]


def load_clip(store: ClipStore, index: int) -> Tensor:
    """Return (1, C, T, V, M): the first 300 frames of the persons of a clip, at most two."""
    persons = min(int(store.persons[index]), baselines.CLIP_PERSONS)
    return torch.from_numpy(to_array(store[index], persons)).unsqueeze(0)[
        :, :, : baselines.CLIP_FRAMES
    ]


def pad_clip(x: Tensor) -> Tensor:
    """Return (1, C, 300, V, 2): zeros after the last frame, and for the second person."""
    _, C, T, V, M = x.shape
    padded = x.new_zeros(1, C, baselines.CLIP_FRAMES, V, baselines.CLIP_PERSONS)
    padded[:, :, :T, :, :M] = x
    return padded
