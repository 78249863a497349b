"""Joints on panels: which way is up, one box for all frames, panels placed in inches."""

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
from kinegraph.reports.style import GRAY, OFF_WHITE
from kinegraph.skeleton import SkeletonLayout

#: Inches: the width of a strip of panels, between panels, and for colored words below.
STRIP_WIDTH, PANEL_GAP, LEGEND_HEIGHT = 7.6, 0.07, 0.26


@dataclass(frozen=True)
class Projection:
    """One projection: points (M, T, V, 2) with y up, and the box that all its frames share."""

    name: str
    points: NDArray[np.float32]
    box: tuple[float, float, float, float]  # left, right, bottom, top


def project_joints(
    joints: NDArray[np.float32], frames: Sequence[int], y_up: bool | None, what: str
) -> list[Projection]:
    """The projections of joints (M, T, V, D), each with the box of what these frames show.

    Two coordinates are taken for image coordinates, y pointing down, and are flipped; three are
    taken to have y up (as Kinect and motion capture do) and are seen from the front (x to the
    right) and from the side (z to the right). ``y_up`` overrules the rule.

    Raises:
        ClipError: ``what`` has joints of one coordinate.
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
    return [Projection(name, points, _box(points[:, frames])) for name, points in flat]


def spaced_frames(total: int, wanted: int) -> list[int]:
    """At most ``wanted`` frame numbers from the first to the last."""
    if wanted == 1:
        return [(total - 1) // 2]
    return np.unique(np.linspace(0, total - 1, wanted).round().astype(int)).tolist()


def compute_panel_heights(views: list[Projection], width: float) -> list[float]:
    """Inches: the first view as tall as its bodies ask for within reason, a second one smaller."""
    left, right, bottom, top = views[0].box
    tall = width * float(np.clip((top - bottom) / (right - left), 0.75, 1.9))
    return [tall, 0.62 * tall][: len(views)]


def add_panels(
    figure: Figure, heights: list[float], columns: tuple[float, int], top: float
) -> list[list[Axes]]:
    """Rows of equal boxes, placed by hand so that no room is lost; columns is (inches, number)."""
    each, number = columns
    rows, y = [], figure.get_size_inches()[1] - top
    for tall in heights:
        y -= tall
        boxes = [(PANEL_GAP / 2 + i * each, y, each - PANEL_GAP, tall) for i in range(number)]
        rows.append([_panel(figure, box) for box in boxes])
        y -= PANEL_GAP
    return rows


def set_equal_limits(ax: Axes, box: tuple[float, float, float, float]) -> None:
    """Show the box, widened about its middle until a unit is equally long both ways."""
    left, right, bottom, top = box
    width, height = ax.get_window_extent().size
    unit = max((right - left) / width, (top - bottom) / height)
    x, y = (left + right) / 2, (bottom + top) / 2
    ax.set_xlim(x - unit * width / 2, x + unit * width / 2)
    ax.set_ylim(y - unit * height / 2, y + unit * height / 2)


def label_projection(ax: Axes, name: str, views: int) -> None:
    """The view's name in its corner, if there are several."""
    if views > 1:
        ax.text(0.05, 0.97, name, transform=ax.transAxes, va="top", fontsize=8, color=GRAY)


def draw_joints(
    ax: Axes,
    layout: SkeletonLayout,
    body: NDArray[np.floating],
    colors: tuple[Sequence[str], Sequence[str]],
    *,
    width: float = 1.9,
    dot: float = 5.0,
) -> list[Any]:
    """The seen joints and bones of one body (V, 2); the artists come back.

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


def add_color_legend(figure: Figure, entries: Sequence[tuple[str, str]]) -> None:
    """Words in their colors along the lower edge."""
    width, height = figure.get_size_inches()
    x = PANEL_GAP / 2 + 0.02
    for name, color in entries:
        figure.text(x / width, 0.06 / height, name, fontsize=9, color=color, va="bottom")
        x += 0.072 * len(name) + 0.16


def _box(points: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of all points seen, with a margin."""
    seen = points.reshape(-1, 2).astype(np.float64)
    seen = seen[~np.isnan(seen).any(axis=1)]
    if not len(seen):
        return -1.0, 1.0, -1.0, 1.0
    low, high = seen.min(axis=0), seen.max(axis=0)
    margin = 0.08 * float((high - low).max()) or 1.0
    return low[0] - margin, high[0] + margin, low[1] - margin, high[1] + margin


def _panel(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    width, height = figure.get_size_inches()
    x, y, w, h = box
    ax = figure.add_axes((x / width, y / height, w / width, h / height), facecolor=OFF_WHITE)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax
