"""Figures of explanations: importance of joints over time, deletion curves, assessed exercises."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kinegraph.inference.assess import Assessment
from kinegraph.inference.counting import DEFAULT_FPS
from kinegraph.inference.explain import Explanation
from kinegraph.reports import style
from kinegraph.reports.draw_clip import draw_clip
from kinegraph.skeleton.layout import SkeletonLayout

_MAP_WIDTH, _JOINT_HEIGHT, _CURVE_HEIGHT = 7.6, 0.14, 2.4  # inches
_MAP_LEFT, _MAP_BOTTOM, _MAP_LEGEND = 1.1, 0.45, 0.3


def draw_heat_map(explanation: Explanation, method: str | None = None) -> Figure:
    """Draw the importance of the person to whom most of it goes, and the deletion curves.

    Args:
        explanation: what is drawn.
        method: a key of its importance; None for that with the better deletion curve.
    """
    method = method or explanation.best
    values = explanation.importance[method]
    person = int(np.abs(values).sum(axis=(1, 2)).argmax())
    clip = explanation.clip
    tall = max(2.0, _JOINT_HEIGHT * clip.num_joints)
    figure = Figure(figsize=(_MAP_WIDTH, tall + _CURVE_HEIGHT + 1.0), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[tall, _CURVE_HEIGHT])
    image = _draw_map(above, clip.layout, values[person])
    above.set_xlabel("frame", fontsize=8, color=style.GRAY)
    bar = figure.colorbar(image, ax=above, pad=0.01, aspect=30)
    bar.ax.tick_params(labelsize=7)
    bar.set_label("against - supports", fontsize=8, color=style.GRAY)
    whose = f", person {person + 1}" if clip.num_persons > 1 else ""
    title = f"{explanation.name} {explanation.probability:.0%}: {method}{whose}"
    above.set_title(style.plot_label(title, 80), fontsize=10, loc="left", color=style.BLACK)
    style.despine(below)
    curves = [
        *zip(explanation.curves, (style.ORANGE, style.BLUE), strict=True),
        ("random order", style.GRAY),
    ]
    for name, color in curves:
        curve = explanation.curves.get(name, explanation.random)
        label = f"{name}: area {curve.area:.2f}"
        dashes = "-" if name in explanation.curves else (0, (3, 2))
        shares = 100 * np.asarray(curve.shares)
        below.plot(shares, curve.probabilities, color=color, label=label, linestyle=dashes, lw=1.6)
    below.set_xlim(0, 100)
    below.set_ylim(0, 1.02)
    below.tick_params(labelsize=7)
    below.set_xlabel("frozen parts of joints, most important first (%)", fontsize=8)
    below.set_ylabel("probability", fontsize=8)
    below.legend(frameon=False, fontsize=8)
    return figure


def draw_assessment(result: Assessment) -> Figure:
    """Draw frames of an assessed exercise and a map of joints over time, both by importance.

    Orange supports the verdict and blue is against it. The gray line marks the span of time with
    half of the support.

    Raises:
        ValueError: the importance was not computed.
    """
    if result.importance is None:
        raise ValueError("expected an assessment with importance")
    clip = result.clip
    tall = max(1.6, _JOINT_HEIGHT * clip.num_joints)
    title = (
        f"{result.exercise} {result.probability:.0%}: {result.verdict}, score {result.score:.2f}"
    )
    figure = draw_clip(clip, title=title, importance=result.importance, below=tall + _MAP_BOTTOM)
    width = float(figure.get_size_inches()[0]) - _MAP_LEFT - 0.15
    ax = style.add_axes_inches(figure, (_MAP_LEFT, _MAP_BOTTOM + _MAP_LEGEND, width, tall - 0.1))
    seconds = clip.num_frames / (clip.fps or DEFAULT_FPS)
    _draw_map(ax, clip.layout, result.importance[0], seconds)
    start, end = result.span()
    ax.plot([start, end], [-0.75, -0.75], color=style.SLATE, lw=3, clip_on=False)
    ax.set_ylim(clip.num_joints - 0.5, -0.5)
    ax.set_xlabel("seconds", fontsize=8, color=style.GRAY)
    return figure


def _draw_map(
    ax: Axes, layout: SkeletonLayout, values: NDArray[np.float64], seconds: float | None = None
) -> Any:
    """Draw importance (T, V), over frames or over the seconds of the clip; return the image."""
    largest = max(float(np.abs(values).max()), 1e-12)
    T, V = values.shape
    image = ax.imshow(
        values.T,
        cmap="PuOr_r",
        vmin=-largest,
        vmax=largest,
        aspect="auto",
        interpolation="nearest",
        extent=(-0.5, T - 0.5, V - 0.5, -0.5) if seconds is None else (0, seconds, V - 0.5, -0.5),
    )
    ax.set_yticks(range(V), layout.joints, fontsize=7)
    ax.tick_params(labelsize=7)
    return image
