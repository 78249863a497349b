"""Graphs of skeleton layouts: hop distances, and adjacency matrices in partitions.

Everywhere ``A[k, v, w]`` is the weight with which source joint v contributes to target joint w
in partition k: ``y[n,c,t,w] = sum over k, v of (W_k x)[n,c,t,v] A[k,v,w]``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from kinegraph.errors import ModelError, unknown_name
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout

Strategy = Literal["uniform", "distance", "spatial", "agcn"]
Normalization = Literal["column", "symmetric"]
CenterDistance = Literal["full", "truncated"]
Layout: TypeAlias = str | SkeletonLayout

#: The hop distance of joints that are not connected, or farther apart than max_hop.
UNREACHABLE = np.iinfo(np.int64).max


def hop_distance(layout: Layout) -> NDArray[np.int64]:
    """Return (V, V): the number of bones on the shortest path between two joints."""
    layout = get_layout(layout)
    linked = np.zeros((layout.num_joints, layout.num_joints), dtype=bool)
    for child, parent in layout.bones:
        linked[child, parent] = linked[parent, child] = True
    hop = np.full(linked.shape, UNREACHABLE)
    frontier, distance = np.eye(len(linked), dtype=bool), 0
    while frontier.any():
        hop[frontier] = distance
        frontier, distance = (frontier @ linked) & (hop == UNREACHABLE), distance + 1
    return hop


def normalized_adjacency(
    layout: Layout,
    *,
    max_hop: int = 1,
    dilation: int = 1,
    normalization: Normalization = "column",
) -> NDArray[np.float32]:
    """Return the normalized adjacency (V, V), before it is divided into partitions.

    Two joints are neighbors if their hop distance is one of 0, dilation, 2 dilation, ...,
    max_hop. "column" is ``A D^-1``, so that every target averages its sources (the released
    ST-GCN code); "symmetric" is ``D^-1/2 A D^-1/2`` (the formula of the ST-GCN paper, eq. 9).

    Returns:
        (V, V); with "column", every column sums to 1.

    Raises:
        UnknownNameError: an unknown layout or normalization.
        ModelError: max_hop or dilation is out of range.
    """
    layout = get_layout(layout)
    hop = hop_distance(layout)
    return _normalize_degrees(np.isin(hop, _list_hops(layout, max_hop, dilation)), normalization)


def adjacency(
    layout: Layout,
    *,
    strategy: Strategy = "spatial",
    max_hop: int = 1,
    dilation: int = 1,
    normalization: Normalization = "column",
    center_distance: CenterDistance = "full",
) -> NDArray[np.float32]:
    """Return the normalized adjacency of a layout in K partitions.

    Strategies (ST-GCN, Yan et al. 2018, section 3.3):

    - "uniform", K=1: all neighbors alike.
    - "distance", one partition per hop: the joint itself, its neighbors, ...
    - "spatial", K=1+2*max_hop: the joint itself ("root"); then for each hop the neighbors as
      far from the center as the target or farther ("close"), and those nearer to it
      ("further"). These are the names of the released code, which names the target; the
      paper names the source, so the sources in "close" are the farther ones. Names and order
      are kept because published weights depend on the order.
    - "agcn", K=3: see `directed_adjacency`; one hop, column-normalized only.

    The partitions of the first three sum to `normalized_adjacency` exactly: each of its entries
    is in one partition.

    Args:
        layout: a name or a layout.
        strategy: how neighbors are divided into partitions.
        max_hop: bones between a joint and its farthest neighbors.
        dilation: only hops that are multiples of this count.
        normalization: "column" or "symmetric", see `normalized_adjacency`.
        center_distance: for "spatial", whether the distance to the center is "full", or
            "truncated" at max_hop as in the released code, where all joints beyond max_hop
            count as equally far and most bones end up in "close". Weights of ST-GCN, AS-GCN and
            PaddleVideo were trained with "truncated". Other strategies ignore it.

    Returns:
        (K, V, V) float32, indexed partition, source, target.

    Raises:
        UnknownNameError: an unknown layout, strategy, normalization or center_distance.
        ModelError: max_hop or dilation is out of range, or not supported by the strategy.
    """
    layout = get_layout(layout)
    _check_name("center distance", center_distance, get_args(CenterDistance))
    hops = _list_hops(layout, max_hop, dilation)
    partition_names(strategy, max_hop=max_hop, dilation=dilation)
    if strategy == "agcn":
        _check_name("normalization", normalization, get_args(Normalization))
        if normalization != "column":
            raise ModelError(f"strategy 'agcn' is column-normalized, got {normalization!r}")
        return directed_adjacency(layout)
    hop = hop_distance(layout)
    weights = _normalize_degrees(np.isin(hop, hops), normalization)
    if strategy == "uniform":
        return weights[None]
    masks = [hop == distance for distance in hops]
    if strategy == "spatial":
        radius = hop[layout.center]
        if center_distance == "truncated":
            radius = np.where(radius > max_hop, UNREACHABLE, radius)
        nearer = radius[:, None] < radius[None, :]
        masks[1:] = [part for mask in masks[1:] for part in (mask & ~nearer, mask & nearer)]
    return np.stack([np.where(mask, weights, np.float32(0)) for mask in masks])


def directed_adjacency(layout: Layout) -> NDArray[np.float32]:
    """Return the partitions of 2s-AGCN, Shift-GCN and CTR-GCN: self, inward, outward.

    With In[parent, child] = 1 and Out its transpose they are [I, In D^-1, Out D^-1], each
    normalized by its own column sums; a column without entries stays zero. The parent of a bone
    is the end nearer to the center, or the one listed second if both are equally near (a bone
    across the middle, as from hip to hip, then breaks the mirror symmetry).

    Returns:
        (3, V, V) float32, indexed partition, source, target.

    Raises:
        UnknownNameError: an unknown layout.
    """
    layout = get_layout(layout)
    radius = hop_distance(layout)[layout.center]
    inward = np.zeros((layout.num_joints, layout.num_joints), dtype=bool)
    for child, parent in layout.bones:
        if radius[child] < radius[parent]:
            child, parent = parent, child
        inward[parent, child] = True
    self_link = np.eye(layout.num_joints, dtype=bool)
    return np.stack([_normalize_degrees(part, "column") for part in (self_link, inward, inward.T)])


def hop_scales(
    layout: Layout,
    scales: int,
    *,
    window: int = 1,
    normalization: Normalization = "symmetric",
) -> NDArray[np.float32]:
    """Return the disentangled scales of MS-G3D: one adjacency for every exact hop distance.

    Scale k links joints that are exactly k bones apart, and every joint with itself, so that far
    joints do not count less than near ones (Liu et al. 2020, equation 6). Scales beyond the longest
    path of the skeleton hold the links to itself only.

    In a window of frames the nodes are frame * V + joint. Joints k bones apart are k hops apart in
    any two of its frames, and a joint is one hop away from itself in another frame (equation 8).

    Args:
        layout: a name or a layout.
        scales: K; the hops are 0 to K - 1.
        window: frames.
        normalization: "symmetric" as in the paper, or "column".

    Returns:
        (K, window * V, window * V) float32, indexed scale, source, target.

    Raises:
        UnknownNameError: an unknown layout or normalization.
        ModelError: fewer than one scale or frame.
    """
    if scales < 1 or window < 1:
        raise ModelError(
            f"expected at least one scale and one frame, got scales={scales}, window={window}"
        )
    hop = hop_distance(layout)
    nodes = np.tile(np.maximum(hop, 1 - hop), (window, window)) if window > 1 else hop
    itself = np.eye(len(nodes), dtype=bool)
    return np.stack(
        [_normalize_degrees((nodes == k) | itself, normalization) for k in range(scales)]
    )


def partition_names(
    strategy: Strategy = "spatial", *, max_hop: int = 1, dilation: int = 1
) -> tuple[str, ...]:
    """Return the names of the K partitions of `adjacency`, in order.

    Raises:
        UnknownNameError: an unknown strategy.
        ModelError: max_hop or dilation below 1, or more than one hop for "agcn".
    """
    _check_name("partition strategy", strategy, get_args(Strategy))
    _check_hops(max_hop, dilation)
    hops = range(dilation, max_hop + 1, dilation)
    if strategy == "uniform":
        return ("all",)
    if strategy == "distance":
        return ("hop 0", *(f"hop {hop}" for hop in hops))
    if strategy == "spatial":
        return ("root", *(f"{side} {hop}" for hop in hops for side in ("close", "further")))
    if (max_hop, dilation) != (1, 1):
        raise ModelError(
            "strategy 'agcn' supports one hop only: expected max_hop=1 and dilation=1, "
            f"got max_hop={max_hop} and dilation={dilation}"
        )
    return ("self", "inward", "outward")


class GraphOptions(NamedTuple):
    """Options of `adjacency`, as a picture or a table states them."""

    strategy: Strategy
    max_hop: int
    center_distance: CenterDistance


def identify_adjacency(layout: Layout, A: NDArray[np.floating]) -> GraphOptions | None:
    """Return the options with which `adjacency` gives ``A`` (K, V, V), or None if none does.

    Where the truncated and the full distance give the same matrix, the answer is "full".

    Raises:
        UnknownNameError: an unknown layout.
    """
    layout = get_layout(layout)
    hop = hop_distance(layout)
    if A.ndim != 3 or A.shape[1:] != hop.shape:
        return None
    max_hop = int(hop[A.any(axis=0)].max(initial=1))
    for strategy in get_args(Strategy):
        for center_distance in get_args(CenterDistance):
            options = GraphOptions(strategy, max_hop, center_distance)
            if strategy == "agcn" and max_hop > 1:
                continue
            if np.array_equal(adjacency(layout, **options._asdict()), A):
                return options
    return None


def _check_name(kind: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise unknown_name(kind, str(name), known)


def _check_hops(max_hop: int, dilation: int) -> None:
    for key, hops in (("max_hop", max_hop), ("dilation", dilation)):
        if isinstance(hops, bool) or not isinstance(hops, int | np.integer) or hops < 1:
            raise ModelError(f"{key}: expected a whole number of bones, 1 or more, got {hops!r}")


def _list_hops(layout: SkeletonLayout, max_hop: int, dilation: int) -> list[int]:
    _check_hops(max_hop, dilation)
    farthest = max(1, layout.num_joints - 1)
    if max_hop > farthest:
        raise ModelError(
            f"max_hop: no two of the {layout.num_joints} joints of layout {layout.name!r} can be "
            f"{max_hop} bones apart; expected at most {farthest}"
        )
    return list(range(0, max_hop + 1, dilation))


def _normalize_degrees(neighbors: NDArray[np.bool_], normalization: str) -> NDArray[np.float32]:
    """Normalize a 0/1 adjacency; columns (and rows) without neighbors stay zero."""
    _check_name("normalization", normalization, get_args(Normalization))
    degree = np.maximum(neighbors.sum(axis=0), 1).astype(np.float64)
    if normalization == "column":
        return (neighbors / degree).astype(np.float32)
    root = np.sqrt(degree)
    return (neighbors / root[:, None] / root).astype(np.float32)
