"""Colors, axes, headings and figures in inches, shared by all figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.figure import Figure

BLACK = "#1f2933"
GRAY = "#697586"
LIGHT_GRAY = "#d5dbe3"
OFF_WHITE = "#f3f5f8"
BLUE = "#2b7bba"
ORANGE = "#dd6b20"
SLATE = "#46556a"
GREEN = "#2f9e6e"
VIOLET = "#8056b8"
#: Colors of unordered categories, such as persons and fingers.
HUES = (BLUE, ORANGE, GREEN, VIOLET, "#c2417c", "#8a7420")

#: Colors of the left limbs, the right limbs and the trunk, in every figure of a body.
SIDE_COLORS = {"left": BLUE, "right": ORANGE, "trunk": SLATE}
SIDE_LEGEND = [("left side", BLUE), ("right side", ORANGE), ("trunk", SLATE)]

BLUE_CMAP = LinearSegmentedColormap.from_list("kinegraph_blues", ["#ffffff", "#9cc7e8", "#0b3c66"])
ORANGE_CMAP = LinearSegmentedColormap.from_list(
    "kinegraph_oranges", ["#ffffff", "#f5b183", "#8f3606"]
)


def blend(color: str, other: str, share: float) -> str:
    """Mix a share of another color into ``color``."""
    pairs = zip(to_rgb(color), to_rgb(other), strict=True)
    return to_hex([a * (1 - share) + b * share for a, b in pairs])


def tint(color: str, share: float) -> str:
    """Mix a share of white into a color."""
    return blend(color, "#ffffff", share)


def sequential_cmap(hue: str) -> LinearSegmentedColormap:
    """Return a colormap from white over a hue to a dark shade of it."""
    dark = blend(hue, "#000000", 0.35)
    return LinearSegmentedColormap.from_list("kinegraph_sequential", ["#ffffff", hue, dark])


def plot_label(text: str, width: int = 28) -> str:
    """Return a name that matplotlib draws literally: one line, shortened, ``$`` escaped."""
    text = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    text = text if len(text) <= width else text[: width - 1].rstrip() + "…"
    return text.replace("$", r"\$")


def despine(ax: Axes, *, grid: Literal["x", "y", "both"] | None = "y", frame: bool = False) -> None:
    """Remove the box and the tick marks; draw thin grid lines or a thin frame instead."""
    for spine in ax.spines.values():
        spine.set(visible=frame, color=LIGHT_GRAY, linewidth=0.7)
    ax.tick_params(length=0, colors=GRAY, labelsize=9)
    if grid is not None:
        ax.grid(axis=grid, color=LIGHT_GRAY, linewidth=0.7)
    ax.set_axisbelow(True)


def annotate_offset(
    ax: Axes, text: str, at: tuple[float, float], offset: tuple[float, float], **style: Any
) -> None:
    """Write text at a fraction of the axes, moved by an offset in points."""
    ax.annotate(text, at, offset, xycoords="axes fraction", textcoords="offset points", **style)


def add_heading(ax: Axes, text: str, note: str = "") -> None:
    """Write the title of a panel at its left edge, with a gray second line."""
    annotate_offset(ax, text, (0, 1), (0, 18 if note else 6), fontsize=10, color=BLACK)
    annotate_offset(ax, note, (0, 1), (0, 6), fontsize=8, color=GRAY)


def add_axes_inches(figure: Figure, box: tuple[float, float, float, float], **options: Any) -> Axes:
    """Add axes to a figure; the box is left, bottom, width and height in inches."""
    width, height = figure.get_size_inches()
    x, y, w, h = box
    return figure.add_axes((x / width, y / height, w / width, h / height), **options)


def write_inches(figure: Figure, x: float, y: float, text: str, **style: Any) -> None:
    """Write text at a place in inches; a negative y counts from the upper edge."""
    width, height = figure.get_size_inches()
    figure.text(x / width, (y % height) / height, text, **style)


def write_title(figure: Figure, text: str, y: float = 0.15) -> None:
    """Write the title of a figure, y inches below its upper edge."""
    write_inches(figure, 0.15, -y, text, fontsize=12, color=BLACK, va="top")


def add_color_legend(figure: Figure, entries: Sequence[tuple[str, str]]) -> None:
    """Write names in their colors along the lower edge of a figure."""
    x = 0.055
    for name, color in entries:
        write_inches(figure, x, 0.06, name, fontsize=9, color=color, va="bottom")
        x += 0.072 * len(name) + 0.16


def message_figure(text: str, width: float) -> Figure:
    """Return a figure that holds only a sentence."""
    figure = Figure(figsize=(width, 0.6))
    figure.text(0.01, 0.5, text, fontsize=10, color=GRAY, va="center")
    return figure
