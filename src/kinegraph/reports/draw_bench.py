"""Bar charts of benchmark results as ratios to a baseline, with marks for their targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from kinegraph.reports import style

_BARS_WIDTH = 7.6  # inches
_NAME_LENGTH = 46  # characters
_TICKS = (0.01, 0.03, 0.1, 0.3, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Bar(NamedTuple):
    """One measurement.

    Attributes:
        name: what was measured.
        value: the speed-up over the baseline, or a count of ``unit``; None if not measured.
        low, high: quartiles of the value.
        minimum: required value, None if there is none.
        goal: desired value.
        unit: ``x`` for a speed-up, or what is counted.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    minimum: float | None = None
    goal: float | None = None
    unit: str = "x"


def draw_bench(bars: Sequence[Bar], machine: str = "") -> Figure:
    """Draw measurements on a logarithmic scale: blue if the requirement is met, else orange.

    Args:
        bars: the measurements, the first one on top.
        machine: the machine that they were taken on, written below.
    """
    figure = Figure(figsize=(_BARS_WIDTH, 0.42 * max(len(bars), 1) + 1.25), layout="constrained")
    ax = figure.add_subplot()
    style.despine(ax, grid="x")
    _set_scale(ax, bars)
    for row, bar in enumerate(bars):
        _draw_bar(ax, row, bar)
    names = [style.plot_label(bar.name, _NAME_LENGTH) for bar in bars]
    ax.set_yticks(range(len(bars)), names, color=style.BLACK)
    ax.set_ylim(len(bars) - 0.4, -0.6)
    ax.axvline(1, color=style.SLATE, linewidth=0.9, zorder=1)
    ax.set_xlabel("speed-up over the baseline", fontsize=9, color=style.GRAY)
    if any(bar.minimum is not None for bar in bars):
        ax.plot([], [], "|", color=style.BLACK, markersize=10, label="minimum")
        ax.plot(
            [], [], "D", color=style.BLACK, markerfacecolor="white", markersize=4.5, label="goal"
        )
        figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=8.5)
    if machine:
        figure.supxlabel(
            style.plot_label(machine, 120), fontsize=7.5, color=style.GRAY, x=0.01, ha="left"
        )
    return figure


def _set_scale(ax: Axes, bars: Sequence[Bar]) -> None:
    values = [v for bar in bars for v in (bar.value, bar.minimum, bar.goal, 1.0) if v]
    low, high = min(values, default=1.0), max(values, default=1.0)
    ax.set_xscale("log")
    ax.set_xlim(min(low, 1) / 1.3, high * 1.4)
    ax.xaxis.set_major_locator(FixedLocator([t for t in _TICKS if low / 1.3 <= t <= high * 1.4]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_bar(ax: Axes, row: int, bar: Bar) -> None:
    text, color = "not measured", style.GRAY
    dark: dict[str, Any] = {"color": style.BLACK, "zorder": 5}
    if bar.value:
        met = bar.minimum is None or bar.value >= bar.minimum
        face = style.BLUE if met else style.ORANGE
        ax.barh(row, bar.value - 1, left=1, height=0.5, color=face, zorder=2)
        if bar.low and bar.high and bar.low != bar.high:
            ax.plot([bar.low, bar.high], [row, row], linewidth=1.3, **dark)
        text = f"{bar.value:.3g}x" if bar.unit == "x" else f"{bar.value:.0f} {bar.unit}"
        color = style.BLACK
    if bar.minimum:
        ax.plot(bar.minimum, row, "|", markersize=15, markeredgewidth=1.6, **dark)
    if bar.goal:
        ax.plot(bar.goal, row, "D", markerfacecolor="white", markersize=4.5, **dark)
    beside = ax.get_yaxis_transform()
    ax.text(1.01, row, text, transform=beside, fontsize=9, color=color, va="center")
    ax.axhline(row + 0.5, color=style.LIGHT_GRAY, linewidth=0.5, zorder=0)
