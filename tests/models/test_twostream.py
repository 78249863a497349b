"""The two-stream ST-GCN: what motion is, two networks whose logits are summed, released names."""

from __future__ import annotations

import pytest
import torch

from kinegraph.bench.reference.stgcn import ReferenceSTGCN
from kinegraph.errors import ModelError
from kinegraph.models import create_model, model_options
from kinegraph.models.published_weights import load_twostream
from kinegraph.models.twostream import RelativeMotion
from kinegraph.skeleton.graph import adjacency
from models.test_stgcn import randomise

SMALL = {"channels": [8, 12], "strides": [1, 2]}


def small(layout="jhmdb15", classes=4, **options):
    torch.manual_seed(0)
    return create_model(
        "stgcn_twostream", layout=layout, num_classes=classes, **{**SMALL, **options}
    )


def noise(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def of_frames(*values):
    """(1, 1, T, 1): one coordinate of one joint."""
    return torch.tensor(values).view(1, 1, -1, 1)


@pytest.mark.parametrize(
    ("frames", "count_absent", "motion"),
    [
        ((1.0, 4.0, 2.0, 2.0), False, (0.0, 2.5, -1.0, 0.0)),
        ((1.0, 2.0, 3.0, 4.0), False, (0.0, 0.0, 0.0, 0.0)),
        ((2.0, 4.0, 0.0, 6.0, 6.0, 8.0), False, (0.0, 0.0, 0.0, 0.0, -1.0, 0.0)),
        ((2.0, 4.0, 0.0, 6.0, 6.0, 8.0), True, (0.0, 3.0, -5.0, 3.0, -1.0, 0.0)),
        ((3.0, 5.0), False, (0.0, 0.0)),
        ((3.0,), False, (0.0,)),
    ],
)
def test_motion_is_a_frame_minus_the_mean_of_its_neighbors(frames, count_absent, motion):
    x = of_frames(*frames)
    assert torch.equal(RelativeMotion(count_absent=count_absent)(x), of_frames(*motion))


def test_a_joint_with_one_zero_coordinate_is_there():
    x = torch.zeros(1, 2, 3, 1)
    x[0, 0, :, 0] = torch.tensor([1.0, 5.0, 1.0])
    x[0, 1, :, 0] = torch.tensor([2.0, 0.0, 2.0])
    assert RelativeMotion(count_absent=False)(x)[0, :, 1, 0].tolist() == [4.0, -2.0]


def test_an_original_state_dict_gives_the_same_function():
    A = torch.from_numpy(adjacency("ntu25", center_distance="truncated"))
    plain = [randomise(ReferenceSTGCN(A, 7), seed) for seed in (0, 1)]
    state = {}
    for stream, network in zip(("origin_stream", "motion_stream"), plain, strict=True):
        state |= {f"module.{stream}.{key}": value for key, value in network.state_dict().items()}
    assert len(state) == 2 * 172
    model = create_model("stgcn_twostream", layout="ntu25", num_classes=7, faithful=True).eval()
    load_twostream(model, state)
    x = noise(2, 3, 21, 25, 2)
    x[1, :, 9:, :, 1] = 0
    motion = torch.zeros_like(x)
    for t in range(1, 20):
        motion[:, :, t] = x[:, :, t] - 0.5 * x[:, :, t + 1] - 0.5 * x[:, :, t - 1]
    with torch.inference_mode():
        expected = plain[0](x) + plain[1](motion)
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("motion_stream.fcn.bias"), "motion_stream: .* lacks 'fcn.bias'$"),
        (lambda s: s.update({"fcn.bias": torch.ones(7)}), "holds 'fcn.bias'"),
        (lambda s: s.update({"origin_stream.B": torch.ones(1)}), "origin_stream: .* holds 'B'"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused_by_name(change, message):
    A = torch.from_numpy(adjacency("ntu25", center_distance="truncated"))
    plain = ReferenceSTGCN(A, 7).state_dict()
    streams = ("origin_stream", "motion_stream")
    state = {f"{stream}.{key}": value for stream in streams for key, value in plain.items()}
    change(state)
    model = create_model("stgcn_twostream", layout="ntu25", num_classes=7, faithful=True)
    with pytest.raises(ModelError, match=message):
        load_twostream(model, state)


def test_an_absent_person_does_not_count_unless_faithful():
    x = noise(2, 3, 12, 15, 1)
    with_ghost = torch.cat([x, torch.zeros_like(x)], dim=-1)
    for faithful in (False, True):
        model = randomise(small(faithful=faithful))
        with torch.inference_mode():
            ghost = model.forward_features(with_ghost)[:, 1]
            assert bool(ghost.any()) is faithful
            assert torch.allclose(model(with_ghost), model(x), atol=1e-5) is not faithful


def test_absent_persons_leave_batch_statistics_alone():
    x = noise(2, 3, 12, 15, 1)
    means = []
    for batch in (x, torch.cat([x, torch.zeros_like(x)], dim=-1)):
        model = small().train()
        model(batch)
        means.append(model.motion_stream.data_bn.running_mean)
    torch.testing.assert_close(means[0], means[1])


def test_a_person_who_keeps_still_is_there():
    still = noise(1, 3, 1, 15, 1).expand(-1, -1, 12, -1, -1)
    moving = noise(1, 3, 12, 15, 1)
    model = randomise(small())
    with torch.inference_mode():
        alone = model.forward_features(still)
        beside = model.forward_features(torch.cat([moving, still], dim=-1))
    torch.testing.assert_close(beside[:, 1], alone[:, 0])


def test_every_option_reaches_both_streams():
    assert model_options("stgcn_twostream") == model_options("stgcn")
    changed = {
        **SMALL,
        "temporal_kernel": 5,
        "strategy": "distance",
        "max_hop": 2,
        "graph_layout": "jhmdb15",
        "dropout": 0.25,
        "edge_importance": False,
        "adaptive": True,
        "pool": "joints",
        "head_dropout": 0.5,
        "excitation": {"kind": "ce", "reduction": 4},
        "faithful": True,
    }
    assert {*changed} == {*model_options("stgcn")}
    single = create_model("stgcn", layout="jhmdb15", num_classes=4, **changed)
    model = small(**changed)
    for stream in (model.origin_stream, model.motion_stream):
        assert str(stream) == str(single)
        assert stream.faithful
        assert stream.pool == "joints"
        shapes = [(key, value.shape) for key, value in stream.state_dict().items()]
        assert shapes == [(key, value.shape) for key, value in single.state_dict().items()]


def test_both_streams_learn_from_different_weights():
    model = small()
    model(noise(2, 3, 9, 15, 1)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters() if p.ndim > 1)
    assert not torch.equal(model.origin_stream.head.weight, model.motion_stream.head.weight)
