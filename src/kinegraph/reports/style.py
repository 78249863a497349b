"""The colours and the quiet axes that all pictures share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb

INK = "#1f2933"
MUTED = "#697586"
LINE = "#d5dbe3"
PANEL = "#f3f5f8"
BLUE = "#2b7bba"
ORANGE = "#dd6b20"
SLATE = "#46556a"
GREEN = "#2f9e6e"
VIOLET = "#8056b8"
#: Hues for things that have no order: persons, fingers.
HUES = (BLUE, ORANGE, GREEN, VIOLET, "#c2417c", "#8a7420")

#: Left limbs, right limbs and trunk, in every picture of a body.
SIDE_COLOURS = {"left": BLUE, "right": ORANGE, "trunk": SLATE}

BLUES = LinearSegmentedColormap.from_list("kinegraph_blues", ["#ffffff", "#9cc7e8", "#0b3c66"])
ORANGES = LinearSegmentedColormap.from_list("kinegraph_oranges", ["#ffffff", "#f5b183", "#8f3606"])


def mixed(colour: str, other: str, share: float) -> str:
    """``colour`` with this share of another colour in it."""
    pairs = zip(to_rgb(colour), to_rgb(other), strict=True)
    return to_hex([a * (1 - share) + b * share for a, b in pairs])


def plain(text: str, width: int = 28) -> str:
    """A name as matplotlib shall draw it: on one line, not too long, dollar signs left alone."""
    text = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    text = text if len(text) <= width else text[: width - 1].rstrip() + "…"
    return text.replace("$", r"\$")


def quiet(ax: Axes, *, grid: Literal["x", "y", "both"] | None = "y") -> None:
    """Only what helps reading: no box, thin grid lines along one axis, muted ticks."""
    for side in ("top", "right", "left", "bottom"):
        ax.spines[side].set_visible(False)
    ax.tick_params(length=0, colors=MUTED, labelsize=9)
    if grid is not None:
        ax.grid(axis=grid, color=LINE, linewidth=0.7)
    ax.set_axisbelow(True)


def heading(ax: Axes, text: str, note: str = "") -> None:
    """The title of one panel at its left edge, and a muted second line."""
    place: dict[str, Any] = {"textcoords": "offset points", "xycoords": "axes fraction"}
    rise = 18 if note else 6
    ax.annotate(text, (0, 1), (0, rise), fontsize=10, color=INK, **place)
    ax.annotate(note, (0, 1), (0, 6), fontsize=8, color=MUTED, **place)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A partial file beside ``path`` that takes its place once written, and is gone if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
