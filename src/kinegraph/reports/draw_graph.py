"""The graph of a skeleton layout: its joints by name, who reaches whom, and with which weight."""

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

from kinegraph.reports.rest_pose import bone_colors, joint_colors, joint_sides, rest_pose
from kinegraph.reports.style import (
    BLACK,
    BLUE_CMAP,
    GRAY,
    LIGHT_GRAY,
    ORANGE_CMAP,
    add_heading,
    blend,
    despine,
    plot_label,
)
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
_MAP = 2.1
_LONGEST = 18  # characters of a joint's name beside a matrix
_READABLE = 9.0  # points


def draw_graph(
    layout: SkeletonLayout | str,
    *,
    strategy: Strategy = "spatial",
    max_hop: int = 1,
    center_distance: CenterDistance = "full",
) -> Figure:
    """A layout and its matrices: hop distances, normalized adjacency, each partition.

    The arguments are those of `kinegraph.skeleton.adjacency`. Below the matrices stands whether
    the partitions drawn sum to the normalized adjacency, computed from them.

    Raises:
        UnknownNameError, ModelError: as `kinegraph.skeleton.adjacency`.
    """
    layout = get_layout(layout)
    parts = adjacency(layout, strategy=strategy, max_hop=max_hop, center_distance=center_distance)
    whole = normalized_adjacency(layout, max_hop=max_hop)
    names = partition_names(strategy, max_hop=max_hop)
    columns = max(2, math.ceil(math.sqrt(1.3 * (len(parts) + 2))))
    rows = math.ceil((len(parts) + 2) / columns)
    size = (_SKELETON + columns * _MAP, max(6.2, rows * (_MAP + 0.5) + 1.1))
    figure = Figure(figsize=size)
    body = figure.add_axes((0.0, 0.02, _SKELETON / size[0], 0.9))
    draw_labeled_skeleton(body, layout, (_SKELETON, 0.9 * size[1]))
    figure.text(0.012, 1 - 0.12 / size[1], _title(layout), fontsize=12, color=BLACK, va="top")
    axes = _map_axes(figure, rows, columns)
    _draw_hops(axes[0], hop_distance(layout))
    strongest = float(max(whole.max(), parts.max()))
    _draw_weights(axes[1], whole, "normalized adjacency", strongest)
    for ax, part, name in zip(axes[2:], parts, names, strict=False):
        _draw_weights(ax, part, name, strongest)
    for ax in axes[len(parts) + 2 :]:
        ax.remove()
    sums = bool(np.array_equal(parts.sum(axis=0), whole))
    why = " (agcn normalises each by itself)" if strategy == "agcn" else ""
    _explain(figure, f"partitions sum to the normalized adjacency: {sums}{why}", strongest)
    return figure


def draw_skeleton(
    ax: Axes,
    layout: SkeletonLayout,
    *,
    size: float = 90.0,
    numbers: bool = True,
    bone_widths: NDArray[np.float64] | float = 2.0,
    joint_sizes: NDArray[np.float64] | None = None,
    colors: tuple[list[str], list[str]] | None = None,
) -> NDArray[np.float64]:
    """A layout in its drawing pose; the (V, 2) pose comes back.

    Args:
        size: area of a joint in square points; ``joint_sizes``, (V,), has one for each.
        numbers: whether joints carry their index.
        bone_widths: points, one for all or one a bone.
        colors: of bones and of joints; by default those of the sides.
    """
    pose = rest_pose(layout)
    bones, joints = colors or (list(bone_colors(layout)), list(joint_colors(layout)))
    segments = [pose[list(bone)] for bone in layout.bones]
    lines = LineCollection(segments, colors=bones, linewidths=bone_widths, capstyle="round")
    ax.add_collection(lines)
    x, y = pose.T
    areas = size if joint_sizes is None else joint_sizes
    ax.scatter(x, y, s=areas, c=joints, edgecolors="white", linewidths=0.8, zorder=3)
    if numbers:
        write_joint_numbers(ax, pose, range(len(pose)))
    ax.set_aspect("equal")
    ax.axis("off")
    return pose


def write_joint_numbers(
    ax: Axes, pose: NDArray[np.float64], numbers: Sequence[int], colors: Sequence[str] = ("white",)
) -> None:
    """Write a number into each of V joints; ``colors`` are repeated until they suffice."""
    centered: dict[str, Any] = {"ha": "center", "va": "center_baseline", "zorder": 4}
    for joint, ((x, y), number) in enumerate(zip(pose, numbers, strict=True)):
        color = colors[joint % len(colors)]
        ax.text(x, y, str(number), fontsize=6.5, color=color, **centered)


def draw_arrows(
    ax: Axes, layout: SkeletonLayout, weights: NDArray[np.floating], colors: Sequence[str]
) -> None:
    """Links between the joints of a body that `draw_skeleton` drew on the same axes.

    Args:
        weights: (K, V, V), group, source and target, none negative. Every non-zero entry is an
            arrow, the wider and darker the stronger; on the diagonal it is a ring around the
            joint. Links that go both ways or skip joints are bent, so that none hides another.
        colors: one a group.
    """
    pose, strongest = rest_pose(layout), float(weights.max(initial=0.0))
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
    """An arrow of this share of the greatest strength."""
    return FancyArrowPatch(
        tuple(start),
        tuple(end),
        connectionstyle=f"arc3,rad={0.25 if bent else 0}",
        arrowstyle="-|>",
        mutation_scale=5 + 3 * share,
        linewidth=0.6 + share,
        color=blend(color, "#ffffff", 0.45 * (1 - share)),
        shrinkA=2.5,
        shrinkB=2.5,
        clip_on=False,
        zorder=2 + share / 2,
    )


def draw_labeled_skeleton(ax: Axes, layout: SkeletonLayout, inches: tuple[float, float]) -> None:
    """A body with its joints' names in two columns beside it, on axes of this many inches."""
    pose = draw_skeleton(ax, layout)
    low, high = pose.min(axis=0), pose.max(axis=0)
    middle, extent = (low + high) / 2, np.maximum(high - low, 1e-6)
    width, height = inches
    unit = max(extent[0] / (width - 2 * _NAMES - 0.5), extent[1] / (height - 0.6))
    half = np.array([width, height]) * unit / 2
    (left, bottom), (right, top) = middle - half, middle + half
    ax.set(xlim=(left, right), ylim=(bottom, top))
    for side, joints in _columns(layout, pose).items():
        x = middle[0] + (half[0] - _NAMES * unit) * (-1 if side == "left" else 1)
        bounds = bottom + 0.1 * unit, top - 0.1 * unit
        heights = _spread(pose[joints, 1], bounds, 0.17 * unit)
        for joint, y in zip(joints, heights, strict=True):
            _call_out(ax, layout, joint, pose[joint], (x, float(y)))


def _call_out(
    ax: Axes,
    layout: SkeletonLayout,
    joint: int,
    at: NDArray[np.float64],
    label: tuple[float, float],
) -> None:
    """A joint's name at the end of a thin line; the center's is bold."""
    ax.plot([at[0], label[0]], [at[1], label[1]], color=LIGHT_GRAY, linewidth=0.7, zorder=0)
    rightwards = label[0] > at[0]
    name = plot_label(layout.joints[joint], 20)
    ax.annotate(
        f"{joint}  {name}" if rightwards else f"{name}  {joint}",
        label,
        (3 if rightwards else -3, 0),
        textcoords="offset points",
        fontsize=8,
        color=BLACK,
        fontweight="bold" if joint == layout.center else "normal",
        ha="left" if rightwards else "right",
        va="center",
    )


def _columns(layout: SkeletonLayout, pose: NDArray[np.float64]) -> dict[str, list[int]]:
    """Joint indices from top to bottom, in the column where each is named."""
    sides = joint_sides(layout)
    columns: dict[str, list[int]] = {"left": [], "right": []}
    if layout.mirror_pairs:
        for joint, side in enumerate(sides):
            columns["right" if side == "trunk" else side].append(joint)
    else:
        middle = float(np.median(pose[:, 0]))
        for joint, (x, _) in enumerate(pose):
            columns["left" if x < middle else "right"].append(joint)
    return {side: sorted(joints, key=lambda j: -pose[j, 1]) for side, joints in columns.items()}


def _spread(
    wanted: NDArray[np.float64], bounds: tuple[float, float], gap: float
) -> NDArray[np.float64]:
    """Heights near the wanted ones (descending), a gap apart where there is room, within bounds."""
    if len(wanted) < 2:
        return wanted
    bottom, top = bounds
    steps = min(gap, (top - bottom) / (len(wanted) - 1)) * np.arange(len(wanted))
    # With a step added to each, "at least a gap apart" becomes "not rising": averages of blocks.
    blocks: list[list[float]] = []
    for value in wanted + steps:
        blocks.append([float(value)])
        while len(blocks) > 1 and np.mean(blocks[-1]) > np.mean(blocks[-2]):
            last = blocks.pop()
            blocks[-1] += last
    level = np.concatenate([np.full(len(block), np.mean(block)) for block in blocks])
    return np.clip(level, bottom + steps[-1], top) - steps


def _map_axes(figure: Figure, rows: int, columns: int) -> list[Axes]:
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
    return [figure.add_subplot(grid[i, j]) for i in range(rows) for j in range(columns)]


def _draw_hops(ax: Axes, hops: NDArray[np.int64]) -> None:
    draw_matrix(ax, hops.astype(float), ORANGE_CMAP, (0.0, float(max(1, hops.max()))))
    add_heading(ax, "hop distance", f"0 to {hops.max()} bones")


def _draw_weights(ax: Axes, weights: NDArray[np.float32], name: str, strongest: float) -> None:
    draw_matrix(ax, weights, BLUE_CMAP, (0.0, strongest))
    add_heading(ax, name, f"{np.count_nonzero(weights)} non-zero")


def draw_matrix(
    ax: Axes, matrix: NDArray[np.floating], colors: Colormap, limits: tuple[float, float]
) -> None:
    """A (V, V) matrix as small squares, sources down and targets across."""
    low, high = limits
    ax.imshow(matrix, cmap=colors, vmin=low, vmax=high, interpolation="none")
    ticks = list(range(0, len(matrix), 5))
    ax.set_xticks(ticks)
    ax.set_yticks(ticks)
    despine(ax, grid=None)
    ax.tick_params(labelsize=7)
    for spine in ax.spines.values():
        spine.set(visible=True, color=LIGHT_GRAY, linewidth=0.7)


def label_matrix(ax: Axes, layout: SkeletonLayout) -> None:
    """Joint names and indices along both axes of a matrix, as many as fit, in their colors."""
    cell, colors = _cell(ax, layout.num_joints), joint_colors(layout)
    font = min(7.0, max(4.5, 0.62 * cell))
    ticks = list(range(0, layout.num_joints, math.ceil(1.2 * font / cell)))
    names = [f"{plot_label(layout.joints[joint], _LONGEST)}  {joint}" for joint in ticks]
    ax.set_yticks(ticks, names, fontsize=font)
    ax.set_xticks(ticks, names, fontsize=font, rotation=90)
    for labels in (ax.get_yticklabels(), ax.get_xticklabels()):
        for label, joint in zip(labels, ticks, strict=True):
            label.set_color(colors[joint])
    style: dict[str, Any] = {"ha": "right", "va": "top", "fontsize": 7, "color": GRAY}
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
    ax.annotate("row: source\ncolumn: target", (0, 0), (-5, -8), **place, **style)


def matrix_label_size(layout: SkeletonLayout) -> float:
    """Inches that the names of `label_matrix` need beside and below a matrix."""
    longest = min(_LONGEST, max(len(joint) for joint in layout.joints))
    return max(0.75, 0.16 + 0.056 * (4 + longest))


def write_cell_values(ax: Axes, matrix: NDArray[np.floating]) -> None:
    """The non-zero entries of a drawn matrix in their cells, unless too small to be read."""
    cell = _cell(ax, len(matrix))
    if cell < _READABLE:
        return
    image: Any = ax.images[0]
    grounds = image.to_rgba(image.get_array())
    style: dict[str, Any] = {"ha": "center", "va": "center_baseline"}
    style["fontsize"] = min(8.0, 0.48 * cell)
    for row, column in np.argwhere(matrix):
        value = matrix[row, column]
        text = f"{value:.0f}" if value == round(value) else f"{value:.2f}".lstrip("0")
        ax.text(column, row, text, color=contrast_color(grounds[row, column]), **style)


def contrast_color(ground: NDArray[np.floating] | Sequence[float]) -> str:
    """The color of writing on a ground of these red, green and blue (0 to 1)."""
    brightness = float(np.dot((0.299, 0.587, 0.114), np.asarray(ground)[:3]))
    return "white" if brightness < 0.62 else BLACK


def _cell(ax: Axes, cells: int) -> float:
    """The width in points of one of so many cells across the axes."""
    return float(ax.get_window_extent().width / ax.figure.dpi * 72 / cells)


def _title(layout: SkeletonLayout) -> str:
    counts = f"{layout.num_joints} joints, {len(layout.bones)} bones"
    center = plot_label(layout.joints[layout.center])
    return f"{plot_label(layout.name)} · {counts} · center: {center}"


def _explain(figure: Figure, sentence: str, strongest: float) -> None:
    width, height = figure.get_size_inches()
    x = (_SKELETON + 0.25) / width
    figure.text(x, 0.38 / height, sentence, fontsize=9.5, color=BLACK)
    scale = f"row: source joint, column: target joint; white is 0, the darkest blue {strongest:.2g}"
    figure.text(x, 0.17 / height, scale, fontsize=8, color=GRAY)
