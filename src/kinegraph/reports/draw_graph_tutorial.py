"""How a skeleton becomes the graph of a network, told step by step in one tall picture."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kinegraph.reports.draw_graph import (
    contrast_color,
    draw_arrows,
    draw_labeled_skeleton,
    draw_matrix,
    draw_skeleton,
    label_matrix,
    matrix_label_size,
    write_cell_values,
    write_joint_numbers,
)
from kinegraph.reports.rest_pose import joint_colors
from kinegraph.reports.style import (
    BLACK,
    BLUE_CMAP,
    GRAY,
    GREEN,
    LIGHT_GRAY,
    ORANGE_CMAP,
    SLATE,
    VIOLET,
    blend,
    plot_label,
)
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
    "all": GREEN,
    "close": GREEN,
    "outward": GREEN,
    "hop": GREEN,
    "further": VIOLET,
    "inward": VIOLET,
}
_MEANINGS = {
    "all": "All neighbours are alike: they speak through the same weights.",
    "root": "The joint itself: a ring around each.",
    "close": (
        "Sources {away} away that are as far from the center as their target, or farther: arrows "
        "run inwards or across. The name speaks of the target, which is the closer one."
    ),
    "further": (
        "Sources {away} away that are nearer to the center than their target: arrows run "
        "outwards. The name speaks of the target, which is the further one."
    ),
    "hop": "Sources {away} away, whatever their direction.",
    "self": "The joint itself: a ring around each.",
    "inward": (
        "Each joint listens inwards, to its parent, so the arrows run outwards (or across, between "
        "joints equally far). Every column is divided by its own sum."
    ),
    "outward": (
        "Each joint listens outwards, to its children, so the arrows run inwards (or across, "
        "between joints equally far). Every column is divided by its own sum."
    ),
}


@dataclass(frozen=True)
class _Step:
    """One band of the picture: words, a body, and beside it a matrix unless the body is wide."""

    title: str
    words: str
    body: Callable[[Axes], object]
    matrix: Callable[[Axes], object] | None = None
    legend: tuple[tuple[str, str], ...] = ()


def draw_graph_tutorial(
    layout: SkeletonLayout | str,
    *,
    strategy: Strategy = "spatial",
    max_hop: int = 1,
    center_distance: CenterDistance = "full",
) -> Figure:
    """From joints and bones to the partitions of a graph convolution, one step below the other.

    Joints by name; links and self-links; hop distances; division by the degree; each partition;
    their sum, with the largest difference to the undivided matrix, computed. Every matrix has
    its rows (sources) and columns (targets) named, and its counterpart on the body beside it.

    The arguments and errors are those of `kinegraph.skeleton.adjacency`.
    """
    layout = get_layout(layout)
    parts = adjacency(layout, strategy=strategy, max_hop=max_hop, center_distance=center_distance)
    names = partition_names(strategy, max_hop=max_hop)
    whole = normalized_adjacency(layout, max_hop=max_hop)
    strongest = float(max(whole.max(), parts.max()))
    steps = [
        _joints(layout),
        _links(layout),
        _hops(layout, max_hop),
        _degrees(layout, whole, strongest),
        *(_partition(layout, parts, index, names, strongest) for index in range(len(parts))),
        _sum(layout, parts, names, whole),
    ]
    title = (
        f"From skeleton to graph: {plot_label(layout.name)}, {strategy}, up to {_bones(max_hop)}"
    )
    if strategy == "spatial" and center_distance == "truncated":
        title += f"; joints beyond {_bones(max_hop)} count as equally far from the center"
    return _picture(layout, title, steps)


def _joints(layout: SkeletonLayout) -> _Step:
    center = plot_label(layout.joints[layout.center])
    words = (
        f"{layout.num_joints} joints and {len(layout.bones)} bones between them. Distances are "
        f"counted from the center, {center}, the name in bold."
    )

    def body(ax: Axes) -> None:
        box = ax.get_window_extent()
        draw_labeled_skeleton(ax, layout, (box.width / ax.figure.dpi, box.height / ax.figure.dpi))

    return _Step("The skeleton", words, body)


def _links(layout: SkeletonLayout) -> _Step:
    linked = (hop_distance(layout) <= 1).astype(float)
    ones = np.count_nonzero(linked)
    words = (
        f"A one wherever a bone joins two joints, from either end, and down the diagonal: {ones} "
        "in all. The diagonal links each joint with itself (a ring); without it a joint would "
        "hear its neighbours and forget itself. Row: the source, which speaks. Column: the "
        "target, which listens."
    )
    return _Step(
        "Adjacency with self-links",
        words,
        partial(_arrows, layout=layout, links=linked[None], colors=[SLATE]),
        partial(_matrix, layout=layout, values=linked, shades=BLUE_CMAP, strongest=1.6),
    )


def _hops(layout: SkeletonLayout, max_hop: int) -> _Step:
    hops = hop_distance(layout)
    farthest = float(max(1, hops.max()))
    words = (
        "The number of bones on the shortest way between two joints: 0 on the diagonal, 1 where "
        f"step 2 has its other ones, {hops.max()} at most. On the body: the row of the center. "
        f"Pairs up to {_bones(max_hop)} apart count as neighbours from here on."
    )
    return _Step(
        "Hop distance",
        words,
        partial(_shaded, layout=layout, numbers=hops[layout.center], shades=ORANGE_CMAP),
        partial(_matrix, layout=layout, values=hops, shades=ORANGE_CMAP, strongest=farthest),
    )


def _degrees(layout: SkeletonLayout, whole: NDArray[np.float32], strongest: float) -> _Step:
    degrees = np.count_nonzero(whole, axis=0)
    words = (
        "A sum over neighbours would grow with their number. So each column is divided by its "
        "degree, how many joints its target listens to, itself among them: the numbers on the "
        f"body, {degrees.min()} to {degrees.max()}. Every column now sums to 1, and every joint "
        "takes the mean of its neighbours."
    )
    return _Step(
        "Divided by the degree",
        words,
        partial(_shaded, layout=layout, numbers=degrees, shades=BLUE_CMAP),
        partial(_matrix, layout=layout, values=whole, shades=BLUE_CMAP, strongest=strongest),
    )


def _partition(
    layout: SkeletonLayout,
    parts: NDArray[np.float32],
    index: int,
    names: tuple[str, ...],
    strongest: float,
) -> _Step:
    part, name, color = parts[index], names[index], _colors(names)[index]
    entries, of = np.count_nonzero(part), np.count_nonzero(parts)
    words = f"{_meaning(name)} {entries} of the {of} entries."
    return _Step(
        f"Partition {index + 1} of {len(parts)}: {name}",
        words,
        partial(_arrows, layout=layout, links=part[None], colors=[color]),
        partial(_matrix, layout=layout, values=part, shades=_towards(color), strongest=strongest),
    )


def _sum(
    layout: SkeletonLayout,
    parts: NDArray[np.float32],
    names: tuple[str, ...],
    whole: NDArray[np.float32],
) -> _Step:
    total = parts.sum(axis=0)
    colors = _colors(names)
    return _Step(
        "The sum of the partitions",
        _identity(total, whole, len(parts)),
        partial(_arrows, layout=layout, links=parts, colors=colors),
        partial(_mosaic, layout=layout, parts=parts, colors=colors),
        tuple(zip(names, colors, strict=True)),
    )


def _identity(total: NDArray[np.float32], whole: NDArray[np.float32], parts: int) -> str:
    """Whether the partitions sum to the normalized adjacency, and how far they are from it."""
    difference = float(np.abs(total - whole).max())
    found = f"the normalized adjacency of step 4: largest difference {difference:.2g}."
    if difference > 1e-6:
        most = float(total.sum(axis=0).max())
        return (
            f"The partitions do not sum to {found} Each was divided by its own column sums and "
            f"not by the whole degree, so the columns of the sum reach {most:.3g} instead of 1."
        )
    one = "The partition is" if parts == 1 else f"The {parts} partitions sum to"
    return (
        f"{one} {found} Each entry went into one partition, in whose color it stands here: "
        "nothing is lost, and the network learns weights of its own for every part."
    )


def _meaning(name: str) -> str:
    kind, _, hop = name.partition(" ")
    if name == "hop 0":
        kind = "root"
    return _MEANINGS[kind].format(away=_bones(int(hop or 0)))


def _colors(names: tuple[str, ...]) -> list[str]:
    """A color a partition: the kind by hue, the hops by paleness."""
    colors = []
    for name in names:
        kind, _, hop = name.partition(" ")
        hue = SLATE if hop == "0" else _HUES.get(kind, SLATE)
        paleness = 0.65 * (1 - 1 / max(1, int(hop or 1)))
        colors.append(blend(hue, "#ffffff", paleness))
    return colors


def _towards(color: str) -> Colormap:
    dark = blend(color, "#000000", 0.35)
    return LinearSegmentedColormap.from_list("kinegraph_part", ["#ffffff", color, dark])


def _bones(number: int) -> str:
    return f"{number} bone" if number == 1 else f"{number} bones"


def _arrows(
    ax: Axes, layout: SkeletonLayout, links: NDArray[np.floating], colors: list[str]
) -> None:
    """The body in gray with each group of links in its color."""
    bones = [LIGHT_GRAY] * len(layout.bones)
    dots = list(joint_colors(layout))
    draw_skeleton(ax, layout, size=16, numbers=False, bone_widths=3.0, colors=(bones, dots))
    draw_arrows(ax, layout, links, colors)
    ax.margins(0.06)


def _shaded(
    ax: Axes, layout: SkeletonLayout, numbers: NDArray[np.integer], shades: Colormap
) -> None:
    """The body with a number in each joint, the darker the greater."""
    grounds = shades(0.12 + 0.88 * numbers / max(1, int(numbers.max())))
    bones: list[Any] = [LIGHT_GRAY] * len(layout.bones)
    pose = draw_skeleton(ax, layout, size=125, numbers=False, colors=(bones, list(grounds)))
    write_joint_numbers(ax, pose, list(numbers), [contrast_color(ground) for ground in grounds])
    ax.margins(0.06)


def _matrix(
    ax: Axes, layout: SkeletonLayout, values: NDArray[Any], shades: Colormap, strongest: float
) -> None:
    draw_matrix(ax, values.astype(float), shades, (0.0, strongest))
    _label(ax, layout, values)


def _mosaic(
    ax: Axes, layout: SkeletonLayout, parts: NDArray[np.float32], colors: list[str]
) -> None:
    """The sum, each entry in the color of the partition it came from."""
    total = parts.sum(axis=0)
    draw_matrix(ax, total, BLUE_CMAP, (0.0, 1.0))
    tiles = np.ones((*total.shape, 3))
    for part, color in zip(parts, colors, strict=True):
        tiles[part != 0] = to_rgb(color)
    ax.images[0].set_data(tiles)
    _label(ax, layout, total)


def _label(ax: Axes, layout: SkeletonLayout, values: NDArray[Any]) -> None:
    write_cell_values(ax, values.astype(float))
    label_matrix(ax, layout)


def _picture(layout: SkeletonLayout, title: str, steps: list[_Step]) -> Figure:
    """All bands below one another, placed by hand in inches."""
    labels = matrix_label_size(layout)
    side = float(np.clip(0.165 * layout.num_joints, 2.9, 5.6))
    band = max(_BAND, side + labels)
    width = _TEXT + _BODY + labels + side + 2 * _EDGE
    tall = _TOP + len(steps) * (band + _GAP)
    figure = Figure(figsize=(width, tall))
    figure.text(_EDGE / width, 1 - 0.2 / tall, title, fontsize=13, color=BLACK, va="top")
    for number, step in enumerate(steps, start=1):
        top = tall - _TOP - (number - 1) * (band + _GAP)
        _write(figure, number, step, top)
        space = (_EDGE + _TEXT, top - band, _BODY if step.matrix else width - _TEXT - 2 * _EDGE)
        step.body(_axes(figure, (*space, band)))
        if step.matrix:
            step.matrix(_axes(figure, (width - _EDGE - side, top - side, side, side)))
    return figure


def _axes(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    width, height = figure.get_size_inches()
    x, y, w, h = box
    return figure.add_axes((x / width, y / height, w / width, h / height))


def _write(figure: Figure, number: int, step: _Step, top: float) -> None:
    """The number, title and words of a step, under a thin line; ``top`` in inches."""
    width, height = figure.get_size_inches()
    x, y = _EDGE / width, (top + _GAP / 2) / height
    figure.add_artist(_rule(x, y))
    place: dict[str, Any] = {"va": "top"}
    title = textwrap.wrap(f"{number}  {step.title}", 34)
    figure.text(x, top / height, "\n".join(title), fontsize=11.5, color=BLACK, **place)
    top -= 0.2 * len(title) + 0.1
    lines = textwrap.wrap(step.words, _WRAP)
    words = "\n".join(lines)
    figure.text(x, top / height, words, fontsize=9, color=GRAY, linespacing=1.4, **place)
    top -= 0.178 * len(lines) + 0.12
    for name, color in step.legend:
        figure.text(x, top / height, "■", fontsize=9, color=color, **place)
        figure.text(x + 0.17 / width, top / height, name, fontsize=9, color=GRAY, **place)
        top -= 0.18


def _rule(x: float, y: float) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([x, 1 - x], [y, y], color=LIGHT_GRAY, linewidth=0.8)
