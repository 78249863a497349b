"""Panels with skeletons: projections, shared limits, strips of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kinegraph.errors import ClipError
from kinegraph.reports.style import BLACK, GRAY, OFF_WHITE, add_axes_inches, plot_label
from kinegraph.skeleton import SkeletonLayout

#: Inches: the width of a strip of panels, the gap between panels, the height of a color legend.
STRIP_WIDTH, PANEL_GAP, LEGEND_HEIGHT = 7.6, 0.07, 0.26

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class PanelView:
    """One view of a clip: points (M, T, V, 2) with y up, and the limits shared by its frames."""

    name: str
    points: NDArray[np.float32]
    box: Box  # left, right, bottom, top


def project_joints(
    joints: NDArray[np.float32], frames: Sequence[int], y_up: bool | None, what: str
) -> list[PanelView]:
    """Project joints (M, T, V, D) to one or two views whose limits fit the given frames.

    Two coordinates are taken as image coordinates with y down and are flipped. Three coordinates
    are taken to have y up, as Kinect and motion capture have it, and are shown from the front (x to
    the right) and from the side (z to the right). ``y_up`` overrides this.

    Raises:
        ClipError: the joints of ``what`` have one coordinate.
    """
    D = joints.shape[-1]
    if D < 2:
        raise ClipError(f"{what}: expected joints of 2 or 3 coordinates to draw, got {D}")
    solid = D > 2
    sign = np.float32(1 if (solid if y_up is None else y_up) else -1)
    x, y = joints[..., 0], joints[..., 1] * sign
    flat = [("front", np.stack([x, y], axis=-1))]
    if solid:
        flat.append(("side", np.stack([joints[..., 2], y], axis=-1)))
    return [PanelView(name, points, _bounds(points[:, frames])) for name, points in flat]


def spaced_frames(total: int, wanted: int) -> list[int]:
    """Return at most ``wanted`` evenly spaced frame numbers from the first to the last."""
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
        title: written above the panels.
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
        style: dict[str, Any] = {"fontsize": 11, "color": BLACK, "va": "top"}
        figure.text(0.008, 1 - 0.07 / tall, plot_label(title, 80), **style)
    return figure, rows


def add_panel(
    figure: Figure, view: PanelView, column: int, width: float, vertical: tuple[float, float]
) -> Axes:
    """Add an empty panel with the limits of a view; ``vertical`` is its bottom and height."""
    y, height = vertical
    box = (PANEL_GAP / 2 + column * width, y, width - PANEL_GAP, height)
    ax = add_axes_inches(figure, box, facecolor=OFF_WHITE, xticks=[], yticks=[])
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
        ax.text(0.05, 0.97, view.name, transform=ax.transAxes, va="top", fontsize=8, color=GRAY)


def draw_joints(
    ax: Axes,
    layout: SkeletonLayout,
    body: NDArray[np.floating],
    colors: tuple[Sequence[str], Sequence[str]],
    *,
    width: float = 1.9,
    dot: float = 5.0,
) -> list[Any]:
    """Draw the visible joints and bones of one body (V, 2) and return the artists.

    Args:
        colors: of bones and of joints.
        width: of bones in points.
        dot: area of joints in square points.
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
    return [lines, ax.scatter(x, y, s=dot, c=dots, linewidths=0, zorder=3)]


def _bounds(points: NDArray[np.float32]) -> Box:
    """Return left, right, bottom and top of all visible points, with a margin."""
    seen = points.reshape(-1, 2).astype(np.float64)
    seen = seen[~np.isnan(seen).any(axis=1)]
    if not len(seen):
        return -1.0, 1.0, -1.0, 1.0
    low, high = seen.min(axis=0), seen.max(axis=0)
    margin = 0.08 * float((high - low).max()) or 1.0
    return low[0] - margin, high[0] + margin, low[1] - margin, high[1] + margin
