"""Figures of the shifts of Shift-GCN: from which joint and which frame each channel reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, ListedColormap, hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from kinegraph.models.shift_layers import local_sources, naive_shifts, nonlocal_sources
from kinegraph.reports import panels, style
from kinegraph.skeleton import SkeletonLayout

_BODY_INCHES, _FIGURE_INCHES = 3.6, 11.0  # inches
_ROW_INCHES, _PANEL_GAP, _TITLE_INCHES = 0.17, 0.75, 0.55
_MIN_CELL_POINTS = 9.0  # smaller cells get no numbers
_FRAMES = 12
_SHOWN_CHANNELS = 12  # of the temporal shifts of a layout

#: A heading, a note, and the numbers of the panel.
Panel = tuple[str, str, NDArray[Any]]


def draw_layout_shifts(layout: SkeletonLayout, channels: int = 20) -> Figure:
    """Draw the spatial shifts of Shift-GCN for a layout, and its temporal shifts.

    Args:
        layout: the skeleton.
        channels: C of the spatial shifts.
    """
    V = layout.num_joints

    def joints(sources: Any) -> NDArray[Any]:
        return np.asarray(sources.view(V, channels) // channels)

    inverse = "after the channels are mixed: reads joint (v - c) mod V"
    neighbors = "keeps a share of the channels and reads one from each neighbor"
    spatial = [
        ("Non-local shift", "reads joint (v + c) mod V", joints(nonlocal_sources(V, channels, 1))),
        ("Inverse of the non-local shift", inverse, joints(nonlocal_sources(V, channels, -1))),
        ("Local shift", neighbors, joints(local_sources(layout, channels))),
    ]
    naive = naive_shifts(_SHOWN_CHANNELS, 1).numpy()
    learned = np.linspace(-2.2, 2.2, _SHOWN_CHANNELS)
    fixed_note = "a third of the channels reads the next frame, a third the previous one"
    temporal = [
        ("Naive temporal shift, reach 1", fixed_note, naive),
        ("Adaptive temporal shift", "shifts are learned; between frames it interpolates", learned),
    ]
    return draw_shifts(layout, spatial, temporal)


def draw_shifts(
    layout: SkeletonLayout, spatial: Sequence[Panel], temporal: Sequence[Panel] = ()
) -> Figure:
    """Draw from where the channels of a frame are read: one color per joint, one per frame.

    Args:
        layout: V joints.
        spatial: joint shifts: heading, note and (V, C) source joints; a row for each joint.
        temporal: frame shifts: heading, note and (C,) frames, any real numbers; a row for each
            channel, a column for each frame of a clip. Positive ones read the future.

    Raises:
        ValueError: source joints that do not fit the layout.
    """
    V = layout.num_joints
    for heading, _, sources in spatial:
        if sources.ndim != 2 or len(sources) != V or not ((sources >= 0) & (sources < V)).all():
            raise ValueError(f"{heading}: expected ({V}, channels) joints, got {sources.shape}")
    rows = [V] * len(spatial) + [len(shifts) for _, _, shifts in temporal]
    heights = [max(0.9, min(_ROW_INCHES * count, 3.2)) for count in rows]
    tall = max(4.2, _TITLE_INCHES + sum(heights) + _PANEL_GAP * len(rows))
    figure = Figure(figsize=(_FIGURE_INCHES, tall))
    title = f"Shifts of {style.plot_label(layout.name)}: one color for each joint that is read"
    style.write_title(figure, title)
    colors = _joint_cmap(V)
    body = style.add_axes_inches(figure, (0.1, tall - _TITLE_INCHES - 3.5, _BODY_INCHES - 0.3, 3.4))
    pose = panels.draw_skeleton(body, layout, size=125, colors=(None, colors(range(V))))
    numbers = [panels.contrast_color(color) for color in colors(range(V))]
    panels.write_joint_numbers(body, pose, range(V), numbers)
    top = tall - _TITLE_INCHES
    for (heading, note, values), height in zip((*spatial, *temporal), heights, strict=True):
        box = (_BODY_INCHES + 0.6, top - 0.3 - height, _FIGURE_INCHES - _BODY_INCHES - 0.8, height)
        ax = style.add_axes_inches(figure, box)
        if values.ndim == 2:
            _draw_cells(ax, values, colors, V - 1)
            ax.set_xlabel("channel", fontsize=8, color=style.GRAY, labelpad=1)
            ax.set_ylabel("joint", fontsize=8, color=style.GRAY)
        else:
            _draw_frames(ax, values)
        style.add_heading(ax, heading, note)
        top -= height + _PANEL_GAP
    return figure


def _draw_frames(ax: Axes, shifts: NDArray[np.floating]) -> None:
    """Draw the frame that each channel reads at each frame, gray outside the clip."""
    read = np.arange(_FRAMES) + np.asarray(shifts, dtype=np.float64)[:, None]
    read[(read <= -1) | (read >= _FRAMES)] = np.nan
    cmap = style.sequential_cmap(style.GREEN).with_extremes(bad=style.LIGHT_GRAY)
    _draw_cells(ax, read, cmap, _FRAMES - 1)
    ax.set_xlabel("frame; gray: outside the clip, zero", fontsize=8, color=style.GRAY, labelpad=1)
    ax.set_ylabel("channel", fontsize=8, color=style.GRAY)


def _draw_cells(ax: Axes, values: NDArray[Any], cmap: Colormap, largest: float) -> None:
    """Draw a matrix of places, with the number of the place in each cell that is large enough."""
    options: dict[str, Any] = {"aspect": "auto", "interpolation": "none", "cmap": cmap}
    ax.imshow(values, vmin=0, vmax=largest, **options)
    style.despine(ax, grid=None, frame=True)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(13, integer=True))
    ax.tick_params(labelsize=7)
    width, height = np.asarray(ax.get_window_extent().size) / ax.figure.dpi * 72
    whole = np.equal(np.mod(values[~np.isnan(values)], 1), 0).all()
    cell = min(width / values.shape[1] / (1 if whole else 2), height / values.shape[0])
    if cell < _MIN_CELL_POINTS:
        return
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            text = f"{value:.0f}" if whole else f"{value:.1f}"
            color = panels.contrast_color(cmap(value / largest))
            centered: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": 6.5}
            ax.text(column, row, text, color=color, **centered)


def _joint_cmap(joints: int) -> ListedColormap:
    """Return a color per joint: hues around the circle, alternately lighter and darker."""
    hue = np.arange(joints) / joints
    value = np.where(np.arange(joints) % 2, 0.72, 0.92)
    colors = hsv_to_rgb(np.stack([hue, np.full(joints, 0.62), value], axis=1))
    return ListedColormap(colors)
