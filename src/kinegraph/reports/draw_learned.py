"""What the parts beyond a fixed graph learned: temporal shifts, feature masks, links of a clip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kinegraph.reports.draw_graph import (
    draw_arrows,
    draw_matrix,
    draw_skeleton,
    label_matrix,
    matrix_label_size,
)
from kinegraph.reports.rest_pose import joint_colors
from kinegraph.reports.style import (
    BLACK,
    BLUE,
    GRAY,
    GREEN,
    HUES,
    LIGHT_GRAY,
    OFF_WHITE,
    ORANGE,
    VIOLET,
    add_heading,
    blend,
    despine,
    plot_label,
)
from kinegraph.skeleton import SkeletonLayout

Named = Sequence[tuple[str, NDArray[np.floating]]]

_WIDTH = 7.0  # inches
_STRIP = 0.4
_UNIT = (4.9, 2.5)
_SLIGHT = 0.05
_BINS = 40  # on either side of no shift
_FACTORS = LinearSegmentedColormap.from_list(
    "kinegraph_factors", ["#0b3c66", BLUE, "#ffffff", ORANGE, "#8f3606"], N=257
)
# Orange and blue are the sides of the body.
_LINK_HUES = (GREEN, VIOLET, *HUES[4:])


def draw_temporal_shifts(shifts: Named) -> Figure:
    """How far each layer of Shift-GCN looks into the past and the future: a histogram a layer.

    Beside each stand the mean of \\|s\\| and the share of channels that shift by more than a
    frame (Cheng et al., CVPR 2020, section 4.2).

    Args:
        shifts: name and (C,) learned shifts in frames of each layer, in the network's order;
            positive ones read the future. Of a name, 16 letters are shown.

    Raises:
        ValueError: no layers; shifts that are not one finite number a channel.
    """
    rows = [(name, _checked_shifts(name, s)) for name, s in shifts]
    if not rows:
        raise ValueError("expected the temporal shifts of one layer or more, got none")
    every = np.concatenate([s for _, s in rows])
    limit = max(1, math.ceil(np.abs(every).max()))
    tall = 1.25 + _STRIP * len(rows)
    figure = Figure(figsize=(_WIDTH, tall))
    ax = figure.add_axes((0.17, 0.6 / tall, 0.55, 1 - 1.2 / tall))
    despine(ax, grid="x")
    add_heading(ax, "learned temporal shifts", f"{len(every)} channels: {_spread(every)}")
    ax.axvspan(-1, 1, color=OFF_WHITE, zorder=0)
    ax.axvline(0, color=GRAY, linewidth=0.8)
    for row, (_, values) in enumerate(rows):
        _draw_strip(ax, values, row, limit)
    ax.set_yticks(range(len(rows)), [plot_label(name, 16) for name, _ in rows])
    ax.set(xlim=(-limit, limit), ylim=(len(rows) - 0.4, -0.95))
    ax.tick_params(labelsize=8)
    note = "frames (blue: reads the past, orange: the future; gray: within one frame)"
    scale = "each layer scaled to its own highest bar"
    which = "in, out: before and after the 1 × 1 convolution of a unit"
    ax.set_xlabel(f"{note}\n{scale}; {which}", fontsize=8, color=GRAY)
    return figure


def draw_feature_masks(masks: Named, layout: SkeletonLayout) -> Figure:
    """What the feature masks of Shift-GCN let through: on the body and as a heat map a unit.

    The factor of a feature is tanh(m) + 1. A joint is orange if its channels are strengthened on
    average and blue if they are weakened, and the larger the more they are changed either way.

    Args:
        masks: name and (V, C) learned m of each unit, in the network's order.

    Raises:
        ValueError: no units; masks that are not (V, C) finite numbers.
    """
    changes = [(name, np.tanh(_checked_mask(name, m, layout))) for name, m in masks]
    if not changes:
        raise ValueError("expected the feature masks of one unit or more, got none")
    columns = min(2, len(changes))
    rows = math.ceil(len(changes) / columns)
    width, tall = _UNIT
    size = (width * columns, tall * rows + 0.4)
    figure = Figure(figsize=size)
    for i, (name, change) in enumerate(changes):
        x, y = width * (i % columns), size[1] - tall * (i // columns) - 2.2
        _draw_masked(_axes(figure, (x + 0.05, y - 0.1, 1.75, 2.0)), layout, change)
        _draw_factors(_axes(figure, (x + 2.15, y, width - 2.4, 1.75)), name, change)
    note = (
        "factor tanh(m) + 1: orange above 1, white 1, blue below; "
        "each unit on its own scale, which ends at 5 % either way or later"
    )
    figure.text(0.1 / size[0], 0.12 / size[1], note, fontsize=8, color=GRAY)
    return figure


def draw_links(
    links: NDArray[np.floating], layout: SkeletonLayout, title: str, *, strongest: int = 20
) -> Figure:
    """Inferred links between joints, such as AS-GCN's actional links of one clip.

    Args:
        links: (V, V) or (types, V, V) probabilities or weights, source and target; links of a
            joint with itself are passed over.
        title: written above.
        strongest: how many of a type are drawn as arrows; the matrix beside them has all.

    Raises:
        ValueError: another shape; weights that are negative or not finite.
    """
    types = _checked_links(links, layout)
    labels = matrix_label_size(layout)
    side = float(np.clip(0.13 * layout.num_joints, 2.4, 4.8))
    band = side + labels + 0.65
    size = (4.0 + labels + side + 0.2, 0.5 + band * len(types))
    figure = Figure(figsize=size)
    figure.text(
        0.15 / size[0],
        1 - 0.15 / size[1],
        plot_label(title, 80),
        fontsize=12,
        color=BLACK,
        va="top",
    )
    for i, weights in enumerate(types):
        name = "links" if len(types) == 1 else f"link type {i + 1} of {len(types)}"
        hue = _LINK_HUES[i % len(_LINK_HUES)]
        top = size[1] - 0.5 - band * i - 0.55
        body = _axes(figure, (0.15, top - band + 0.65, 3.6, band - 0.65))
        _draw_linked(body, layout, _strongest(weights, strongest), hue)
        matrix = _axes(figure, (size[0] - side - 0.2, top - side, side, side))
        _draw_link_matrix(matrix, layout, weights, hue)
        add_heading(matrix, name, _summary(weights, strongest))
    return figure


def _axes(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    """Axes at x, y of a width and a height, all in inches."""
    width, height = figure.get_size_inches()
    x, y, w, h = box
    return figure.add_axes((x / width, y / height, w / width, h / height))


def _checked_shifts(name: str, shifts: NDArray[np.floating]) -> NDArray[np.float64]:
    values = np.asarray(shifts, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(
            f"layer {name!r}: expected one finite shift a channel, got shape {values.shape}"
            f" with {np.count_nonzero(~np.isfinite(values))} not finite"
        )
    return values


def _checked_mask(
    name: str, mask: NDArray[np.floating], layout: SkeletonLayout
) -> NDArray[np.float64]:
    values = np.asarray(mask, dtype=np.float64)
    fits = values.ndim == 2 and len(values) == layout.num_joints and values.shape[1] > 0
    if not fits or not np.isfinite(values).all():
        raise ValueError(
            f"unit {name!r}: expected a finite mask of shape ({layout.num_joints}, channels) for "
            f"layout {layout.name!r}, got {values.shape}"
        )
    return values


def _checked_links(links: NDArray[np.floating], layout: SkeletonLayout) -> NDArray[np.float64]:
    """(types, V, V) without the diagonal."""
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


def _spread(shifts: NDArray[np.float64]) -> str:
    beyond = 100 * np.mean(np.abs(shifts) > 1)
    ends = f"{shifts.min():.2f} to {shifts.max():.2f} frames"
    return f"{ends}, mean |s| {np.abs(shifts).mean():.2f}, {beyond:.0f} % beyond one frame"


def _draw_strip(ax: Axes, values: NDArray[np.float64], row: int, limit: int) -> None:
    """A histogram that stands on the line ``row``, and its figures to the right."""
    edges = np.linspace(-limit, limit, 2 * _BINS + 1)
    counts, _ = np.histogram(values, edges)
    heights = 0.85 * counts / counts.max()
    colors = [BLUE] * _BINS + [ORANGE] * _BINS
    ax.bar(edges[:-1], -heights, np.diff(edges), bottom=row + 0.3, align="edge", color=colors)
    ax.axhline(row + 0.3, color=LIGHT_GRAY, linewidth=0.7)
    size, beyond = np.abs(values).mean(), 100 * np.mean(np.abs(values) > 1)
    text = f"mean |s| {size:.2f}   {beyond:.0f} % > 1 frame"
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center"}
    offset: dict[str, Any] = {"xytext": (6, 0), "textcoords": "offset points"}
    ax.annotate(text, (1, row), fontsize=7.5, color=BLACK, **place, **offset)


def _draw_masked(ax: Axes, layout: SkeletonLayout, change: NDArray[np.float64]) -> None:
    """The body: the mean change over channels as colors, its mean size as areas."""
    gains, amounts = change.mean(axis=1), np.abs(change).mean(axis=1)
    colors: list[Any] = list(_FACTORS(0.5 + gains / (2 * _limit(gains))))
    pale: list[Any] = [LIGHT_GRAY] * len(layout.bones)
    areas = 12 + 60 * amounts / _limit(amounts)
    style: dict[str, Any] = {"numbers": False, "bone_widths": 1.2, "joint_sizes": areas}
    draw_skeleton(ax, layout, colors=(pale, colors), **style)
    for dots in ax.collections[1:]:
        dots.set_edgecolor(GRAY)
        dots.set_linewidth(0.4)
    ax.margins(0.08)


def _draw_factors(ax: Axes, name: str, change: NDArray[np.float64]) -> None:
    limit = _limit(change)
    image: dict[str, Any] = {"interpolation": "none", "aspect": "auto", "cmap": _FACTORS}
    ax.imshow(change, vmin=-limit, vmax=limit, **image)
    despine(ax, grid=None)
    joints, channels = change.shape
    ax.set_yticks(range(0, joints, 5))
    ax.set_xticks([0, channels - 1] if channels > 1 else [0])
    ax.tick_params(labelsize=7)
    for spine in ax.spines.values():
        spine.set(visible=True, color=LIGHT_GRAY, linewidth=0.7)
    means = change.mean(axis=1)
    note = f"factors {_range(change)}, by joint {_range(means)}"
    add_heading(ax, f"{plot_label(name)}: {joints} joints, {channels} channels", note)


def _limit(change: NDArray[np.float64]) -> float:
    """Where colors and sizes end: at the greatest change, unless that is next to nothing."""
    return max(float(np.abs(change).max()), _SLIGHT)


def _range(change: NDArray[np.float64]) -> str:
    return f"{1 + change.min():.2f} to {1 + change.max():.2f}"


def _strongest(weights: NDArray[np.float64], number: int) -> NDArray[np.float64]:
    """The weights with all but the largest ``number`` set to 0."""
    kept = np.zeros_like(weights)
    largest = np.argsort(-weights, axis=None, kind="stable")[: max(0, number)]
    kept.flat[largest] = weights.flat[largest]
    return kept


def _summary(weights: NDArray[np.float64], number: int) -> str:
    drawn = _strongest(weights, number)
    drawn = drawn[drawn > 0]
    if not len(drawn):
        return "none above 0"
    pairs = len(weights) * (len(weights) - 1)
    return f"the {len(drawn)} strongest of {pairs}: {drawn.max():.2g} to {drawn.min():.2g}"


def _draw_linked(ax: Axes, layout: SkeletonLayout, weights: NDArray[np.float64], hue: str) -> None:
    bones = [LIGHT_GRAY] * len(layout.bones)
    dots = list(joint_colors(layout))
    draw_skeleton(ax, layout, size=22, numbers=False, bone_widths=3.0, colors=(bones, dots))
    draw_arrows(ax, layout, weights[None], [hue])
    ax.margins(0.08)


def _draw_link_matrix(
    ax: Axes, layout: SkeletonLayout, weights: NDArray[np.float64], hue: str
) -> None:
    dark = blend(hue, "#000000", 0.35)
    shades = LinearSegmentedColormap.from_list("kinegraph_links", ["#ffffff", hue, dark])
    draw_matrix(ax, weights, shades, (0.0, float(weights.max()) or 1.0))
    label_matrix(ax, layout)
