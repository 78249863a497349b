"""MS-G3D against the released network and PYSKL's port: answers, counts, equations, traps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from kinegraph.cli import main
from kinegraph.clips.clip import Clip
from kinegraph.errors import ModelError
from kinegraph.inference.recognizer import Recognizer
from kinegraph.models import create_model
from kinegraph.models.msg3d import MSG3D, ScaleGraphConv, WindowBranch
from kinegraph.models.published_weights import load_msg3d
from kinegraph.skeleton.graph import hop_distance, hop_scales
from kinegraph.skeleton.layouts import get_layout
from kinegraph.training.batch import collate
from kinegraph.training.recipe import load_recipe
from models.permuted_joints import ORDER, permuted_layout, permuted_state
from models.reference_weights import (
    assert_answers,
    fill,
    published_keys,
    published_state,
    reference_input,
)

KINETICS = {"scales": 8, "window_scales": 8}
#: case: layout, classes, options, file of the answers, case in it, first logits of clip 0
NETWORKS = {
    "ntu60": ("ntu25", 60, {}, "msg3d", "ntu60", (-0.019178, -0.203404, 0.031842)),
    "kinetics": (
        "openpose18",
        400,
        KINETICS,
        "msg3d",
        "kinetics",
        (-0.033161, -0.195594, 0.117265),
    ),
    "pyskl": (
        "ntu25_pyskl",
        60,
        {"pyskl": True},
        "msg3d_pyskl",
        "ntu60_3d",
        (0.218819, 0.159790, -0.367779),
    ),
    "pyskl_2d": ("coco17", 60, {"pyskl": True}, "msg3d_pyskl", "ntu60_hrnet", ()),
}
SMALL = {"channels": [12, 24], "strides": [1, 2], "scales": 4, "window_scales": 3}


def created(case: str) -> MSG3D:
    layout, classes, options, *_ = NETWORKS[case]
    return create_model("msg3d", layout=layout, num_classes=classes, faithful=True, **options)


def released_state(model: MSG3D) -> dict[str, Tensor]:
    """The state dict as the released code has it, with free edges of 0."""
    if not model.pyskl:
        state = published_state(model, "msg3d")
        return {k: torch.zeros_like(v) if k.endswith(".A_res") else v for k, v in state.items()}
    released = {"A": torch.from_numpy(hop_distance(model.layout) == 1).float()}
    for key, value in published_state(model, "msg3d_pyskl").items():
        is_edge = key.endswith(".PA")
        released[key] = (
            torch.zeros_like(value).view(-1, *value.shape[-1:] * 2) if is_edge else value
        )
    return {k if k.startswith("cls_head") else f"backbone.{k}": v for k, v in released.items()}


def filled(case: str) -> MSG3D:
    """The faithful network with the weights of the formula, in float64."""
    model = created(case).double()
    state = fill(released_state(model), graph=r".*\.(A_res|PA)", keep=r"(.*\.)?A")
    load_msg3d(model, state)
    return model.eval()


@pytest.mark.parametrize("case", ["ntu60", "kinetics", "pyskl"])
def test_first_logits_are_those_of_the_released_network(case):
    model = filled(case).float()
    x = reference_input((1, 3, 32, model.layout.num_joints, 2)).float()
    with torch.inference_mode():
        logits = model(x)[0, :3]
    expected = torch.tensor(NETWORKS[case][5])
    torch.testing.assert_close(logits, expected, rtol=0, atol=3e-6)


@pytest.mark.slow
@pytest.mark.parametrize("case", list(NETWORKS))
def test_all_recorded_answers(case):
    *_, family, recorded, _ = NETWORKS[case]
    assert_answers(filled(case), family, recorded, tolerance=1e-6)


@pytest.mark.parametrize("case", ["ntu60", "kinetics", "pyskl"])
def test_the_names_and_shapes_are_the_released_ones(case):
    name = {"ntu60": "msg3d_ntu60", "kinetics": "msg3d_kinetics", "pyskl": "msg3d_pyskl_ntu60"}
    state = released_state(created(case))
    assert {key: tuple(value.shape) for key, value in state.items()} == published_keys(name[case])


@pytest.mark.parametrize(
    ("layout", "classes", "options", "parameters"),
    [
        ("ntu25", 60, {}, 3_194_595),
        ("ntu25", 120, {}, 3_217_695),
        ("openpose18", 400, KINETICS, 3_144_328),
        ("coco17", 60, {"pyskl": True}, 2_975_763),
    ],
)
def test_parameter_counts_are_the_published_ones(layout, classes, options, parameters):
    model = create_model("msg3d", layout=layout, num_classes=classes, faithful=True, **options)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_free_edges_start_near_zero_and_the_graph_is_not_saved():
    model = create_model("msg3d", layout="ntu25", num_classes=5, **SMALL)
    edges = [p for name, p in model.named_parameters() if name.endswith("free_edges")]
    assert len(edges) == 2 * 3
    assert all(5e-7 < float(p.detach().abs().max()) <= 1e-6 for p in edges)
    assert not any(name.endswith(".A") for name in model.state_dict())


def plain_windows(conv: ScaleGraphConv, x: Tensor) -> Tensor:
    """The equation, node by node: (n, C, T, V) -> (n, C', T', w * V) before batch norm."""
    n, _, T, V = x.shape
    w, stride = conv.window, conv.stride
    windows = -(-T // stride)
    padded = torch.nn.functional.pad(x, (0, 0, w // 2, w // 2))
    A, weight = (conv.A + conv.free_edges).detach(), conv.conv.weight.detach()[..., 0, 0]
    out = torch.zeros(n, len(weight), windows, w * V)
    for t in range(windows):
        nodes = padded[:, :, t * stride : t * stride + w].flatten(2)
        sums = torch.stack([nodes @ A_k for A_k in A], dim=1).flatten(1, 2)
        out[:, :, t] = torch.einsum("oc,ncv->nov", weight, sums) + conv.conv.bias[:, None]
    return out


@pytest.mark.parametrize(("c_in", "c_out"), [(3, 8), (8, 8), (8, 4)])
@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 1), (5, 2), (3, 2)])
@torch.no_grad()
def test_windows_are_the_equation(c_in, c_out, window, stride):
    torch.manual_seed(0)
    A = torch.from_numpy(hop_scales("penn13", 3, window=window))
    conv = ScaleGraphConv(c_in, c_out, A, window=window, stride=stride).eval()
    conv.free_edges.normal_(0, 0.1)
    x = torch.randn(2, c_in, 7, 13)
    expected = torch.relu(conv.bn(plain_windows(conv, x)))
    torch.testing.assert_close(conv.mix_nodes(x).transpose(2, 3), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_frames_of_a_window_have_a_matrix_each():
    torch.manual_seed(0)
    A = torch.from_numpy(hop_scales("penn13", 3, window=3))
    branch = WindowBranch(4, 6, 8, A, window=3, stride=2, saves_A=False).eval()
    x = torch.randn(2, 4, 9, 13)
    nodes = branch.gcn.mix_nodes(x).transpose(2, 3).unflatten(3, (3, 13))  # (n, C', T', w, V)
    weight = branch.window_conv.weight[..., 0]
    mixed = torch.einsum("oci,nctiv->notv", weight, nodes)
    expected = branch.bn(mixed + branch.window_conv.bias[:, None, None])
    torch.testing.assert_close(branch(x), expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_swapped_persons_differ_only_if_each_has_its_own_batch_norm():
    faithful, x = filled("ntu60").float(), reference_input((1, 3, 16, 25, 2)).float()
    assert float((faithful(x.flip(-1)) - faithful(x)).abs().max()) > 1e-3
    model = create_model("msg3d", layout="ntu25", num_classes=5, **SMALL).eval()
    torch.testing.assert_close(model(x.flip(-1)), model(x))


@torch.inference_mode()
def test_an_absent_person_counts_only_if_faithful():
    torch.manual_seed(0)
    x = torch.randn(1, 3, 16, 25, 2)
    x[..., 1] = 0
    model = create_model("msg3d", layout="ntu25", num_classes=5, **SMALL).eval()
    torch.testing.assert_close(model(x), model(x[..., :1]))
    faithful = create_model("msg3d", layout="ntu25", num_classes=5, faithful=True, **SMALL).eval()
    alone = create_model(
        "msg3d", layout="ntu25", num_classes=5, faithful=True, persons=1, **SMALL
    ).eval()
    own = alone.state_dict()
    alone.load_state_dict(
        {
            k: v[:75] if own[k].ndim == 1 and len(own[k]) == 75 else v
            for k, v in faithful.state_dict().items()
        }
    )
    assert float((faithful(x) - alone(x[..., :1])).abs().max()) > 1e-3


@torch.inference_mode()
def test_permuting_the_joints_changes_nothing():
    model = create_model("msg3d", layout="ntu25", num_classes=5, **SMALL).eval()
    other = create_model("msg3d", layout=permuted_layout(), num_classes=5, **SMALL).eval()
    state = model.state_dict()
    for name, value in state.items():
        if name.endswith("free_edges"):
            state[name] = torch.randn_like(value) / 10
        elif name.startswith("data_bn") and value.ndim:
            state[name] = torch.rand_like(value) + 0.5
    model.load_state_dict(state)
    other.load_state_dict(permuted_state(model, "free_edges"))
    x = torch.randn(2, 3, 16, 25, 1)
    torch.testing.assert_close(other(x[:, :, :, ORDER]), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "faithful", "mid"), [(3, True, 12), (2, True, 2), (2, False, 12), (3, False, 12)]
)
def test_released_windows_widen_the_input_only_if_it_has_three_channels(channels, faithful, mid):
    model = create_model(
        "msg3d", layout="penn13", num_classes=5, in_channels=channels, faithful=faithful, **SMALL
    )
    assert {branch.gcn.conv.out_channels for branch in model.blocks[0].windows} == {mid}
    assert {branch.gcn.conv.out_channels for branch in model.blocks[1].windows} == {12}


def test_activations_in_place_leave_the_clip_and_the_gradients_alone():
    torch.manual_seed(0)
    model = create_model("msg3d", layout="penn13", num_classes=5, **SMALL).double().eval()
    x = torch.randn(1, 3, 6, 13, 1, dtype=torch.float64)
    before = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(before)[0, 0], before)
    with torch.no_grad():
        step = torch.zeros_like(x)
        step[0, 1, 2, 3, 0] = 1e-6
        slope = (model(x + step)[0, 0] - model(x - step)[0, 0]) / 2e-6
    assert torch.equal(before, x)
    torch.testing.assert_close(gradient[0, 1, 2, 3, 0], slope, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("pyskl", [False, True])
def test_other_weights_are_refused_by_their_own_names(pyskl):
    model = create_model(
        "msg3d", layout="penn13", num_classes=5, faithful=True, pyskl=pyskl, **SMALL
    )
    state = released_state(model)
    edges = next(key for key in state if key.endswith(("sgcn1.0.A_res", "sgcn1.0.PA")))
    load_msg3d(model, {f"module.{key}": value for key, value in state.items()})
    with pytest.raises(ModelError, match=r"lacks 'sgcn1.0.(A_res|PA)'"):
        load_msg3d(model, {key: value for key, value in state.items() if key != edges})
    with pytest.raises(ModelError, match=r"holds 'l1.gcn1.PA', which this model does not have"):
        load_msg3d(model, {**state, "l1.gcn1.PA": torch.zeros(3)})
    with pytest.raises(ModelError, match=r"sgcn1.0.* has shape"):
        load_msg3d(model, {**state, edges: state[edges][:-1]})
    if pyskl:
        with pytest.raises(ModelError, match=r"sgcn1.0.A'.* trained on another graph"):
            load_msg3d(model, {**state, "backbone.sgcn1.0.A": state["backbone.sgcn1.0.A"] * 2})


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"windows": [4]}, "different odd numbers of frames, got"),
        ({"windows": [3, 3]}, "different odd numbers of frames, got"),
        ({"scales": 0}, "at least one scale"),
        ({"persons": 0}, "persons of at least 1, got 0"),
        ({"channels": [4], "strides": [1]}, "at least 6 channels, got 4"),
    ],
)
def test_options_that_make_no_network_are_refused(options, match):
    with pytest.raises(ModelError, match=match):
        create_model("msg3d", layout="penn13", num_classes=5, **{**SMALL, **options})


def imported(folder: Path) -> tuple[MSG3D, Path]:
    """The released network with the weights of the formula, and the run made of its file."""
    model = created("ntu60")
    state = fill(released_state(model), graph=r".*\.A_res")
    saved = {f"module.{key}": v.float() if v.is_floating_point() else v for key, v in state.items()}
    torch.save({"epoch": 50, "state_dict": saved}, folder / "w.pt")
    load_msg3d(model, state)
    files = ["msg3d", str(folder / "w.pt"), str(folder / "run")]
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["import", *files, "--protocol", "xview"])
    return model.eval(), folder / "run"


def test_an_imported_file_has_the_tensors_of_the_network(tmp_path):
    model, run = imported(tmp_path)
    weights = load_file(run / "last.safetensors")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(weights[name], value)


@pytest.mark.slow
def test_an_imported_file_answers_as_the_network(tmp_path):
    model, run = imported(tmp_path)
    clip = Clip(np.random.default_rng(0).normal(size=(1, 12, 25, 3)), get_layout("ntu25"))
    x = collate([load_recipe("msg3d_ntu60_xview").preprocessor()(clip, None)]).x
    with torch.inference_mode():
        expected = model(x)[0].numpy()
    np.testing.assert_allclose(Recognizer.load(run)(clip).logits, expected, atol=1e-4)


@pytest.mark.parametrize(("case", "recipe"), [("pyskl", ""), ("pyskl_2d", "_hrnet")])
def test_a_file_of_pyskl_becomes_a_run_of_its_setting(tmp_path, case, recipe):
    state = released_state(created(case))
    filled = fill(state, graph=r".*\.PA", keep=r"(.*\.)?A")
    torch.save({"meta": {"epoch": 16}, "state_dict": filled}, tmp_path / "w.pth")
    files = ["msg3d_pyskl", str(tmp_path / "w.pth"), str(tmp_path / "run")]
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["import", *files, "--protocol", "xview"])
    recognizer = Recognizer.load(tmp_path / "run")
    assert recognizer.header.recipe["name"] == f"msg3d_pyskl_ntu60_xview{recipe}"
    head = recognizer.model.head.weight.double()
    torch.testing.assert_close(head, filled["cls_head.fc_cls.weight"])


def test_batch_norm_sees_half_of_what_the_optimizer_sees():
    for name in ("msg3d_ntu60_xsub", "msg3d_ntu120_xset"):
        train = load_recipe(name).train
        assert (train.batch_size, train.accumulate) == (16, 2)
    kinetics = load_recipe("msg3d_kinetics")
    assert (kinetics.train.batch_size, kinetics.train.accumulate) == (128, 1)
    assert [step for step in kinetics.pipeline().to_list() if "random" in str(step)] == []
