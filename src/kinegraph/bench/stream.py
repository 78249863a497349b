"""How fast frames are answered as they come: step networks, one stream or many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.bench.baselines import FRAMES, baseline, dense_clips, released
from kinegraph.bench.infer import agreement
from kinegraph.bench.machine import PRECISIONS
from kinegraph.bench.result import Result, Side, timed_result
from kinegraph.bench.timing import Progress, Spread, interleave, percentile, timed
from kinegraph.errors import BenchError
from kinegraph.runtime.fuse import fast
from kinegraph.runtime.network import FastNetwork
from kinegraph.runtime.streams import Streams, open_streams

FRAMES_A_ROUND = 40
FEW = 4  # frames of each of many streams that are worked on at a time
RATE = 30  # frames a second of a camera
TICKS = 120
MOST = 4096  # streams


def bench_stream(
    name: str, *, precision: str = "fp32", rounds: int = 7, progress: Progress | None = None
) -> Result:
    """A frame of one person by a step network, against re-running the last 300 plainly.

    Args:
        name: a model of `BASELINES` that has a step network.
        precision: of ours.
        rounds: how often the window is run; as often, 40 frames are pushed.
        progress: called with (rounds done, rounds in all).

    Raises:
        BenchError: after 300 frames the stream does not say what the clip network says, or the
            model has no step network.
    """
    model = _one_person(name)
    theirs, ours = baseline(model).eval(), _local(fast(model, PRECISIONS[precision]), name)
    x = dense_clips(frames=FRAMES, persons=1)
    streams = open_streams(ours, window=FRAMES)
    key = streams.open()
    with torch.inference_mode():
        first = [streams.push({key: x[0, :, t]})[key] for t in range(FRAMES)]
        latest = streams.flush(key)
        told = first[-1] if latest is None else latest
        error = agreement(theirs(x), _some(told)[None], precision)
        pushed: list[float] = []
        push = _pusher(streams, key, x[0], pushed)
        comparison = interleave(lambda _: theirs(x), push, rounds, progress)
    single = pushed[FRAMES_A_ROUND:]  # without the warm-up
    return timed_result(
        f"{name}, one person, a frame at a time, window of {FRAMES} frames",
        comparison,
        item="frames",
        names=("plain fp32, window re-run", f"kinegraph {precision}, {type(streams).__name__}"),
        each=(1, FRAMES_A_ROUND),
        figures={
            "p50 of a frame (ms)": 1000 * percentile(single, 0.5),
            "p99 of a frame (ms)": 1000 * percentile(single, 0.99),
            "relative error after the last frame": error,
        },
    )


def bench_streams(
    name: str,
    streams: int | None = None,
    *,
    precision: str = "fp32",
    ticks: int = TICKS,
    progress: Progress | None = None,
) -> Result:
    """Many persons at 30 frames a second: how long a tick takes, and how many there can be.

    Args:
        name: a model of `BASELINES` that has a step network.
        streams: how many are open at once; None looks for the largest number whose 99th
            percentile stays within the 33.3 ms of a frame.
        precision: of the step network.
        ticks: how many frames each person has.
        progress: called with (trials done, trials in all, as far as is known).

    Raises:
        BenchError: the model has no step network.
    """
    network = _local(fast(_one_person(name), PRECISIONS[precision]), name)
    found: dict[int, list[float]] = {}

    def fits(number: int) -> bool:
        found[number] = tick_times(network, number, ticks)
        if progress:
            progress(len(found), len(found) + 1)
        return percentile(found[number], 0.99) <= 1 / RATE

    if streams is None:
        streams = largest(fits)
    elif streams not in found:
        fits(streams)
    times = found[max(streams, 1)]
    return Result(
        f"{name}, {streams} persons at {RATE} frames/s, a frame of each in every tick",
        "ms a tick",
        (Side(f"kinegraph {precision}", Spread.of([1000 * t for t in times])),),
        None,
        {
            "persons": streams,
            "p50 of a tick (ms)": 1000 * percentile(times, 0.5),
            "p99 of a tick (ms)": 1000 * percentile(times, 0.99),
            "within a frame": percentile(times, 0.99) <= 1 / RATE,
            "ticks": ticks,
        },
    )


def largest(fits: Callable[[int], bool], most: int = MOST) -> int:
    """The largest number that fits, to about a tenth: by doubling, then by halving the gap.

    0 if not even 1 does.
    """
    good, bad = 0, 1
    while fits(bad):
        good, bad = bad, 2 * bad
        if bad > most:
            return good
    while bad - good > max(1, good // 10):
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return good


def tick_times(network: nn.Module, streams: int, ticks: int) -> list[float]:
    """Seconds that each of the last ``ticks`` frames of so many streams took."""
    pool = open_streams(network, window=FRAMES, together=FEW)
    keys = [pool.open() for _ in range(streams)]
    clips = dense_clips(streams, frames=ticks, persons=1)
    times = []
    with torch.inference_mode():
        for warm in (True, False):
            for t in range(ticks):
                frames = {key: clips[i, :, t] for i, key in enumerate(keys)}
                seconds = timed(pool.push, frames)
                if not warm:
                    times.append(seconds)
                elif t >= ticks // 3:
                    break
    return times


def _local(network: nn.Module, name: str) -> FastNetwork:
    """The network, if it can go step by step."""
    if not isinstance(network, FastNetwork):
        raise BenchError(
            f"{name} has no step network: its stream runs the window again for every frame, which "
            f"`kinegraph bench infer --model {name}` measures"
        )
    return network


def _one_person(name: str) -> nn.Module:
    return released(name, persons=1) if name == "shiftgcn" else released(name)


def _some(logits: Tensor | None) -> Tensor:
    return torch.full((1,), torch.nan) if logits is None else logits


def _pusher(streams: Streams, key: int, clip: Tensor, times: list[float]) -> Callable[[int], Any]:
    """Pushes the next frames of a clip without end; what each took is kept."""
    position = iter(range(10**9))

    def push(_: int) -> None:
        for _ in range(FRAMES_A_ROUND):
            frame = clip[:, next(position) % clip.shape[1]]
            times.append(timed(streams.push, {key: frame}))

    return push
