"""How fast clips are recognised: the fast path against the plain implementation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kinegraph.bench.backends import opponent
from kinegraph.bench.baselines import FRAMES, PERSONS, baseline, dense_clips, released, settled
from kinegraph.bench.count import Work, count
from kinegraph.bench.machine import PRECISIONS
from kinegraph.bench.result import Figures, Result, roofline, timed_result
from kinegraph.bench.timing import Comparison, Progress, interleave
from kinegraph.clips.store import ClipStore
from kinegraph.errors import BenchError
from kinegraph.runtime.fuse import fast, relative_error
from kinegraph.transforms.to_model_input import to_array

#: Largest difference of logits, as a share of the largest, between the two sides.
AGREE = {"fp32": 1e-5, "bf16": 5e-2}
REAL_CLIPS = 8


def bench_infer(
    name: str,
    *,
    against: str = "plain",
    precision: str = "fp32",
    batch: int = 1,
    rounds: int = 11,
    progress: Progress | None = None,
) -> Result:
    """Dense clips of 300 frames and two persons: the same function on both sides.

    Args:
        name: a model of `BASELINES`.
        against: one of `OPPONENTS`, which is always in fp32.
        precision: of the fast path.
        batch: clips at a time.
        rounds: how often each side is timed.
        progress: called with (rounds done, rounds in all).

    Raises:
        BenchError: the two sides do not answer alike.
    """
    model = released(name)
    ours, x = fast(model, PRECISIONS[precision]), dense_clips(batch, FRAMES)
    with opponent(against, model) as theirs, torch.inference_mode():
        error = agreement(theirs(x), ours(x), precision)
        comparison = interleave(lambda _: theirs(x), lambda _: ours(x), rounds, progress)
    work = count(baseline(model).eval(), x)
    return timed_result(
        f"{name}, {batch} dense clip{'s' * (batch > 1)} of {FRAMES} frames, {PERSONS} persons",
        comparison,
        item="clips",
        names=(f"{against} fp32", f"kinegraph {precision}"),
        each=(batch, batch),
        per_side=_rooflines(work, comparison, precision),
        figures={
            "GFLOP a clip": work.flops / batch / 1e9,
            "parameters": work.parameters,
            "relative error": error,
        },
    )


def bench_real(
    name: str,
    store: ClipStore,
    *,
    precision: str = "fp32",
    rounds: int = 5,
    clips: int = REAL_CLIPS,
    progress: Progress | None = None,
) -> Result:
    """Recorded clips at their real length against the same clips padded to 300 frames, 2 persons.

    The corrected model works on who and what is there; the released one, like the baseline, on the
    padding too, so they are different functions: only the released one's answers are compared.

    Args:
        name: a model of `BASELINES`.
        store: the clips; some are taken, evenly from the shortest to the longest.
        precision: of the fast path.
        rounds: how often each side is timed on all of them.
        clips: how many are taken.
        progress: called with (rounds done, rounds in all).

    Raises:
        BenchError: the two sides do not answer alike on the padded clips.
    """
    dtype, options = PRECISIONS[precision], {"in_channels": store.num_channels}
    faithful = released(name, layout=store.layout, **options)
    theirs = baseline(faithful).eval()
    ours = fast(settled(name, layout=store.layout, **options), dtype)
    real = [real_clip(store, i) for i in evenly(store, clips)]
    padded = [padded_clip(x) for x in real]
    with torch.inference_mode():
        same = fast(faithful, dtype)
        expected = torch.cat([theirs(x) for x in padded])
        got = torch.cat([same(x) for x in padded])
        error = agreement(expected, got, precision)
        alike = float((expected.argmax(1) == got.argmax(1)).float().mean())
        comparison = interleave(_over(theirs, padded), _over(ours, real), rounds, progress)
    lengths = sorted(x.shape[2] for x in real)
    return timed_result(
        f"{name}, {len(real)} recorded clips of {lengths[0]} to {lengths[-1]} frames",
        comparison,
        item="clips",
        names=("plain fp32, padded", f"kinegraph {precision}, real lengths"),
        each=(len(real), len(real)),
        figures={
            "median frames": float(np.median(lengths)),
            "relative error, padded": error,
            "top-1 agreement, padded": alike,
        },
    )


def agreement(expected: Tensor, got: Tensor, precision: str) -> float:
    """The relative error between two sides.

    Raises:
        BenchError: it is more than this precision can explain.
    """
    error = relative_error(got, expected)
    if not error <= AGREE[precision]:
        raise BenchError(
            f"the two sides do not answer alike: logits differ by {error:.1g} of the largest, at "
            f"most {AGREE[precision]:.0e} is allowed in {precision}; nothing was timed"
        )
    return error


def evenly(store: ClipStore, clips: int) -> list[int]:
    """The numbers of some clips of a store, evenly from the shortest to the longest."""
    order = np.argsort(store.frames, kind="stable")
    places = np.linspace(0, len(order) - 1, min(clips, len(order))).round().astype(int)
    return [int(i) for i in order[places]]


def real_clip(store: ClipStore, index: int) -> Tensor:
    """(1, C, T, V, M): the first 300 frames of the persons that are there, at most two."""
    persons = min(int(store.persons[index]), PERSONS)
    return torch.from_numpy(to_array(store[index], persons)).unsqueeze(0)[:, :, :FRAMES]


def padded_clip(x: Tensor) -> Tensor:
    """(1, C, 300, V, 2): zeros after the last frame, and for the second person."""
    _, C, T, V, M = x.shape
    padded = x.new_zeros(1, C, FRAMES, V, PERSONS)
    padded[:, :, :T, :, :M] = x
    return padded


def _over(network: nn.Module, clips: Sequence[Tensor]) -> Callable[[int], Any]:
    return lambda _: [network(x) for x in clips]


def _rooflines(work: Work, comparison: Comparison, precision: str) -> tuple[Figures, Figures]:
    theirs, ours = (float(np.median(s)) for s in (comparison.baseline, comparison.ours))
    return roofline(work, theirs), roofline(work, ours, precision)
