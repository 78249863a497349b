"""Figures of what a network learned: edge importance, temporal shifts, feature masks, links."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kinegraph.reports import panels, style
from kinegraph.skeleton import SkeletonLayout

Named = Sequence[tuple[str, NDArray[np.floating]]]

_STRIP_WIDTH = 7.0  # inches
_STRIP = 0.4
_UNIT = (4.9, 2.5)
_MIN_LIMIT = 0.05  # smallest change of a factor that gets a full color
_BINS = 40  # on either side of shift 0
_FACTORS = LinearSegmentedColormap.from_list(
    "kinegraph_factors", ["#0b3c66", style.BLUE, "#ffffff", style.ORANGE, "#8f3606"], N=257
)
_GAINS = LinearSegmentedColormap.from_list("kinegraph_gains", [style.BLUE, "#c3cad3", style.ORANGE])
# Orange and blue are the sides of the body.
_LINK_HUES = (style.GREEN, style.VIOLET, *style.HUES[4:])


def draw_edge_importance(
    A: NDArray[np.floating], importance: Named, layout: SkeletonLayout
) -> Figure:
    """Draw how each block of a network weighs the edges of the skeleton.

    The weight of the edge from v to w in a block is ``sum over k of |A[k,v,w] importance[k,v,w]|``.
    Joints are as large as the weight of all edges that leave them, bones as wide as the weight of
    both their directions; orange ones gained, blue ones lost against ``A`` alone.

    Args:
        A: (K, V, V), indexed partition, source, target.
        importance: name and (K, V, V) of each block, all ones in an untrained network.

    Raises:
        ValueError: shapes that do not fit one another or the layout.
    """
    joints = layout.num_joints
    if A.ndim != 3 or A.shape[1:] != (joints, joints):
        raise ValueError(
            f"expected A of shape (partitions, {joints}, {joints}) for layout {layout.name!r}, "
            f"got {A.shape}"
        )
    for name, weights in importance:
        if weights.shape != A.shape:
            raise ValueError(f"{name}: expected importance of shape {A.shape}, got {weights.shape}")
    columns = min(5, max(1, len(importance)))
    rows = max(1, math.ceil(len(importance) / columns))
    height = 2.55 * rows + 0.35
    figure = Figure(figsize=(1.65 * columns + 0.1, height))
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(0.01, 0.35 / height, 0.99, 0.96, 0.04, 0.16)
    base = np.abs(A).sum(axis=0)
    for ax in axes.flat[len(importance) :]:
        ax.remove()
    for ax, (name, weights) in zip(axes.flat, importance, strict=False):
        _draw_block(ax, layout, base, np.abs(A * weights).sum(axis=0))
        ax.set_title(style.plot_label(name), fontsize=9, color=style.BLACK, pad=2)
    note = "orange: larger weight than in the untrained graph; blue: smaller (half to double)"
    figure.text(0.01, 0.02, note, fontsize=8, color=style.GRAY)
    return figure


def draw_free_edges(free: Named, layout: SkeletonLayout, *, strongest: int = 20) -> Figure:
    """Draw the free edges of each block of an adaptive network, which need no bone.

    The weight of the edge from v to w is ``sum over k of |B[k,v,w]|``; edges of a joint with
    itself are left out.

    Args:
        free: name and (K, V, V) learned B of each block, all zero in an untrained network.
        strongest: number of edges drawn as arrows in each block.

    Raises:
        ValueError: no blocks, or weights that are not finite numbers of that shape.
    """
    V = layout.num_joints
    expected = f"finite weights (partitions, {V}, {V}) for layout {layout.name!r}"
    sums = [
        (name, np.abs(_check_finite(name, weights, (None, V, V), expected)).sum(axis=0))
        for name, weights in free
    ]
    if not sums:
        raise ValueError("expected the free edges of one block or more, got none")
    columns = min(5, len(sums))
    rows = math.ceil(len(sums) / columns)
    height = 2.75 * rows + 0.35
    figure = Figure(figsize=(max(4.9, 1.65 * columns + 0.1), height))
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    figure.subplots_adjust(0.01, 0.35 / height, 0.99, 1 - 0.4 / height, 0.04, 0.2)
    for ax in axes[len(sums) :]:
        ax.remove()
    for ax, (name, weights) in zip(axes, sums, strict=False):
        np.fill_diagonal(weights, 0)
        shown = _strongest(weights, strongest)
        panels.draw_linked_skeleton(ax, layout, shown[None], [_LINK_HUES[0]], size=10)
        title = f"{style.plot_label(name)}\nup to {weights.max():.2g}"
        ax.set_title(title, fontsize=8, color=style.BLACK, pad=2)
    note = f"the {strongest} strongest of {V * (V - 1)} free edges of each block, source to target"
    figure.text(0.01, 0.02, note, fontsize=8, color=style.GRAY)
    return figure


def draw_temporal_shifts(shifts: Named) -> Figure:
    """Draw a histogram of the temporal shifts of each layer of Shift-GCN.

    Beside each are the mean of \\|s\\| and the share of channels that shift by more than a
    frame (Cheng et al., CVPR 2020, section 4.2).

    Args:
        shifts: name and (C,) learned shifts in frames of each layer, in the network's order;
            positive ones read the future. Names are cut to 16 letters.

    Raises:
        ValueError: no layers; shifts that are not one finite number per channel.
    """
    expected = "one finite shift per channel"
    rows = [(name, _check_finite(f"layer {name!r}", s, (None,), expected)) for name, s in shifts]
    if not rows:
        raise ValueError("expected the temporal shifts of one layer or more, got none")
    every = np.concatenate([s for _, s in rows])
    limit = max(1, math.ceil(np.abs(every).max()))
    tall = 1.25 + _STRIP * len(rows)
    figure = Figure(figsize=(_STRIP_WIDTH, tall))
    ax = figure.add_axes((0.17, 0.6 / tall, 0.55, 1 - 1.2 / tall))
    style.despine(ax, grid="x")
    ends = f"{every.min():.2f} to {every.max():.2f} frames"
    mean, beyond = _shift_statistics(every)
    note = f"{ends}, mean |s| {mean:.2f}, {beyond:.0f} % beyond one frame"
    style.add_heading(ax, "Learned temporal shifts", f"{len(every)} channels: {note}")
    ax.axvspan(-1, 1, color=style.OFF_WHITE, zorder=0)
    ax.axvline(0, color=style.GRAY, linewidth=0.8)
    for row, (_, values) in enumerate(rows):
        _draw_histogram(ax, values, row, limit)
    ax.set_yticks(range(len(rows)), [style.plot_label(name, 16) for name, _ in rows])
    ax.set(xlim=(-limit, limit), ylim=(len(rows) - 0.4, -0.95))
    ax.tick_params(labelsize=8)
    colors = "shift in frames (blue: reads the past, orange: the future; gray: up to one frame)"
    scale = "each layer is scaled to its own highest bar"
    names = "in, out: before and after the 1 × 1 convolution of a unit"
    ax.set_xlabel(f"{colors}\n{scale}; {names}", fontsize=8, color=style.GRAY)
    return figure


def draw_feature_masks(masks: Named, layout: SkeletonLayout) -> Figure:
    """Draw the feature masks of Shift-GCN: on the body and as a heat map for each unit.

    The factor of a feature is tanh(m) + 1. A joint is orange if its channels are amplified on
    average and blue if they are attenuated, and larger for a larger mean change.

    Args:
        masks: name and (V, C) learned m of each unit, in the network's order.

    Raises:
        ValueError: no units; masks that are not (V, C) finite numbers.
    """
    shape = (layout.num_joints, None)
    expected = f"a finite mask of shape ({shape[0]}, channels) for layout {layout.name!r}"
    changes = [
        (name, np.tanh(_check_finite(f"unit {name!r}", m, shape, expected))) for name, m in masks
    ]
    if not changes:
        raise ValueError("expected the feature masks of one unit or more, got none")
    columns = min(2, len(changes))
    rows = math.ceil(len(changes) / columns)
    width, tall = _UNIT
    figure = Figure(figsize=(width * columns, tall * rows + 0.4))
    for i, (name, change) in enumerate(changes):
        x, y = width * (i % columns), tall * (rows - i // columns) - 1.8
        _draw_masked(style.add_axes_inches(figure, (x + 0.05, y - 0.1, 1.75, 2.0)), layout, change)
        _draw_factors(style.add_axes_inches(figure, (x + 2.15, y, width - 2.4, 1.75)), name, change)
    note = (
        "factor tanh(m) + 1: orange above 1, white 1, blue below; "
        "the color scale of each unit ends at its largest change, at least 5 %"
    )
    style.write_inches(figure, 0.1, 0.12, note, fontsize=8, color=style.GRAY)
    return figure


def draw_links(
    links: NDArray[np.floating], layout: SkeletonLayout, title: str, *, strongest: int = 20
) -> Figure:
    """Draw inferred links between joints, such as AS-GCN's actional links of one clip.

    Args:
        links: (V, V) or (types, V, V) probabilities or weights, source and target; links of a
            joint with itself are ignored.
        strongest: number of links of a type drawn as arrows; the matrix beside them has all.

    Raises:
        ValueError: another shape; weights that are negative or not finite.
    """
    types = _check_links(links, layout)
    labels = panels.matrix_label_size(layout)
    side = float(np.clip(0.13 * layout.num_joints, 2.4, 4.8))
    band = side + labels + 0.65
    width, height = 4.0 + labels + side + 0.2, 0.5 + band * len(types)
    figure = Figure(figsize=(width, height))
    style.write_title(figure, style.plot_label(title, 80))
    for i, weights in enumerate(types):
        name = "links" if len(types) == 1 else f"link type {i + 1} of {len(types)}"
        hue = _LINK_HUES[i % len(_LINK_HUES)]
        top = height - 0.5 - band * i - 0.55
        body = style.add_axes_inches(figure, (0.15, top - band + 0.65, 3.6, band - 0.65))
        shown = _strongest(weights, strongest)
        panels.draw_linked_skeleton(body, layout, shown[None], [hue], size=22, margin=0.08)
        matrix = style.add_axes_inches(figure, (width - side - 0.2, top - side, side, side))
        panels.draw_matrix(matrix, weights, style.sequential_cmap(hue), float(weights.max()) or 1.0)
        panels.label_matrix(matrix, layout)
        style.add_heading(matrix, name, _summary(shown))
    return figure


def _check_finite(
    what: str, given: NDArray[np.floating], shape: tuple[int | None, ...], expected: str
) -> NDArray[np.float64]:
    """Validate finite numbers of a shape, in which None is any size above 0."""
    values = np.asarray(given, dtype=np.float64)
    fits = values.ndim == len(shape) and values.size > 0
    fits = fits and all(
        want in (None, size) for want, size in zip(shape, values.shape, strict=True)
    )
    bad = np.count_nonzero(~np.isfinite(values))
    if not fits or bad:
        raise ValueError(
            f"{what}: expected {expected}, got shape {values.shape} with {bad} values not finite"
        )
    return values


def _check_links(links: NDArray[np.floating], layout: SkeletonLayout) -> NDArray[np.float64]:
    """Return (types, V, V) with a zero diagonal."""
    values = np.array(links, dtype=np.float64)
    V = layout.num_joints
    if values.ndim not in (2, 3) or values.shape[-2:] != (V, V) or not values.size:
        raise ValueError(
            f"expected links of shape ({V}, {V}) or (types, {V}, {V}) for layout "
            f"{layout.name!r}, got {values.shape}"
        )
    if not (values >= 0).all() or not np.isfinite(values).all():
        raise ValueError("expected links of finite weights, none negative")
    values = values.reshape(-1, V, V)
    values[:, range(V), range(V)] = 0
    return values


def _draw_block(
    ax: Axes, layout: SkeletonLayout, base: NDArray[np.floating], learned: NDArray[np.floating]
) -> None:
    child, parent = np.array(layout.bones, dtype=int).reshape(-1, 2).T
    both, before = (m[child, parent] + m[parent, child] for m in (learned, base))
    leaving, at_first = learned.sum(axis=1), base.sum(axis=1)
    panels.draw_skeleton(
        ax,
        layout,
        bone_widths=0.6 + 4.0 * both / max(float(both.max(initial=0.0)), 1e-9),
        size=8 + 70 * leaving / max(float(leaving.max()), 1e-9),
        colors=(_gain_colors(both, before), _gain_colors(leaving, at_first)),
        margin=0.08,
    )


def _gain_colors(after: NDArray[np.floating], before: NDArray[np.floating]) -> list[Any]:
    """Return colors from half (blue) to double (orange) of the weight before."""
    ratio = np.log2(np.maximum(after, 1e-9) / np.maximum(before, 1e-9))
    return list(_GAINS((np.clip(ratio, -1, 1) + 1) / 2))


def _shift_statistics(shifts: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean of |s| and the percentage of shifts beyond one frame."""
    sizes = np.abs(shifts)
    return float(sizes.mean()), float(100 * np.mean(sizes > 1))


def _draw_histogram(ax: Axes, values: NDArray[np.float64], row: int, limit: int) -> None:
    """Draw a histogram on the line ``row``, and its statistics to the right."""
    edges = np.linspace(-limit, limit, 2 * _BINS + 1)
    counts, _ = np.histogram(values, edges)
    heights = 0.85 * counts / counts.max()
    colors = [style.BLUE] * _BINS + [style.ORANGE] * _BINS
    ax.bar(edges[:-1], -heights, np.diff(edges), bottom=row + 0.3, align="edge", color=colors)
    ax.axhline(row + 0.3, color=style.LIGHT_GRAY, linewidth=0.7)
    mean, beyond = _shift_statistics(values)
    text = f"mean |s| {mean:.2f}   {beyond:.0f} % > 1 frame"
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    ax.annotate(text, (1, row), (6, 0), fontsize=7.5, color=style.BLACK, va="center", **place)


def _draw_masked(ax: Axes, layout: SkeletonLayout, change: NDArray[np.float64]) -> None:
    """Draw the body: mean changes of the channels as colors, their mean sizes as areas."""
    gains, amounts = change.mean(axis=1), np.abs(change).mean(axis=1)
    panels.draw_skeleton(
        ax,
        layout,
        bone_widths=1.2,
        size=12 + 60 * amounts / _color_limit(amounts),
        colors=(None, _FACTORS(0.5 + gains / (2 * _color_limit(gains)))),
        edges=(style.GRAY, 0.4),
        margin=0.08,
    )


def _draw_factors(ax: Axes, name: str, change: NDArray[np.float64]) -> None:
    limit = _color_limit(change)
    image: dict[str, Any] = {"interpolation": "none", "aspect": "auto", "cmap": _FACTORS}
    ax.imshow(change, vmin=-limit, vmax=limit, **image)
    style.despine(ax, grid=None, frame=True)
    joints, channels = change.shape
    ax.set(xticks=sorted({0, channels - 1}), yticks=range(0, joints, 5))
    ax.tick_params(labelsize=7)
    note = f"factors {_range(change)}, by joint {_range(change.mean(axis=1))}"
    style.add_heading(ax, f"{style.plot_label(name)}: {joints} joints, {channels} channels", note)


def _color_limit(change: NDArray[np.float64]) -> float:
    """Return the change with the strongest color: the largest, or a minimum."""
    return max(float(np.abs(change).max()), _MIN_LIMIT)


def _range(change: NDArray[np.float64]) -> str:
    return f"{1 + change.min():.2f} to {1 + change.max():.2f}"


def _strongest(weights: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """Return the weights with all but the largest ``number`` set to 0."""
    kept = np.zeros_like(weights)
    largest = np.argsort(-weights, axis=None, kind="stable")[: max(0, number)]
    kept.flat[largest] = weights.flat[largest]
    return kept


def _summary(shown: NDArray[np.float64]) -> str:
    drawn = shown[shown > 0]
    if not len(drawn):
        return "none above 0"
    pairs = len(shown) * (len(shown) - 1)
    return f"the {len(drawn)} strongest of {pairs}: {drawn.max():.2g} to {drawn.min():.2g}"
