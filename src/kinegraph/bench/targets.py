"""The target table: each benchmark with its minimum and its goal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

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
    measure: Callable[[BenchInputs, BenchOptions], BenchResult]
    precision: str = "fp32"
    unit: str = "x"
    model: str = ""

    def value_of(self, result: BenchResult) -> float:
        """Return the value of a result in the unit of the target."""
        if self.unit == "x":
            return result.ratio.median if result.ratio else 0.0
        return float(result.figures[self.unit])


#: Benchmarks by their names in targets.yaml, called with the model, the inputs and the options.
_BENCHMARKS: dict[str, Callable[[str, BenchInputs, BenchOptions], BenchResult]] = {
    "infer": lambda model, _, options: bench_infer(model, options),
    "recorded": lambda model, inputs, options: bench_recorded(
        model, ClipStore(inputs.store), options
    ),
    "frame": lambda model, _, options: bench_stream(model, options),
    "persons": lambda model, _, options: bench_streams(model, options=options),
    "train": lambda model, _, options: bench_train(model, options),
    "convert": lambda _, inputs, options: bench_convert(inputs.raw, options),
    "bytes": lambda _, inputs, options: bench_bytes(ClipStore(inputs.store)),
    "crops": lambda _, inputs, options: bench_crops(ClipStore(inputs.store), options),
}


def _read_target(key: str, benchmark: str, model: str = "", **fields: Any) -> Target:
    return Target(key, measure=partial(_BENCHMARKS[benchmark], model), model=model, **fields)


_TARGETS_YAML = resources.files("kinegraph.bench").joinpath("targets.yaml").read_text("utf-8")
TARGETS = tuple(
    _read_target(key, **fields) for key, fields in yaml.safe_load(_TARGETS_YAML).items()
)
