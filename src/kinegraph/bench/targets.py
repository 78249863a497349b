"""Targets of the benchmarks, their measurement, and the table of docs/performance.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from kinegraph.bench.data import bench_bytes, bench_convert, bench_crops
from kinegraph.bench.infer import bench_infer, bench_recorded
from kinegraph.bench.machine import has_bf16
from kinegraph.bench.result import BenchOptions, BenchResult
from kinegraph.bench.streaming import bench_stream, bench_streams
from kinegraph.bench.train import bench_train
from kinegraph.clips.store import ClipStore
from kinegraph.errors import BenchError, KinegraphError, unknown_name
from kinegraph.inference.trained_model import ProgressCallback

TABLE_BEGIN, TABLE_END = "<!-- targets: begin -->", "<!-- targets: end -->"
TABLE_HEADER = ("what", "minimum", "goal", "measured", "notes")
#: Figures of a result that the table notes, by their name in the result.
NOTE_FORMATS = {
    "relative error": "largest relative error {:.0e}",
    "relative error, padded": "largest relative error on padded clips {:.0e}",
    "top-1 agreement, padded": "top-1 agreement on padded clips {:.0%}",
    "median frames": "median {:.0f} frames",
    "p99 of a frame (ms)": "p99 {:.2g} ms a frame",
    "p99 of a tick (ms)": "p99 {:.2g} ms a tick",
    "ratio in float32": "{:.3g}x in float32",
    "largest error": "largest error in float16 {:.1g}",
}


@dataclass(frozen=True)
class BenchInputs:
    """Recordings that benchmarks run on: a clip store, and a folder of `.skeleton` files."""

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


@dataclass(frozen=True)
class TargetResult:
    """A target and its result.

    Attributes:
        result: in the target's precision; None if it could not be measured.
        in_fp32: measured instead where the processor only emulates bf16.
        failure: why there is no result.
    """

    target: Target
    result: BenchResult | None = None
    in_fp32: BenchResult | None = None
    failure: str = ""

    @property
    def measured(self) -> float | None:
        """The result in the unit of the target."""
        return None if self.result is None else self.target.value_of(self.result)

    def to_dict(self) -> dict[str, Any]:
        """Return the result for JSON."""
        return {
            "target": self.target.key,
            "minimum": self.target.minimum,
            "goal": self.target.goal,
            "measured": self.measured,
            "result": self.result and self.result.to_dict(),
            "in_fp32": self.in_fp32 and self.in_fp32.to_dict(),
            "failure": self.failure or None,
        }


def select_targets(keys: Sequence[str] = ()) -> list[Target]:
    """Return targets by their keys; all of them without keys.

    Raises:
        UnknownNameError: no such target.
    """
    known = {target.key: target for target in TARGETS}
    for key in keys:
        if key not in known:
            raise unknown_name("target", key, known)
    return [known[key] for key in keys or known]


def measure_targets(
    targets: Sequence[Target],
    inputs: BenchInputs,
    rounds: int | None = None,
    progress: ProgressCallback | None = None,
) -> list[TargetResult]:
    """Measure targets one after the other; a failure does not stop the others.

    Args:
        progress: called with (targets begun, targets in all) before each target.
    """
    results = []
    for number, target in enumerate(targets):
        if progress:
            progress(number, len(targets))
        emulated = target.precision == "bf16" and not has_bf16()  # up to 100 times slower
        options = BenchOptions("fp32" if emulated else target.precision, rounds)
        try:
            result = target.measure(inputs, options)
            row = TargetResult(target, in_fp32=result) if emulated else TargetResult(target, result)
            results.append(row)
        except KinegraphError as error:
            results.append(TargetResult(target, failure=str(error)))
    return results


def format_table(results: Sequence[TargetResult]) -> list[str]:
    """Return the lines of the table in Markdown."""
    header = [f"| {' | '.join(TABLE_HEADER)} |", "|---" * len(TABLE_HEADER) + "|"]
    return header + [f"| {' | '.join(_format_row(result))} |" for result in results]


def split_page(page: Path) -> tuple[str, str]:
    """Return the text before and after the table of a page.

    Raises:
        BenchError: the page cannot be read, or has no markers around the table.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BenchError(f"cannot read the page {page}: {error}") from error
    before, begin, rest = text.partition(TABLE_BEGIN)
    _, end, after = rest.partition(TABLE_END)
    if not begin or not end:
        raise BenchError(
            f"{page}: expected the lines {TABLE_BEGIN} and {TABLE_END} around the table"
        )
    return before, after


def update_page(page: Path, results: Sequence[TargetResult], machine: str) -> None:
    """Write the table and the machine between the page's markers.

    Args:
        machine: see `describe_machine`, with as many threads as were measured with.

    Raises:
        BenchError: see `split_page`.
    """
    before, after = split_page(page)
    table = "\n".join(format_table(results))
    page.write_text(
        f"{before}{TABLE_BEGIN}\n{table}\n\nMeasured on: {machine}.\n{TABLE_END}{after}",
        encoding="utf-8",
    )


def _format_row(row: TargetResult) -> tuple[str, ...]:
    target = row.target
    first = (target.what, *(_format_value(target, v) for v in (target.minimum, target.goal)))
    if row.result is not None:
        return (*first, _format_measured(target, row.result), "; ".join(_notes(row.result)))
    if row.in_fp32 is not None:
        in_fp32 = _format_measured(target, row.in_fp32).replace("**", "")
        return (*first, "no bf16 units", "; ".join([f"in fp32 {in_fp32}", *_notes(row.in_fp32)]))
    return (*first, "not measured", row.failure.replace("|", "/"))


def _format_value(target: Target, value: float) -> str:
    return f"{value:.3g}x" if target.unit == "x" else f"{value:.0f}"


def _format_measured(target: Target, result: BenchResult) -> str:
    value = target.value_of(result)
    text = _format_value(target, value)
    if value >= target.minimum:
        text = f"**{text}**"
    if target.unit == "x" and result.ratio and result.ratio.low != result.ratio.high:
        text += f" ({result.ratio.low:.3g}-{result.ratio.high:.3g})"
    return text


def _notes(result: BenchResult) -> list[str]:
    figures = result.figures
    return [text.format(figures[name]) for name, text in NOTE_FORMATS.items() if name in figures]
