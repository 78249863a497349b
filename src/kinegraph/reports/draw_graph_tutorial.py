"""A tall figure that explains step by step how a skeleton becomes the graph of a network."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from importlib import resources
from typing import Any

import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from kinegraph.reports import panels, style
from kinegraph.skeleton import (
    SkeletonLayout,
    adjacency,
    get_layout,
    hop_distance,
    normalized_adjacency,
    partition_names,
)
from kinegraph.skeleton.graph import CenterDistance, Strategy

_TEXT, _BODY, _TOP, _EDGE = 2.75, 3.7, 0.85, 0.22  # inches
_BAND, _GAP = 4.1, 0.45
_WRAP = 36  # characters

# Blue and orange are the sides of the body.
_HUES = {
    "all": style.GREEN,
    "close": style.GREEN,
    "outward": style.GREEN,
    "hop": style.GREEN,
    "further": style.VIOLET,
    "inward": style.VIOLET,
}
_WORDS: dict[str, dict[str, str]] = yaml.safe_load(
    resources.files("kinegraph.reports").joinpath("graph_tutorial.yaml").read_text("utf-8")
)


class _Tutorial:
    """A tall figure with a band for each step: words, a body, and a matrix beside it."""

    def __init__(self, layout: SkeletonLayout, title: str, steps: int) -> None:
        self._labels = panels.matrix_label_size(layout)
        self._side = float(np.clip(0.165 * layout.num_joints, 2.9, 5.6))
        self._band = max(_BAND, self._side + self._labels)
        self._width = _TEXT + _BODY + self._labels + self._side + 2 * _EDGE
        self._height = _TOP + steps * (self._band + _GAP)
        self._steps = 0  # drawn so far
        self.figure = Figure(figsize=(self._width, self._height))
        options: dict[str, Any] = {"fontsize": 13, "color": style.BLACK, "va": "top"}
        style.write_inches(self.figure, _EDGE, -0.2, title, **options)

    def add_step(
        self,
        key: str,
        *,
        with_matrix: bool = True,
        legend: Iterable[tuple[str, str]] = (),
        **values: Any,
    ) -> list[Axes]:
        """Write the words of the next step; return axes of its body and, if any, of its matrix.

        Args:
            key: of graph_tutorial.yaml.
            legend: names and colors below the words.
            values: the words hold their names in braces.
        """
        top, side = self._height - _TOP - self._steps * (self._band + _GAP), self._side
        self._steps += 1
        title, words = (_WORDS[key][part].format(**values) for part in ("title", "words"))
        self._write_words(top, f"{self._steps}  {title}", words, legend)
        space = _BODY if with_matrix else self._width - _TEXT - 2 * _EDGE
        boxes = [(_EDGE + _TEXT, top - self._band, space, self._band)]
        if with_matrix:
            boxes.append((self._width - _EDGE - side, top - side, side, side))
        return [style.add_axes_inches(self.figure, box) for box in boxes]

    def _write_words(
        self, top: float, title: str, words: str, legend: Iterable[tuple[str, str]]
    ) -> None:
        """Write the title, words and legend of a step under a thin line; ``top`` is in inches."""
        figure = self.figure
        width, height = figure.get_size_inches()
        x, y = _EDGE / width, (top + _GAP / 2) / height
        figure.add_artist(Line2D([x, 1 - x], [y, y], color=style.LIGHT_GRAY, linewidth=0.8))
        titles, lines = textwrap.wrap(title, 34), textwrap.wrap(words, _WRAP)
        place: dict[str, Any] = {"fontsize": 9, "color": style.GRAY, "va": "top"}
        large = place | {"fontsize": 11.5, "color": style.BLACK}
        style.write_inches(figure, _EDGE, top, "\n".join(titles), **large)
        top -= 0.2 * len(titles) + 0.1
        style.write_inches(figure, _EDGE, top, "\n".join(lines), linespacing=1.4, **place)
        top -= 0.178 * len(lines) + 0.12
        for name, color in legend:
            style.write_inches(figure, _EDGE, top, "■", **place | {"color": color})
            style.write_inches(figure, _EDGE + 0.17, top, name, **place)
            top -= 0.18


def draw_graph_tutorial(
    layout: SkeletonLayout | str,
    *,
    strategy: Strategy = "spatial",
    max_hop: int = 1,
    center_distance: CenterDistance = "full",
) -> Figure:
    """Draw the way from joints and bones to the partitions of a graph convolution.

    The steps are: joints by name; links and self-links; hop distances; division by the degree;
    each partition; their sum, with its largest difference from the undivided matrix. Every matrix
    has named rows (sources) and columns (targets), and the same values drawn on a body.

    The arguments and errors are those of `kinegraph.skeleton.adjacency`.
    """
    layout = get_layout(layout)
    parts = adjacency(layout, strategy=strategy, max_hop=max_hop, center_distance=center_distance)
    names = partition_names(strategy, max_hop=max_hop)
    whole = normalized_adjacency(layout, max_hop=max_hop)
    name = style.plot_label(layout.name)
    title = f"From skeleton to graph: {name}, {strategy}, up to {_bones(max_hop)}"
    truncated = strategy == "spatial" and center_distance == "truncated"
    if truncated:
        title += f"; joints beyond {_bones(max_hop)} count as equally far from the center"
    tutorial = _Tutorial(layout, title, 5 + truncated + len(parts))
    strongest = float(max(whole.max(), parts.max()))
    _draw_graph_steps(tutorial, layout, max_hop, whole, strongest, truncated)
    meanings, colors = zip(*map(_describe_partition, names), strict=True)
    rows = zip(parts, names, meanings, colors, strict=True)
    for number, (part, name, meaning, color) in enumerate(rows, start=1):
        body, matrix = tutorial.add_step(
            "partition",
            number=number,
            count=len(parts),
            name=name,
            meaning=meaning,
            entries=np.count_nonzero(part),
            total=np.count_nonzero(parts),
        )
        panels.draw_linked_skeleton(body, layout, part[None], [color])
        _draw_values(matrix, layout, part, style.sequential_cmap(color), strongest)
    difference = float(np.abs(parts.sum(axis=0) - whole).max())
    body, matrix = tutorial.add_step(
        "sum" if difference <= 1e-6 else "other_sum",
        legend=zip(names, colors, strict=True),
        subject="The partition is" if len(parts) == 1 else f"The {len(parts)} partitions sum to",
        step=5 if truncated else 4,
        difference=difference,
        reach=float(parts.sum(axis=(0, 1)).max()),
    )
    panels.draw_linked_skeleton(body, layout, parts, colors)
    tiles = np.ones((*whole.shape, 3))
    for part, color in zip(parts, colors, strict=True):
        tiles[part != 0] = to_rgb(color)
    _draw_values(matrix, layout, parts.sum(axis=0), style.BLUE_CMAP, 1.0, tiles)
    return tutorial.figure


def step_boxes(figure: Figure) -> list[Bbox]:
    """Return the part of each step in a figure of `draw_graph_tutorial`, in inches."""
    steps = len(figure.artists)  # each begins with a line
    width, height = figure.get_size_inches()
    band, top = (height - _TOP) / steps, height - _TOP + _GAP / 2
    return [Bbox.from_extents(0, top - (i + 1) * band, width, top - i * band) for i in range(steps)]


def _draw_graph_steps(
    tutorial: _Tutorial,
    layout: SkeletonLayout,
    max_hop: int,
    whole: NDArray[np.float32],
    strongest: float,
    truncated: bool,
) -> None:
    """Draw the steps before the partitions; one more if distances are truncated."""
    hops = hop_distance(layout)
    linked = (hops <= 1).astype(float)
    degrees = np.count_nonzero(whole, axis=0)
    (body,) = tutorial.add_step(
        "skeleton",
        with_matrix=False,
        joints=layout.num_joints,
        bones=len(layout.bones),
        center=style.plot_label(layout.joints[layout.center]),
    )
    panels.draw_labeled_skeleton(body, layout)
    body, matrix = tutorial.add_step("adjacency", ones=np.count_nonzero(linked))
    panels.draw_linked_skeleton(body, layout, linked[None], [style.SLATE])
    _draw_values(matrix, layout, linked, style.BLUE_CMAP, 1.6)
    body, matrix = tutorial.add_step("distance", largest=hops.max(), reach=_bones(max_hop))
    _draw_numbers(body, layout, hops[layout.center], style.ORANGE_CMAP)
    _draw_values(matrix, layout, hops, style.ORANGE_CMAP, float(max(1, hops.max())))
    if truncated:
        limited = np.where(hops > max_hop, np.inf, hops)
        infinite = np.count_nonzero(hops > max_hop)
        body, matrix = tutorial.add_step("truncated", infinite=infinite, reach=_bones(max_hop))
        _draw_numbers(body, layout, limited[layout.center], style.ORANGE_CMAP, max_hop + 1)
        _draw_values(matrix, layout, limited, style.ORANGE_CMAP, max_hop + 1.0)
    body, matrix = tutorial.add_step("normalized", least=degrees.min(), most=degrees.max())
    _draw_numbers(body, layout, degrees, style.BLUE_CMAP)
    _draw_values(matrix, layout, whole, style.BLUE_CMAP, strongest)


def _draw_numbers(
    ax: Axes,
    layout: SkeletonLayout,
    numbers: NDArray[Any],
    cmap: Colormap,
    largest: int | None = None,
) -> None:
    """Draw the body with a number in each joint, darker up to the largest, which ∞ counts as."""
    largest = max(1, int(numbers.max())) if largest is None else largest
    grounds = cmap(0.12 + 0.88 * np.minimum(numbers, largest) / largest)
    pose = panels.draw_skeleton(ax, layout, size=125, colors=(None, grounds), margin=0.06)
    colors = [panels.contrast_color(ground) for ground in grounds]
    texts = ["∞" if np.isinf(number) else f"{number:.0f}" for number in numbers]
    panels.write_joint_numbers(ax, pose, texts, colors)


def _draw_values(
    ax: Axes,
    layout: SkeletonLayout,
    values: NDArray[Any],
    cmap: Colormap,
    strongest: float,
    tiles: NDArray[np.floating] | None = None,
) -> None:
    """Draw a labeled matrix with its values; ``tiles`` are other colors (V, V, 3) of its cells."""
    panels.draw_matrix(ax, np.minimum(values, strongest).astype(float), cmap, strongest)
    if tiles is not None:
        ax.images[0].set_data(tiles)
    panels.write_cell_values(ax, values.astype(float))
    panels.label_matrix(ax, layout)


def _describe_partition(name: str) -> tuple[str, str]:
    """Return the meaning of a partition, and its color: a hue of its kind, paler for more hops."""
    kind, _, hop = name.partition(" ")
    meaning = _WORDS["meanings"]["root" if name == "hop 0" else kind]
    hue = style.SLATE if hop == "0" else _HUES.get(kind, style.SLATE)
    color = style.tint(hue, 0.65 * (1 - 1 / max(1, int(hop or 1))))
    return meaning.format(away=_bones(int(hop or 0))), color


def _bones(number: int) -> str:
    return f"{number} bone" if number == 1 else f"{number} bones"
