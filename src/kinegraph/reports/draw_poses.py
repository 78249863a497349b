"""Pictures of predicted poses over true ones: forecasts and reconstructions."""

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
    Projection,
    draw_joints,
    project_joints,
    spaced_frames,
    strip_figure,
)
from kinegraph.reports.rest_pose import bone_colors, joint_colors
from kinegraph.reports.style import (
    BLACK,
    BLUE,
    GRAY,
    SIDE_LEGEND,
    add_axes_inches,
    add_color_legend,
    add_heading,
    annotate_offset,
    despine,
)
from kinegraph.skeleton import SkeletonLayout

_TITLE, _HEADING, _CURVE, _BELOW = 0.36, 0.6, 1.25, 0.5  # inches
_TRUE = "#9aa5b1"

Poses = NDArray[np.floating]
Errors = NDArray[np.floating]


@dataclass(frozen=True)
class _Comparison:
    """True and predicted poses of the same frames.

    Attributes:
        layout: of the joints.
        true, predicted: (T, V, D), NaN where absent.
        chosen: frames that are drawn, with their names.
        errors: of ``predicted``, (T,), NaN where nothing can be compared.
        baseline: (T,) errors of a prediction without a model.
        baseline_name: at most two words.
    """

    layout: SkeletonLayout
    true: Poses
    predicted: Poses
    chosen: dict[int, str]
    errors: Errors
    baseline: Errors
    baseline_name: str


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
    """Draw future poses of one person, predicted over true, and the error by frame.

    Above each frame are its error, the mean Euclidean distance of the visible joints (MPJPE), and
    that of the zero-velocity baseline, which repeats the last pose. The first panel is that pose.

    Args:
        context_last: (V, D), the pose right before the future; D is 2 or 3.
        true: (k, V, D) in the same units, NaN where absent.
        predicted: (k, V, D).
        error: (k,) for the curve, the mean over many clips; by default this clip's.
        baseline: (k,) of zero velocity over the same clips; give both or neither.
        frames: number of future frames to draw.
        title: written above.
        y_up: as in `kinegraph.reports.panels.project_joints`.

    Raises:
        ClipError: shapes that do not fit one another or the layout; joints of one coordinate;
            fewer than one frame.
    """
    true = _checked("true future", true, layout)
    predicted = _checked("predicted future", predicted, layout, true.shape)
    last = _checked("last pose", np.asarray(context_last)[None], layout, (1, *true.shape[1:]))
    held = np.broadcast_to(last, true.shape)
    # the last pose comes first; nothing is predicted for it
    compared = _Comparison(
        layout,
        np.concatenate([last, true]),
        np.concatenate([np.full_like(last, np.nan), predicted]),
        {0: "last seen"} | {f + 1: f"+{f + 1}" for f in _chosen(len(true), frames)},
        np.concatenate([[np.nan], frame_errors(true, predicted)]),
        np.concatenate([[np.nan], frame_errors(true, held)]),
        "zero velocity",
    )
    own = error is None and baseline is None
    curves = compared.errors[1:], compared.baseline[1:]
    if not own:
        curves = (
            _checked_errors("error", error, len(true)),
            _checked_errors("baseline", baseline, len(true)),
        )
    figure, ax = _draw_comparison(compared, "predicted", title, y_up)
    _draw_error_curves(ax, compared, curves, 1, own)
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
    """Draw evenly spaced frames of one person, reconstructed over true, and the error by frame.

    The baseline of the error (MPJPE, as in `draw_forecast`) is the clip's mean pose.

    Args:
        true: (T, V, D), NaN where absent; D is 2 or 3.
        rebuilt: (T, V, D).
        frames, title, y_up: as in `draw_forecast`.

    Raises:
        ClipError: as `draw_forecast`.
    """
    true = _checked("true clip", true, layout)
    rebuilt = _checked("reconstructed clip", rebuilt, layout, true.shape)
    mean = np.broadcast_to(_mean_pose(true), true.shape)
    errors = frame_errors(true, rebuilt), frame_errors(true, mean)
    chosen = {frame: f"frame {frame}" for frame in _chosen(len(true), frames)}
    compared = _Comparison(layout, true, rebuilt, chosen, *errors, "mean pose")
    figure, ax = _draw_comparison(compared, "reconstructed", title, y_up)
    _draw_error_curves(ax, compared, errors, 0, True)
    add_heading(ax, "error by frame", "of this clip")
    return figure


def frame_errors(true: Poses, other: Poses) -> Errors:
    """Return (T,) mean Euclidean distances over the joints of both (T, V, D); NaN if none."""
    distance = np.linalg.norm(np.asarray(other, dtype=np.float64) - true, axis=-1)
    both = np.isfinite(distance)
    number = both.sum(axis=-1)
    total = np.where(both, distance, 0.0).sum(axis=-1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _checked(
    what: str, poses: Poses, layout: SkeletonLayout, shape: tuple[int, ...] | None = None
) -> NDArray[np.float32]:
    """Validate poses (T, V, D) of a layout and, if given, a shape."""
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
    """Return (V, D); NaN for joints that are never visible."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmean(true, axis=0)


def _draw_comparison(
    compared: _Comparison, name: str, title: str | None, y_up: bool | None
) -> tuple[Figure, Axes]:
    """Return a figure with its panels, and empty axes for curves below them."""
    layout, frames = compared.layout, list(compared.chosen)
    views = project_joints(np.stack([compared.true, compared.predicted]), frames, y_up, name)
    margins = _HEADING + _TITLE * bool(title), 0.5 + _CURVE + _BELOW + LEGEND_HEIGHT
    figure, rows = strip_figure(views, frames, title, margins, min_columns=4)
    for view, row in zip(views, rows, strict=True):
        for ax, frame in zip(row, frames, strict=True):
            _draw_pair(ax, view, layout, frame)
    for ax, frame in zip(rows[0], frames, strict=True):
        _write_errors(ax, compared, frame)
    if not np.isfinite(compared.errors).any():
        add_color_legend(figure, [("no joints to compare", GRAY)])
    elif layout.mirror_pairs:
        add_color_legend(figure, [("true", _TRUE), (f"{name} in color:", GRAY), *SIDE_LEGEND])
    else:
        add_color_legend(figure, [("true", _TRUE), (f"{name} in color", GRAY)])
    width = figure.get_figwidth() - 0.75
    return figure, add_axes_inches(figure, (0.55, _BELOW + LEGEND_HEIGHT, width, _CURVE))


def _draw_pair(ax: Axes, view: Projection, layout: SkeletonLayout, frame: int) -> None:
    true, predicted = view.points[:, frame]
    gray = [_TRUE] * len(layout.bones), [_TRUE] * layout.num_joints
    draw_joints(ax, layout, true, gray, width=3.6, dot=12)
    colors = bone_colors(layout), joint_colors(layout)
    for artist in draw_joints(ax, layout, predicted, colors, width=1.5):
        artist.set_zorder(4)


def _write_errors(ax: Axes, compared: _Comparison, frame: int) -> None:
    """Write the name of a frame, its error and the error of the baseline above a panel."""
    annotate_offset(ax, compared.chosen[frame], (0, 1), (1, 28), fontsize=9, color=BLACK)
    for height, errors, color, name in (
        (16, compared.errors, BLUE, ""),
        (5, compared.baseline, GRAY, f"{compared.baseline_name} "),
    ):
        if np.isfinite(errors[frame]):
            text = f"{name}{errors[frame]:.3g}"
            annotate_offset(ax, text, (0, 1), (1, height), fontsize=8, color=color)


def _draw_error_curves(
    ax: Axes, compared: _Comparison, curves: tuple[Errors, Errors], first: int, marked: bool
) -> None:
    """Draw errors from frame ``first`` on, with dots at the drawn frames if ``marked``."""
    despine(ax)
    errors, baseline = curves
    x = np.arange(first, first + len(errors))
    style: dict[str, Any] = {"linewidth": 1.6, "markersize": 4}
    style["marker"] = "o" if len(x) == 1 else ""
    ax.plot(x, baseline, color=GRAY, linestyle=(0, (3, 2)), **style)
    ax.plot(x, errors, color=BLUE, **style)
    if marked:
        at = [frame for frame in compared.chosen if np.isfinite(compared.errors[frame])]
        ax.plot(at, compared.errors[at], "o", color=BLUE, markersize=4)
    for height, name, color in ((6, compared.baseline_name, GRAY), (18, "model", BLUE)):
        annotate_offset(ax, name, (1, 1), (0, height), color=color, fontsize=9, ha="right")
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    note = "frame (error: mean distance of joints, in units of the input)"
    ax.set_xlabel(note, color=GRAY, fontsize=8)
