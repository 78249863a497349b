"""Figures of a layout's graph: its joints by name, hop distances, adjacency and partitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from numpy.typing import NDArray

from kinegraph.reports import style
from kinegraph.reports.rest_pose import bone_colors, joint_colors, joint_sides, rest_pose
from kinegraph.skeleton import (
    SkeletonLayout,
    adjacency,
    get_layout,
    hop_distance,
    normalized_adjacency,
    partition_names,
)
from kinegraph.skeleton.graph import CenterDistance, Strategy

_SKELETON = 5.6  # inches
_NAMES = 1.2
_MATRIX = 2.1
_JOINT_NAME_LENGTH = 18  # characters of a joint's name beside a matrix
_MIN_CELL = 9.0  # points: cells below this size have no values

Colors = Sequence[Any] | NDArray[np.floating]


def draw_graph(
    layout: SkeletonLayout | str,
    *,
    strategy: Strategy = "spatial",
    max_hop: int = 1,
    center_distance: CenterDistance = "full",
) -> Figure:
    """Draw a layout and its matrices: hop distances, normalized adjacency, each partition.

    The arguments are those of `kinegraph.skeleton.adjacency`. A line below the matrices states
    whether the partitions sum to the normalized adjacency, computed from them.

    Raises:
        UnknownNameError, ModelError: as `kinegraph.skeleton.adjacency`.
    """
    layout = get_layout(layout)
    parts = adjacency(layout, strategy=strategy, max_hop=max_hop, center_distance=center_distance)
    whole = normalized_adjacency(layout, max_hop=max_hop)
    names = ("normalized adjacency", *partition_names(strategy, max_hop=max_hop))
    columns = max(2, math.ceil(math.sqrt(1.3 * (len(parts) + 2))))
    rows = math.ceil((len(parts) + 2) / columns)
    height = max(6.2, rows * (_MATRIX + 0.5) + 1.1)
    figure = Figure(figsize=(_SKELETON + columns * _MATRIX, height))
    body = style.add_axes_inches(figure, (0, 0.02 * height, _SKELETON, 0.9 * height))
    draw_labeled_skeleton(body, layout)
    counts = f"{layout.num_joints} joints, {len(layout.bones)} bones"
    center = style.plot_label(layout.joints[layout.center])
    style.write_title(
        figure, f"{style.plot_label(layout.name)} · {counts} · center: {center}", y=0.12
    )
    axes = _matrix_axes(figure, rows, columns, len(parts) + 2)
    hops = hop_distance(layout)
    draw_matrix(axes[0], hops.astype(float), style.ORANGE_CMAP, float(max(1, hops.max())))
    style.add_heading(axes[0], "hop distance", f"0 to {hops.max()} bones")
    strongest = float(max(whole.max(), parts.max()))
    for ax, weights, name in zip(axes[1:], (whole, *parts), names, strict=True):
        draw_matrix(ax, weights, style.BLUE_CMAP, strongest)
        style.add_heading(ax, name, f"{np.count_nonzero(weights)} non-zero")
    sums = bool(np.array_equal(parts.sum(axis=0), whole))
    why = " (agcn normalizes each partition separately)" if strategy == "agcn" else ""
    sentence = f"partitions sum to the normalized adjacency: {sums}{why}"
    scale = f"row: source joint, column: target joint; white is 0, darkest blue is {strongest:.2g}"
    style.write_inches(figure, _SKELETON + 0.25, 0.38, sentence, fontsize=9.5, color=style.BLACK)
    style.write_inches(figure, _SKELETON + 0.25, 0.17, scale, fontsize=8, color=style.GRAY)
    return figure


def draw_skeleton(
    ax: Axes,
    layout: SkeletonLayout,
    *,
    size: float | NDArray[np.float64] = 90.0,
    bone_widths: NDArray[np.float64] | float = 2.0,
    colors: tuple[Colors | None, Colors] | None = None,
    edges: tuple[str, float] = ("white", 0.8),
    margin: float = 0.05,
) -> NDArray[np.float64]:
    """Draw a layout in its rest pose and return the pose (V, 2).

    Args:
        size: area of joints in square points, one value or one per joint.
        bone_widths: points, one value or one per bone.
        colors: of bones (None for light gray) and of joints; by default those of the sides.
        edges: color and width of the rings around joints.
        margin: share of the axes that is left free on each side.
    """
    pose = rest_pose(layout)
    bones, joints = colors or (bone_colors(layout), joint_colors(layout))
    lines = LineCollection(
        [pose[list(bone)] for bone in layout.bones],
        colors=[style.LIGHT_GRAY] * len(layout.bones) if bones is None else list(bones),
        linewidths=bone_widths,
        capstyle="round",
    )
    ax.add_collection(lines)
    color, width = edges
    dots: dict[str, Any] = {
        "s": size,
        "c": list(joints),
        "edgecolors": color,
        "linewidths": width,
        "zorder": 3,
    }
    ax.scatter(*pose.T, **dots)
    ax.set_aspect("equal")
    ax.axis("off")
    ax.margins(margin)
    return pose


def write_joint_numbers(
    ax: Axes, pose: NDArray[np.float64], numbers: Sequence[int], colors: Sequence[str] = ("white",)
) -> None:
    """Write a number into each of V joints; ``colors`` are repeated if there are fewer."""
    centered: dict[str, Any] = {"ha": "center", "va": "center_baseline", "zorder": 4}
    for joint, ((x, y), number) in enumerate(zip(pose, numbers, strict=True)):
        color = colors[joint % len(colors)]
        ax.text(x, y, str(number), fontsize=6.5, color=color, **centered)


def draw_linked_skeleton(
    ax: Axes,
    layout: SkeletonLayout,
    weights: NDArray[np.floating],
    colors: Sequence[str],
    *,
    size: float = 16,
    margin: float = 0.06,
    dots: Colors | None = None,
) -> None:
    """Draw a layout in gray with links between joints as arrows.

    Args:
        weights: (K, V, V), group, source and target, none negative. Every non-zero entry is an
            arrow, wider and darker for a larger weight; on the diagonal it is a ring around the
            joint. Links in both directions and links that skip joints are bent, so that none hides
            another.
        colors: one per group.
        size: area of joints in square points.
        margin: as in `draw_skeleton`.
        dots: colors of the joints; by default those of the sides.
    """
    joints = joint_colors(layout) if dots is None else dots
    options: dict[str, Any] = {"size": size, "margin": margin, "colors": (None, joints)}
    pose = draw_skeleton(ax, layout, bone_widths=3.0, **options)
    strongest = float(weights.max(initial=0.0))
    linked = {frozenset(bone) for bone in layout.bones}
    some = weights.max(axis=0, initial=0.0)
    for group, v, w in sorted(np.argwhere(weights).tolist(), key=lambda at: weights[tuple(at)]):
        if v != w:
            share = float(weights[group, v, w]) / strongest
            bent = some[w, v] > 0 or frozenset((v, w)) not in linked
            ax.add_patch(_arrow(pose[v], pose[w], share, bent, colors[group]))
    for part, color in zip(weights, colors, strict=True):
        x, y = pose[np.flatnonzero(np.diag(part))].T
        ax.scatter(x, y, s=52, facecolors="none", edgecolors=color, zorder=3)


def _arrow(
    start: NDArray[np.float64], end: NDArray[np.float64], share: float, bent: bool, color: str
) -> FancyArrowPatch:
    """Return an arrow whose weight is this share of the largest one."""
    return FancyArrowPatch(
        tuple(start),
        tuple(end),
        connectionstyle=f"arc3,rad={0.25 if bent else 0}",
        arrowstyle="-|>",
        mutation_scale=5 + 3 * share,
        linewidth=0.6 + share,
        color=style.tint(color, 0.45 * (1 - share)),
        shrinkA=2.5,
        shrinkB=2.5,
        clip_on=False,
        zorder=2 + share / 2,
    )


def draw_labeled_skeleton(ax: Axes, layout: SkeletonLayout) -> None:
    """Draw a body with the names of its joints in two columns."""
    pose = draw_skeleton(ax, layout)
    write_joint_numbers(ax, pose, range(len(pose)))
    low, high = pose.min(axis=0), pose.max(axis=0)
    middle, extent = (low + high) / 2, np.maximum(high - low, 1e-6)
    width, height = np.asarray(ax.get_window_extent().size) / ax.figure.dpi  # inches
    unit = max(extent[0] / (width - 2 * _NAMES - 0.5), extent[1] / (height - 0.6))
    half = np.array([width, height]) * unit / 2
    (left, bottom), (right, top) = middle - half, middle + half
    ax.set(xlim=(left, right), ylim=(bottom, top))
    for side, joints in _columns(layout, pose).items():
        x = middle[0] + (half[0] - _NAMES * unit) * (-1 if side == "left" else 1)
        bounds = bottom + 0.1 * unit, top - 0.1 * unit
        heights = _spread(pose[joints, 1], bounds, 0.17 * unit)
        for joint, y in zip(joints, heights, strict=True):
            _label_joint(ax, layout, joint, pose[joint], (x, float(y)))


def _label_joint(
    ax: Axes,
    layout: SkeletonLayout,
    joint: int,
    at: NDArray[np.float64],
    label: tuple[float, float],
) -> None:
    """Write a joint's name at the end of a thin line; the name of the center is bold."""
    ax.plot([at[0], label[0]], [at[1], label[1]], color=style.LIGHT_GRAY, linewidth=0.7, zorder=0)
    right = label[0] > at[0]
    name = style.plot_label(layout.joints[joint], 20)
    ax.annotate(
        f"{joint}  {name}" if right else f"{name}  {joint}",
        label,
        (3 if right else -3, 0),
        textcoords="offset points",
        fontsize=8,
        color=style.BLACK,
        fontweight="bold" if joint == layout.center else "normal",
        ha="left" if right else "right",
        va="center",
    )


def _columns(layout: SkeletonLayout, pose: NDArray[np.float64]) -> dict[str, list[int]]:
    """Return the joints of the left and the right column of names, from top to bottom."""
    if layout.mirror_pairs:
        left = [side == "left" for side in joint_sides(layout)]
    else:
        left = list(pose[:, 0] < float(np.median(pose[:, 0])))
    order = np.argsort(-pose[:, 1], kind="stable").tolist()
    return {
        "left": [joint for joint in order if left[joint]],
        "right": [joint for joint in order if not left[joint]],
    }


def _spread(
    wanted: NDArray[np.float64], bounds: tuple[float, float], gap: float
) -> NDArray[np.float64]:
    """Move heights (descending) as little as possible until they are a gap apart, within bounds."""
    from scipy.optimize import isotonic_regression

    if len(wanted) < 2:
        return wanted
    bottom, top = bounds
    steps = min(gap, (top - bottom) / (len(wanted) - 1)) * np.arange(len(wanted))
    # With a step added to each, "at least a gap apart" becomes "not rising".
    level = isotonic_regression(wanted + steps, increasing=False).x
    return np.clip(level, bottom + steps[-1], top) - steps


def _matrix_axes(figure: Figure, rows: int, columns: int, count: int) -> list[Axes]:
    width, height = figure.get_size_inches()
    grid = figure.add_gridspec(
        rows,
        columns,
        left=(_SKELETON + 0.25) / width,
        right=1 - 0.15 / width,
        top=1 - 0.75 / height,
        bottom=0.75 / height,
        hspace=0.38,
        wspace=0.16,
    )
    return [figure.add_subplot(grid[divmod(i, columns)]) for i in range(count)]


def draw_matrix(ax: Axes, matrix: NDArray[np.floating], cmap: Colormap, strongest: float) -> None:
    """Draw a (V, V) matrix with values from 0 to ``strongest``; rows are sources."""
    ax.imshow(matrix, cmap=cmap, vmin=0.0, vmax=strongest, interpolation="none")
    ticks = list(range(0, len(matrix), 5))
    ax.set_xticks(ticks)
    ax.set_yticks(ticks)
    style.despine(ax, grid=None, frame=True)
    ax.tick_params(labelsize=7)


def label_matrix(ax: Axes, layout: SkeletonLayout) -> None:
    """Write joint names and indices along both axes of a matrix, as many as fit."""
    cell, colors = _cell_points(ax, layout.num_joints), joint_colors(layout)
    font = min(7.0, max(4.5, 0.62 * cell))
    ticks = list(range(0, layout.num_joints, math.ceil(1.2 * font / cell)))
    names = [
        f"{style.plot_label(layout.joints[joint], _JOINT_NAME_LENGTH)}  {joint}" for joint in ticks
    ]
    ax.set_yticks(ticks, names, fontsize=font)
    ax.set_xticks(ticks, names, fontsize=font, rotation=90)
    for labels in (ax.get_yticklabels(), ax.get_xticklabels()):
        for label, joint in zip(labels, ticks, strict=True):
            label.set_color(colors[joint])
    options: dict[str, Any] = {"ha": "right", "va": "top", "fontsize": 7, "color": style.GRAY}
    style.annotate_offset(ax, "row: source\ncolumn: target", (0, 0), (-5, -8), **options)


def matrix_label_size(layout: SkeletonLayout) -> float:
    """Return the inches that the names of `label_matrix` need beside and below a matrix."""
    longest = min(_JOINT_NAME_LENGTH, max(len(joint) for joint in layout.joints))
    return max(0.75, 0.16 + 0.056 * (4 + longest))


def write_cell_values(ax: Axes, matrix: NDArray[np.floating]) -> None:
    """Write the non-zero entries of a drawn matrix into its cells if these are large enough."""
    cell = _cell_points(ax, len(matrix))
    if cell < _MIN_CELL:
        return
    image: Any = ax.images[0]
    grounds = image.to_rgba(image.get_array())
    options: dict[str, Any] = {"ha": "center", "va": "center_baseline"}
    options["fontsize"] = min(8.0, 0.48 * cell)
    for row, column in np.argwhere(matrix):
        value = matrix[row, column]
        text = f"{value:.0f}" if value == round(value) else f"{value:.2f}".lstrip("0")
        ax.text(column, row, text, color=contrast_color(grounds[row, column]), **options)


def contrast_color(ground: NDArray[np.floating] | Sequence[float]) -> str:
    """Return the text color for a background of these red, green and blue values (0 to 1)."""
    brightness = float(np.dot((0.299, 0.587, 0.114), np.asarray(ground)[:3]))
    return "white" if brightness < 0.62 else style.BLACK


def _cell_points(ax: Axes, cells: int) -> float:
    """Return the width in points of one of so many cells across the axes."""
    return float(ax.get_window_extent().width / ax.figure.dpi * 72 / cells)
