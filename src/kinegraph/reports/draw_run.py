"""What a run learned: curves, confusion, accuracy by class, reliability, edge importance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kinegraph.reports.draw_graph import draw_skeleton
from kinegraph.reports.style import (
    BLACK,
    BLUE,
    BLUE_CMAP,
    GRAY,
    LIGHT_GRAY,
    OFF_WHITE,
    ORANGE,
    ORANGE_CMAP,
    SLATE,
    add_heading,
    blend,
    despine,
    plot_label,
)
from kinegraph.skeleton import SkeletonLayout

if TYPE_CHECKING:
    from kinegraph.inference.evaluate import ClassResult, ReliabilityBin

_WIDTH = 5.8  # inches: narrow enough to be read on a phone
_COUNTED = 20  # classes up to which a confusion matrix has its counts written in
_BALANCE = LinearSegmentedColormap.from_list("kinegraph_balance", [BLUE, "#c3cad3", ORANGE])

History = Sequence[Mapping[str, Any]]


def draw_training_curves(history: History) -> Figure:
    """Accuracy, loss and learning rate by epoch, as far as they were recorded.

    Args:
        history: rows with epoch, train_loss, train_accuracy, val_loss, val_accuracy (fractions)
            and lr, and mean joint errors (mpjpe) where poses are predicted; any of them may be
            missing or None. Rows without an epoch are counted from 0.
    """
    kinds = [k for k in ("accuracy", "mpjpe", "loss", "lr") if _curves(history, k)]
    if not kinds:
        return _message_figure("No training history was recorded.")
    heights = [{"accuracy": 2.3, "mpjpe": 2.0, "loss": 2.0, "lr": 0.8}[kind] for kind in kinds]
    figure = Figure(figsize=(_WIDTH, sum(heights) + 0.55 * len(kinds) + 0.3))
    figure.set_layout_engine("constrained", hspace=0.04)
    grid = figure.subplots(len(kinds), 1, sharex=True, height_ratios=heights, squeeze=False)
    for ax, kind in zip(grid[:, 0], kinds, strict=True):
        _draw_curves(ax, _curves(history, kind), kind)
    grid[-1, 0].set_xlabel("epoch", fontsize=9, color=GRAY)
    return figure


def draw_confusion_matrix(confusion: NDArray[np.integer], names: Sequence[str]) -> Figure:
    """Which class is taken for which: blue is right, orange is wrong, each row by its own clips.

    Args:
        confusion: (K, K) numbers of clips; rows are true classes, columns predicted ones. Up to
            twenty classes the numbers are written in; of many classes only some are named.
        names: K class names.

    Raises:
        ValueError: the matrix is not K by K.
    """
    counts = np.asarray(confusion)
    classes = len(names)
    if counts.shape != (classes, classes):
        raise ValueError(f"expected a confusion of {classes} by {classes}, got {counts.shape}")
    size = float(np.clip(0.36 * classes, 2.2, 7.2))
    figure = Figure(figsize=(size + 2.0, size + 1.75), layout="constrained")
    ax = figure.add_subplot()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ax.imshow(_tinted(shares), interpolation="none")
    _name_classes(ax, names, size)
    if classes <= _COUNTED:
        _write_counts(ax, counts, shares)
    ax.set_ylabel("true class", fontsize=9, color=GRAY)
    ax.set_xlabel("taken for", fontsize=9, color=GRAY)
    return figure


def draw_class_accuracy(per_class: Sequence[ClassResult]) -> Figure:
    """A bar a class, the best first; classes without clips come last, without a bar.

    Args:
        per_class: rows with name, clips and accuracy (a fraction or None).
    """
    if not per_class:
        return _message_figure("No classes were evaluated.")
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
    """How often the model is right when it is so sure: accuracy against confidence.

    Args:
        bins: rows with low, high, clips, accuracy and confidence (fractions).
    """
    if not bins:
        return _message_figure("No clips were evaluated.")
    figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    for row in bins:
        middle, width = (row.low + row.high) / 2, 0.86 * (row.high - row.low)
        upper.bar(middle, row.accuracy, width, color=blend(BLUE, "#ffffff", 0.3))
        upper.plot([row.low, row.high], [row.confidence] * 2, color=ORANGE, linewidth=2)
        lower.bar(middle, row.clips, width, color=blend(SLATE, "#ffffff", 0.45))
    upper.plot([0, 1], [0, 1], color=GRAY, linewidth=0.8, linestyle=(0, (3, 3)))
    for ax, title in ((upper, "right (blue) when so sure (orange)"), (lower, "clips")):
        despine(ax)
        add_heading(ax, title)
    upper.set(xlim=(0, 1), ylim=(0, 1.02))
    upper.yaxis.set_major_formatter(_percent)
    lower.xaxis.set_major_formatter(_percent)
    lower.set_xlabel("confidence", fontsize=9, color=GRAY)
    return figure


def draw_edge_importance(
    A: NDArray[np.floating],
    importance: Sequence[tuple[str, NDArray[np.floating]]],
    layout: SkeletonLayout,
) -> Figure:
    """What each block of a network made of the skeleton's edges.

    A block weighs the edge from v to w by ``sum over k of |A[k,v,w] importance[k,v,w]|``. Joints
    are as large as the weight of all edges that leave them, bones as wide as the weight of both
    their directions; orange ones gained, blue ones lost against ``A`` alone.

    Args:
        A: (K, V, V), indexed partition, source, target.
        importance: name and (K, V, V) of each block, all ones in an untrained network.

    Raises:
        ValueError: shapes that do not fit one another or the layout.
    """
    _check_importance(A, importance, layout)
    columns = min(5, max(1, len(importance)))
    rows = max(1, math.ceil(len(importance) / columns))
    figure = Figure(figsize=(1.65 * columns + 0.1, 2.55 * rows + 0.35))
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(0.01, 0.35 / (2.55 * rows + 0.35), 0.99, 0.96, 0.04, 0.16)
    base = np.abs(A).sum(axis=0)
    for ax in axes.flat[len(importance) :]:
        ax.remove()
    for ax, (name, weights) in zip(axes.flat, importance, strict=False):
        _draw_block(ax, layout, base, np.abs(A * weights).sum(axis=0))
        ax.set_title(plot_label(name), fontsize=9, color=BLACK, pad=2)
    note = "orange: weighs more than in the untrained graph; blue: less (half to double)"
    figure.text(0.01, 0.02, note, fontsize=8, color=GRAY)
    return figure


def _message_figure(text: str) -> Figure:
    figure = Figure(figsize=(_WIDTH, 0.6))
    figure.text(0.01, 0.5, text, fontsize=10, color=GRAY, va="center")
    return figure


def _percent(value: float, _position: float = 0.0) -> str:
    return f"{100 * value:.0f} %"


def _curves(history: History, kind: str) -> dict[str, NDArray[np.float64]]:
    """Name -> (points, 2) of epoch and value, for the curves of one panel that have any."""
    keys = {"lr": "learning rate"} if kind == "lr" else {f"{s}_{kind}": s for s in ("val", "train")}
    if kind == "mpjpe":
        split = "val" if any("val_mpjpe" in row for row in history) else "train"
        keys[f"{split}_baseline_mpjpe"] = "without a model"
    curves = {}
    for key, name in keys.items():
        epochs = [number(row.get("epoch"), i) for i, row in enumerate(history)]
        values = [number(row.get(key)) for row in history]
        drawn = np.column_stack([epochs, values])[np.isfinite(values)]
        if len(drawn):
            curves[name] = drawn
    return curves


def number(value: Any, otherwise: float = math.nan) -> float:
    """A value of a history's row as a number, or ``otherwise`` if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return otherwise


def _draw_curves(ax: Axes, curves: dict[str, NDArray[np.float64]], kind: str) -> None:
    despine(ax)
    note = _best(curves) if kind == "accuracy" else ""
    titles = {"lr": "learning rate", "mpjpe": "mean joint error"}
    add_heading(ax, titles.get(kind, kind), note)
    colors = {"train": blend(SLATE, "#ffffff", 0.45), "val": BLUE}
    for name, points in curves.items():
        color = colors.get(name, SLATE)
        dot = "o" if len(points) == 1 else ""
        ax.plot(*points.T, color=color, linewidth=1.6, marker=dot, markersize=4)
    if kind == "lr":
        ax.set_ylim(bottom=0)
        return
    _name_curves(ax, curves, colors)
    if kind == "accuracy":
        ax.yaxis.set_major_formatter(_percent)
        if "val" in curves:
            best = curves["val"][np.argmax(curves["val"][:, 1])]
            ax.plot(*best, "o", color=BLUE, markersize=5, markeredgecolor="white")


def _best(curves: dict[str, NDArray[np.float64]]) -> str:
    if "val" not in curves:
        return ""
    epoch, value = curves["val"][np.argmax(curves["val"][:, 1])]
    return f"best on val: {100 * value:.1f} % at epoch {epoch:.0f}"


def _name_curves(ax: Axes, curves: dict[str, NDArray[np.float64]], colors: dict[str, str]) -> None:
    """Names at the curves' ends instead of a legend, kept apart where the curves meet."""
    ends = sorted(curves, key=lambda name: float(curves[name][-1, 1]))
    low, high = ax.get_ylim()
    apart = np.ptp([curves[name][-1, 1] for name in ends])
    close = len(ends) == 2 and apart < 0.1 * (high - low)
    for rank, name in enumerate(ends):
        shift = (6 if rank else -6) if close else 0
        style: dict[str, Any] = {"fontsize": 9, "color": colors.get(name, SLATE), "va": "center"}
        end = tuple(curves[name][-1])
        ax.annotate(name, end, (6, shift), textcoords="offset points", **style)


def _tinted(shares: NDArray[np.floating]) -> NDArray[np.float64]:
    """(K, K, 3): the diagonal in blues, all else in oranges; errors of a tenth can be seen."""
    wrong = ORANGE_CMAP(np.sqrt(shares))[..., :3]
    right = BLUE_CMAP(shares)[..., :3]
    return np.where(np.eye(len(shares), dtype=bool)[..., None], right, wrong)


def _name_classes(ax: Axes, names: Sequence[str], size: float) -> None:
    """As many names as fit along ``size`` inches."""
    despine(ax, grid=None)
    step = max(1, math.ceil(len(names) * 0.105 / size))
    ticks = list(range(0, len(names), step))
    font = 8 if len(names) <= 40 else 6.5
    labels = [plot_label(names[i], 22) for i in ticks]
    ax.set_yticks(ticks, labels, fontsize=font)
    ax.set_xticks(ticks, labels, fontsize=font, rotation=90)
    ax.tick_params(colors=BLACK)
    for spine in ax.spines.values():
        spine.set(visible=True, color=LIGHT_GRAY, linewidth=0.7)


def _write_counts(ax: Axes, counts: NDArray[np.integer], shares: NDArray[np.floating]) -> None:
    for row, column in np.argwhere(counts):
        dark = shares[row, column] > (0.55 if row == column else 0.3)
        style: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": 7.5}
        color = "white" if dark else BLACK
        ax.text(column, row, str(counts[row, column]), color=color, **style)


def _draw_bars(ax: Axes, rows: Sequence[ClassResult], length: int, size: float) -> None:
    despine(ax, grid=None)
    values = [row.accuracy or 0.0 for row in rows]
    ax.barh(range(len(rows)), [1.0] * len(rows), 0.66, color=OFF_WHITE)
    ax.barh(range(len(rows)), values, 0.66, color=blend(BLUE, "#ffffff", 0.25))
    for i, row in enumerate(rows):
        text = "no clips" if row.accuracy is None else f"{100 * row.accuracy:.0f} % of {row.clips}"
        ax.text(1.02, i, text, fontsize=size - 1, color=GRAY, va="center_baseline")
    ax.set_yticks(range(len(rows)), [plot_label(row.name, 26) for row in rows], fontsize=size)
    ax.tick_params(colors=BLACK)
    ax.set_xticks([])
    ax.set(xlim=(0, 1.32), ylim=(length - 0.4, -0.6))


def _check_importance(
    A: NDArray[np.floating],
    importance: Sequence[tuple[str, NDArray[np.floating]]],
    layout: SkeletonLayout,
) -> None:
    joints = layout.num_joints
    if A.ndim != 3 or A.shape[1:] != (joints, joints):
        raise ValueError(
            f"expected A of shape (partitions, {joints}, {joints}) for layout {layout.name!r}, "
            f"got {A.shape}"
        )
    for name, weights in importance:
        if weights.shape != A.shape:
            raise ValueError(f"{name}: expected importance of shape {A.shape}, got {weights.shape}")


def _draw_block(
    ax: Axes, layout: SkeletonLayout, base: NDArray[np.floating], learned: NDArray[np.floating]
) -> None:
    child, parent = np.array(layout.bones, dtype=int).reshape(-1, 2).T
    both, before = (m[child, parent] + m[parent, child] for m in (learned, base))
    leaving, at_first = learned.sum(axis=1), base.sum(axis=1)
    draw_skeleton(
        ax,
        layout,
        numbers=False,
        bone_widths=0.6 + 4.0 * both / max(float(both.max(initial=0.0)), 1e-9),
        joint_sizes=8 + 70 * leaving / max(float(leaving.max()), 1e-9),
        colors=(_gains(both, before), _gains(leaving, at_first)),
    )
    ax.margins(0.08)


def _gains(after: NDArray[np.floating], before: NDArray[np.floating]) -> list[Any]:
    """Colors from half (blue) to double (orange) of the weight before."""
    ratio = np.log2(np.maximum(after, 1e-9) / np.maximum(before, 1e-9))
    return list(_BALANCE((np.clip(ratio, -1, 1) + 1) / 2))
