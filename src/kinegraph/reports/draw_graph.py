"""Figures of a layout's graph: its joints by name, hop distances, adjacency and partitions."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

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

_SKELETON = 5.6  # inches
_MATRIX = 2.1


def draw_graph(
    layout: SkeletonLayout | str,
    *,
    strategy: Strategy = "spatial",
    max_hop: int = 1,
    center_distance: CenterDistance = "full",
) -> Figure:
    """Draw a layout and its matrices: hop distances, normalized adjacency, each partition.

    The arguments are those of `kinegraph.skeleton.adjacency`. A line below the matrices states
    whether the partitions sum to the normalized adjacency, computed from them.

    Raises:
        UnknownNameError, ModelError: as `kinegraph.skeleton.adjacency`.
    """
    layout = get_layout(layout)
    parts = adjacency(layout, strategy=strategy, max_hop=max_hop, center_distance=center_distance)
    whole = normalized_adjacency(layout, max_hop=max_hop)
    names = ("normalized adjacency", *partition_names(strategy, max_hop=max_hop))
    columns = max(2, math.ceil(math.sqrt(1.3 * (len(parts) + 2))))
    rows = math.ceil((len(parts) + 2) / columns)
    height = max(6.2, rows * (_MATRIX + 0.5) + 1.1)
    figure = Figure(figsize=(_SKELETON + columns * _MATRIX, height))
    body = style.add_axes_inches(figure, (0, 0.02 * height, _SKELETON, 0.9 * height))
    panels.draw_labeled_skeleton(body, layout)
    counts = f"{layout.num_joints} joints, {len(layout.bones)} bones"
    center = style.plot_label(layout.joints[layout.center])
    style.write_title(
        figure, f"{style.plot_label(layout.name)} · {counts} · center: {center}", y=0.12
    )
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    left, low = (_SKELETON + 0.25) / figure.get_figwidth(), 0.75 / height
    right = 1 - 0.15 / figure.get_figwidth()
    figure.subplots_adjust(left, low, right, 1 - low, wspace=0.16, hspace=0.38)
    for ax in axes[len(parts) + 2 :]:
        ax.remove()
    hops = hop_distance(layout)
    panels.draw_matrix(axes[0], hops.astype(float), style.ORANGE_CMAP, float(max(1, hops.max())))
    style.add_heading(axes[0], "hop distance", f"0 to {hops.max()} bones")
    strongest = float(max(whole.max(), parts.max()))
    for ax, weights, name in zip(axes[1:], (whole, *parts), names, strict=False):
        panels.draw_matrix(ax, weights, style.BLUE_CMAP, strongest)
        style.add_heading(ax, name, f"{np.count_nonzero(weights)} non-zero")
    sums = bool(np.array_equal(parts.sum(axis=0), whole))
    why = " (agcn normalizes each partition separately)" if strategy == "agcn" else ""
    sentence = f"partitions sum to the normalized adjacency: {sums}{why}"
    scale = f"row: source joint, column: target joint; white is 0, darkest blue is {strongest:.2g}"
    style.write_inches(figure, _SKELETON + 0.25, 0.38, sentence, fontsize=9.5, color=style.BLACK)
    style.write_inches(figure, _SKELETON + 0.25, 0.17, scale, fontsize=8, color=style.GRAY)
    return figure
