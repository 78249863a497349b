"""Panels shared by figures: bodies in frames, layouts with links, matrices of joints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from numpy.typing import NDArray

from kinegraph.errors import ClipError
from kinegraph.reports import style
from kinegraph.reports.rest_pose import bone_colors, joint_colors, joint_sides, rest_pose
from kinegraph.skeleton import SkeletonLayout
from kinegraph.skeleton.space import KINECT, Space
from kinegraph.transforms.fit_space import permute_axes

#: Inches: the width of a strip of panels, the gap between panels, the height of a color legend.
STRIP_WIDTH, PANEL_GAP, LEGEND_HEIGHT = 7.6, 0.07, 0.26

_NAMES = 1.2  # inches of a column of joint names
_JOINT_NAME_LENGTH = 18  # characters beside a matrix
_MIN_CELL = 9.0  # points: cells below this size have no values

Box = tuple[float, float, float, float]
Colors = Sequence[Any] | NDArray[np.floating]


@dataclass(frozen=True)
class PanelView:
    """One view of a clip: points (M, T, V, 2) with y up, and the limits shared by its frames."""

    name: str
    points: NDArray[np.float32]
    box: Box  # left, right, bottom, top


def project_joints(
    joints: NDArray[np.float32], frames: Sequence[int], what: str, space: Space
) -> list[PanelView]:
    """Project joints (M, T, V, D) to one or two views whose limits fit the given frames.

    Bodies are drawn upright, by the axes of their space. Three coordinates are shown from the front
    and from the side (away from the viewer to the right). Of an unstated space y is taken to point
    up in 3D, which the names of the views say, and down in 2D.

    Raises:
        ClipError: the joints of ``what`` have one coordinate.
    """
    D = joints.shape[-1]
    if D < 2:
        raise ClipError(f"{what}: expected joints of 2 or 3 coordinates to draw, got {D}")
    solid, note = D > 2, ""
    if space.kind == "world":
        axes = space.rotation_to(KINECT)  # x, y and z: to the sensor's left, up and away from it
    else:
        note = " (y taken as up)" if solid and space.kind == "unstated" else ""
        axes = np.diag([1, 1 if note else -1, 1]).astype(np.float32)
    if not solid:
        axes = axes[:2, :2]
        if not (np.abs(axes).sum(axis=1) == 1).all():  # such as x and y of a world with z up
            axes = np.eye(2, dtype=np.float32)
    turned = permute_axes(joints[..., :3], axes)
    flat = [(f"front{note}", turned[..., :2])]
    if solid:
        flat.append((f"side{note}", turned[..., 2:0:-1]))
    return [PanelView(name, points, _bounds(points[:, frames])) for name, points in flat]


def spaced_frames(total: int, wanted: int, what: str = "") -> list[int]:
    """Return at most ``wanted`` evenly spaced frame numbers from the first to the last.

    Raises:
        ClipError: fewer than one is wanted; the message begins with ``what``.
    """
    if wanted < 1:
        raise ClipError(f"{what}expected to draw 1 frame or more, got {wanted}")
    if wanted == 1:
        return [(total - 1) // 2]
    return np.unique(np.linspace(0, total - 1, wanted).round().astype(int)).tolist()


def panel_heights(views: list[PanelView], width: float) -> list[float]:
    """Return heights in inches: the first by the shape of the bodies, the second smaller."""
    left, right, bottom, top = views[0].box
    tall = width * float(np.clip((top - bottom) / (right - left), 0.75, 1.9))
    return [tall, 0.62 * tall][: len(views)]


def strip_figure(
    views: list[PanelView],
    frames: Sequence[int],
    title: str | None,
    margins: tuple[float, float],
    min_columns: int,
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with a row of empty panels for each view and a column for each frame.

    Args:
        margins: inches above and below the panels.
        min_columns: the figure is at least as wide as so many panels.
    """
    each = STRIP_WIDTH / max(len(frames), 4)
    heights = panel_heights(views, each)
    tall = margins[0] + sum(heights) + PANEL_GAP * len(heights) + margins[1]
    figure = Figure(figsize=(max(min_columns, len(frames)) * each, tall))
    rows, y = [], tall - margins[0]
    for view, height in zip(views, heights, strict=True):
        y -= height
        rows.append([add_panel(figure, view, i, each, (y, height)) for i in range(len(frames))])
        label_projection(rows[-1][0], view, views)
        y -= PANEL_GAP
    if title:
        options: dict[str, Any] = {"fontsize": 11, "color": style.BLACK, "va": "top"}
        figure.text(0.008, 1 - 0.07 / tall, style.plot_label(title, 80), **options)
    return figure, rows


def add_panel(
    figure: Figure, view: PanelView, column: int, width: float, vertical: tuple[float, float]
) -> Axes:
    """Add an empty panel with the limits of a view; ``vertical`` is its bottom and height."""
    y, height = vertical
    box = (PANEL_GAP / 2 + column * width, y, width - PANEL_GAP, height)
    ax = style.add_axes_inches(figure, box, facecolor=style.OFF_WHITE, xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    set_equal_limits(ax, view.box)
    return ax


def set_equal_limits(ax: Axes, box: Box) -> None:
    """Show the box, widened about its center until both axes have the same scale."""
    left, right, bottom, top = box
    width, height = ax.get_window_extent().size
    unit = max((right - left) / width, (top - bottom) / height)
    x, y = (left + right) / 2, (bottom + top) / 2
    ax.set_xlim(x - unit * width / 2, x + unit * width / 2)
    ax.set_ylim(y - unit * height / 2, y + unit * height / 2)


def label_projection(ax: Axes, view: PanelView, views: list[PanelView]) -> None:
    """Write the name of a view in the corner of a panel if there are several views."""
    if len(views) > 1:
        ax.text(
            0.05, 0.97, view.name, transform=ax.transAxes, va="top", fontsize=8, color=style.GRAY
        )


def draw_joints(
    ax: Axes,
    layout: SkeletonLayout,
    body: NDArray[np.floating],
    colors: tuple[Colors, Colors],
    *,
    width: float | NDArray[np.float64] = 1.9,
    dot: float | NDArray[np.float64] = 5.0,
    edges: tuple[str, float] = ("face", 0.0),
) -> list[Any]:
    """Draw the visible joints and bones of one body (V, 2) and return the artists.

    Args:
        colors: of bones and of joints.
        width: of bones in points, one value or one per visible bone.
        dot: area of joints in square points, one value or one per visible joint.
        edges: color and width of the rings around joints.
    """
    bones = np.array(layout.bones, dtype=int).reshape(-1, 2)
    seen = ~np.isnan(body).any(axis=-1)
    whole = seen[bones].all(axis=1)
    lines = LineCollection(
        list(body[bones[whole]]),
        colors=[color for color, drawn in zip(colors[0], whole, strict=True) if drawn],
        linewidths=width,
        capstyle="round",
    )
    ax.add_collection(lines, autolim=False)
    dots = [color for color, drawn in zip(colors[1], seen, strict=True) if drawn]
    x, y = body[seen].T
    ring: dict[str, Any] = {"edgecolors": edges[0], "linewidths": edges[1]}
    return [lines, ax.scatter(x, y, s=dot, c=dots, zorder=3, **ring)]


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
    bones = [style.LIGHT_GRAY] * len(layout.bones) if bones is None else bones
    draw_joints(ax, layout, pose, (bones, joints), width=bone_widths, dot=size, edges=edges)
    ax.set_aspect("equal")
    ax.axis("off")
    ax.margins(margin)
    return pose


def write_joint_numbers(
    ax: Axes,
    pose: NDArray[np.float64],
    numbers: Sequence[object],
    colors: Sequence[str] = ("white",),
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
    names = _NAMES + 0.3 * (layout.num_joints > 99)  # beside numbers of three digits
    unit = max(extent[0] / (width - 2 * names - 0.5), extent[1] / (height - 0.6))
    half = np.array([width, height]) * unit / 2
    (left, bottom), (right, top) = middle - half, middle + half
    ax.set(xlim=(left, right), ylim=(bottom, top))
    for side, joints in _columns(layout, pose).items():
        x = middle[0] + (half[0] - names * unit) * (-1 if side == "left" else 1)
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
    return {s: [j for j in order if left[j] == (s == "left")] for s in ("left", "right")}


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


def draw_matrix(ax: Axes, matrix: NDArray[np.floating], cmap: Colormap, strongest: float) -> None:
    """Draw a (V, V) matrix with values from 0 to ``strongest``; rows are sources."""
    ax.imshow(matrix, cmap=cmap, vmin=0.0, vmax=strongest, interpolation="none")
    ticks = list(range(0, len(matrix), 5 * math.ceil(len(matrix) / 50)))
    ax.set(xticks=ticks, yticks=ticks)
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
        if np.isinf(value):
            text = "∞"
        else:
            text = f"{value:.0f}" if value == round(value) else f"{value:.2f}".lstrip("0")
        ax.text(column, row, text, color=contrast_color(grounds[row, column]), **options)


def contrast_color(ground: NDArray[np.floating] | Sequence[float]) -> str:
    """Return the text color for a background of these red, green and blue values (0 to 1)."""
    brightness = float(np.dot((0.299, 0.587, 0.114), np.asarray(ground)[:3]))
    return "white" if brightness < 0.62 else style.BLACK


def _cell_points(ax: Axes, cells: int) -> float:
    """Return the width in points of one of so many cells across the axes."""
    return float(ax.get_window_extent().width / ax.figure.dpi * 72 / cells)


def _bounds(points: NDArray[np.float32]) -> Box:
    """Return left, right, bottom and top of all visible points, with a margin."""
    seen = points.reshape(-1, 2).astype(np.float64)
    seen = seen[~np.isnan(seen).any(axis=1)]
    if not len(seen):
        return -1.0, 1.0, -1.0, 1.0
    low, high = seen.min(axis=0), seen.max(axis=0)
    margin = 0.08 * float((high - low).max()) or 1.0
    return low[0] - margin, high[0] + margin, low[1] - margin, high[1] + margin
