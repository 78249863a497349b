"""Figures of a run: training curves, confusion matrix, class accuracy, reliability diagram."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from kinegraph.reports import style

if TYPE_CHECKING:
    from kinegraph.inference.evaluate import ClassResult, ReliabilityBin

_WIDTH = 5.8  # inches: narrow enough to be read on a phone
_MAX_COUNTED = 20  # classes up to which a confusion matrix shows its counts
#: Height in inches and title of the panels of training curves, by the kind of value.
_PANELS = {
    "accuracy": (2.3, "accuracy"),
    "mean_class": (2.0, "mean class accuracy"),
    "mpjpe": (2.0, "mean joint error"),
    "loss": (2.0, "loss"),
    "lr": (0.8, "learning rate"),
}
#: Height of the name of a curve as a share of its panel, and the height of a panel in inches.
_NAME_HEIGHT, _PANEL_HEIGHT = 0.1, 2.0
_CURVE_COLORS = {
    "train": style.tint(style.SLATE, 0.45),
    "val": style.BLUE,
    "test": style.ORANGE,
}

History = Sequence[Mapping[str, Any]]
Curves = dict[str, NDArray[np.float64]]


def draw_training_curves(history: History) -> Figure:
    """Draw accuracy, loss and learning rate by epoch, as far as they were recorded.

    Args:
        history: rows with epoch, the losses and accuracies (fractions) of train, val and test, lr,
            and mean joint errors (mpjpe) where poses are predicted; any of them may be missing or
            None. Rows without an epoch are counted from 0.
    """
    panels = {kind: curves for kind in _PANELS if (curves := _curves(history, kind))}
    if not panels:
        return style.message_figure("No training history was recorded.", _WIDTH)
    heights = [_PANELS[kind][0] for kind in panels]
    figure = Figure(figsize=(_WIDTH, sum(heights) + 0.55 * len(panels) + 0.3))
    figure.set_layout_engine("constrained", hspace=0.04)
    grid = figure.subplots(len(panels), 1, sharex=True, height_ratios=heights, squeeze=False)
    for ax, (kind, curves) in zip(grid[:, 0], panels.items(), strict=True):
        _draw_curves(ax, curves, kind)
    grid[-1, 0].set_xlabel("epoch", fontsize=9, color=style.GRAY)
    return figure


def draw_confusion_matrix(confusion: NDArray[np.integer], names: Sequence[str]) -> Figure:
    """Draw a confusion matrix: correct clips blue, errors orange, each row by its own clips.

    Args:
        confusion: (K, K) numbers of clips; rows are true classes, columns predicted ones. The
            counts are shown for up to twenty classes; of many classes only some are named.
        names: K class names.

    Raises:
        ValueError: the matrix is not K by K.
    """
    counts = np.asarray(confusion)
    classes = len(names)
    if counts.shape != (classes, classes):
        raise ValueError(
            f"expected a confusion matrix of {classes} by {classes}, got {counts.shape}"
        )
    size = float(np.clip(0.36 * classes, 2.2, 7.2))
    figure = Figure(figsize=(size + 2.0, size + 1.75), layout="constrained")
    ax = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # the square root makes small shares of errors visible
    wrong, right = style.ORANGE_CMAP(np.sqrt(shares))[..., :3], style.BLUE_CMAP(shares)[..., :3]
    ax.imshow(np.where(np.eye(classes, dtype=bool)[..., None], right, wrong), interpolation="none")
    _name_classes(ax, names, size)
    if classes <= _MAX_COUNTED:
        _write_counts(ax, counts, shares)
    ax.set_ylabel("true class", fontsize=9, color=style.GRAY)
    ax.set_xlabel("predicted class", fontsize=9, color=style.GRAY)
    return figure


def draw_class_accuracy(per_class: Sequence[ClassResult]) -> Figure:
    """Draw a bar per class, the best first; classes without clips are last, without a bar.

    Args:
        per_class: rows with name, clips and accuracy (a fraction or None).
    """
    if not per_class:
        return style.message_figure("No classes were evaluated.", _WIDTH)
    rows = sorted(per_class, key=lambda row: (row.accuracy is None, -(row.accuracy or 0.0)))
    columns = math.ceil(len(rows) / 40)
    each = math.ceil(len(rows) / columns)
    width = _WIDTH if columns == 1 else 3.4 * columns
    size = 9.0 if columns == 1 else 7.5
    figure = Figure(figsize=(width, 0.3 + each * (0.0235 * size)), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for i, ax in enumerate(axes):
        _draw_bars(ax, rows[i * each : (i + 1) * each], each, size)
    return figure


def draw_reliability_diagram(bins: Sequence[ReliabilityBin]) -> Figure:
    """Draw accuracy against confidence, and the number of clips by confidence.

    Args:
        bins: rows with low, high, clips, accuracy and confidence (fractions).
    """
    if not bins:
        return style.message_figure("No clips were evaluated.", _WIDTH)
    figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    light = style.tint(style.BLUE, 0.3)
    for row in bins:
        middle, width = (row.low + row.high) / 2, 0.86 * (row.high - row.low)
        upper.bar(middle, row.accuracy, width, color=light)
        upper.plot([row.low, row.high], [row.confidence] * 2, color=style.ORANGE, linewidth=2)
        lower.bar(middle, row.clips, width, color=style.tint(style.SLATE, 0.45))
    ideal = {"color": style.GRAY, "linewidth": 0.8, "linestyle": (0, (3, 3))}
    (diagonal,) = upper.plot([0, 1], [0, 1], label="perfect calibration", **ideal)
    mean = upper.plot([], [], color=style.ORANGE, linewidth=2, label="mean confidence")
    legend = [Patch(color=light, label="accuracy"), *mean, diagonal]
    place: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 3}
    upper.legend(handles=legend, frameon=False, fontsize=8, labelcolor=style.GRAY, **place)
    for ax, title in ((upper, "accuracy"), (lower, "clips")):
        style.despine(ax)
        style.add_heading(ax, title)
    upper.set(xlim=(0, 1), ylim=(0, 1.02))
    upper.yaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
    lower.xaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
    lower.set_xlabel("confidence", fontsize=9, color=style.GRAY)
    return figure


def _curves(history: History, kind: str) -> Curves:
    """Return (points, 2) of epoch and value by name, for the recorded curves of one panel."""
    keys = (
        {"lr": "learning rate"}
        if kind == "lr"
        else {f"{s}_{kind}": s for s in ("val", "test", "train")}
    )
    if kind == "mpjpe":
        split = "val" if any("val_mpjpe" in row for row in history) else "train"
        keys[f"{split}_baseline_mpjpe"] = "baseline"
    curves = {}
    for key, name in keys.items():
        rows = [(row.get("epoch", i), row.get(key)) for i, row in enumerate(history)]
        points = np.array(rows, dtype=float).reshape(-1, 2)
        points = points[np.isfinite(points[:, 1])]
        if len(points):
            curves[name] = points
    return curves


def _draw_curves(ax: Axes, curves: Curves, kind: str) -> None:
    style.despine(ax)
    for name, points in curves.items():
        color = _CURVE_COLORS.get(name, style.SLATE)
        dot = "o" if len(points) == 1 else ""
        ax.plot(*points.T, color=color, linewidth=1.6, marker=dot, markersize=4)
    note = ""
    if kind in ("accuracy", "mean_class"):
        ax.yaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
    if kind == "loss" and "val" in curves:
        reverse = curves["val"][::-1]
        epoch, value = reverse[np.argmin(reverse[:, 1])]  # of equal ones the latest
        ax.plot(epoch, value, "o", color=style.BLUE, markersize=5, markeredgecolor="white")
        note = f"best on val: {value:.3g} at epoch {epoch:.0f}"
    style.add_heading(ax, _PANELS[kind][1], note)
    if kind == "lr":
        ax.set_ylim(bottom=0)
    else:
        _name_curves(ax, curves)


def _name_curves(ax: Axes, curves: Curves) -> None:
    """Write names at the ends of curves, moved apart where curves meet."""
    ends = sorted(curves, key=lambda name: float(curves[name][-1, 1]))
    low, high = ax.get_ylim()
    heights = np.array([curves[name][-1, 1] for name in ends], dtype=np.float64)
    places = heights.copy()
    for rank in range(1, len(ends)):
        places[rank] = max(places[rank], places[rank - 1] + _NAME_HEIGHT * (high - low))
    places += np.mean(heights - places)
    points = 72 * _PANEL_HEIGHT / (high - low)
    for name, height, place in zip(ends, heights, places, strict=True):
        color = _CURVE_COLORS.get(name, style.SLATE)
        options: dict[str, Any] = {"fontsize": 9, "color": color, "va": "center"}
        offset = (6, points * (place - height))
        ax.annotate(name, tuple(curves[name][-1]), offset, textcoords="offset points", **options)


def _name_classes(ax: Axes, names: Sequence[str], size: float) -> None:
    """Write as many class names as fit along ``size`` inches."""
    style.despine(ax, grid=None, frame=True)
    ticks = list(range(0, len(names), max(1, math.ceil(len(names) * 0.105 / size))))
    font = 8 if len(names) <= 40 else 6.5
    labels = [style.plot_label(names[i], 22) for i in ticks]
    ax.set_yticks(ticks, labels, fontsize=font)
    ax.set_xticks(ticks, labels, fontsize=font, rotation=90)
    ax.tick_params(colors=style.BLACK)


def _write_counts(ax: Axes, counts: NDArray[np.integer], shares: NDArray[np.floating]) -> None:
    for row, column in np.argwhere(counts):
        dark = shares[row, column] > (0.55 if row == column else 0.3)
        options: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": 7.5}
        color = "white" if dark else style.BLACK
        ax.text(column, row, str(counts[row, column]), color=color, **options)


def _draw_bars(ax: Axes, rows: Sequence[ClassResult], length: int, size: float) -> None:
    style.despine(ax, grid=None)
    values = [row.accuracy or 0.0 for row in rows]
    ax.barh(range(len(rows)), [1.0] * len(rows), 0.66, color=style.OFF_WHITE)
    ax.barh(range(len(rows)), values, 0.66, color=style.tint(style.BLUE, 0.25))
    for i, row in enumerate(rows):
        text = "no clips" if row.accuracy is None else f"{100 * row.accuracy:.0f} % of {row.clips}"
        ax.text(1.02, i, text, fontsize=size - 1, color=style.GRAY, va="center_baseline")
    ax.set_yticks(range(len(rows)), [style.plot_label(row.name, 26) for row in rows], fontsize=size)
    ax.tick_params(colors=style.BLACK)
    ax.set_xticks([])
    ax.set(xlim=(0, 1.32), ylim=(length - 0.4, -0.6))
