"""Draw pictures of the documentation: ``python docs/pictures/draw.py [NAME ...]``.

They are computed from the synthetic data set of ``kinegraph demo``, so that no download is needed.
Two of them show a small network, which is trained first (some minutes) unless its run is in
``--folder`` already. ``--weights`` also draws the shifts of the published Shift-GCN.
The other pictures that pages show with their commands are drawn here by the same functions.
Not drawn here are ``asgcn_links.png``, by ``kinegraph draw run`` from a run of ``utd_mhad_asgcn``,
and ``compare.png``, by ``kinegraph compare`` from the runs of docs/excitation.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image

import kinegraph as kg
from kinegraph.clips.clip import Clip
from kinegraph.clips.splits import get_split_indices
from kinegraph.clips.store import ClipStore
from kinegraph.inference.trained_model import TrainedModel
from kinegraph.models.published_weights import load_shiftgcn
from kinegraph.models.skateformer import token_parts
from kinegraph.models.skateformer_layers import BLOCK_FRAMES
from kinegraph.readers import get_reader
from kinegraph.readers.convert import convert
from kinegraph.reports import panels, style
from kinegraph.reports.draw_graph_tutorial import draw_graph_tutorial, step_boxes
from kinegraph.reports.draw_shift import draw_layout_shifts
from kinegraph.reports.model_figures import clip_figures, model_figures
from kinegraph.reports.rest_pose import bone_colors, joint_colors, rest_pose
from kinegraph.skeleton import SkeletonLayout, hop_distance, hop_scales
from kinegraph.training.recipe import load_recipe
from kinegraph.training.train import train
from kinegraph.transforms.input_streams import to_stream

HERE = Path(__file__).parent
WIDTH = 8.0  # inches
GRAPH_STEPS = "graph_steps"  # nine pictures
PARTITIONS = (style.SLATE, style.GREEN, style.VIOLET)  # self, farther from the center, nearer to it
HIDDEN = "#fbe6d4"
FACTORS = LinearSegmentedColormap.from_list("factors", [style.BLUE, "#ffffff", style.ORANGE])

LAYER_COLORS = {
    "graph": ("graph convolution", style.GREEN),
    "frames": ("temporal layer", style.BLUE),
    "attention": ("attention to joints and frames", style.ORANGE),
}
LINE = style.LIGHT_GRAY

Floats = NDArray[np.floating]


class Demo:
    """The synthetic data set and small networks trained on it, cached in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "synthetic.arrow"

    def store(self) -> ClipStore:
        """Return the clips, as ``kinegraph demo`` converts them."""
        if not self.path.exists():
            convert(get_reader("synthetic"), self.folder / "raw", self.path)
        return ClipStore(self.path)

    def clip(self, action: str) -> Clip:
        """Return the first test clip of an action."""
        store = self.store()
        label = (store.classes or ()).index(action)
        test = get_split_indices(store, "xsub", "test")
        return store[int(next(i for i in test if store.labels[i] == label))]

    def run(self, name: str, recipe: str, *overrides: str) -> Path:
        """Return the run of this name; train it if it does not exist."""
        run, store = self.folder / name, self.store()
        if not run.exists():
            train(load_recipe(recipe, [f"store={store.path}", "protocol=xsub", *overrides]), run)
        return run


def stgcn(demo: Demo) -> Figure:
    """Draw a clip as a graph in space and time, and the partitions of every joint's neighbors."""
    clip, spacing = demo.clip("wave"), 0.95
    layout = clip.layout
    frames = panels.spaced_frames(clip.num_frames, 5)
    bodies = clip.joints[0, frames, :, :2] + [[[i * spacing, 0]] for i in range(len(frames))]
    joint, middle = layout.index("right_elbow"), len(frames) // 2
    figure = Figure(figsize=(WIDTH, 3.7))
    ax = figure.add_axes((0.01, 0.1, 0.68, 0.74))
    ax.axis("off")
    over_time = np.stack([bodies[:-1], bodies[1:]], axis=-2)
    ax.add_collection(
        LineCollection(over_time.reshape(-1, 2, 2), colors=style.LIGHT_GRAY, linewidths=0.6)
    )
    ax.plot(*bodies[:, joint].T, color=style.ORANGE, linewidth=1.8, zorder=2)
    gray = [style.GRAY] * len(layout.bones), [style.GRAY] * layout.num_joints
    for body in bodies:
        panels.draw_joints(ax, layout, body, gray, width=1.3, dot=7)
    _draw_neighbours(ax, layout, bodies[middle], joint)
    box = _box(bodies)
    panels.set_equal_limits(ax, box)
    for frame, body in zip(frames, bodies, strict=True):
        place: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 8, "color": style.GRAY}
        ax.text(np.nanmean(body[:, 0]), box[2] + 0.02, f"frame {frame}", **place)
    style.add_heading(
        ax, "graph of a clip", "bones within a frame, each joint linked to itself over time"
    )
    body_ax = figure.add_axes((0.7, 0.1, 0.29, 0.74))
    weights = kg.adjacency(layout, strategy="spatial")
    options: dict[str, Any] = {"size": 12, "margin": 0.05, "dots": [style.GRAY] * layout.num_joints}
    panels.draw_linked_skeleton(body_ax, layout, weights, PARTITIONS, **options)
    style.add_heading(body_ax, "partitions", "source to target; rings: self-links")
    words = [
        ("self", style.SLATE),
        ("from farther out", style.GREEN),
        ("from nearer the center", style.VIOLET),
    ]
    style.add_color_legend(figure, [*words, ("the same joint in other frames", style.ORANGE)])
    return figure


def _draw_neighbours(ax: Axes, layout: SkeletonLayout, body: Floats, joint: int) -> None:
    """Draw the neighbors of ``joint`` in one frame, in the colors of their partitions."""
    for part, color in zip(kg.adjacency(layout, strategy="spatial"), PARTITIONS, strict=True):
        for source in part[:, joint].nonzero()[0]:
            ax.plot(*body[[source, joint]].T, color=color, linewidth=3.2, zorder=4)
            ax.scatter(*body[source], s=38, color=color, zorder=5)


def fusion(demo: Demo) -> Figure:
    """Draw the four input streams of one frame: positions and vectors."""
    clip = demo.clip("throw")
    speed = np.nansum(np.linalg.norm(to_stream(clip, "joint_motion").joints[0], axis=-1), axis=-1)
    frame = int(speed.argmax())
    layout, body = clip.layout, clip.joints[0, frame, :, :2]
    notes = {
        "joint": "position of each joint",
        "bone": "from the parent to the joint",
        "joint_motion": "to the next frame",
        "bone_motion": "the change of the bone",
    }
    figure = Figure(figsize=(WIDTH, 3.3))
    pale = [style.LIGHT_GRAY] * len(layout.bones), [style.LIGHT_GRAY] * layout.num_joints
    for i, (name, note) in enumerate(notes.items()):
        ax = figure.add_axes((0.005 + 0.25 * i, 0.02, 0.24, 0.82), facecolor=style.OFF_WHITE)
        style.despine(ax, grid=None)
        ax.set(xticks=[], yticks=[])
        panels.set_equal_limits(ax, _box(body))
        panels.draw_joints(ax, layout, body, pale, width=2.5, dot=14)
        vectors = to_stream(clip, name).joints[0, frame, :, :2]
        if name == "joint":
            ax.scatter(*body.T, s=16, color=list(joint_colors(layout)), zorder=4)
        else:
            starts = body - vectors if name == "bone" else body
            _draw_vectors(ax, starts, vectors, list(joint_colors(layout)))
        style.add_heading(ax, name, note)
    return figure


def _draw_vectors(ax: Axes, starts: Floats, vectors: Floats, colors: list[str]) -> None:
    options: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": 1, "zorder": 4}
    seen = ~np.isnan(vectors).any(axis=-1) & (np.linalg.norm(vectors, axis=-1) > 0)
    drawn_colors = [color for color, there in zip(colors, seen, strict=True) if there]
    ax.quiver(*starts[seen].T, *vectors[seen].T, color=drawn_colors, width=0.012, **options)


def excitation(demo: Demo) -> Figure:
    """Draw the factors of ACTION-Net's three paths in a trained network, by frame of a clip."""
    block = "{kind: ste+ce+me, units: [2]}"
    model = "{name: shiftgcn, channels: [32, 32, 64, 64], strides: [1, 2, 1, 2], excitation: %s}"
    run = demo.run("excitation", "demo", f"model={model % block}", "train.epochs=8")
    loaded, clip = TrainedModel.load(run), demo.clip("kick")
    x = loaded.batch(clip).x
    gains = _gains(loaded.model, x)
    joints = x[0, :3, :, :, 0].permute(1, 2, 0).cpu().numpy()
    figure = Figure(figsize=(WIDTH, 6.0))
    _draw_frames(figure.add_axes((0.11, 0.815, 0.85, 0.165)), clip.layout, joints)
    layout, channels = clip.layout, [0, len(gains[1]) - 1]
    named = ("head", "left_hand", "right_hand", "left_foot", "right_foot")
    shown = [layout.index(joint) for joint in named]
    for row, (name, factors) in enumerate(zip(("STE", "CE", "ME"), gains, strict=True)):
        ax = figure.add_axes((0.11, 0.565 - 0.245 * row, 0.85, 0.175))
        what = "joints" if name == "STE" else "channels"
        _draw_factors(ax, factors, f"{name}: one row for each of {len(factors)} {what}")
        ticks = shown if name == "STE" else channels
        labels = [joint.replace("_", " ") for joint in named] if name == "STE" else channels
        ax.set_yticks(ticks, labels, fontsize=8)
        ax.set_xticks([])
    ax.set_xticks(range(0, len(joints), 5))
    ax.set_xlabel("frame", fontsize=8, color=style.GRAY)
    return figure


def _gains(model: Any, x: torch.Tensor) -> list[Floats]:
    """Return 1 + gain of STE (V, T), CE (C, T) and ME (C, T) in unit 2 for the first person."""
    seen: dict[str, torch.Tensor] = {}
    block = model.blocks[1].before
    hook = block.register_forward_pre_hook(lambda _, given: seen.update(x=given[0]))
    with torch.inference_mode():
        model(x)
        y = block.shift(seen["x"])[:1]
        ste, ce, me = (1 + path.gain(y)[0].cpu().numpy() for path in block.paths)
    hook.remove()
    return [ste[0].T, ce[..., 0], me[..., 0]]


def _draw_frames(ax: Axes, layout: SkeletonLayout, joints: Floats) -> None:
    """Draw bodies (T, V, 3) above their frames."""
    T = len(joints)
    frames = panels.spaced_frames(T, 8)
    high = np.nanmax(joints[..., 1]) - np.nanmin(joints[..., 1])
    width, tall = ax.get_window_extent().size
    unit = T * tall / width / (1.05 * high)  # frames a metre
    colors = list(bone_colors(layout)), list(joint_colors(layout))
    for frame in frames:
        body = joints[frame, :, :2] - [np.nanmean(joints[frame, :, 0]), np.nanmin(joints[..., 1])]
        for artist in panels.draw_joints(ax, layout, unit * body + [frame, 0], colors, width=1.4):
            artist.set_clip_on(False)
    ax.set(xlim=(-0.5, T - 0.5), ylim=(-0.03 * unit * high, 1.02 * unit * high))
    ax.axis("off")


def _draw_factors(ax: Axes, factors: Floats, title: str) -> None:
    """Draw factors (rows, frames), white where they are 1.5."""
    limit = float(np.abs(factors - 1.5).max())
    image: dict[str, Any] = {"aspect": "auto", "cmap": FACTORS, "interpolation": "none"}
    ax.imshow(factors, vmin=1.5 - limit, vmax=1.5 + limit, **image)
    style.despine(ax, grid=None, frame=True)
    style.add_heading(
        ax, title, f"{factors.min():.2f} to {factors.max():.2f}; white 1.5, orange more, blue less"
    )


def ctrgcn(demo: Demo) -> Figure:
    """Draw a learned topology of a small CTR-GCN, and what two of its channels make of it."""
    model = "{name: ctrgcn, channels: [32, 32, 64, 64], strides: [1, 2, 1, 2]}"
    run = demo.run("ctrgcn", "demo", f"model={model}", "train.epochs=6")
    loaded, clip = TrainedModel.load(run), demo.clip("kick")
    gcn: Any = loaded.model.get_submodule("blocks.2.gcn")
    seen: list[torch.Tensor] = []
    hook = gcn.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        loaded.model(loaded.batch(clip).x)
        refined = gcn.topologies(seen[0])[0, :, 0].transpose(1, 2).cpu().numpy()  # target, source
    hook.remove()
    shared = gcn.topology[0].detach().cpu().numpy()
    spread = [int(c) for c in np.argsort(np.abs(refined - shared).sum(axis=(1, 2)))]
    first = spread[-1]
    other = min(spread, key=lambda c: ((refined[c] - shared) * (refined[first] - shared)).sum())
    parts = [
        (shared, "shared by all channels", "the learned topology of subset 1"),
        (refined[first] - shared, f"refinement in channel {first}", "added for one clip"),
        (refined[other] - shared, f"refinement in channel {other}", "added for the same clip"),
    ]
    figure = Figure(figsize=(WIDTH, 3.1))
    for column, (matrix, title, note) in enumerate(parts):
        ax = figure.add_axes((0.05 + 0.325 * column, 0.06, 0.285, 0.735))
        limit = float(np.abs(matrix).max())
        ax.imshow(matrix, cmap=FACTORS, vmin=-limit, vmax=limit, interpolation="none")
        style.despine(ax, grid=None, frame=True)
        style.add_heading(ax, title, f"{note}; up to {limit:.2f}")
        ax.set(xticks=[], yticks=[])
        ax.set_xlabel("source joint", fontsize=8, color=style.GRAY)
        ax.set_ylabel("target joint" if not column else "", fontsize=8, color=style.GRAY)
    return figure


def autoencoder(demo: Demo) -> Figure:
    """Draw a clip with a quarter of its frames hidden, reconstructed by a small auto-encoder."""
    run = demo.run("autoencoder", "utd_mhad_autoencoder", "train.epochs=40")
    figure = clip_figures(run, demo.clip("kick").id)["Poses"]
    T, hidden = 32, 8  # of the recipe: clips of 32 frames, a quarter of them hidden
    begin, end = (T - hidden) // 2, (T + hidden) // 2
    *axes, curve = figure.axes
    frames = panels.spaced_frames(T, 6)
    for panel, frame in zip(axes, [*frames, *frames], strict=True):
        if begin <= frame < end:
            panel.set_facecolor(HIDDEN)
    curve.axvspan(begin - 0.5, end - 0.5, color=HIDDEN, zorder=0)
    curve.text(T / 2 - 0.5, 0, "hidden", ha="center", va="bottom", fontsize=8, color=style.GRAY)
    return figure


def agcn(demo: Demo) -> Figure:
    """Draw the graphs of a block of a small 2s-AGCN: skeleton, learned, and of three clips."""
    model = "{name: agcn, channels: [16, 32, 32], strides: [1, 2, 2]}"
    loaded = TrainedModel.load(demo.run("agcn", "demo", f"model={model}", "train.epochs=8"))
    gcn = loaded.model.get_submodule("blocks.2.gcn")
    graphs = {"A: skeleton": gcn.A.sum(dim=0), "B: learned": gcn.edges.detach().sum(dim=0)}
    seen: list[torch.Tensor] = []
    hook = gcn.register_forward_pre_hook(lambda _, given: seen.append(given[0][:1]))
    for action in ("wave", "kick"):
        with torch.inference_mode():
            loaded.model(loaded.batch(demo.clip(action)).x)
            graph = torch.softmax(gcn.similarity(seen[-1]), dim=2)[0].sum(dim=0)
        graphs[f"C: one {action}"] = graph - graph.mean()
    hook.remove()
    figure = Figure(figsize=(WIDTH, 2.5))
    for i, (title, graph) in enumerate(graphs.items()):
        ax = figure.add_axes((0.035 + 0.243 * i, 0.1, 0.225, 0.72))
        limit = float(graph.abs().max())
        ax.imshow(graph.cpu().numpy(), cmap=FACTORS, vmin=-limit, vmax=limit)
        ax.set_title(title, fontsize=9, color=style.GRAY)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.set_xlabel("target joint", fontsize=8, color=style.GRAY)
    figure.axes[0].set_ylabel("source joint", fontsize=8, color=style.GRAY)
    return figure


def shiftgcn_shifts(weights: Path) -> Figure:
    """Draw the temporal shifts of the published joint network of NTU 60, cross-subject."""
    model = kg.create_model("shiftgcn", layout="ntu25", num_classes=60, faithful=True)
    load_shiftgcn(model, torch.load(weights, weights_only=True))
    return model_figures(model)["Temporal shifts"]


def shiftgcn_channels(_: Demo) -> Figure:
    """Draw the spatial and temporal shifts of a skeleton of seven joints and 20 channels."""
    bones = ((0, 1), (2, 1), (3, 1), (4, 2), (5, 3), (6, 3))
    return draw_layout_shifts(SkeletonLayout("toy", tuple("abcdefg"), bones, center=1), 20)


def convolutions(_: Demo) -> Figure:
    """Draw the weights of convolutions over time: which inputs each output channel reads."""
    C, taps = 6, 3
    every = np.ones((C, taps, C), bool)
    own, middle = np.eye(C, dtype=bool)[:, None], np.array([False, True, False])[:, None]
    shifted = np.array([[2, 0, 1, 1, 2, 0][c] == np.arange(taps) for c in range(C)]).T
    rows: list[tuple[str, str, list[NDArray[np.bool_]]]] = [
        ("Convolution over three frames", "C x C' x 3 weights", [every]),
        ("Depth-wise convolution", "C x 3 weights; channels stay apart", [every & own]),
        ("Point-wise (1 x 1) convolution", "C x C' weights; frames stay apart", [every & middle]),
        (
            "Depth-wise separable convolution",
            "C x 3 + C x C' weights, one after the other",
            [every & own, every & middle],
        ),
        (
            "Shift, then point-wise convolution",
            "each channel is read from one frame: C x C' weights",
            [every & shifted],
        ),
    ]
    band, width = 1.25, 2.4
    figure = Figure(figsize=(WIDTH, band * len(rows) + 0.15))
    for place, (title, note, weights) in enumerate(rows):
        top = figure.get_figheight() - 0.15 - place * band
        count = " + ".join(str(int(w.sum())) for w in weights)
        style.write_inches(figure, 0.1, top - 0.35, title, fontsize=10, color=style.BLACK)
        style.write_inches(figure, 0.1, top - 0.57, note, fontsize=8, color=style.GRAY)
        counted = f"here C = C' = {C}: {count} weights"
        style.write_inches(figure, 0.1, top - 0.77, counted, fontsize=8, color=style.GRAY)
        for i, kernel in enumerate(weights):
            left = WIDTH - 0.15 - (width - 0.2) - (len(weights) - 1 - i) * width
            box = (left, top - 0.95, width - 0.2, 0.78)
            _draw_kernel(style.add_axes_inches(figure, box), kernel)
    return figure


def msg3d(_: Demo) -> Figure:
    """Draw which joints a scale of MS-G3D reads, by powers and by exact hops, and a window."""
    layout, scale = kg.get_layout("ntu25"), 4
    hop = hop_distance(layout)
    joint = layout.index("right_hand")
    linked = (hop <= 1) / (hop <= 1).sum(axis=0)
    power = np.linalg.matrix_power(linked, scale)[:, joint]
    exact = hop_scales(layout, scale + 1, normalization="column")[scale, :, joint]
    figure = Figure(figsize=(WIDTH, 3.0))
    titles = ("power 4", "every path of 4 steps"), ("scale 4", "4 bones away, and itself")
    for i, (weights, title) in enumerate(zip((power, exact), titles, strict=True)):
        ax = figure.add_axes((0.01 + 0.23 * i, 0.02, 0.22, 0.78))
        _draw_weights(ax, layout, rest_pose(layout)[:, :2], weights)
        style.add_heading(ax, *title)
    ax = figure.add_axes((0.48, 0.02, 0.51, 0.78))
    _draw_window(ax, layout, layout.index("right_elbow"))
    style.add_heading(ax, "a window of 3 frames", "links of a joint in the middle frame (scale 1)")
    return figure


def _draw_weights(ax: Axes, layout: SkeletonLayout, body: Floats, weights: Floats) -> None:
    """Draw joints with an area for the weight with which a joint reads each of them."""
    panels.draw_joints(
        ax, layout, body, ([style.LIGHT_GRAY] * len(layout.bones), [style.GRAY] * len(body)), dot=4
    )
    ax.scatter(
        *body.T,
        s=500 * weights,
        color=style.ORANGE,
        alpha=0.8,
        zorder=3,
        linewidths=0,
        clip_on=False,
    )
    ax.axis("off")
    panels.set_equal_limits(ax, _box(body))


def _draw_window(ax: Axes, layout: SkeletonLayout, joint: int) -> None:
    """Draw a body three times, and the nodes that a joint of the middle frame reads."""
    V, window = layout.num_joints, 3
    body = rest_pose(layout)[:, :2]
    places = np.arange(window) * 1.05 * np.ptp(body[:, 0])
    bodies = body + np.stack([places, np.zeros(window)], axis=1)[:, None]
    nodes = bodies.reshape(-1, 2)
    target = V * (window // 2) + joint
    sources = np.flatnonzero(hop_scales(layout, 2, window=window)[1, :, target])
    for body in bodies:
        gray = [style.LIGHT_GRAY] * len(layout.bones), [style.GRAY] * V
        panels.draw_joints(ax, layout, body, gray, dot=4)
    links = [(nodes[source], nodes[target]) for source in sources]
    ax.add_collection(LineCollection(links, colors=style.ORANGE, linewidths=1.2, zorder=3))
    ax.scatter(*nodes[sources].T, s=22, color=style.ORANGE, zorder=4, linewidths=0)
    ax.axis("off")
    panels.set_equal_limits(ax, _box(bodies))


def efficientgcn(_: Demo) -> Figure:
    """Draw the layers of EfficientGCN-B0 with their channels: three branches, then one stream."""
    model: Any = kg.create_model("efficientgcn", layout="ntu25", num_classes=60, in_channels=18)
    figure = Figure(figsize=(WIDTH, 3.1))
    ax = style.add_axes_inches(figure, (0.1, 0.3, WIDTH - 0.2, 2.4))
    ax.axis("off")
    names, height, right = ("position", "velocity", "bone angles"), 0.62, 0.0
    for row, (name, branch) in enumerate(zip(names, model.input_branches, strict=True)):
        y = 2.0 - row
        ax.text(0, y, f"{name}\n{branch.init_bn.num_features} channels", va="center", fontsize=8)
        stem = [("graph", branch.stem_scn.gcn), ("frames", branch.stem_scn.gcn)]
        right = _draw_layers(ax, 1.35, y, [*stem, *_list_layers(branch.blocks)], height)
    start = right + 0.75
    for y in (0.0, 1.0, 2.0):
        ax.annotate("", (start, 1.0), (right, y), arrowprops={"arrowstyle": "-", "color": LINE})
    end = _draw_layers(ax, start, 1.0, _list_layers(model.main_stream), height)
    classes = model.head.out_features
    ax.text(end + 0.1, 1.0, f"mean,\n{classes} classes", va="center", fontsize=8)
    ax.set_xlim(0, end + 1.0)
    ax.set_ylim(-0.4, 2.6)
    style.write_title(figure, "EfficientGCN-B0: layers and their channels")
    style.add_color_legend(figure, [(words, color) for words, color in LAYER_COLORS.values()])
    return figure


def _list_layers(blocks: Any) -> list[tuple[str, Any]]:
    """Return the kind of each layer of the blocks, and the graph convolution of its width."""
    kinds: list[tuple[str, Any]] = []
    for block in blocks:
        kinds += [("graph", block.scn.gcn), *[("frames", block.scn.gcn)] * len(block.tcn)]
        kinds.append(("attention", block.scn.gcn))
    return kinds


def _draw_layers(
    ax: Axes, x: float, y: float, layers: list[tuple[str, Any]], height: float
) -> float:
    """Draw a box for each layer with its number of channels; return the right end."""
    for kind, gcn in layers:
        _, color = LAYER_COLORS[kind]
        box = Rectangle((x, y - height / 2), 0.42, height, facecolor=color, edgecolor="white")
        ax.add_patch(box)
        channels = str(gcn.weight.shape[2])
        ax.text(x + 0.21, y, channels, ha="center", va="center", fontsize=8, color="white")
        x += 0.46
    return x


def _draw_kernel(ax: Axes, weights: NDArray[np.bool_]) -> None:
    """Draw weights (outputs, taps, inputs): one color per input channel, white where none is."""
    C, taps, _ = weights.shape
    colors = np.array([to_rgb(hue) for hue in style.HUES])[:C]
    tiles = np.where(weights.reshape(C, -1, 1), np.tile(colors, (taps, 1)), 1.0)
    ax.imshow(tiles, aspect="auto", interpolation="none")
    style.despine(ax, grid=None, frame=True)
    ax.set_xticks(np.arange(taps) * C + (C - 1) / 2, ["frame t - 1", "t", "t + 1"][:taps])
    ax.set_yticks([])
    ax.tick_params(labelsize=7)
    for edge in (C - 0.5, 2 * C - 0.5):
        ax.axvline(edge, color=style.GRAY, linewidth=0.7)


def stgcnpp(_: Demo) -> Figure:
    """Draw which frames the temporal branches of ST-GCN++ read, and where its graphs start."""
    model: Any = kg.create_model("stgcnpp", layout="ntu25_pyskl", num_classes=2)
    block = model.blocks[0]
    branches = block.tcn.branches.branches
    reach = 4
    names = [*(f"3 frames, {d} apart" for d in (1, 2, 3, 4)), "largest of 3 frames", "1 frame"]
    reads = np.stack([_frames_read(branch, reach) for branch in branches])
    figure = Figure(figsize=(WIDTH, 3.1))
    ax = figure.add_axes((0.2, 0.16, 0.26, 0.62))
    colors = np.array([to_rgb(hue) for hue in style.HUES])[: len(reads)]
    ax.imshow(np.where(reads[..., None], colors[:, None], 1.0), aspect="auto")
    style.despine(ax, grid=None, frame=True)
    widths = [branch.conv.out_channels for branch in (*branches[:4], branches[5])]
    widths.insert(4, branches[4].reduce.out_channels)
    ax.set_yticks(range(len(names)), [f"{n}: {w}" for n, w in zip(names, widths, strict=True)])
    ax.set_xticks(range(0, 2 * reach + 1, 2), [f"{f:+d}" if f else "t" for f in (-4, -2, 0, 2, 4)])
    ax.tick_params(labelsize=7)
    style.add_heading(ax, "temporal branches", "frames read, channels of 64")
    for i, (title, part) in enumerate(
        zip(("self", "parent", "children"), block.gcn.A, strict=True)
    ):
        panel = figure.add_axes((0.51 + 0.165 * i, 0.16, 0.15, 0.62))
        panel.imshow(part.detach().numpy(), cmap="Purples", vmin=0, vmax=1, aspect="auto")
        style.despine(panel, grid=None, frame=True)
        panel.set_xticks([0, 24])
        panel.set_yticks([0, 24] if i == 0 else [])
        panel.tick_params(labelsize=7)
        style.add_heading(panel, title, ("graph at the start", "source: row", "target: column")[i])
    return figure


def _frames_read(branch: torch.nn.Module, reach: int) -> NDArray[np.bool_]:
    """Return (2 reach + 1,): which frames before, at and after t a branch reads for frame t."""
    T = 2 * reach + 1
    read = np.zeros(T, bool)
    with torch.inference_mode():
        x = torch.randn(1, 64, T, 1)
        expected = branch.eval()(x)[0, :, reach]
        for t in range(T):
            changed = x.clone()
            changed[:, :, t] += 50 * torch.randn(x.shape[1], 1)
            read[t] = not torch.equal(branch(changed)[0, :, reach], expected)
    return read


def dgstgcn(demo: Demo) -> Figure:
    """Draw a graph of a small DG-STGCN and the parts that two clips add to it."""
    options = "model={name: dgstgcn, channels: [16, 16], strides: [2, 2]}"
    run = demo.run("dgstgcn", "demo", options, "train.epochs=8")
    trained = TrainedModel.load(run)
    gcn: Any = trained.model.blocks[1].gcn  # type: ignore[union-attr, index]
    seen: list[torch.Tensor] = []
    hook = gcn.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    actions = ("wave", "kick")
    with torch.inference_mode():
        for action in actions:
            trained.model(trained.batch(demo.clip(action)).x)
    hook.remove()
    k = int((gcn.alpha.abs() + gcn.beta.abs()).argmax())
    with torch.inference_mode():
        graphs = [gcn.graphs(x[:1].mean(2, keepdim=True))[0, k, 0] for x in seen]
    static = gcn.A[k].detach()
    limit = float(max(static.abs().max(), *((g - static).abs().max() for g in graphs)))
    parts = [("learned: A", "the same for every clip", static)]
    parts += [
        (f"added by “{action}”", "from the mean over its frames", graph - static)
        for action, graph in zip(actions, graphs, strict=True)
    ]
    figure = Figure(figsize=(WIDTH, 3.1))
    for i, (title, note, values) in enumerate(parts):
        ax = figure.add_axes((0.06 + 0.32 * i, 0.14, 0.27, 0.64))
        ax.imshow(values.numpy(), cmap=FACTORS, vmin=-limit, vmax=limit, aspect="auto")
        style.despine(ax, grid=None, frame=True)
        ax.tick_params(labelsize=7)
        ax.set_xlabel("target joint", fontsize=8)
        if i == 0:
            ax.set_ylabel("source joint", fontsize=8)
        style.add_heading(ax, title, note)
    return figure


def skateformer(_: Demo) -> Figure:
    """Draw a block of joints and a block of frames for the attentions of SkateFormer."""
    layout, frames = kg.get_layout("ntu25"), 64
    parts = np.array(token_parts(layout))
    body = rest_pose(layout)[:, :2]
    steps = np.arange(BLOCK_FRAMES)
    near, far = parts[:2].ravel(), parts[:, 0]
    follow, apart = 3 * BLOCK_FRAMES + steps, 3 + steps * (frames // BLOCK_FRAMES)
    joints = (
        ("attentions 1, 3", "two parts, side by side", near),
        ("attentions 2, 4", "one joint of each part", far),
    )
    times = ("attentions 1, 2", "frames that follow each other", follow), (
        "attentions 3, 4", "frames that lie T / 8 apart", apart,
    )  # fmt: skip
    figure = Figure(figsize=(WIDTH, 3.0))
    for i, (title, note, block) in enumerate(joints):
        weights = np.zeros(len(body))
        weights[block] = 0.06
        ax = figure.add_axes((0.01 + 0.23 * i, 0.02, 0.22, 0.78))
        _draw_weights(ax, layout, body, weights)
        style.add_heading(ax, title, note)
    for i, (title, note, block) in enumerate(times):
        ax = figure.add_axes((0.5, 0.57 - 0.42 * i, 0.48, 0.14))
        ax.bar(np.arange(frames), 1, width=0.8, color=style.LIGHT_GRAY)
        ax.bar(block, 1, width=0.8, color=style.ORANGE)
        style.despine(ax, grid=None)
        ax.set_yticks([])
        ax.set_xticks(range(0, frames, BLOCK_FRAMES))
        ax.tick_params(labelsize=7)
        style.add_heading(ax, title, note)
    return figure


def _box(points: Floats) -> tuple[float, float, float, float]:
    """Return left, right, bottom and top of points (..., 2), with a margin."""
    seen = points.reshape(-1, 2)
    (left, bottom), (right, top) = np.nanmin(seen, axis=0), np.nanmax(seen, axis=0)
    return left - 0.12, right + 0.12, bottom - 0.12, top + 0.12


PICTURES: dict[str, Callable[[Demo], Figure]] = {
    "stgcn": stgcn,
    "fusion": fusion,
    "excitation": excitation,
    "ctrgcn": ctrgcn,
    "autoencoder": autoencoder,
    "shiftgcn_channels": shiftgcn_channels,
    "convolutions": convolutions,
    "stgcnpp": stgcnpp,
    "dgstgcn": dgstgcn,
    "msg3d": msg3d,
    "agcn": agcn,
    "skateformer": skateformer,
    "efficientgcn": efficientgcn,
}


def main() -> None:
    """Draw the pictures named on the command line; by default all that need no download."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=", ".join([*PICTURES, GRAPH_STEPS]))
    parser.add_argument(
        "--folder", type=Path, default=Path("demo"), help="folder of the store and the runs"
    )
    parser.add_argument("--weights", type=Path, help="ntu_ShiftGCN_joint_xsub.pt")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the pictures")
    given = parser.parse_args()
    demo = Demo(given.folder)
    for name in given.names or [*PICTURES, GRAPH_STEPS]:
        if name == GRAPH_STEPS:
            _save_graph_steps(given.out)
        else:
            _save(PICTURES[name](demo), given.out / f"{name}.png")
    if given.weights:
        _save(shiftgcn_shifts(given.weights), given.out / "shiftgcn_shifts.png")


def _save_graph_steps(folder: Path) -> None:
    """Draw the graph of the figure skating data step by step, as the released code builds it."""
    figure = draw_graph_tutorial("body25", center_distance="truncated")
    for number, box in enumerate(step_boxes(figure), start=1):
        _save(figure, folder / f"graph_step_{number}.png", bbox_inches=box)


def _save(figure: Figure, path: Path, **options: Any) -> None:
    figure.savefig(path, dpi=120, **options)
    Image.open(path).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path)
    print(f"{path}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
