"""A tall figure that explains step by step how a skeleton becomes the graph of a network."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
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

Draw = Callable[[Axes], object]
Legend = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Step:
    """One band of the figure: words, a body, and a matrix unless the body is wide."""

    title: str
    words: str
    body: Draw
    matrix: Draw | None
    legend: Legend


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
    strongest = float(max(whole.max(), parts.max()))
    steps = [
        *_graph_steps(layout, max_hop, whole, strongest),
        *_partition_steps(layout, parts, names, strongest),
        _sum_step(layout, parts, names, whole),
    ]
    name = style.plot_label(layout.name)
    title = f"From skeleton to graph: {name}, {strategy}, up to {_bones(max_hop)}"
    if strategy == "spatial" and center_distance == "truncated":
        title += f"; joints beyond {_bones(max_hop)} count as equally far from the center"
    return _arrange(layout, title, steps)


def _graph_steps(
    layout: SkeletonLayout, max_hop: int, whole: NDArray[np.float32], strongest: float
) -> list[_Step]:
    """Return the steps before the partitions."""
    hops = hop_distance(layout)
    linked = (hops <= 1).astype(float)
    degrees = np.count_nonzero(whole, axis=0)
    center = style.plot_label(layout.joints[layout.center])
    return [
        _make_step(
            "skeleton",
            lambda ax: panels.draw_labeled_skeleton(ax, layout),
            joints=layout.num_joints,
            bones=len(layout.bones),
            center=center,
        ),
        _make_step(
            "adjacency",
            _link_panel(layout, linked[None], [style.SLATE]),
            _matrix_panel(layout, linked, style.BLUE_CMAP, 1.6),
            ones=np.count_nonzero(linked),
        ),
        _make_step(
            "distance",
            _number_panel(layout, hops[layout.center], style.ORANGE_CMAP),
            _matrix_panel(layout, hops, style.ORANGE_CMAP, float(max(1, hops.max()))),
            largest=hops.max(),
            reach=_bones(max_hop),
        ),
        _make_step(
            "normalized",
            _number_panel(layout, degrees, style.BLUE_CMAP),
            _matrix_panel(layout, whole, style.BLUE_CMAP, strongest),
            least=degrees.min(),
            most=degrees.max(),
        ),
    ]


def _partition_steps(
    layout: SkeletonLayout,
    parts: NDArray[np.float32],
    names: tuple[str, ...],
    strongest: float,
) -> list[_Step]:
    return [
        _make_step(
            "partition",
            _link_panel(layout, part[None], [color]),
            _matrix_panel(layout, part, style.sequential_cmap(color), strongest),
            number=number,
            count=len(parts),
            name=name,
            meaning=_meaning(name),
            entries=np.count_nonzero(part),
            total=np.count_nonzero(parts),
        )
        for number, (part, name, color) in enumerate(
            zip(parts, names, _colors(names), strict=True), start=1
        )
    ]


def _sum_step(
    layout: SkeletonLayout,
    parts: NDArray[np.float32],
    names: tuple[str, ...],
    whole: NDArray[np.float32],
) -> _Step:
    """Return the step that compares the sum of the partitions with the normalized adjacency."""
    total, colors = parts.sum(axis=0), _colors(names)
    difference = float(np.abs(total - whole).max())

    def mosaic(ax: Axes) -> None:
        panels.draw_matrix(ax, total, style.BLUE_CMAP, 1.0)
        tiles = np.ones((*total.shape, 3))
        for part, color in zip(parts, colors, strict=True):
            tiles[part != 0] = to_rgb(color)
        ax.images[0].set_data(tiles)
        panels.write_cell_values(ax, total.astype(float))
        panels.label_matrix(ax, layout)

    return _make_step(
        "sum" if difference <= 1e-6 else "other_sum",
        _link_panel(layout, parts, colors),
        mosaic,
        tuple(zip(names, colors, strict=True)),
        subject="The partition is" if len(parts) == 1 else f"The {len(parts)} partitions sum to",
        difference=difference,
        reach=float(total.sum(axis=0).max()),
    )


def _make_step(
    key: str, body: Draw, matrix: Draw | None = None, legend: Legend = (), **values: Any
) -> _Step:
    """Return a step with its title and words of graph_tutorial.yaml."""
    title, words = (_WORDS[key][part].format(**values) for part in ("title", "words"))
    return _Step(title, words, body, matrix, legend)


def _meaning(name: str) -> str:
    kind, _, hop = name.partition(" ")
    return _WORDS["meanings"]["root" if name == "hop 0" else kind].format(
        away=_bones(int(hop or 0))
    )


def _colors(names: tuple[str, ...]) -> list[str]:
    """Return a color per partition: the hue for the kind, paler for more hops."""
    colors = []
    for name in names:
        kind, _, hop = name.partition(" ")
        hue = style.SLATE if hop == "0" else _HUES.get(kind, style.SLATE)
        colors.append(style.tint(hue, 0.65 * (1 - 1 / max(1, int(hop or 1)))))
    return colors


def _bones(number: int) -> str:
    return f"{number} bone" if number == 1 else f"{number} bones"


def _link_panel(layout: SkeletonLayout, links: NDArray[np.floating], colors: list[str]) -> Draw:
    return lambda ax: panels.draw_linked_skeleton(ax, layout, links, colors)


def _number_panel(layout: SkeletonLayout, numbers: NDArray[np.integer], cmap: Colormap) -> Draw:
    """Draw the body with a number in each joint, darker for larger numbers."""
    grounds = cmap(0.12 + 0.88 * numbers / max(1, int(numbers.max())))

    def draw(ax: Axes) -> None:
        pose = panels.draw_skeleton(ax, layout, size=125, colors=(None, grounds), margin=0.06)
        panels.write_joint_numbers(
            ax, pose, list(numbers), [panels.contrast_color(g) for g in grounds]
        )

    return draw


def _matrix_panel(
    layout: SkeletonLayout, values: NDArray[Any], cmap: Colormap, strongest: float
) -> Draw:
    def draw(ax: Axes) -> None:
        panels.draw_matrix(ax, values.astype(float), cmap, strongest)
        panels.write_cell_values(ax, values.astype(float))
        panels.label_matrix(ax, layout)

    return draw


def _arrange(layout: SkeletonLayout, title: str, steps: list[_Step]) -> Figure:
    """Draw all steps below one another."""
    labels = panels.matrix_label_size(layout)
    side = float(np.clip(0.165 * layout.num_joints, 2.9, 5.6))
    band = max(_BAND, side + labels)
    width = _TEXT + _BODY + labels + side + 2 * _EDGE
    tall = _TOP + len(steps) * (band + _GAP)
    figure = Figure(figsize=(width, tall))
    style.write_inches(figure, _EDGE, -0.2, title, fontsize=13, color=style.BLACK, va="top")
    for number, step in enumerate(steps, start=1):
        top = tall - _TOP - (number - 1) * (band + _GAP)
        _write_step(figure, number, step, top)
        space = _BODY if step.matrix else width - _TEXT - 2 * _EDGE
        step.body(style.add_axes_inches(figure, (_EDGE + _TEXT, top - band, space, band)))
        if step.matrix:
            box = (width - _EDGE - side, top - side, side, side)
            step.matrix(style.add_axes_inches(figure, box))
    return figure


def _write_step(figure: Figure, number: int, step: _Step, top: float) -> None:
    """Write the number, title and words of a step under a thin line; ``top`` is in inches."""
    width, height = figure.get_size_inches()
    x, y = _EDGE / width, (top + _GAP / 2) / height
    figure.add_artist(Line2D([x, 1 - x], [y, y], color=style.LIGHT_GRAY, linewidth=0.8))
    title = textwrap.wrap(f"{number}  {step.title}", 34)
    place: dict[str, Any] = {"fontsize": 9, "color": style.GRAY, "va": "top"}
    style.write_inches(
        figure, _EDGE, top, "\n".join(title), **place | {"fontsize": 11.5, "color": style.BLACK}
    )
    top -= 0.2 * len(title) + 0.1
    lines = textwrap.wrap(step.words, _WRAP)
    style.write_inches(figure, _EDGE, top, "\n".join(lines), linespacing=1.4, **place)
    top -= 0.178 * len(lines) + 0.12
    for name, color in step.legend:
        style.write_inches(figure, _EDGE, top, "■", **place | {"color": color})
        style.write_inches(figure, _EDGE + 0.17, top, name, **place)
        top -= 0.18
