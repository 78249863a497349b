"""2s-AGCN and AAGCN: the released networks' answers, their start, and what changes nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError
from kinegraph.models import create_model
from kinegraph.models.agcn import JointFrameChannelAttention
from kinegraph.models.published_weights import load_aagcn_pyskl, load_renamed
from kinegraph.skeleton.graph import adjacency
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from models.permuted_joints import ORDER, permuted_layout, permuted_state
from models.reference_weights import (
    fill,
    published_keys,
    published_state,
    reference_answer,
    reference_input,
)


class Released(NamedTuple):
    """A released network: its recorded answer, our form of it, and its first logits."""

    answer: tuple[str, str]
    keys: str
    name: str
    layout: str
    classes: int
    parameters: int
    logits: tuple[float, ...]

    @property
    def family(self) -> str:
        return self.answer[0]

    def create(self) -> nn.Module:
        torch.manual_seed(0)
        return create_model(self.name, layout=self.layout, num_classes=self.classes, faithful=True)

    def unused(self, model: nn.Module) -> dict[str, Tensor]:
        """The graph that PYSKL stores and does not use."""
        return {"backbone.A": model.blocks[0].gcn.A} if "pyskl" in self.family else {}

    def state(self, model: nn.Module) -> dict[str, Tensor]:
        """The weights by formula."""
        state = {**published_state(model, self.family), **self.unused(model)}
        gain = 1.0 if self.name == "agcn" else 0.4
        graph = r"backbone\.gcn\..*\.A|.*\.PA"
        return fill(state, graph=graph, keep=r"backbone\.A", gain=gain)

    def load(self) -> nn.Module:
        model = self.create()
        state = self.state(model)
        if "pyskl" in self.family:
            load_aagcn_pyskl(model.double(), state)
        else:
            load_renamed(model.double(), state, self.family)
        return model.eval()


RELEASED = [
    Released(
        ("agcn", "ntu60"), "agcn_ntu60", "agcn", "ntu25", 60, 3_469_510,
        (-1.074212, 1.484845, 2.041344),
    ),
    Released(
        ("agcn", "kinetics"), "agcn_kinetics", "agcn", "openpose18", 400, 3_547_776,
        (-0.969732, 1.291711, 1.856017),
    ),
    Released(
        ("aagcn", "ntu60"), "aagcn_ntu60", "aagcn", "ntu25", 60, 3_781_668,
        (0.006183, -0.175358, 0.072376),
    ),
    Released(
        ("aagcn", "kinetics"), "aagcn_kinetics", "aagcn", "openpose18", 400, 3_848_670,
        (0.008402, -0.166696, 0.069703),
    ),
    Released(
        ("aagcn_pyskl", "ntu60_3d"), "aagcn_pyskl_ntu60", "aagcn", "ntu25_pyskl", 60, 3_781_668,
        (0.154004, 0.169619, 0.091565),
    ),
]  # fmt: skip
each_released = pytest.mark.parametrize(
    "released",
    [
        pytest.param(released, marks=pytest.mark.slow if released.classes == 400 else ())
        for released in RELEASED
    ],
    ids=lambda released: "-".join(released.answer),
)


def inputs(model: nn.Module) -> Tensor:
    return reference_input((2, 3, 32, model.layout.num_joints, 2))


@each_released
def test_the_released_network_with_weights_by_formula(released):
    model = released.load()
    assert sum(p.numel() for p in model.parameters()) == released.parameters
    with torch.inference_mode():
        logits = model(inputs(model))
    expected = torch.tensor(released.logits, dtype=torch.float64)
    torch.testing.assert_close(logits[0, :3], expected, rtol=0, atol=2e-6)


@pytest.mark.slow
@each_released
def test_the_recorded_answer(released):
    answer = reference_answer(*released.answer)
    model = released.load()
    assert sum(p.numel() for p in model.parameters()) == answer["params"]
    x = inputs(model).requires_grad_()
    logits = model(x)
    loss = nn.functional.cross_entropy(logits, torch.tensor([0, 1]))
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    scale = answer["logit_scale"]
    torch.testing.assert_close(
        logits.detach(),
        torch.tensor(answer["logits"], dtype=torch.float64),
        rtol=0,
        atol=1e-6 * scale,
    )
    assert float(loss.detach()) == pytest.approx(answer["loss"], rel=1e-6)
    assert float(norm) == pytest.approx(answer["grad_norm_params"], rel=1e-6)
    assert float(x.grad.norm()) == pytest.approx(answer["grad_norm_input"], rel=1e-6)
    with torch.no_grad():
        trained = model.train()(x)
    expected = torch.tensor(answer["train_mode_logits"], dtype=torch.float64)
    torch.testing.assert_close(trained, expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


@each_released
def test_names_and_shapes_are_those_of_the_released_state_dict(released):
    model = released.create()
    state = {**published_state(model, released.family), **released.unused(model)}
    assert {name: tuple(value.shape) for name, value in state.items()} == published_keys(
        released.keys
    )


NAMES = pytest.mark.parametrize("name", ["agcn", "aagcn"])
SMALL = {"channels": [8, 8, 12], "strides": [1, 2, 1]}


def small(name: str, layout: SkeletonLayout | str = "ntu25", **options: Any) -> nn.Module:
    """A narrow network with weights off their start."""
    torch.manual_seed(0)
    model = create_model(name, layout=layout, num_classes=5, **{**SMALL, **options}).eval()
    generator = torch.Generator().manual_seed(1)
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand(value.shape, generator=generator)
            value.copy_(0.5 + noise) if key.endswith("var") else value.add_(0.4 * (noise - 0.5))
    return model


def clips(M: int = 2, V: int = 25, T: int = 14) -> Tensor:
    return torch.randn(3, 3, T, V, M, generator=torch.Generator().manual_seed(2))


@NAMES
def test_the_graph_convolution_is_the_equation(name):
    gcn = small(name).blocks[2].gcn.double()
    x = torch.randn(2, 8, 7, 25, dtype=torch.float64)
    expected = torch.zeros(2, 12, 7, 25, dtype=torch.float64)
    for k in range(3):
        source, target = gcn.source[k](x), gcn.target[k](x)
        product = torch.einsum("nctv,nctw->nvw", source, target) / (source.shape[1] * 7)
        if name == "agcn":
            graph = product.softmax(dim=1) + gcn.A[k] + gcn.edges[k]
        else:
            graph = gcn.edges[k] + gcn.alpha * product.tanh()
        expected += gcn.mix[k](torch.einsum("nctv,nvw->nctw", x, graph))
    torch.testing.assert_close(gcn(x), expected)


def test_the_attentions_are_applied_one_after_the_other():
    attention = small("aagcn").blocks[2].attention.double()
    x = torch.randn(2, 12, 7, 25, dtype=torch.float64)
    z = x * (1 + attention.joints(x.mean(2)).sigmoid()[:, :, None])
    z = z * (1 + attention.frames(z.mean(3)).sigmoid()[..., None])
    g = attention.expand(attention.reduce(z.mean((2, 3))).relu()).sigmoid()
    torch.testing.assert_close(attention(x), z * (1 + g[..., None, None]))


def test_a_graph_is_read_from_source_to_target():
    """At the start of AAGCN a moved joint changes what its partition's rows name, no column."""
    layout = get_layout("ntu25")
    gcn = create_model("aagcn", layout=layout, num_classes=5, **SMALL).blocks[1].gcn
    x = torch.randn(1, 8, 5, 25)
    for k, part in enumerate(adjacency(layout, strategy="agcn")):
        with torch.no_grad():
            gcn.edges.zero_()[k] = torch.from_numpy(part)
            moved = x.clone()
            moved[..., 8] += 1  # a shoulder
            difference = (gcn.graphs(moved)[:, k].mT @ moved.permute(0, 2, 3, 1)) - (
                gcn.graphs(x)[:, k].mT @ x.permute(0, 2, 3, 1)
            )
        reached = set(difference.abs().amax(dim=(0, 1, 3)).nonzero().flatten().tolist())
        assert reached == set(np.flatnonzero(part[8]))


@NAMES
def test_the_bias_is_added_after_the_graph(name):
    gcn = small(name).blocks[2].gcn
    bias = sum(conv.bias for conv in gcn.mix)
    torch.testing.assert_close(
        gcn(torch.zeros(1, 8, 4, 25)), bias[None, :, None, None].expand(1, 12, 4, 25)
    )


@NAMES
def test_a_fresh_graph_convolution_passes_its_residual(name):
    for block in create_model(name, layout="ntu25", num_classes=60).eval().blocks:
        x = torch.randn(1, block.gcn.mix[0].in_channels, 5, 25)
        with torch.inference_mode():
            y, passed = block.gcn_bn(block.gcn(x)), block.gcn_residual(x)
            torch.testing.assert_close(y + passed, passed, rtol=0, atol=1e-5)


def test_fresh_attention_over_frames_and_channels_is_a_factor_of_one_and_a_half():
    attention = JointFrameChannelAttention(8, 25)
    nn.init.zeros_(attention.joints.weight)
    x = torch.randn(2, 8, 6, 25)
    torch.testing.assert_close(attention(x), x * 1.5**3)


def test_initial_spreads_are_the_released_ones():
    torch.manual_seed(0)
    model = create_model("agcn", layout="ntu25", num_classes=60)
    for tensor, spread in (
        (model.blocks[9].gcn.mix[0].weight, (2 / (256 * 256 * 3)) ** 0.5),
        (model.blocks[9].gcn.source[0].weight, (2 / 64) ** 0.5),
        (model.blocks[9].tcn.weight, (2 / (256 * 9)) ** 0.5),
        (model.head.weight, (2 / 60) ** 0.5),
    ):
        assert float(tensor.detach().std()) == pytest.approx(spread, rel=0.02)
    assert float(model.blocks[0].gcn.edges.detach().max()) == pytest.approx(1e-6)


def test_without_attention_it_has_the_parameters_of_2s_agcn_and_ten_factors():
    model = create_model("aagcn", layout="ntu25", num_classes=60, attention=False, faithful=True)
    assert sum(p.numel() for p in model.parameters()) == 3_469_520


@NAMES
def test_persons_are_alike_unless_it_is_the_released_network(name):
    x = clips()
    for faithful in (False, True):
        model = small(name, faithful=faithful)
        with torch.inference_mode():
            difference = (model(x) - model(x.flip(4))).abs().max()
        assert (float(difference) > 1e-3) == faithful


@NAMES
def test_absent_persons_are_left_out_unless_it_is_the_released_network(name):
    x = clips()
    x[..., 1] = 0
    with torch.inference_mode():
        model = small(name)
        torch.testing.assert_close(model(x), model(x[..., :1]))
        model = small(name, faithful=True)
        assert float((model(x) - small(name, persons=1)(x[..., :1])).abs().max()) > 1e-3


@NAMES
def test_permuting_the_joints_changes_nothing(name):
    options = {"attention": False} if name == "aagcn" else {}
    one, two = small(name, **options), small(name, permuted_layout(), **options)
    two.load_state_dict(permuted_state(one, "edges"))
    with torch.inference_mode():
        torch.testing.assert_close(one(clips()), two(clips()[:, :, :, ORDER]))


def test_options_that_make_no_network_are_refused():
    with pytest.raises(ModelError, match="persons of at least 1, got 0"):
        create_model("agcn", layout="ntu25", num_classes=5, persons=0)
    with pytest.raises(ModelError, match="no option 'attention'"):
        create_model("agcn", layout="ntu25", num_classes=5, attention=False)


def test_another_graph_is_refused_by_name():
    released = RELEASED[-1]
    model = released.create()
    state = {**published_state(model, released.family), **released.unused(model)}
    other = create_model("aagcn", layout="ntu25", num_classes=60, faithful=True)
    with pytest.raises(ModelError, match=r"'backbone.A' .* another graph"):
        load_aagcn_pyskl(other, state)
