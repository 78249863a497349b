"""Figures of a model: its graph, learned weights, inferred links and predicted poses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from kinegraph.clips.clip import Clip
from kinegraph.clips.splits import split_by_protocol
from kinegraph.clips.store import ClipStore
from kinegraph.errors import FigureError
from kinegraph.inference.evaluate import select_clips
from kinegraph.inference.pose_errors import PoseErrors, PoseScorer
from kinegraph.inference.trained_model import TrainedModel
from kinegraph.models.asgcn import ASGCN
from kinegraph.models.layers import GraphParts
from kinegraph.models.shift_layers import SpatialShift, TemporalShift
from kinegraph.models.shiftgcn import ShiftGraphConv
from kinegraph.reports.draw_graph import draw_network_graph
from kinegraph.reports.draw_learned import (
    draw_edge_importance,
    draw_feature_masks,
    draw_free_edges,
    draw_links,
    draw_temporal_shifts,
)
from kinegraph.reports.draw_poses import draw_forecast, draw_reconstruction
from kinegraph.reports.draw_shift import Panel, draw_shifts

Figures = dict[str, Figure]

#: Names in figures for the parts of a model that have graph convolutions.
_PART_NAMES = {
    "blocks": "block",
    "forecast": "future head",
    "origin_stream": "clip stream",
    "motion_stream": "motion stream",
}


def model_figures(model: Any) -> Figures:
    """Return figures of the graph and of learned edges, shifts and masks, by title.

    The graph is the one that the network's convolutions hold, one figure for each if they differ;
    graphs that every block learns stand in one figure.
    """
    parts = _graph_parts(model)
    graphs = _fixed_graphs(parts)
    figures: Figures = {}
    for A in graphs:
        title = f"Graph {len(figures) + 1}" if figures else "Graph"
        figures[title] = draw_network_graph(model.layout, A)
    weighed = [
        (name, p.importance.numpy(force=True)) for name, p in parts if p.importance is not None
    ]
    if len({importance.shape for _, importance in weighed}) == 1:
        figures["Edge importance"] = draw_edge_importance(graphs[0], weighed, model.layout)
    free = [(name, p.free.numpy(force=True)) for name, p in parts if p.free is not None]
    figures |= {"Free edges": draw_free_edges(free, model.layout)} if free else {}
    learned = [(name, p.learned.numpy(force=True)) for name, p in parts if p.learned is not None]
    figures |= {"Learned graphs": draw_free_edges(learned, model.layout)} if learned else {}
    shifts = [
        (_shift_name(path), layer.shift.detach().numpy())
        for path, layer in _modules(model, TemporalShift)
        if layer.grad_mode is not None
    ]
    figures |= {"Temporal shifts": draw_temporal_shifts(shifts)} if shifts else {}
    V = model.layout.num_joints
    if sources := _spatial_shifts(model):
        figures["Spatial shifts"] = draw_shifts(model.layout, sources)
    masks = [
        (_mask_name(path), unit.mask.detach().numpy().reshape(V, -1))
        for path, unit in _modules(model, ShiftGraphConv)
        if unit.mask is not None
    ]
    figures |= {"Feature masks": draw_feature_masks(masks, model.layout)} if masks else {}
    return figures


def _spatial_shifts(model: Any) -> list[Panel]:
    """Return the source joints of the first spatial shift of each direction and width."""
    panels: dict[bytes, Panel] = {}
    for path, shift in _modules(model, SpatialShift):
        sources = shift.index.numpy(force=True).reshape(model.layout.num_joints, -1)
        joints = sources // sources.shape[1]
        note = f"{joints.shape[1]} channels, first used in {_mask_name(path[:-1])}"
        way = path[-1].removeprefix("shift_")
        panels.setdefault(sources.tobytes(), (f"Shift {way}", note, joints))
    return list(panels.values())


def network_graph(model: nn.Module, name: str) -> NDArray[np.floating]:
    """Return the adjacency (K, V, V) of a network; ``name`` is what messages call it.

    Raises:
        FigureError: the network has no graph convolution, or several of different graphs.
    """
    parts = _graph_parts(model)
    graphs = _fixed_graphs(parts)
    if not graphs and parts:
        raise FigureError(f"{name}: each block learns a graph of its own: see `kinegraph draw run`")
    if not graphs:
        hint = ": see `kinegraph draw shift`" if _modules(model, SpatialShift) else ""
        raise FigureError(f"{name}: the network has no graph convolution{hint}")
    if len(graphs) > 1:
        raise FigureError(
            f"{name}: the network has {len(graphs)} different graphs: see `kinegraph draw run`"
        )
    return graphs[0]


def draw_spatial_shifts(model: Any, name: str) -> Figure:
    """Draw from which joint each channel reads in the units of Shift-GCN.

    Raises:
        FigureError: the network has no spatial shift.
    """
    sources = _spatial_shifts(model)
    if not sources:
        raise FigureError(f"{name}: expected a network with spatial shifts, such as shiftgcn")
    return draw_shifts(model.layout, sources)


def _graph_parts(model: nn.Module) -> list[tuple[str, GraphParts]]:
    """Return the name and the graphs of each graph convolution, in order."""
    return [
        (_block_name(path.split(".")), module.graph_parts())
        for path, module in model.named_modules()
        if hasattr(module, "graph_parts")
    ]


def _fixed_graphs(parts: Sequence[tuple[str, GraphParts]]) -> list[NDArray[np.floating]]:
    """Return the different fixed adjacencies (K, V, V)."""
    graphs: list[NDArray[np.floating]] = []
    for _, part in parts:
        if part.fixed is None:
            continue
        A = part.fixed.numpy(force=True)
        if not any(np.array_equal(A, other) for other in graphs):
            graphs.append(A)
    return graphs


def clip_figures(run: Path, clip_id: str | None = None) -> Figures:
    """Return figures of inferred links and predicted poses in clips, by title.

    Args:
        run: the run's folder. The result is empty if the store of its recipe does not exist.
        clip_id: a clip of that store; by default test clips (all, if there are none): the first for
            links, those of the median and the largest error for poses.

    Raises:
        StoreError: the store has no such clip.
    """
    loaded = TrainedModel.load(run)
    if not Path(loaded.header.recipe["store"]).is_file():
        return {}
    recipe = loaded.header.recipe
    store = ClipStore(Path(recipe["store"]))
    has_test = len(split_by_protocol(store, recipe["protocol"])[1]) > 0
    _, indices = select_clips(loaded.header, store, split="test" if has_test else "all")
    if clip_id is not None:
        indices = np.array([store.find(clip_id)])
    figures = _link_figures(loaded, store[int(indices[0])])
    if loaded.objective.predicts_poses:
        figures |= _pose_figures(PoseScorer.load(run), store, indices)
    return figures


def _link_figures(loaded: TrainedModel, clip: Clip) -> Figures:
    model = loaded.model
    if not isinstance(model, ASGCN) or model.links is None:
        return {}
    batch = loaded.batch(clip)
    with torch.inference_mode():
        links = model.infer_links(batch.x, batch.lengths)
    V = model.layout.num_joints
    weights = np.zeros((links.probabilities.shape[-1] - 1, V, V), np.float32)
    senders, receivers = links.senders.cpu().numpy(), links.receivers.cpu().numpy()
    weights[:, senders, receivers] = links.probabilities[0, 0, :, 1:].float().cpu().numpy().T
    name = loaded.header.class_name(clip.label) if clip.label is not None else "unknown class"
    return {"Actional links": draw_links(weights, model.layout, f"{clip.id}: {name}")}


def _pose_figures(scorer: PoseScorer, store: ClipStore, indices: NDArray[np.int64]) -> Figures:
    """Draw the clips of the median and of the largest error."""
    errors = scorer.score_store(store, indices)
    scored = np.flatnonzero(~np.isnan(errors.error))
    if not len(scored):
        return {}
    order = scored[np.argsort(errors.error[scored])]
    shown = {"Poses, median error": order[len(order) // 2], "Poses, largest error": order[-1]}
    if len(order) == 1:
        shown = {"Poses": order[0]}
    return {
        title: _draw_poses(scorer, store, int(indices[place]), errors, int(place))
        for title, place in shown.items()
    }


def _draw_poses(
    scorer: PoseScorer, store: ClipStore, index: int, errors: PoseErrors, place: int
) -> Figure:
    clip = store[index]
    poses = scorer.predict_poses(scorer.batch(clip))
    space = scorer.pipeline(scorer.preprocessor.fit(clip)).space
    D = min(store.num_channels, 3)
    seen = poses.seen[0, :, :, 0].cpu().numpy()

    def visible(x: torch.Tensor) -> np.ndarray:
        joints = x[0, :D, :, :, 0].movedim(0, -1).float().cpu().numpy()
        return np.where(seen[..., None], joints, np.nan)

    title = f"{errors.ids[place]}: mean joint error {errors.error[place]:.3g}"
    true, predicted = visible(poses.true), visible(poses.predicted)
    if scorer.objective.reconstructs:
        return draw_reconstruction(true, predicted, scorer.layout, title=title, space=space)
    last = visible(poses.baseline)[0]
    return draw_forecast(last, true, predicted, scorer.layout, title=title, space=space)


def _modules(model: nn.Module, kind: type[nn.Module]) -> list[tuple[list[str], Any]]:
    """Return the parts of the path and the module, for all modules of a type in order."""
    modules = model.named_modules()
    return [(path.split("."), module) for path, module in modules if isinstance(module, kind)]


def _count(path: list[str]) -> str:
    """Return the number of the block in a path, counted from 1, or an empty text."""
    return next((str(int(word) + 1) for word in path if word.isdigit()), "")


def _block_name(path: list[str]) -> str:
    """Return ``block 4`` for ``blocks.3.gcn``, ``future head 1`` for ``forecast.blocks.0.gcn``."""
    part = _PART_NAMES.get(path[0], path[0].replace("_", " "))
    return " ".join([part, _count(path) or "".join(path[1:2])]).strip()


def _shift_name(path: list[str]) -> str:
    """Return ``4 in`` for ``blocks.3.tcn.shift_in``, ``4 branch in`` in a parallel branch."""
    branch = "branch" if "beside" in path else ""
    return " ".join(filter(None, [_count(path), branch, path[-1].removeprefix("shift_")]))


def _mask_name(path: list[str]) -> str:
    """Return ``unit 4 gcn`` for ``blocks.3.gcn``."""
    return " ".join(filter(None, ["unit", _count(path), path[-1]]))
