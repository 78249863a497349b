"""Figures of predicted poses over true ones: forecasts and reconstructions."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from kinegraph.errors import ClipError
from kinegraph.reports import panels, style
from kinegraph.reports.rest_pose import bone_colors, joint_colors
from kinegraph.skeleton import SkeletonLayout
from kinegraph.skeleton.space import Space

_TITLE, _HEADING, _CURVE, _BELOW = 0.36, 0.6, 1.25, 0.5  # inches
_TRUE = "#9aa5b1"

Poses = NDArray[np.floating]
Errors = NDArray[np.floating]


def draw_forecast(
    context_last: Poses,
    true: Poses,
    predicted: Poses,
    layout: SkeletonLayout,
    *,
    frames: int = 5,
    title: str | None = None,
    space: Space | None = None,
) -> Figure:
    """Draw future poses of one person, predicted over true, and the error by frame.

    Above each frame are its error, the mean Euclidean distance of the visible joints (MPJPE), and
    that of the zero-velocity baseline, which repeats the last pose. The first panel is that pose.

    Args:
        context_last: (V, D), the pose right before the future; D is 2 or 3.
        true: (k, V, D) in the same units, NaN where absent.
        predicted: (k, V, D).
        space: states which axis points up; None for the usual space of the layout.

    Raises:
        ClipError: shapes that do not fit one another or the layout; joints of one coordinate;
            fewer than one frame.
    """
    true = _check_poses("true future", true, layout)
    predicted = _check_poses("predicted future", predicted, layout, true.shape)
    last = _check_poses("last pose", np.asarray(context_last)[None], layout, (1, *true.shape[1:]))
    absent = np.full_like(last, np.nan)  # the first panel has no prediction
    poses = [
        np.concatenate([last, true]),
        np.concatenate([absent, predicted]),
        np.concatenate([absent, np.broadcast_to(last, true.shape)]),
    ]
    chosen = {0: "last seen"} | {
        f + 1: f"+{f + 1}" for f in panels.spaced_frames(len(true), frames)
    }
    names = ("predicted", "zero velocity", "error by future frame")
    return _draw_comparison(layout, poses, chosen, names, title, space, first=1)


def draw_reconstruction(
    true: Poses,
    rebuilt: Poses,
    layout: SkeletonLayout,
    *,
    frames: int = 6,
    title: str | None = None,
    space: Space | None = None,
) -> Figure:
    """Draw evenly spaced frames of one person, reconstructed over true, and the error by frame.

    The baseline of the error (MPJPE, as in `draw_forecast`) is the clip's mean pose.

    Args:
        true: (T, V, D), NaN where absent; D is 2 or 3.
        rebuilt: (T, V, D).
        layout, frames, title, space: as in `draw_forecast`.

    Raises:
        ClipError: as `draw_forecast`.
    """
    true = _check_poses("true clip", true, layout)
    rebuilt = _check_poses("reconstructed clip", rebuilt, layout, true.shape)
    with warnings.catch_warnings():  # the mean of a joint that is never visible is NaN
        warnings.simplefilter("ignore", RuntimeWarning)
        mean = np.nanmean(true, axis=0)
    poses = [true, rebuilt, np.broadcast_to(mean, true.shape)]
    chosen = {frame: f"frame {frame}" for frame in panels.spaced_frames(len(true), frames)}
    names = ("reconstructed", "mean pose", "error by frame")
    return _draw_comparison(layout, poses, chosen, names, title, space)


def frame_errors(true: Poses, other: Poses) -> Errors:
    """Return (T,) mean Euclidean distances over the joints of both (T, V, D); NaN if none."""
    distance = np.linalg.norm(np.asarray(other, dtype=np.float64) - true, axis=-1)
    both = np.isfinite(distance)
    number = both.sum(axis=-1)
    total = np.where(both, distance, 0.0).sum(axis=-1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _check_poses(
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


def _draw_comparison(
    layout: SkeletonLayout,
    poses: list[Poses],
    chosen: dict[int, str],
    names: tuple[str, str, str],
    title: str | None,
    space: Space | None,
    first: int = 0,
) -> Figure:
    """Draw the chosen frames of poses (true, predicted, baseline) and curves of their errors.

    ``names`` are those of the prediction, the baseline and the curves, which begin at ``first``.
    """
    true, predicted, baseline = poses
    predicted_name, baseline_name, heading = names
    errors, simple = frame_errors(true, predicted), frame_errors(true, baseline)
    frames = list(chosen)
    space = space or layout.default_space(true.shape[-1])
    views = panels.project_joints(np.stack([true, predicted]), frames, predicted_name, space)
    margins = _HEADING + _TITLE * bool(title), 0.5 + _CURVE + _BELOW + panels.LEGEND_HEIGHT
    figure, rows = panels.strip_figure(views, frames, title, margins, min_columns=4)
    for view, row in zip(views, rows, strict=True):
        for ax, frame in zip(row, frames, strict=True):
            _draw_pair(ax, view, layout, frame)
    for ax, (frame, name) in zip(rows[0], chosen.items(), strict=True):
        style.annotate_offset(ax, name, (0, 1), (1, 28), fontsize=9, color=style.BLACK)
        if np.isfinite(errors[frame]):
            options: dict[str, Any] = {"fontsize": 8}
            style.annotate_offset(
                ax, f"{errors[frame]:.3g}", (0, 1), (1, 16), color=style.BLUE, **options
            )
            text = f"{baseline_name} {simple[frame]:.3g}"
            style.annotate_offset(ax, text, (0, 1), (1, 5), color=style.GRAY, **options)
    if not np.isfinite(errors).any():
        style.add_color_legend(figure, [("no joints to compare", style.GRAY)])
    else:
        sides = style.SIDE_LEGEND if layout.mirror_pairs else []
        name = f"{predicted_name} in color" + ":" * bool(sides)
        style.add_color_legend(figure, [("true", _TRUE), (name, style.GRAY), *sides])
    width = figure.get_figwidth() - 0.75
    ax = style.add_axes_inches(figure, (0.55, _BELOW + panels.LEGEND_HEIGHT, width, _CURVE))
    _draw_error_curves(ax, errors, simple, first, frames)
    for height, name, color in ((6, baseline_name, style.GRAY), (18, "model", style.BLUE)):
        style.annotate_offset(ax, name, (1, 1), (0, height), color=color, fontsize=9, ha="right")
    style.add_heading(ax, heading, "of this clip")
    return figure


def _draw_pair(ax: Axes, view: panels.PanelView, layout: SkeletonLayout, frame: int) -> None:
    true, predicted = view.points[:, frame]
    gray = [_TRUE] * len(layout.bones), [_TRUE] * layout.num_joints
    panels.draw_joints(ax, layout, true, gray, width=3.6, dot=12)
    colors = bone_colors(layout), joint_colors(layout)
    for artist in panels.draw_joints(ax, layout, predicted, colors, width=1.5):
        artist.set_zorder(4)


def _draw_error_curves(
    ax: Axes, errors: Errors, baseline: Errors, first: int, chosen: list[int]
) -> None:
    """Draw errors from frame ``first`` on, with dots at the chosen frames."""
    style.despine(ax)
    x = np.arange(first, len(errors))
    options: dict[str, Any] = {"linewidth": 1.6, "markersize": 4}
    options["marker"] = "o" if len(x) == 1 else ""
    ax.plot(x, baseline[first:], color=style.GRAY, linestyle=(0, (3, 2)), **options)
    ax.plot(x, errors[first:], color=style.BLUE, **options)
    at = [frame for frame in chosen if np.isfinite(errors[frame])]
    ax.plot(at, errors[at], "o", color=style.BLUE, markersize=4)
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    note = "frame (error: mean distance of joints, in units of the input)"
    ax.set_xlabel(note, color=style.GRAY, fontsize=8)
