"""ST-GCN++ and PYSKL's ST-GCN against the released networks: answers, counts, invariances."""

from __future__ import annotations

import pytest
import torch

from kinegraph.errors import ModelError, UnknownNameError
from kinegraph.models import create_model
from kinegraph.models.published_weights import load_renamed
from kinegraph.skeleton.graph import adjacency
from models.permuted_joints import ORDER, permuted_layout, permuted_state
from models.reference_weights import (
    assert_answers,
    fill,
    published_keys,
    published_state,
    reference_input,
)

#: family, model, layout, names of learned graphs, first logits of clip 0
NETWORKS = {
    "stgcnpp": (
        "stgcnpp",
        r".*\.A",
        "",
        {
            "ntu25_pyskl": (-0.333090, 0.501694, -0.146976),
            "coco17": (-0.329972, 0.501227, -0.149921),
        },
    ),
    "stgcn_pyskl": (
        "stgcn",
        r".*\.PA",
        r".*\.A",
        {"ntu25_pyskl": (0.086298, -0.116010, -0.030993)},
    ),
}
RECORDED = {"stgcnpp": "stgcn++", "stgcn_pyskl": "stgcn_pyskl"}
CASES = {"ntu25_pyskl": "ntu60_3d", "coco17": "ntu60_hrnet"}


def filled(family: str, layout: str) -> torch.nn.Module:
    """The faithful network with the weights of the formula, in float64."""
    name, graph, keep, _ = NETWORKS[family]
    model = create_model(name, layout=layout, num_classes=60, faithful=True).double()
    state = fill(published_state(model, family), graph=graph, keep=keep)
    load_renamed(model, state, family)
    return model.eval()


@pytest.mark.parametrize("family", list(NETWORKS))
def test_first_logits_are_those_of_the_released_network(family):
    for layout, expected in NETWORKS[family][3].items():
        model = filled(family, layout)
        x = reference_input((1, 3, 32, model.layout.num_joints, 2))
        with torch.inference_mode():
            logits = model(x)[0, :3]
        torch.testing.assert_close(
            logits, torch.tensor(expected, dtype=logits.dtype), rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("layout", ["ntu25_pyskl", pytest.param("coco17", marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", list(NETWORKS))
def test_all_recorded_answers(family, layout):
    assert_answers(filled(family, layout), RECORDED[family], CASES[layout])


@pytest.mark.parametrize("family", list(NETWORKS))
def test_the_names_and_shapes_are_the_released_ones(family):
    model = create_model(NETWORKS[family][0], layout="ntu25_pyskl", num_classes=60, faithful=True)
    ours = {key: tuple(value.shape) for key, value in published_state(model, family).items()}
    assert ours == published_keys(f"{RECORDED[family]}_ntu60")


@pytest.mark.parametrize(
    ("layout", "classes", "parameters"),
    [("ntu25", 60, 1_403_144), ("ntu25", 120, 1_418_564), ("coco17", 60, 1_393_016)],
)
def test_parameter_counts_are_the_published_ones(layout, classes, parameters):
    model = create_model("stgcnpp", layout=layout, num_classes=classes)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_the_graphs_start_at_the_skeleton_and_are_learned():
    torch.manual_seed(0)
    model = create_model("stgcnpp", layout="ntu25", num_classes=5, channels=[8, 8], strides=[1, 1])
    A = torch.from_numpy(adjacency("ntu25", strategy="agcn"))
    model(torch.randn(2, 3, 8, 25, 1)).square().sum().backward()
    for block in model.blocks:
        torch.testing.assert_close(block.gcn.A.detach(), A)
        assert float(block.gcn.A.grad[:, A[0] == 0].abs().max()) > 0


@pytest.mark.parametrize("name", ["stgcnpp", "stgcn"])
def test_the_graph_may_have_other_bones_than_the_clips(name):
    options = {"channels": [8], "strides": [1], "faithful": True}
    made = create_model(name, layout="ntu25", num_classes=5, graph_layout="ntu25_pyskl", **options)
    own = create_model(name, layout="ntu25_pyskl", num_classes=5, **options)
    torch.testing.assert_close(made.blocks[0].gcn.A, own.blocks[0].gcn.A)
    assert made.layout.name == "ntu25"
    with pytest.raises(ModelError, match="does not have the joints of layout 'ntu25'"):
        create_model(name, layout="ntu25", num_classes=5, graph_layout="kinect20")


def test_the_remainder_of_the_channels_goes_to_the_first_branch():
    model = create_model("stgcnpp", layout="ntu25", num_classes=5)
    widths = {
        block.tcn.mix.in_channels: [b.reduce.out_channels for b in block.tcn.branches.branches[:5]]
        for block in model.blocks
    }
    assert widths == {64: [14] + [10] * 4, 128: [23] + [21] * 4, 256: [46] + [42] * 4}


def test_swapped_persons_give_the_same_logits():
    model = filled("stgcnpp", "ntu25_pyskl")
    x = reference_input((1, 3, 16, 25, 2))
    with torch.inference_mode():
        torch.testing.assert_close(model(x.flip(-1)), model(x))


def test_permuting_the_joints_changes_nothing():
    options = {"channels": [8, 12], "strides": [1, 2]}
    one = create_model("stgcnpp", layout="ntu25", num_classes=5, **options).train()
    x = torch.randn(3, 3, 12, 25, 2)
    one(x)
    two = create_model("stgcnpp", layout=permuted_layout(), num_classes=5, **options)
    two.load_state_dict(permuted_state(one.eval(), "gcn.A"))
    with torch.inference_mode():
        torch.testing.assert_close(two.eval()(x[:, :, :, ORDER]), one(x), rtol=1e-4, atol=1e-5)


def test_an_absent_person_counts_only_if_faithful():
    x = torch.randn(2, 3, 12, 25, 1)
    with_ghost = torch.cat([x, torch.zeros_like(x)], dim=-1)
    for faithful in (False, True):
        torch.manual_seed(0)
        model = create_model("stgcnpp", layout="ntu25", num_classes=5, faithful=faithful)
        model.train()(x)
        with torch.inference_mode():
            same = torch.allclose(model.eval()(with_ghost), model(x), atol=1e-5)
        assert same is not faithful


def test_the_name_of_the_paper_leads_to_the_model():
    with pytest.raises(UnknownNameError, match=r"'stgcn\+\+' .did you mean 'stgcnpp'"):
        create_model("stgcn++", layout="ntu25", num_classes=5)


def test_fewer_channels_than_branches_are_refused():
    with pytest.raises(ModelError, match="6 branches needs at least 6 channels, got 5"):
        create_model("stgcnpp", layout="ntu25", num_classes=5, channels=[5], strides=[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("backbone.gcn.0.gcn.A"), "lacks 'backbone.gcn.0.gcn.A'$"),
        (lambda s: s.update({"backbone.gcn.9.gcn.PA": torch.ones(1)}), "'backbone.gcn.9.gcn.PA'"),
        (lambda s: s.update({"cls_head.fc_cls.bias": torch.ones(3)}), r"fc_cls.bias' has shape"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused_by_its_own_names(change, message):
    model = create_model("stgcnpp", layout="coco17", num_classes=5, faithful=True)
    state = published_state(model, "stgcnpp")
    change(state)
    with pytest.raises(ModelError, match=message):
        load_renamed(model, state, "stgcnpp")
