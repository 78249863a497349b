"""EfficientGCN: the released network's answers and counts, and what it does not depend on."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from kinegraph.errors import ModelError
from kinegraph.models import create_model
from kinegraph.models.efficientgcn import (
    BASE_BRANCH,
    BASE_MAIN,
    EfficientGCN,
    distance_adjacency,
    scale_blocks,
)
from kinegraph.models.layers import GraphConv
from kinegraph.models.published_weights import load_renamed
from kinegraph.skeleton.layouts import get_layout
from models.reference_weights import (
    fill,
    published_keys,
    published_state,
    reference_answer,
    reference_input,
)

SCALES, VARIANTS = ("B0", "B1", "B2", "B3", "B4"), ("sg", "sep")
PARAMETERS = {
    "sg": (306_201, 410_337, 534_465, 754_601, 1_119_945),
    "sep": (345_333, 518_877, 814_401, 1_146_845, 2_055_585),
}
FIRST_LOGITS = {
    "sg": [-0.101282, -0.215226, -0.026189],
    "sep": [-0.047019, -0.089495, 0.044926],
}
NAMES = {"sg": "SG", "sep": "Sep"}


def published(scale: str, variant: str, **options) -> EfficientGCN:
    """Return the released network of NTU RGB+D 60."""
    options = {"in_channels": 18, "scale": scale, "variant": variant, "faithful": True, **options}
    return create_model("efficientgcn", layout="ntu25", num_classes=60, **options)


def filled(scale: str, variant: str) -> EfficientGCN:
    """Return the released network in float64, its weights by formula, in evaluation mode."""
    model = published(scale, variant)
    state = fill(published_state(model, "efficientgcn"), graph=r".*\.edge", keep=r".*\.A")
    model = model.double()
    load_renamed(model, state, "efficientgcn")
    return model.eval()


@pytest.fixture(scope="module")
def sg():
    return filled("B0", "sg")


CASES = [
    pytest.param(scale, variant, marks=[] if scale == "B0" else pytest.mark.slow)
    for scale in SCALES
    for variant in VARIANTS
]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_first_logits_are_those_of_the_released_network(variant):
    with torch.inference_mode():
        logits = filled("B0", variant)(reference_input((1, 18, 32, 25, 2)))
    expected = torch.tensor(FIRST_LOGITS[variant], dtype=torch.float64)
    torch.testing.assert_close(logits[0, :3], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("scale", "variant"), CASES)
def test_logits_loss_and_gradients_are_those_of_the_released_network(scale, variant):
    answer = reference_answer("efficientgcn", f"EfficientGCN-{scale}-{NAMES[variant]}")
    model, x = filled(scale, variant), reference_input((2, 18, 32, 25, 2)).requires_grad_()
    logits = model(x)
    loss = cross_entropy(logits, torch.tensor([0, 1]))
    loss.backward()
    expected = torch.tensor(answer["logits"], dtype=torch.float64)
    largest = float(expected.abs().max())
    torch.testing.assert_close(logits.detach(), expected, rtol=0, atol=1e-7 * largest)
    assert float(loss.detach()) == pytest.approx(answer["loss"], rel=1e-7)
    norm = sum(float(p.grad.square().sum()) for p in model.parameters()) ** 0.5
    assert norm == pytest.approx(answer["grad_norm_params"], rel=1e-6)
    assert float(x.grad.norm()) == pytest.approx(answer["grad_norm_input"], rel=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("scale", ["B0", "B4"])
def test_tensors_are_those_of_the_released_network(scale, variant):
    keys = published_keys(f"effgcn_{scale.lower()}_{variant}")
    state = published_state(published(scale, variant), "efficientgcn")
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    head = "classifier.fc.weight"
    assert {**shapes, head: (*shapes[head], 1, 1, 1)} == keys


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("scale", "number"), list(zip(SCALES, range(5), strict=True)))
def test_parameter_counts_are_the_published_ones(scale, number, variant):
    model = published(scale, variant)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[variant][number]
    model.reset_classifier(120)
    more = 60 * (model.num_features + 1)
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[variant][number] + more


def test_the_scales_round_halves_to_even():
    assert scale_blocks(BASE_BRANCH, "B0") == ([48, 32], [0, 0])
    assert scale_blocks(BASE_BRANCH, "B3") == ([80, 48], [1, 1])
    assert scale_blocks(BASE_MAIN, "B2") == ([96, 192], [2, 2])
    assert scale_blocks(BASE_MAIN, "B4") == ([128, 272], [3, 3])


def test_the_graph_is_normalized_over_farther_joints_than_it_reads():
    layout = get_layout("ntu25")
    ten, three = distance_adjacency(layout, 10), distance_adjacency(layout, 3)
    assert [int(part.count_nonzero()) for part in ten] == [25, 48, 54]
    assert ten[1, 0, 1] == ten[2, 0, 20] == pytest.approx(0.04)
    assert three[0, 0, 0] == pytest.approx(1 / 12)
    assert three[1, 0, 1] == three[2, 0, 20] == pytest.approx(1 / 13)
    assert float(ten.sum(dim=(0, 1)).max()) < 0.4 < float(three.sum(dim=(0, 1)).min())


def test_persons_count_alike_in_any_order(sg):
    x = reference_input((1, 18, 32, 25, 2))
    with torch.inference_mode():
        torch.testing.assert_close(sg(x.flip(-1)), sg(x))


def test_joints_in_another_order_give_the_same_logits(sg):
    x, order = reference_input((1, 18, 32, 25, 2)), torch.randperm(25)
    turned = filled("B0", "sg")
    for module in turned.modules():
        if isinstance(module, GraphConv):
            for weights in (module.A, module.edge_importance.data):
                weights.copy_(weights[:, order][:, :, order])
    with torch.inference_mode():
        torch.testing.assert_close(turned(x[:, :, :, order]), sg(x))


def test_absent_persons_count_in_the_released_network_only():
    x = torch.randn(2, 18, 24, 25, 2)
    x[1, ..., 1] = 0
    alone = x[1:, ..., :1]
    for faithful, same in ((True, False), (False, True)):
        torch.manual_seed(0)
        model = published("B0", "sg", faithful=faithful, head_dropout=0)
        torch.nn.init.normal_(model.head.weight)
        model.eval()
        with torch.inference_mode():
            assert torch.allclose(model(x)[1:], model(alone), atol=1e-5) is same


def test_weights_start_as_published():
    torch.manual_seed(0)
    model = published("B0", "sg")
    spread = {name: float(weight.detach().std()) for name, weight in model.named_parameters()}
    graph, point = (
        "input_branches.0.stem_scn.gcn.weight",
        "main_stream.1.tcn.0.point_conv2.0.weight",
    )
    assert spread[graph] == pytest.approx((2 / (3 * 64)) ** 0.5, rel=0.1)
    assert spread[point] == pytest.approx((2 / 128) ** 0.5, rel=0.1)
    assert spread["head.weight"] == pytest.approx(0.001, rel=0.1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"branches": 4}, "in_channels=18, branches=4"),
        ({"depth": -1}, "depth=-1"),
        ({"stem_channels": 0}, "stem_channels=0"),
        ({"channels": [8], "strides": [1, 2]}, "as long as each other"),
    ],
)
def test_options_that_make_no_network_are_refused(options, told):
    with pytest.raises(ModelError, match=told):
        published("B0", "sg", **options)


def test_unknown_scales_and_variants_are_named():
    with pytest.raises(ModelError, match=r"scale 'B5'"):
        published("B5", "sg")
    with pytest.raises(ModelError, match=r"variant 'sepp' \(did you mean 'sep'"):
        published("B0", "sepp")


def test_three_branches_read_the_three_published_inputs():
    assert len(published("B0", "sg").input_branches) == 3
    model = create_model("efficientgcn", layout="coco17", num_classes=4, in_channels=6)
    assert len(model.input_branches) == 1
