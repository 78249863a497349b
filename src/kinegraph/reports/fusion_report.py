"""The HTML report of a fusion: each run with its weight, and the fused result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from kinegraph.inference.evaluate import Evaluation
from kinegraph.inference.fuse_runs import FusedRun, Fusion
from kinegraph.reports import style
from kinegraph.reports.page import (
    Comparison,
    RunReport,
    format_percent,
    wilson_interval,
    write_report,
)
from kinegraph.training.checkpoint import collect_versions

_RUNS_WIDTH, _ROW = 5.8, 0.36  # inches
_HEADER = ("run", "stream", "weight", "top-1", "95 % interval", "top-5", "mean class")


def write_fusion_report(fusion: Fusion, path: Path) -> Path:
    """Write the report of a fusion as one self-contained HTML file.

    Raises:
        OSError: the file cannot be written.
    """
    rows = [
        (run.name, run.stream, f"{run.weight:.3g}", *_format_evaluation(run.evaluation))
        for run in fusion.runs
    ]
    report = RunReport(
        title="Fusion: " + " + ".join(_labels(fusion.runs)),
        facts={
            "data": f"{fusion.store}, protocol {fusion.protocol}",
            "weights": describe_weights(fusion),
            "fused": f"{len(fusion.runs)} runs, {fusion.evaluation.clips} clips, by clip id",
        },
        comparison=Comparison(
            title="Runs",
            figure=draw_fusion(fusion),
            header=_HEADER,
            rows=[*rows, ("fused", "", "", *_format_evaluation(fusion.evaluation))],
        ),
        evaluations={fusion.split: fusion.evaluation},
        environment=collect_versions(),
    )
    return write_report(report, path)


def describe_weights(fusion: Fusion) -> str:
    """Return a phrase that states where the weights come from."""
    if fusion.found is None:
        known = {"published": "the published ones of Shift-GCN", "equal": "equal", "given": "given"}
        return known[fusion.weights_from]
    found = fusion.found
    return (
        f"tuned on {len(found.ids)} held-out clips (accuracy there {format_percent(found.accuracy)}"
        f", with equal weights {format_percent(found.equal_accuracy)})"
    )


def draw_fusion(fusion: Fusion) -> Figure:
    """Draw a bar for the top-1 accuracy of each run, and one below them for the fusion.

    The thin lines are 95 % confidence intervals (Wilson 1927).
    """
    count = len(fusion.runs)
    figure = Figure(figsize=(_RUNS_WIDTH, 0.75 + _ROW * (count + 1)), layout="constrained")
    ax = figure.add_subplot()
    style.despine(ax, grid=None)
    places = [*range(count), count + 0.25]
    colors = [style.tint(style.SLATE, 0.45)] * count + [style.tint(style.BLUE, 0.25)]
    notes = [*(f"weight {run.weight:.2g}" for run in fusion.runs), ""]
    results = [*(run.evaluation for run in fusion.runs), fusion.evaluation]
    options: dict[str, Any] = {"va": "center_baseline", "fontsize": 8}
    for y, result, color, note in zip(places, results, colors, notes, strict=True):
        ax.barh(y, 1.0, 0.62, color=style.OFF_WHITE)
        ax.barh(y, result.top1, 0.62, color=color)
        ax.plot(
            wilson_interval(result.top1, result.clips), [y] * 2, color=style.BLACK, linewidth=1.1
        )
        ax.text(1.02, y, format_percent(result.top1), color=style.BLACK, **options)
        ax.text(1.18, y, note, color=style.GRAY, **options)
    names = [style.plot_label(label, 26) for label in _labels(fusion.runs)]
    ax.set_yticks(places, [*names, "fused"], fontsize=9)
    ax.tick_params(colors=style.BLACK)
    ax.set_xticks([])
    ax.set(xlim=(0, 1.42), ylim=(count + 0.75, -0.5))
    style.add_heading(
        ax, f"top-1 accuracy on {fusion.split}", "thin lines: 95 % confidence intervals"
    )
    return figure


def _labels(runs: Sequence[FusedRun]) -> list[str]:
    """Return the streams if they are distinct, else the runs' names."""
    streams = [run.stream for run in runs]
    return streams if len(set(streams)) == len(streams) else [run.name for run in runs]


def _format_evaluation(result: Evaluation) -> tuple[str, ...]:
    low, high = wilson_interval(result.top1, result.clips)
    return (
        format_percent(result.top1),
        f"{format_percent(low)} to {format_percent(high)}",
        format_percent(result.top5),
        format_percent(result.mean_class),
    )
