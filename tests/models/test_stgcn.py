"""ST-GCN against the paper: an independent implementation, parameter counts, invariances."""

from __future__ import annotations

import pytest
import torch

from kinegraph.bench.reference.stgcn import ReferenceSTGCN
from kinegraph.errors import ModelError, UnknownNameError
from kinegraph.models import create_model
from kinegraph.models.published_weights import load_stgcn
from kinegraph.skeleton.graph import adjacency
from models.permuted_joints import ORDER, permuted_layout, permuted_state


def randomise(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights, importance and running statistics that are not at their start values."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and name != "A" and not name.endswith(".A"):
            noise = torch.rand(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(0.5 + noise)
            else:
                tensor.add_(0.2 * (noise - 0.5))
    return model.eval()


@pytest.mark.parametrize(
    ("layout", "classes", "channels", "parameters"),
    [
        ("ntu25", 60, 3, 3_098_832),
        ("openpose18", 400, 3, 3_177_140),
        ("body25", 30, 2, 3_090_880),
    ],
)
def test_parameter_counts_are_the_published_ones(layout, classes, channels, parameters):
    model = create_model("stgcn", layout=layout, num_classes=classes, in_channels=channels)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("layout", ["ntu25", "openpose18"])
def test_an_original_state_dict_gives_the_same_function(layout):
    A = torch.from_numpy(adjacency(layout, center_distance="truncated"))
    plain = randomise(ReferenceSTGCN(A, 7))
    assert len(plain.state_dict()) == 172
    model = create_model("stgcn", layout=layout, num_classes=7, faithful=True)
    load_stgcn(model, {f"module.{key}": value for key, value in plain.state_dict().items()})
    x = torch.randn(2, 3, 21, A.shape[1], 2)
    x[1, ..., 1] = 0
    with torch.inference_mode():
        torch.testing.assert_close(model.eval()(x), plain(x), rtol=1e-4, atol=1e-5)


def test_paddle_names_and_missing_counters_load():
    A = torch.from_numpy(adjacency("body25", center_distance="truncated"))
    plain = ReferenceSTGCN(A, 30, in_channels=2)
    state = {}
    for key, value in plain.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue
        key = key.replace("running_mean", "_mean").replace("running_var", "_variance")
        state["head." + key if key.startswith("fcn") else "backbone." + key] = value
    model = create_model("stgcn", layout="body25", num_classes=30, in_channels=2, faithful=True)
    load_stgcn(model, state)
    torch.testing.assert_close(model.head.weight, plain.fcn.weight.flatten(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("fcn.bias"), "lacks 'fcn.bias'$"),
        (lambda s: s.update({"extra.weight": torch.ones(1)}), "holds 'extra.weight'"),
        (lambda s: s.update({"fcn.bias": torch.ones(3)}), r"'fcn.bias' has shape \(3,\)"),
        (lambda s: s.update({"A": torch.ones(3, 25, 25)}), "trained on another graph"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused_by_name(change, message):
    A = torch.from_numpy(adjacency("ntu25", center_distance="truncated"))
    state = dict(ReferenceSTGCN(A, 7).state_dict())
    change(state)
    model = create_model("stgcn", layout="ntu25", num_classes=7, faithful=True)
    with pytest.raises(ModelError, match=message):
        load_stgcn(model, state)


def test_shapes_of_the_ten_blocks():
    model = create_model("stgcn", layout="ntu25", num_classes=60).eval()
    shapes = []
    for block in model.blocks:
        block.register_forward_hook(lambda _m, _i, y: shapes.append((y.shape[1], y.shape[2])))
    with torch.inference_mode():
        features = model.forward_features(torch.randn(1, 3, 300, 25, 1))
    assert shapes == [(64, 300)] * 4 + [(128, 150)] * 3 + [(256, 75)] * 3
    assert features.shape == (1, 1, 256, 75, 25)


def test_permuting_the_joints_changes_nothing():
    one = randomise(create_model("stgcn", layout="ntu25", num_classes=5))
    two = create_model("stgcn", layout=permuted_layout(), num_classes=5).eval()
    graph = {key: A for key, A in two.state_dict().items() if key.endswith("gcn.A")}
    two.load_state_dict({**permuted_state(one, "edge_importance"), **graph})
    x = torch.randn(2, 3, 12, 25, 1)
    with torch.inference_mode():
        torch.testing.assert_close(two(x[:, :, :, ORDER]), one(x), rtol=1e-4, atol=1e-5)


def test_an_absent_person_does_not_count_unless_faithful():
    x = torch.randn(2, 3, 12, 25, 1)
    with_ghost = torch.cat([x, torch.zeros_like(x)], dim=-1)
    for faithful in (False, True):
        model = create_model("stgcn", layout="ntu25", num_classes=5, faithful=faithful)
        randomise(model)
        with torch.inference_mode():
            same = torch.allclose(model(with_ghost), model(x), atol=1e-5)
        assert same is not faithful


def test_absent_persons_leave_batch_statistics_alone():
    x = torch.randn(2, 3, 12, 25, 1)
    runs = []
    for batch in (x, torch.cat([x, torch.zeros_like(x)], dim=-1)):
        torch.manual_seed(0)
        model = create_model("stgcn", layout="ntu25", num_classes=5).train()
        model(batch)
        runs.append(model.data_bn.running_mean)
    torch.testing.assert_close(runs[0], runs[1])


def test_the_first_block_has_neither_residual_nor_dropout():
    model = create_model("stgcn", layout="ntu25", num_classes=5, dropout=0.5)
    assert model.blocks[0].residual is None
    assert [block.dropout.p for block in model.blocks] == [0.0] + [0.5] * 9


def test_edge_importance_is_learnt_unless_switched_off():
    x = torch.randn(1, 3, 8, 25, 1)
    model = create_model("stgcn", layout="ntu25", num_classes=5)
    model(x).sum().backward()
    assert all(block.gcn.edge_importance.grad.abs().sum() > 0 for block in model.blocks)
    without = create_model("stgcn", layout="ntu25", num_classes=5, edge_importance=False)
    assert not [name for name, _ in without.named_parameters() if "importance" in name]


def test_free_edges_start_as_nothing_and_join_any_two_joints():
    x = torch.randn(2, 3, 8, 25, 1)
    torch.manual_seed(0)
    plain = create_model("stgcn", layout="ntu25", num_classes=5).eval()
    free = create_model("stgcn", layout="ntu25", num_classes=5, adaptive=True).eval()
    free.load_state_dict({**free.state_dict(), **plain.state_dict()})
    torch.testing.assert_close(free(x), plain(x))
    hand, foot = 7, 15
    conv = free.blocks[0].gcn
    conv.free_edges.data[0, hand, foot] = 1.0
    rows = torch.zeros(1, 3, 4, 25)
    rows[..., hand] = 1.0
    difference = conv(rows) - plain.blocks[0].gcn(rows)
    assert difference.abs().amax(dim=(0, 1, 2)).nonzero().flatten().tolist() == [foot]


def test_pooling_by_joint_keeps_joints_apart():
    model = create_model("stgcn", layout="ntu25", num_classes=5, pool="joints").eval()
    features = torch.zeros(1, 1, 256, 9, 25)
    features[0, 0, 7, 4, 11] = 3.0
    pooled = torch.zeros(256 * 25)
    pooled[7 * 25 + 11] = 3.0
    torch.testing.assert_close(model.forward_head(features)[0], model.head(pooled))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": [8, 8], "strides": [1]}, "as long as each other"),
        ({"channels": [8, 0], "strides": [1, 1]}, "must be positive"),
        ({"temporal_kernel": 4}, "odd and positive, got 4"),
        ({"dropuot": 0.1}, "no option 'dropuot' .did you mean 'dropout'"),
        ({"dropout": "much"}, "dropout: input should be a valid number"),
        ({"dropout": 1.5}, "does not accept"),
        ({"pool": "joint"}, "unknown pool 'joint' .did you mean 'joints'"),
    ],
)
def test_options_that_make_no_model(options, message):
    with pytest.raises((ModelError, UnknownNameError), match=message):
        create_model("stgcn", layout="ntu25", num_classes=5, **options)


def test_unknown_names_and_wrong_input():
    with pytest.raises(UnknownNameError, match=r"unknown model 'stgnc' .did you mean 'stgcn'"):
        create_model("stgnc", layout="ntu25", num_classes=5)
    model = create_model("stgcn", layout="ntu25", num_classes=5)
    with pytest.raises(ModelError, match=r"expected input \(N, 3, T, 25, M\)"):
        model(torch.zeros(1, 3, 10, 20, 1))
