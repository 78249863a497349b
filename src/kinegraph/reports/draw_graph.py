"""Figures of a layout's graph: its joints by name, hop distances, adjacency and partitions."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kinegraph.reports import panels, style
from kinegraph.skeleton import (
    GraphOptions,
    SkeletonLayout,
    adjacency,
    get_layout,
    hop_distance,
    identify_adjacency,
    normalized_adjacency,
    partition_names,
)
from kinegraph.skeleton.graph import CenterDistance, Strategy

_SKELETON = 5.6  # inches
_WIDE_SKELETON = 9.0  # of layouts with hands and a face
_MANY_JOINTS = 60  # from which a skeleton is wide, and as high as its columns of names need
_MATRIX = 2.1


def draw_graph(
    layout: SkeletonLayout | str,
    *,
    strategy: Strategy = "spatial",
    max_hop: int = 1,
    center_distance: CenterDistance = "full",
) -> Figure:
    """Draw a layout and its matrices: hop distances, normalized adjacency, each partition.

    The arguments are those of `kinegraph.skeleton.adjacency`. Lines below the matrices state the
    options, and whether the partitions sum to the normalized adjacency, computed from them.

    Raises:
        UnknownNameError, ModelError: as `kinegraph.skeleton.adjacency`.
    """
    layout = get_layout(layout)
    options = GraphOptions(strategy, max_hop, center_distance)
    return _draw(layout, adjacency(layout, **options._asdict()), options)


def draw_network_graph(layout: SkeletonLayout, A: NDArray[np.floating]) -> Figure:
    """Draw a layout and the adjacency that a network uses, as `draw_graph` does.

    The partitions are named if ``A`` (K, V, V) is a graph of `kinegraph.skeleton.adjacency`, and
    numbered if it is not.
    """
    return _draw(layout, A, identify_adjacency(layout, A))


def _draw(
    layout: SkeletonLayout, parts: NDArray[np.floating], options: GraphOptions | None
) -> Figure:
    if options is None:
        whole = parts.sum(axis=0)
        names = ["sum", *(f"partition {number}" for number in range(1, len(parts) + 1))]
        sentence = "not a graph of `kinegraph draw graph`: the partitions are numbered"
    else:
        strategy, max_hop, _ = options
        whole = normalized_adjacency(layout, max_hop=max_hop)
        names = ["normalized adjacency", *partition_names(strategy, max_hop=max_hop)]
        sums = bool(np.array_equal(parts.sum(axis=0), whole))
        why = " (agcn normalizes each partition separately)" if strategy == "agcn" else ""
        sentence = f"partitions sum to the normalized adjacency: {sums}{why}"
    columns = max(2, math.ceil(math.sqrt(1.3 * (len(parts) + 2))))
    rows = math.ceil((len(parts) + 2) / columns)
    wide = layout.num_joints > _MANY_JOINTS
    skeleton = _WIDE_SKELETON if wide else _SKELETON
    height = max(6.2, rows * (_MATRIX + 0.5) + 1.1, 0.105 * layout.num_joints * wide)
    figure = Figure(figsize=(skeleton + columns * _MATRIX, height))
    body = style.add_axes_inches(figure, (0, 0.02 * height, skeleton, 0.9 * height))
    panels.draw_labeled_skeleton(body, layout)
    counts = f"{layout.num_joints} joints, {len(layout.bones)} bones"
    center = style.plot_label(layout.joints[layout.center])
    style.write_title(
        figure, f"{style.plot_label(layout.name)} · {counts} · center: {center}", y=0.12
    )
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    width = figure.get_figwidth()
    left, right = (skeleton + 0.25) / width, 1 - 0.15 / width
    low, high = 0.95 / height, 1 - 0.75 / height
    figure.subplots_adjust(left, low, right, high, wspace=0.16, hspace=0.38)
    for ax in axes[len(parts) + 2 :]:
        ax.remove()
    hops = hop_distance(layout)
    panels.draw_matrix(axes[0], hops.astype(float), style.ORANGE_CMAP, float(max(1, hops.max())))
    style.add_heading(axes[0], "hop distance", f"0 to {hops.max()} bones")
    strongest = float(max(whole.max(), parts.max()))
    for ax, weights, name in zip(axes[1:], (whole, *parts), names, strict=False):
        panels.draw_matrix(ax, weights, style.BLUE_CMAP, strongest)
        style.add_heading(ax, name, f"{np.count_nonzero(weights)} non-zero")
    scale = f"row: source joint, column: target joint; white is 0, darkest blue is {strongest:.2g}"
    described = describe_graph(len(parts), options)
    for y, text, color in (
        (0.59, described, style.BLACK),
        (0.38, sentence, style.BLACK),
        (0.17, scale, style.GRAY),
    ):
        style.write_inches(figure, skeleton + 0.25, y, text, fontsize=9, color=color)
    return figure


def describe_graph(partitions: int, options: GraphOptions | None) -> str:
    """Return the number of partitions and the options of a graph in words."""
    groups = f"K = {partitions} partition{'' if partitions == 1 else 's'}"
    if options is None:
        return groups
    strategy, max_hop, center_distance = options
    reach = f"neighbors up to {max_hop} bone{'' if max_hop == 1 else 's'} away"
    text = f"{groups}: {strategy}, {reach}"
    if strategy != "spatial":
        return text
    if center_distance == "full":
        return f"{text}, full distances to the center"
    return f"{text}, distances to the center truncated at {max_hop}"
