"""Output of `kinegraph bench`: tables, JSON and figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinegraph.cli.console import print_table, progress
from kinegraph.errors import BenchError

if TYPE_CHECKING:
    from kinegraph.bench.result import BenchOptions, BenchResult
    from kinegraph.bench.targets import TargetResult
    from kinegraph.reports.draw_bench import Bar

FIGURE_SUFFIXES = (".png", ".svg", ".pdf", ".jpg")


def run_benchmark(
    title: str,
    measure: Callable[[BenchOptions], BenchResult],
    precision: str = "fp32",
    rounds: int | None = None,
    threads: int | None = None,
    as_json: bool = False,
    figure: Path | None = None,
    extra: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Run a benchmark under a progress bar, then print its result and draw it.

    Args:
        title: of the bar.
        measure: the benchmark.
        precision: of ours.
        rounds: how often both sides are timed; None for the default.
        threads: of PyTorch; None for its own choice.
        as_json: print one JSON object in place of tables.
        figure: to write.
        extra: further figures, by their subject.
    """
    from kinegraph.bench.result import BenchOptions
    from kinegraph.bench.timing import use_threads

    check_figure_path(figure)
    with use_threads(threads), progress(title) as bar:
        result = measure(BenchOptions(str(precision), rounds, bar))
    if figure is not None:
        draw_bars([_make_bar(result)], result.machine, figure)
    if as_json:
        print(json.dumps({**result.to_dict(), **(extra or {})}))
        return
    _print_result(result)
    for name, figures in (extra or {}).items():
        print(f"{name}: {_format_figures(figures)}")


def _print_result(result: BenchResult) -> None:
    columns = list(dict.fromkeys(name for side in result.sides for name in side.figures))
    header = ("", result.unit, *(name.split(" of ")[-1] for name in columns))
    rows = [
        (
            side.name,
            f"{side.amount.median:.4g}",
            *(_format_figure(name, side.figures.get(name)) for name in columns),
        )
        for side in result.sides
    ]
    print(result.what)
    print_table("", header, rows)
    if result.ratio is not None:
        ratio = result.ratio
        print(f"ratio {ratio.median:.3g} (quartiles {ratio.low:.3g} to {ratio.high:.3g})")
    print(_format_figures(result.figures))
    print(result.machine)


def _format_figures(figures: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_format_figure(name, value)}" for name, value in figures.items())


def _format_figure(name: str, value: Any) -> str:
    """Format a figure with a sensible number of digits."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case str():
            return value
        case _ if name.startswith(("share", "top-")):
            return f"{value:.1%}"
        case _ if "error" in name:
            return f"{value:.1e}"
        case int():
            return f"{value:,}"
    return f"{value:.4g}"


def _make_bar(result: BenchResult) -> Bar:
    from kinegraph.reports.draw_bench import Bar

    ratio = result.ratio
    if ratio is None:
        return Bar(result.what, float(result.figures["persons"]), unit="persons")
    return Bar(result.what, ratio.median, ratio.low, ratio.high)


def make_target_bar(row: TargetResult) -> Bar:
    """Return a row of the target table as a bar of the figure."""
    from kinegraph.reports.draw_bench import Bar

    target, ratio = row.target, row.result and row.result.ratio
    low, high = (ratio.low, ratio.high) if ratio else (None, None)
    name = target.what.replace("`", "")
    return Bar(name, row.measured, low, high, target.minimum, target.goal, target.unit)


def draw_bars(bars: Sequence[Bar], machine: str, path: Path) -> None:
    """Write a figure of these bars."""
    from kinegraph.reports.draw_bench import draw_bench

    draw_bench(bars, machine).savefig(path, dpi=120)


def check_figure_path(path: Path | None) -> None:
    """Refuse a figure that cannot be written, before anything is measured.

    Raises:
        BenchError: an unknown format, or the folder does not exist.
    """
    if path is None:
        return
    if path.suffix not in FIGURE_SUFFIXES:
        raise BenchError(f"expected a figure named {', '.join(FIGURE_SUFFIXES)}, got {str(path)!r}")
    if not path.absolute().parent.is_dir():
        raise BenchError(f"{path}: the folder {path.parent} does not exist; create it first")
