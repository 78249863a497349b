"""Figure of a comparison of runs: a dot for each seed, and differences to the first setting."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kinegraph.reports import style

if TYPE_CHECKING:
    from kinegraph.inference.compare_runs import RunComparison

_NAMES_WIDTH, _VALUES_WIDTH, _DIFFERENCES_WIDTH = 2.9, 3.4, 3.0  # inches
_SETTING_HEIGHT = 0.55
_NAME_CHARS = 40
METRIC_NAMES = {"top1": "top-1", "top5": "top-5", "mean_class": "mean class accuracy"}


def draw_comparison(comparison: RunComparison) -> Figure:
    """Draw the settings below one another: their runs, and paired differences to the first one.

    Every seed has one color in both panels. A line marks the mean, and in the right panel a bar
    the 95 % confidence interval of the mean difference.
    """
    settings = comparison.settings
    tall = 1.25 + _SETTING_HEIGHT * len(settings)
    wide = _NAMES_WIDTH + _VALUES_WIDTH + _DIFFERENCES_WIDTH + 0.5
    figure = Figure(figsize=(wide, tall))
    panel_height = _SETTING_HEIGHT * len(settings)
    box = (_NAMES_WIDTH, 0.6, _VALUES_WIDTH, panel_height)
    values_ax = style.add_axes_inches(figure, box)
    box = (_NAMES_WIDTH + _VALUES_WIDTH + 0.3, 0.6, _DIFFERENCES_WIDTH, panel_height)
    difference_ax = style.add_axes_inches(figure, box)
    seeds = sorted({seed for setting in settings for seed in setting.values})
    colors = {seed: style.HUES[i % len(style.HUES)] for i, seed in enumerate(seeds)}
    for row, setting in enumerate(settings):
        _draw_dots(values_ax, row, setting.values, setting.mean, colors)
        if setting.difference is not None:
            _draw_dots(
                difference_ax, row, setting.difference.by_seed, setting.difference.mean, colors
            )
            if interval := setting.difference.interval:
                ends = [100 * end for end in interval]
                difference_ax.plot(ends, [row, row], color=style.LIGHT_GRAY, linewidth=6, zorder=1)
    for ax in (values_ax, difference_ax):
        style.despine(ax, grid="x")
        ax.set(ylim=(len(settings) - 0.5, -0.5), yticks=[])
    names = [
        "\n".join(textwrap.wrap(style.plot_label(setting.name, 3 * _NAME_CHARS), _NAME_CHARS))
        for setting in settings
    ]
    values_ax.set_yticks(range(len(settings)), names, fontsize=8)
    difference_ax.axvline(0, color=style.GRAY, linewidth=0.8, zorder=0)
    metric = METRIC_NAMES[comparison.metric]
    note = f"{comparison.clips} clips; one dot for each seed, a line at the mean"
    style.add_heading(values_ax, f"{metric} (%)", note)
    note = "points, same seed; bar: 95 % interval of the mean"
    style.add_heading(difference_ax, "difference to the first", note)
    style.add_color_legend(figure, [(f"seed {seed}", colors[seed]) for seed in seeds[:12]])
    return figure


def _draw_dots(
    ax: Axes, row: int, values: dict[int, float], mean: float, colors: dict[int, str]
) -> None:
    """Draw percentages of seeds on the line ``row``, spread in height, and their mean."""
    line: dict[str, Any] = {"color": style.BLACK, "linewidth": 1.6, "zorder": 2}
    ax.plot([100 * mean] * 2, [row - 0.3, row + 0.3], **line)
    for i, (seed, value) in enumerate(sorted(values.items())):
        height = row + (0.36 * ((i + 0.5) / len(values) - 0.5))
        ax.scatter(100 * value, height, s=26, color=colors[seed], zorder=3)
