"""The graph of a skeleton layout: its joints by name, who reaches whom, and with which weight."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kinegraph.reports.ink import BLUES, INK, LINE, MUTED, ORANGES, heading, plain, quiet
from kinegraph.reports.pose import bone_colours, drawing_pose, joint_colours, joint_sides
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


def draw_graph(
    layout: SkeletonLayout | str,
    *,
    strategy: Strategy = "spatial",
    max_hop: int = 1,
    center_distance: CenterDistance = "full",
) -> Figure:
    """A layout and its matrices: hop distances, normalised adjacency, each partition.

    The arguments are those of `kinegraph.skeleton.adjacency`. Below the matrices stands whether
    the partitions drawn sum to the normalised adjacency, computed from them.

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
    _draw_layout(body, layout, (_SKELETON, 0.9 * size[1]))
    figure.text(0.012, 1 - 0.12 / size[1], _title(layout), fontsize=12, color=INK, va="top")
    axes = _map_axes(figure, rows, columns)
    _draw_hops(axes[0], hop_distance(layout))
    strongest = float(max(whole.max(), parts.max()))
    _draw_weights(axes[1], whole, "normalised adjacency", strongest)
    for ax, part, name in zip(axes[2:], parts, names, strict=False):
        _draw_weights(ax, part, name, strongest)
    for ax in axes[len(parts) + 2 :]:
        ax.remove()
    sums = bool(np.array_equal(parts.sum(axis=0), whole))
    why = " (agcn normalises each by itself)" if strategy == "agcn" else ""
    _explain(figure, f"partitions sum to the normalised adjacency: {sums}{why}", strongest)
    return figure


def draw_body(
    ax: Axes,
    layout: SkeletonLayout,
    *,
    size: float = 90.0,
    numbers: bool = True,
    bone_widths: NDArray[np.float64] | float = 2.0,
    joint_sizes: NDArray[np.float64] | None = None,
    colours: tuple[list[str], list[str]] | None = None,
) -> NDArray[np.float64]:
    """A layout in its drawing pose; the (V, 2) pose comes back.

    Args:
        size: area of a joint in square points; ``joint_sizes``, (V,), has one for each.
        numbers: whether joints carry their index.
        bone_widths: points, one for all or one a bone.
        colours: of bones and of joints; by default those of the sides.
    """
    pose = drawing_pose(layout)
    bones, joints = colours or (list(bone_colours(layout)), list(joint_colours(layout)))
    segments = [pose[list(bone)] for bone in layout.bones]
    lines = LineCollection(segments, colors=bones, linewidths=bone_widths, capstyle="round")
    ax.add_collection(lines)
    x, y = pose.T
    areas = size if joint_sizes is None else joint_sizes
    ax.scatter(x, y, s=areas, c=joints, edgecolors="white", linewidths=0.8, zorder=3)
    if numbers:
        centred: dict[str, Any] = {"ha": "center", "va": "center_baseline", "zorder": 4}
        for joint, (x, y) in enumerate(pose):
            ax.text(x, y, str(joint), fontsize=6.5, color="white", **centred)
    ax.set_aspect("equal")
    ax.axis("off")
    return pose


def _draw_layout(ax: Axes, layout: SkeletonLayout, inches: tuple[float, float]) -> None:
    """The body with its joints' names in two columns beside it, on axes of this many inches."""
    pose = draw_body(ax, layout)
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
    """A joint's name at the end of a thin line; the centre's is bold."""
    ax.plot([at[0], label[0]], [at[1], label[1]], color=LINE, linewidth=0.7, zorder=0)
    rightwards = label[0] > at[0]
    name = plain(layout.joints[joint], 20)
    ax.annotate(
        f"{joint}  {name}" if rightwards else f"{name}  {joint}",
        label,
        (3 if rightwards else -3, 0),
        textcoords="offset points",
        fontsize=8,
        color=INK,
        fontweight="bold" if joint == layout.centre else "normal",
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
    draw_matrix(ax, hops.astype(float), ORANGES, (0.0, float(max(1, hops.max()))))
    heading(ax, "hop distance", f"0 to {hops.max()} bones")


def _draw_weights(ax: Axes, weights: NDArray[np.float32], name: str, strongest: float) -> None:
    draw_matrix(ax, weights, BLUES, (0.0, strongest))
    heading(ax, name, f"{np.count_nonzero(weights)} non-zero")


def draw_matrix(
    ax: Axes, matrix: NDArray[np.floating], colours: Colormap, limits: tuple[float, float]
) -> None:
    """A (V, V) matrix as small squares, sources down and targets across."""
    low, high = limits
    ax.imshow(matrix, cmap=colours, vmin=low, vmax=high, interpolation="none")
    ticks = list(range(0, len(matrix), 5))
    ax.set_xticks(ticks)
    ax.set_yticks(ticks)
    quiet(ax, grid=None)
    ax.tick_params(labelsize=7)
    for spine in ax.spines.values():
        spine.set(visible=True, color=LINE, linewidth=0.7)


def _title(layout: SkeletonLayout) -> str:
    counts = f"{layout.num_joints} joints, {len(layout.bones)} bones"
    return f"{plain(layout.name)} · {counts} · centre: {plain(layout.joints[layout.centre])}"


def _explain(figure: Figure, sentence: str, strongest: float) -> None:
    width, height = figure.get_size_inches()
    x = (_SKELETON + 0.25) / width
    figure.text(x, 0.38 / height, sentence, fontsize=9.5, color=INK)
    scale = f"row: source joint, column: target joint; white is 0, the darkest blue {strongest:.2g}"
    figure.text(x, 0.17 / height, scale, fontsize=8, color=MUTED)
