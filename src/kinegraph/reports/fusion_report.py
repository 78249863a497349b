"""The report of a fusion: every run by itself, its weight, and all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kinegraph.inference.evaluate import Evaluation
from kinegraph.inference.fuse_runs import FusedRun, Fusion
from kinegraph.reports.page import Comparison, RunReport, percent, wilson_interval, write_report
from kinegraph.reports.style import (
    BLACK,
    BLUE,
    GRAY,
    OFF_WHITE,
    SLATE,
    add_heading,
    blend,
    despine,
    plot_label,
)
from kinegraph.training.checkpoint import collect_versions

_WIDTH, _ROW = 5.8, 0.36  # inches
_HEADER = ("run", "stream", "weight", "top-1", "95 % interval", "top-5", "mean class")


def write_fusion_report(fusion: Fusion, path: Path) -> Path:
    """Write the report of a fusion as one self-contained HTML file.

    Raises:
        OSError: the file cannot be written.
    """
    rows = [
        (run.name, run.stream, f"{run.weight:.3g}", *_figures(run.evaluation))
        for run in fusion.runs
    ]
    report = RunReport(
        title="Fused: " + " + ".join(_labels(fusion.runs)),
        facts={
            "data": f"{fusion.store}, protocol {fusion.protocol}",
            "weights": describe_weights(fusion),
            "joined": f"{len(fusion.runs)} runs, {fusion.evaluation.clips} clips, by clip id",
        },
        comparison=Comparison(
            title="Runs",
            figure=draw_fusion(fusion),
            header=_HEADER,
            rows=[*rows, ("fused", "", "", *_figures(fusion.evaluation))],
        ),
        evaluations={fusion.split: fusion.evaluation},
        environment=collect_versions(),
    )
    return write_report(report, path)


def describe_weights(fusion: Fusion) -> str:
    """Where the weights come from, in words."""
    if fusion.found is None:
        known = {"published": "the published ones of Shift-GCN", "equal": "equal", "given": "given"}
        return known[fusion.weights_from]
    found = fusion.found
    return (
        f"found on {len(found.ids)} held-out clips: {percent(found.accuracy)} there, "
        f"{percent(found.equal_accuracy)} with equal weights"
    )


def draw_fusion(fusion: Fusion) -> Figure:
    """A bar for the top-1 accuracy of each run, and one below them for all together.

    The thin lines are 95 % intervals (Wilson 1927).
    """
    count = len(fusion.runs)
    figure = Figure(figsize=(_WIDTH, 0.75 + _ROW * (count + 1)), layout="constrained")
    ax = figure.add_subplot()
    despine(ax, grid=None)
    weights = [f"weight {run.weight:.2g}" for run in fusion.runs]
    results = [*(run.evaluation for run in fusion.runs), fusion.evaluation]
    for row, (result, note) in enumerate(zip(results, [*weights, ""], strict=True)):
        color = blend(SLATE, "#ffffff", 0.45) if row < count else blend(BLUE, "#ffffff", 0.25)
        _draw_bar(ax, row + 0.25 * (row == count), result, color, note)
    places = [*range(count), count + 0.25]
    names = [plot_label(label, 26) for label in _labels(fusion.runs)]
    ax.set_yticks(places, [*names, "fused"], fontsize=9)
    ax.tick_params(colors=BLACK)
    ax.set_xticks([])
    ax.set(xlim=(0, 1.42), ylim=(count + 0.75, -0.5))
    add_heading(ax, f"top-1 on {fusion.split}", "thin lines: 95 % intervals")
    return figure


def _draw_bar(ax: Axes, place: float, result: Evaluation, color: str, note: str) -> None:
    style: dict[str, Any] = {"va": "center_baseline", "fontsize": 8}
    ax.barh(place, 1.0, 0.62, color=OFF_WHITE)
    ax.barh(place, result.top1, 0.62, color=color)
    ax.plot(wilson_interval(result.top1, result.clips), [place] * 2, color=BLACK, linewidth=1.1)
    ax.text(1.02, place, percent(result.top1), color=BLACK, **style)
    ax.text(1.18, place, note, color=GRAY, **style)


def _labels(runs: Sequence[FusedRun]) -> list[str]:
    """Streams where they tell the runs apart, else the runs' names."""
    streams = [run.stream for run in runs]
    return streams if len(set(streams)) == len(streams) else [run.name for run in runs]


def _figures(result: Evaluation) -> tuple[str, ...]:
    low, high = wilson_interval(result.top1, result.clips)
    return (
        percent(result.top1),
        f"{percent(low)} to {percent(high)}",
        percent(result.top5),
        percent(result.mean_class),
    )
