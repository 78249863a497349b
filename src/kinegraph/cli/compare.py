"""`kinegraph compare`: several runs, or settings with several seeds, as one table and figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinegraph.cli.console import (
    FIGURE_SUFFIXES,
    JsonOption,
    check_figure_path,
    echo,
    print_table,
    progress,
    save_figure,
)

if TYPE_CHECKING:
    from kinegraph.inference.compare_runs import RunComparison, Setting


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN", help="Folders of two or more runs; the first is the baseline."
        ),
    ],
    metric: Annotated[str, typer.Option(help="top1, top5 or mean_class.")] = "top1",
    split: Annotated[str, typer.Option(help="Split: test, train, val or all.")] = "test",
    figure: Annotated[
        Path | None, typer.Option(help=f"Figure file to write: {', '.join(FIGURE_SUFFIXES)}.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare runs: mean and spread over seeds, and the difference to the first for each seed.

    Runs whose recipes differ in the seed only are one setting.
    """
    check_figure_path(figure)
    from kinegraph.inference.compare_runs import compare_runs

    chosen: Any = metric
    comparison = compare_runs(runs, metric=chosen, split=split, progress=progress)
    if as_json:
        echo(json.dumps(comparison.to_dict(), indent=1))
    else:
        _print_comparison(comparison)
    if figure is not None:
        from kinegraph.reports.draw_compare import draw_comparison

        save_figure(draw_comparison(comparison), figure)
        if not as_json:
            echo(figure)


def _print_comparison(comparison: RunComparison) -> None:
    from kinegraph.reports.draw_compare import METRIC_NAMES

    header = ("setting", "seeds", "mean ± std", "difference (95 %)", "better")
    rows = [_format_row(setting) for setting in comparison.settings]
    title = f"{METRIC_NAMES[comparison.metric]} (%) on {comparison.clips} clips"
    print_table(title, header, rows)
    if len(comparison.settings) > 1:
        echo(
            f"difference: to {comparison.settings[0].name}, in points, same seed to same seed, "
            "and the 95 % confidence interval of its mean"
        )
    if any(len(setting.values) < 3 for setting in comparison.settings):
        echo("fewer than three seeds: the spread between seeds is not known well")


def _format_row(setting: Setting) -> tuple[str, ...]:
    spread = "" if setting.std is None else f" ± {100 * setting.std:.1f}"
    row = (setting.name, str(len(setting.values)), f"{100 * setting.mean:.1f}{spread}")
    difference = setting.difference
    if difference is None:
        return (*row, "-", "-")
    text = f"{100 * difference.mean:+.1f}"
    if difference.interval is not None:
        text += " ({:+.1f} to {:+.1f})".format(*(100 * end for end in difference.interval))
    better = sum(value > 0 for value in difference.by_seed.values())
    return (*row, text, f"{better} of {len(difference.by_seed)}")
