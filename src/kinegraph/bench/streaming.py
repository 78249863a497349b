"""Benchmarks of streaming: frames one by one, and many persons at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import nn

from kinegraph.bench import baselines
from kinegraph.bench.infer import check_agreement
from kinegraph.bench.machine import PRECISIONS
from kinegraph.bench.result import (
    DEFAULT_OPTIONS,
    BenchOptions,
    BenchResult,
    BenchSide,
    summarize_comparison,
)
from kinegraph.bench.timing import Spread, percentile, time_call, time_interleaved
from kinegraph.errors import BenchError
from kinegraph.runtime.fuse import optimize_for_inference
from kinegraph.runtime.network import PersonNetwork
from kinegraph.runtime.streams import open_streams

FRAMES_PER_ROUND = 40
FRAMES_PER_BATCH = 4  # of each of many streams
CAMERA_RATE_HZ = 30
TICKS_PER_TRIAL = 120
MAX_TRIED_STREAMS = 4096


def bench_stream(name: str, options: BenchOptions = DEFAULT_OPTIONS) -> BenchResult:
    """Process one more frame of one person, against the last 300 frames processed again.

    Args:
        name: a model with a reference network and a step network.
        options: precision, rounds and progress; in each round ours processes 40 frames.

    Raises:
        BenchError: after 300 frames the logits differ from those of the clip, or the model has no
            step network.
    """
    precision = options.precision
    model, ours = _create_networks(name, precision)
    theirs = baselines.create_reference(model).eval()
    x = baselines.random_clips(frames=baselines.CLIP_FRAMES, persons=1)
    streams = open_streams(ours, window=baselines.CLIP_FRAMES)
    key = streams.open()
    with torch.inference_mode():
        pushed = [streams.push({key: x[0, :, t]})[key] for t in range(baselines.CLIP_FRAMES)]
        flushed = streams.flush(key)
        logits = pushed[-1] if flushed is None else flushed
        missing = torch.full((1,), torch.nan)  # fails the comparison
        error = check_agreement(theirs(x), (missing if logits is None else logits)[None], precision)
        times: list[float] = []
        frames = itertools.cycle(x[0].unbind(dim=1))

        def push(_: int) -> None:
            for frame in itertools.islice(frames, FRAMES_PER_ROUND):
                times.append(time_call(streams.push, {key: frame}))

        comparison = time_interleaved(
            lambda _: theirs(x), push, options.rounds or 11, options.progress
        )
    times = times[FRAMES_PER_ROUND:]  # without the warm-up
    return summarize_comparison(
        f"{name}, one person, a frame at a time, window of {baselines.CLIP_FRAMES} frames",
        comparison,
        item="frames",
        names=("reference fp32, window re-run", f"kinegraph {precision}, {type(streams).__name__}"),
        items_per_round=(1, FRAMES_PER_ROUND),
        figures={
            "p50 of a frame (ms)": 1000 * percentile(times, 0.5),
            "p99 of a frame (ms)": 1000 * percentile(times, 0.99),
            "relative error after the last frame": error,
        },
    )


def bench_streams(
    name: str,
    streams: int | None = None,
    options: BenchOptions = DEFAULT_OPTIONS,
    *,
    ticks: int = TICKS_PER_TRIAL,
) -> BenchResult:
    """Process many persons at 30 frames a second: the time of a tick, or the most persons.

    Args:
        name: a model with a step network.
        streams: how many are open at once; None searches the largest number whose 99th percentile
            stays within the 33.3 ms of a frame.
        options: precision and progress, which is called with (trials done, trials so far + 1).
        ticks: how many frames each person has.

    Raises:
        BenchError: the model has no step network.
    """
    precision = options.precision
    _, network = _create_networks(name, precision)
    trials: dict[int, list[float]] = {}

    def is_in_time(number: int) -> bool:
        trials[number] = measure_ticks(network, number, ticks)
        if options.progress:
            options.progress(len(trials), len(trials) + 1)
        return percentile(trials[number], 0.99) <= 1 / CAMERA_RATE_HZ

    if streams is None:
        streams = find_largest(is_in_time)
    else:
        is_in_time(streams)
    times = trials[max(streams, 1)]
    p99 = percentile(times, 0.99)
    return BenchResult(
        f"{name}, {streams} persons at {CAMERA_RATE_HZ} frames/s, a frame of each in every tick",
        "ms a tick",
        (BenchSide(f"kinegraph {precision}", Spread.of([1000 * t for t in times])),),
        None,
        {
            "persons": streams,
            "p50 of a tick (ms)": 1000 * percentile(times, 0.5),
            "p99 of a tick (ms)": 1000 * p99,
            "within a frame": p99 <= 1 / CAMERA_RATE_HZ,
            "ticks": ticks,
        },
    )


def find_largest(fits: Callable[[int], bool], limit: int = MAX_TRIED_STREAMS) -> int:
    """Return the largest number that fits, to about a tenth, by doubling and bisection.

    0 if not even 1 fits.
    """
    good, bad = 0, 1
    while fits(bad):
        good, bad = bad, 2 * bad
        if bad > limit:
            return good
    while bad - good > max(1, good // 10):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def measure_ticks(network: nn.Module, streams: int, ticks: int) -> list[float]:
    """Return the seconds that each of the last ``ticks`` frames of so many streams took."""
    pool = open_streams(network, window=baselines.CLIP_FRAMES, chunk=FRAMES_PER_BATCH)
    keys = [pool.open() for _ in range(streams)]
    clips = baselines.random_clips(streams, frames=ticks, persons=1)

    def push(t: int) -> float:
        return time_call(pool.push, {key: clips[i, :, t] for i, key in enumerate(keys)})

    with torch.inference_mode():
        for t in range(ticks // 3 + 1):  # warm-up
            push(t)
        return [push(t) for t in range(ticks)]


def _create_networks(name: str, precision: str) -> tuple[nn.Module, PersonNetwork]:
    """Create a released model and its step network.

    Raises:
        BenchError: the model has no step network.
    """
    options = {"persons": 1} if name == "shiftgcn" else {}
    model = baselines.create_released_model(name, **options)
    network = optimize_for_inference(model, PRECISIONS[precision])
    if not isinstance(network, PersonNetwork):
        raise BenchError(
            f"{name} has no step network: its stream runs the window again for every frame, which "
            f"`kinegraph bench infer --model {name}` measures"
        )
    return model, network
