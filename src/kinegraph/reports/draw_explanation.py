"""Figures of an explanation: importance of joints over time, and its deletion curves."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from kinegraph.inference.explain import Explanation
from kinegraph.reports import style

_MAP_WIDTH, _JOINT_HEIGHT, _CURVE_HEIGHT = 7.6, 0.14, 2.4  # inches


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
    largest = max(float(np.abs(values[person]).max()), 1e-12)
    image = above.imshow(
        values[person].T,
        cmap="PuOr_r",
        vmin=-largest,
        vmax=largest,
        aspect="auto",
        interpolation="nearest",
    )
    above.set_yticks(range(clip.num_joints), clip.layout.joints, fontsize=7)
    above.set_xlabel("frame", fontsize=8, color=style.GRAY)
    above.tick_params(labelsize=7)
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
