"""The colors and the quiet axes that all pictures share."""

from __future__ import annotations

from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb

BLACK = "#1f2933"
GRAY = "#697586"
LIGHT_GRAY = "#d5dbe3"
OFF_WHITE = "#f3f5f8"
BLUE = "#2b7bba"
ORANGE = "#dd6b20"
SLATE = "#46556a"
GREEN = "#2f9e6e"
VIOLET = "#8056b8"
#: Hues for things that have no order: persons, fingers.
HUES = (BLUE, ORANGE, GREEN, VIOLET, "#c2417c", "#8a7420")

#: Left limbs, right limbs and trunk, in every picture of a body.
SIDE_COLORS = {"left": BLUE, "right": ORANGE, "trunk": SLATE}

BLUE_CMAP = LinearSegmentedColormap.from_list("kinegraph_blues", ["#ffffff", "#9cc7e8", "#0b3c66"])
ORANGE_CMAP = LinearSegmentedColormap.from_list(
    "kinegraph_oranges", ["#ffffff", "#f5b183", "#8f3606"]
)


def blend(color: str, other: str, share: float) -> str:
    """``color`` with this share of another color in it."""
    pairs = zip(to_rgb(color), to_rgb(other), strict=True)
    return to_hex([a * (1 - share) + b * share for a, b in pairs])


def plot_label(text: str, width: int = 28) -> str:
    """A name as matplotlib shall draw it: on one line, not too long, dollar signs left alone."""
    text = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    text = text if len(text) <= width else text[: width - 1].rstrip() + "…"
    return text.replace("$", r"\$")


def despine(ax: Axes, *, grid: Literal["x", "y", "both"] | None = "y") -> None:
    """Only what helps reading: no box, thin grid lines along one axis, muted ticks."""
    for side in ("top", "right", "left", "bottom"):
        ax.spines[side].set_visible(False)
    ax.tick_params(length=0, colors=GRAY, labelsize=9)
    if grid is not None:
        ax.grid(axis=grid, color=LIGHT_GRAY, linewidth=0.7)
    ax.set_axisbelow(True)


def add_heading(ax: Axes, text: str, note: str = "") -> None:
    """The title of one panel at its left edge, and a muted second line."""
    place: dict[str, Any] = {"textcoords": "offset points", "xycoords": "axes fraction"}
    rise = 18 if note else 6
    ax.annotate(text, (0, 1), (0, rise), fontsize=10, color=BLACK, **place)
    ax.annotate(note, (0, 1), (0, 6), fontsize=8, color=GRAY, **place)
