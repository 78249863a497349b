"""The target table: what has to be how many times as fast, and how that is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kinegraph.bench.convert import bench_convert
from kinegraph.bench.data import bench_bytes, bench_crops
from kinegraph.bench.infer import bench_infer, bench_real
from kinegraph.bench.result import Result
from kinegraph.bench.stream import bench_stream, bench_streams
from kinegraph.bench.timing import Progress
from kinegraph.bench.train import bench_train
from kinegraph.clips.store import ClipStore


@dataclass(frozen=True)
class Given:
    """What a benchmark works on.

    Attributes:
        store: of clips.
        raw: a folder of `.skeleton` files.
        rounds: how often both sides are timed; None for what each benchmark takes by itself.
        progress: called with (rounds done, rounds in all).
    """

    store: Path
    raw: Path
    rounds: int | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        key: its name.
        what: is measured.
        at_least: what is asked for.
        aim: what would be good.
        measure: takes what there is to work on, and the precision.
        precision: of ours.
        unit: of the targets; ``x`` for a ratio, else one of the result's figures.
        model: of `BASELINES`, for the floors.
    """

    key: str
    what: str
    at_least: float
    aim: float
    measure: Callable[[Given, str], Result]
    precision: str = "fp32"
    unit: str = "x"
    model: str = ""

    def reached(self, result: Result) -> float:
        """What the result says in the unit of the targets."""
        if self.unit == "x":
            return result.ratio.median if result.ratio else 0.0
        return float(result.figures[self.unit])


def _infer(model: str) -> Callable[[Given, str], Result]:
    return lambda given, precision: bench_infer(
        model, precision=precision, rounds=given.rounds or 11, progress=given.progress
    )


def _train(model: str) -> Callable[[Given, str], Result]:
    return lambda given, precision: bench_train(
        model, precision=precision, rounds=given.rounds or 5, progress=given.progress
    )


def _real(given: Given, precision: str) -> Result:
    return bench_real(
        "stgcn",
        ClipStore(given.store),
        precision=precision,
        rounds=given.rounds or 5,
        progress=given.progress,
    )


def _stream(given: Given, precision: str) -> Result:
    return bench_stream(
        "stgcn", precision=precision, rounds=given.rounds or 11, progress=given.progress
    )


def _streams(given: Given, precision: str) -> Result:
    return bench_streams("stgcn", precision=precision, progress=given.progress)


def _convert(given: Given, _: str) -> Result:
    return bench_convert(given.raw, rounds=given.rounds or 5, progress=given.progress)


def _bytes(given: Given, _: str) -> Result:
    return bench_bytes(ClipStore(given.store))


def _crops(given: Given, _: str) -> Result:
    return bench_crops(ClipStore(given.store), rounds=given.rounds or 11, progress=given.progress)


ROWS: tuple[Row, ...] = (
    Row("stgcn", "ST-GCN, one dense clip", 1.5, 2, _infer("stgcn"), model="stgcn"),
    Row("stgcn-bf16", "ST-GCN, one dense clip, bf16", 6, 8, _infer("stgcn"), "bf16",
        model="stgcn"),
    Row("shiftgcn", "Shift-GCN, one dense clip", 3.5, 5, _infer("shiftgcn"), model="shiftgcn"),
    Row("shiftgcn-bf16", "Shift-GCN, one dense clip, bf16", 6, 12, _infer("shiftgcn"), "bf16",
        model="shiftgcn"),
    Row("asgcn", "AS-GCN, one dense clip", 2, 3, _infer("asgcn"), model="asgcn"),
    Row("asgcn-bf16", "AS-GCN, one dense clip, bf16", 5, 8, _infer("asgcn"), "bf16",
        model="asgcn"),
    Row("real-bf16", "ST-GCN, recorded clips, bf16", 15, 19, _real, "bf16", model="stgcn"),
    Row("frame", "ST-GCN, one more frame", 200, 300, _stream, model="stgcn"),
    Row("persons", "ST-GCN, persons at 30 frames/s", 20, 60, _streams, unit="persons",
        model="stgcn"),
    Row("train-stgcn-bf16", "ST-GCN, a training step, bf16", 2.4, 3.5, _train("stgcn"), "bf16",
        model="stgcn"),
    Row("train-shiftgcn-bf16", "Shift-GCN, a training step, bf16", 2, 4, _train("shiftgcn"),
        "bf16", model="shiftgcn"),
    Row("convert", "`.skeleton` text to a store, one core", 5, 20, _convert),
    Row("bytes", "bytes on disk against dense float32", 6, 12, _bytes),
    Row("crops", "random crops of 64 frames", 2, 4.5, _crops),
)  # fmt: skip
