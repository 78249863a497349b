"""The target table: each benchmark with its minimum and its goal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kinegraph.bench.convert import bench_convert
from kinegraph.bench.data import bench_bytes, bench_crops
from kinegraph.bench.infer import bench_infer, bench_recorded
from kinegraph.bench.result import BenchOptions, BenchResult
from kinegraph.bench.streaming import bench_stream, bench_streams
from kinegraph.bench.train import bench_train
from kinegraph.clips.store import ClipStore


@dataclass(frozen=True)
class BenchInputs:
    """Recordings that benchmarks run on.

    Attributes:
        store: path of a clip store.
        raw: a folder of `.skeleton` files.
    """

    store: Path
    raw: Path


Benchmark = Callable[[BenchInputs, BenchOptions], BenchResult]


@dataclass(frozen=True)
class Target:
    """One row of the table.

    Attributes:
        key: its name.
        what: what is measured.
        minimum: the value that is required.
        goal: the value that would be good.
        measure: called with the inputs and options.
        precision: of ours.
        unit: of minimum and goal; ``x`` for a ratio, else one of the result's figures.
        model: whose operations give the lower bound, empty for data.
    """

    key: str
    what: str
    minimum: float
    goal: float
    measure: Benchmark
    precision: str = "fp32"
    unit: str = "x"
    model: str = ""

    def value_of(self, result: BenchResult) -> float:
        """Return the value of a result in the unit of the target."""
        if self.unit == "x":
            return result.ratio.median if result.ratio else 0.0
        return float(result.figures[self.unit])


def _infer(model: str) -> Benchmark:
    return lambda _, options: bench_infer(model, options)


def _steps(model: str) -> Benchmark:
    return lambda _, options: bench_train(model, options)


TARGETS: tuple[Target, ...] = (
    Target("stgcn", "ST-GCN, one dense clip", 1.5, 2, _infer("stgcn"), model="stgcn"),
    Target("stgcn-bf16", "ST-GCN, one dense clip, bf16", 6, 8, _infer("stgcn"), "bf16",
           model="stgcn"),
    Target("shiftgcn", "Shift-GCN, one dense clip", 3.5, 5, _infer("shiftgcn"), model="shiftgcn"),
    Target("shiftgcn-bf16", "Shift-GCN, one dense clip, bf16", 6, 12, _infer("shiftgcn"), "bf16",
           model="shiftgcn"),
    Target("asgcn", "AS-GCN, one dense clip", 2, 3, _infer("asgcn"), model="asgcn"),
    Target("asgcn-bf16", "AS-GCN, one dense clip, bf16", 5, 8, _infer("asgcn"), "bf16",
           model="asgcn"),
    Target("real-bf16", "ST-GCN, recorded clips, bf16", 15, 19,
           lambda inputs, options: bench_recorded("stgcn", ClipStore(inputs.store), options),
           "bf16", model="stgcn"),
    Target("frame", "ST-GCN, one more frame", 200, 300,
           lambda _, options: bench_stream("stgcn", options),
           model="stgcn"),
    Target("persons", "ST-GCN, persons at 30 frames/s", 20, 60,
           lambda _, options: bench_streams("stgcn", options=options),
           unit="persons", model="stgcn"),
    Target("train-stgcn-bf16", "ST-GCN, a training step, bf16", 2.4, 3.5, _steps("stgcn"), "bf16",
           model="stgcn"),
    Target("train-shiftgcn-bf16", "Shift-GCN, a training step, bf16", 2, 4, _steps("shiftgcn"),
           "bf16", model="shiftgcn"),
    Target("convert", "`.skeleton` text to a store, one core", 5, 20,
           lambda inputs, options: bench_convert(inputs.raw, options)),
    Target("bytes", "bytes on disk against dense float32", 6, 12,
           lambda inputs, _: bench_bytes(ClipStore(inputs.store))),
    Target("crops", "random crops of 64 frames", 2, 4.5,
           lambda inputs, options: bench_crops(ClipStore(inputs.store), options)),
)  # fmt: skip
