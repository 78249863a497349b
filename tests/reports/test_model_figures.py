"""The pictures of what a model learned: each family has its own."""

from __future__ import annotations

import pytest
import torch
from matplotlib.figure import Figure

from kinegraph.errors import FigureError
from kinegraph.models import MODELS, create_model
from kinegraph.models.ctrgcn import ChannelTopologyConv
from kinegraph.models.excitation_config import WIRINGS
from kinegraph.reports import model_figures as module
from kinegraph.reports.model_figures import (
    clip_figures,
    draw_spatial_shifts,
    model_figures,
    network_graph,
)
from kinegraph.skeleton import identify_adjacency
from kinegraph.training.recipe import parse_recipe
from kinegraph.training.train import train

SMALL = {"channels": [8, 16], "strides": [1, 2]}
EXPECTED = {
    "stgcn": {"Graph", "Edge importance"},
    "stgcn_twostream": {"Graph", "Edge importance"},
    "stgcn_autoencoder": {"Graph", "Edge importance"},
    "asgcn": {"Graph", "Edge importance"},
    "shiftgcn": {"Spatial shifts", "Temporal shifts", "Feature masks"},
    "efficientgcn": {"Graph", "Edge importance"},
    "agcn": {"Graph", "Free edges"},
    "msg3d": {"Graph", "Graph 2", "Graph 3", "Free edges"},
    **{name: {"Learned graphs"} for name in ("aagcn", "ctrgcn", "dgstgcn", "stgcnpp")},
    "skateformer": set(),
}


@pytest.fixture
def no_graph(monkeypatch):
    """Leave out the graph, which takes longest to draw and is checked elsewhere."""
    monkeypatch.setattr(module, "draw_network_graph", lambda layout, A: Figure())


@pytest.mark.parametrize("name", list(MODELS))
def test_every_family_is_drawn(name):
    torch.manual_seed(0)
    model = create_model(name, layout="jhmdb15", num_classes=3, in_channels=2, **SMALL)
    assert set(model_figures(model)) == EXPECTED[name]


@pytest.mark.usefixtures("no_graph")
def test_an_adaptive_network_has_a_picture_of_its_free_edges():
    model = create_model("stgcn", layout="jhmdb15", num_classes=3, adaptive=True, **SMALL)
    figures = model_figures(model)
    assert set(figures) == {"Graph", "Edge importance", "Free edges"}
    titles = [ax.get_title().split("\n")[0] for ax in figures["Free edges"].axes]
    assert titles == ["block 1", "block 2"]


def test_graphs_of_blocks_that_learn_them_are_drawn_together():
    model = create_model("stgcnpp", layout="jhmdb15", num_classes=3, **SMALL)
    with torch.no_grad():
        model.blocks[1].gcn.A[0, 2, 9] = 0.7
    (figure,) = model_figures(model).values()
    titles = [ax.get_title() for ax in figure.axes]
    assert [title.split("\n")[0] for title in titles] == ["block 1", "block 2"]
    with pytest.raises(FigureError, match="each block learns a graph of its own"):
        network_graph(model, "it")


@pytest.mark.parametrize("contraction", ["source", "target"])
def test_graphs_are_drawn_from_source_to_target(contraction):
    """Features at one joint reach only the targets of the edges that are drawn from it."""
    torch.manual_seed(0)
    A = torch.zeros(1, 4, 4)
    A[0, 0, 1] = A[0, 2, 3] = 1
    options = {"relation_channels": 2, "contraction": contraction}
    conv = ChannelTopologyConv(2, 2, A, **options).eval()
    conv.residual.forward = torch.zeros_like
    conv.bn.bias.data.fill_(1.0)  # no output is negative, so the ReLU hides nothing
    x = torch.zeros(1, 2, 1, 4)
    for joint in range(4):
        changed = conv(x.index_fill(3, torch.tensor([joint]), 1.0)) != conv(x)
        assert torch.equal(changed[0, :, 0].any(0), conv.graph_parts().learned[0, joint] != 0)


def test_a_network_without_learned_shifts_and_masks_has_no_pictures_of_them():
    options = {**SMALL, "temporal": "naive", "mask": False}
    model = create_model("shiftgcn", layout="jhmdb15", num_classes=3, **options)
    assert set(model_figures(model)) == {"Spatial shifts"}


@pytest.mark.usefixtures("no_graph")
def test_units_are_counted_from_one():
    model = create_model("shiftgcn", layout="jhmdb15", num_classes=3, **SMALL)
    texts = [t.get_text() for ax in model_figures(model)["Feature masks"].axes for t in ax.texts]
    assert any(text.startswith("unit 1 gcn") for text in texts)


@pytest.mark.parametrize(
    ("name", "options", "graph"),
    [
        ("stgcn", {"faithful": True}, ("spatial", 1, "truncated")),
        ("stgcn", {"max_hop": 2}, ("spatial", 2, "full")),
        ("stgcn", {"strategy": "distance"}, ("distance", 1, "full")),
        ("asgcn", {"faithful": True, "max_hop": 2}, ("spatial", 2, "truncated")),
        ("stgcn_twostream", {"strategy": "agcn"}, ("agcn", 1, "full")),
    ],
)
def test_the_graph_is_the_one_that_the_network_uses(name, options, graph):
    model = create_model(name, layout="ntu25", num_classes=3, **SMALL, **options)
    assert identify_adjacency(model.layout, network_graph(model, "run")) == graph


def test_a_network_without_a_single_graph_is_refused(monkeypatch):
    shift = create_model("shiftgcn", layout="jhmdb15", num_classes=3, **SMALL)
    with pytest.raises(FigureError, match="no graph convolution: see `kinegraph draw shift`"):
        network_graph(shift, "run")
    model = create_model("stgcn", layout="jhmdb15", num_classes=3, **SMALL)
    with pytest.raises(FigureError, match="spatial shifts"):
        draw_spatial_shifts(model, "run")
    model.blocks[1].gcn.A.mul_(2)
    with pytest.raises(FigureError, match="2 different graphs"):
        network_graph(model, "run")
    monkeypatch.setattr(module, "draw_network_graph", lambda layout, A: Figure())
    assert {"Graph", "Graph 2"} <= set(model_figures(model))


def shift_labels(**options):
    """The labels in the picture of the temporal shifts of two units."""
    sizes = {"channels": [16, 16], "strides": [1, 2], "mask": False}
    model = create_model("shiftgcn", layout="jhmdb15", num_classes=3, **sizes, **options)
    (ax,) = model_figures(model)["Temporal shifts"].axes
    return [label.get_text() for label in ax.get_yticklabels()]


@pytest.mark.usefixtures("no_graph")
@pytest.mark.parametrize("excitation", [None, *WIRINGS])
def test_every_shift_of_every_wiring_has_a_label_of_its_own(excitation):
    labels = shift_labels(excitation=excitation)
    assert len(set(labels)) == len(labels)
    assert not any("…" in label for label in labels)
    assert labels[:2] == ["1 in", "1 out"]
    assert ("2 out" in labels) == (excitation != "mta")
    assert ("2 branch out" in labels) == (excitation in ("me_parallel", "ce_parallel"))


def block_titles(name, **options):
    """The titles of the bodies in the picture of the edge importance."""
    model = create_model(name, layout="jhmdb15", num_classes=3, **SMALL, **options)
    return [ax.get_title() for ax in model_figures(model)["Edge importance"].axes]


@pytest.mark.usefixtures("no_graph")
def test_blocks_are_named_by_what_they_belong_to():
    assert block_titles("stgcn") == ["block 1", "block 2"]
    heads = [f"future head {i + 1}" for i in range(6)]
    assert block_titles("asgcn") == ["block 1", "block 2", *heads, "future head gcn"]
    both = ["encoder 1", "encoder 2", "decoder 1", "decoder 2"]
    assert block_titles("stgcn_autoencoder") == both
    ahead = [f"forecaster {i + 1}" for i in range(4)]
    assert block_titles("stgcn_autoencoder", future=2) == [*both, *ahead, "forecaster gcn"]
    streams = [f"{stream} stream {i}" for stream in ("clip", "motion") for i in (1, 2)]
    assert block_titles("stgcn_twostream") == streams


def test_the_links_and_poses_of_a_clip_are_drawn(tmp_path, tiny_store):
    recipe = {
        "name": "tiny",
        "store": str(tiny_store),
        "protocol": "odd-even-subjects",
        "transforms": [{"resize": {"frames": 12}}],
        "model": {"name": "asgcn", **SMALL, "link_frames": 6, "future": 3, "max_hop": 1},
        "objective": {"name": "recognition", "future_weight": 0.01},
        "train": {"epochs": 1, "batch_size": 4, "lr": 0.01},
    }
    run = train(parse_recipe(recipe, "tiny"), tmp_path / "run")
    poses = {"Poses, median error", "Poses, largest error"}
    assert set(clip_figures(run)) == {"Actional links", *poses}
    figures = clip_figures(run, "clip004")
    assert set(figures) == {"Actional links", "Poses"}
    texts = [text.get_text() for text in figures["Actional links"].texts]
    assert any("clip004: there" in text for text in texts), texts
