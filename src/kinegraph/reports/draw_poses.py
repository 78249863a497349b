"""Poses that a model made up beside the true ones: what comes next, and clips built anew."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from kinegraph.errors import ClipError
from kinegraph.reports.panels import (
    LEGEND_HEIGHT,
    PANEL_GAP,
    STRIP_WIDTH,
    Projection,
    add_color_legend,
    add_panels,
    compute_panel_heights,
    draw_joints,
    label_projection,
    project_joints,
    set_equal_limits,
    spaced_frames,
)
from kinegraph.reports.rest_pose import bone_colors, joint_colors
from kinegraph.reports.style import BLACK, BLUE, GRAY, SIDE_COLORS, add_heading, despine, plot_label
from kinegraph.skeleton import SkeletonLayout

_TITLE, _HEADING, _CURVE, _BELOW = 0.36, 0.6, 1.25, 0.5  # inches
_TRUE = "#9aa5b1"

Poses = NDArray[np.floating]
Errors = NDArray[np.floating]


@dataclass(frozen=True)
class _Comparison:
    """Two takes of the same frames, and how far each frame is off.

    Attributes:
        true, made: (T, V, D), NaN where absent.
        chosen: frames that are drawn.
        names: of each drawn frame.
        errors: of ``made``, (T,), NaN where nothing can be compared.
        simple: (T,) of what needs no model, called ``simple_name``.
        simple_name: at most two words.
    """

    layout: SkeletonLayout
    true: Poses
    made: Poses
    chosen: list[int]
    names: list[str]
    errors: Errors
    simple: Errors
    simple_name: str


def draw_forecast(
    context_last: Poses,
    true: Poses,
    predicted: Poses,
    layout: SkeletonLayout,
    error: Errors | None = None,
    baseline: Errors | None = None,
    *,
    frames: int = 5,
    title: str | None = None,
    y_up: bool | None = None,
) -> Figure:
    """A few future poses of one person, predicted ones over true ones, and the error by frame.

    Above each frame stand its error, the mean Euclidean distance of the joints that are there
    (MPJPE), and that of zero velocity, the last pose held. The first panel is that last pose.

    Args:
        context_last: (V, D), the pose right before the future; D is 2 or 3.
        true: (k, V, D) in the same units, NaN where absent.
        predicted: (k, V, D).
        error: (k,) for the curve, the mean over many clips; by default this clip's.
        baseline: (k,) of zero velocity over the same clips; both are given or none.
        frames: how many future frames are drawn.
        title: written above.
        y_up: as in `kinegraph.reports.panels.project_joints`.

    Raises:
        ClipError: shapes that do not fit one another or the layout; joints of one coordinate;
            fewer than one frame asked for.
    """
    true = _checked("true future", true, layout)
    predicted = _checked("predicted future", predicted, layout, true.shape)
    last = _checked("last pose", np.asarray(context_last)[None], layout, (1, *true.shape[1:]))
    absent = np.full_like(last, np.nan)
    chosen = _chosen(len(true), frames)
    compared = _Comparison(
        layout,
        np.concatenate([last, true]),
        np.concatenate([absent, predicted]),
        [0, *(frame + 1 for frame in chosen)],
        ["last seen", *(f"+{frame + 1}" for frame in chosen)],
        np.concatenate([[np.nan], frame_errors(true, predicted)]),
        np.concatenate([[np.nan], frame_errors(true, np.broadcast_to(last, true.shape))]),
        "held still",
    )
    own = error is None and baseline is None
    curves = compared.errors[1:], compared.simple[1:]
    if not own:
        curves = (
            _checked_errors("error", error, len(true)),
            _checked_errors("baseline", baseline, len(true)),
        )
    figure, ax = _draw_strip(compared, "predicted", title, y_up)
    _draw_curves(ax, compared, np.arange(1, len(true) + 1), curves, own)
    add_heading(ax, "error by future frame", "of this clip" if own else "mean of many clips")
    return figure


def draw_reconstruction(
    true: Poses,
    rebuilt: Poses,
    layout: SkeletonLayout,
    *,
    frames: int = 6,
    title: str | None = None,
    y_up: bool | None = None,
) -> Figure:
    """Evenly spaced frames of one person, rebuilt over true, and the error of all frames below.

    Beside the error (MPJPE, as in `draw_forecast`) stands that of the clip's mean pose, which
    knows where the body is and nothing of its motion.

    Args:
        true: (T, V, D), NaN where absent; D is 2 or 3.
        rebuilt: (T, V, D).
        frames, title, y_up: as in `draw_forecast`.

    Raises:
        ClipError: as `draw_forecast`.
    """
    true = _checked("true clip", true, layout)
    rebuilt = _checked("rebuilt clip", rebuilt, layout, true.shape)
    chosen = _chosen(len(true), frames)
    mean = np.broadcast_to(_mean_pose(true), true.shape)
    errors = frame_errors(true, rebuilt), frame_errors(true, mean)
    names = [f"frame {frame}" for frame in chosen]
    compared = _Comparison(layout, true, rebuilt, chosen, names, *errors, "mean pose")
    figure, ax = _draw_strip(compared, "rebuilt", title, y_up)
    _draw_curves(ax, compared, np.arange(len(true)), errors, True)
    add_heading(ax, "error by frame", "of this clip")
    return figure


def frame_errors(true: Poses, other: Poses) -> Errors:
    """(T,) mean Euclidean distance over the joints that both (T, V, D) have; NaN if none."""
    distance = np.linalg.norm(np.asarray(other, dtype=np.float64) - true, axis=-1)
    both = np.isfinite(distance)
    number = both.sum(axis=-1)
    total = np.where(both, distance, 0.0).sum(axis=-1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _checked(
    what: str, poses: Poses, layout: SkeletonLayout, shape: tuple[int, ...] | None = None
) -> NDArray[np.float32]:
    """Poses (T, V, D) of this layout and, if given, this shape."""
    values = np.asarray(poses, dtype=np.float32)
    fits = values.ndim == 3 and values.shape[1] == layout.num_joints and len(values) > 0
    if not fits or (shape is not None and values.shape != shape):
        wanted = shape or ("frames", layout.num_joints, "coordinates")
        raise ClipError(
            f"{what}: expected poses of shape ({', '.join(map(str, wanted))}) for layout "
            f"{layout.name!r}, got {values.shape}"
        )
    return np.where(np.isfinite(values).all(axis=-1, keepdims=True), values, np.float32(np.nan))


def _checked_errors(what: str, given: Errors | None, frames: int) -> Errors:
    if given is None:
        raise ClipError(f"{what}: expected error and baseline together, got only the other")
    values = np.asarray(given, dtype=np.float64)
    if values.shape != (frames,):
        raise ClipError(
            f"{what}: expected one number for each of {frames} frames, got shape {values.shape}"
        )
    return values


def _chosen(total: int, frames: int) -> list[int]:
    if frames < 1:
        raise ClipError(f"expected to draw 1 frame or more, got {frames}")
    return spaced_frames(total, frames)


def _mean_pose(true: Poses) -> Poses:
    """(V, D); NaN for joints that are never there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(true, axis=0)


def _draw_strip(
    compared: _Comparison, name: str, title: str | None, y_up: bool | None
) -> tuple[Figure, Axes]:
    """A new figure with its panels, and axes for curves below them."""
    both = np.stack([compared.true, compared.made])
    views = project_joints(both, compared.chosen, y_up, name)
    each = STRIP_WIDTH / max(len(compared.chosen), 4)
    heights = compute_panel_heights(views, each)
    top = _HEADING + _TITLE * bool(title)
    below = 0.5 + _CURVE + _BELOW + LEGEND_HEIGHT
    size = (
        max(4, len(compared.chosen)) * each,
        top + sum(heights) + PANEL_GAP * len(heights) + below,
    )
    figure = Figure(figsize=size)
    rows = add_panels(figure, heights, (each, len(compared.chosen)), top)
    for view, row in zip(views, rows, strict=True):
        label_projection(row[0], view.name, len(views))
        for ax, frame in zip(row, compared.chosen, strict=True):
            set_equal_limits(ax, view.box)
            _draw_pair(ax, view, compared.layout, frame)
    for ax, frame_name, frame in zip(rows[0], compared.names, compared.chosen, strict=True):
        _write_errors(ax, compared, frame_name, frame)
    if title:
        place: dict[str, Any] = {"fontsize": 11, "color": BLACK, "va": "top"}
        figure.text(0.008, 1 - 0.07 / size[1], plot_label(title, 80), **place)
    comparable = bool(np.isfinite(compared.errors).any())
    words = _words(compared.layout, name) if comparable else [("no joint to compare", GRAY)]
    add_color_legend(figure, words)
    box = (0.55 / size[0], (_BELOW + LEGEND_HEIGHT) / size[1], 1 - 0.75 / size[0], _CURVE / size[1])
    return figure, figure.add_axes(box)


def _draw_pair(ax: Axes, view: Projection, layout: SkeletonLayout, frame: int) -> None:
    true, made = view.points[:, frame]
    gray = [_TRUE] * len(layout.bones), [_TRUE] * layout.num_joints
    draw_joints(ax, layout, true, gray, width=3.6, dot=12)
    colors = bone_colors(layout), joint_colors(layout)
    for artist in draw_joints(ax, layout, made, colors, width=1.5):
        artist.set_zorder(4)


def _write_errors(ax: Axes, compared: _Comparison, name: str, frame: int) -> None:
    """Three lines above a panel: the frame, its error, and that of the simple guess."""
    lines = [(name, BLACK, 9.0)]
    for error, color, what in (
        (compared.errors[frame], BLUE, ""),
        (compared.simple[frame], GRAY, f"{compared.simple_name} "),
    ):
        lines.append((f"{what}{error:.3g}" if np.isfinite(error) else "", color, 8.0))
    place: dict[str, Any] = {"textcoords": "offset points", "xycoords": "axes fraction"}
    for height, (text, color, size) in zip((28, 16, 5), lines, strict=True):
        ax.annotate(text, (0, 1), (1, height), fontsize=size, color=color, **place)


def _draw_curves(
    ax: Axes,
    compared: _Comparison,
    x: NDArray[np.integer],
    curves: tuple[Errors, Errors],
    marked: bool,
) -> None:
    """Errors over frames; the frames drawn above are dots if the curves are of this clip."""
    despine(ax)
    errors, simple = curves
    dot = "o" if len(x) == 1 else ""
    style: dict[str, Any] = {"linewidth": 1.6, "marker": dot, "markersize": 4}
    ax.plot(x, simple, color=GRAY, linestyle=(0, (3, 2)), **style)
    ax.plot(x, errors, color=BLUE, **style)
    if marked:
        at = [frame for frame in compared.chosen if np.isfinite(compared.errors[frame])]
        shift = len(compared.errors) - len(x)
        ax.plot(x[[f - shift for f in at]], compared.errors[at], "o", color=BLUE, markersize=4)
    place: dict[str, Any] = {"textcoords": "offset points", "xycoords": "axes fraction"}
    style = {"fontsize": 9, "ha": "right", **place}
    ax.annotate(compared.simple_name, (1, 1), (0, 6), color=GRAY, **style)
    ax.annotate("model", (1, 1), (0, 18), color=BLUE, **style)
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    note = "frame (error: mean distance of joints, in units of the input)"
    ax.set_xlabel(note, color=GRAY, fontsize=8)


def _words(layout: SkeletonLayout, name: str) -> list[tuple[str, str]]:
    words = [("true", _TRUE), (f"{name} in color:", GRAY)]
    if not layout.mirror_pairs:
        return [words[0], (f"{name} in color", GRAY)]
    return words + [(f"{s} side" if s != "trunk" else s, c) for s, c in SIDE_COLORS.items()]
