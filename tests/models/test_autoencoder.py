"""The auto-encoder: clips of any length rebuilt, poses foretold, an encoder that is an ST-GCN."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from kinegraph.errors import ModelError, UnknownNameError
from kinegraph.models import create_model
from kinegraph.models.autoencoder import STGCNAutoEncoder, UpBlock
from kinegraph.models.layers import init_kaiming
from kinegraph.skeleton.graph import adjacency
from models.test_stgcn import randomise

SMALL = {"channels": [8, 12, 16], "strides": [1, 2, 2], "temporal_kernel": 5}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine threads that wait for each other make tiny networks very slow."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(layout: str = "jhmdb15", C: int = 3, **options: Any) -> STGCNAutoEncoder:
    torch.manual_seed(0)
    model = create_model(
        "stgcn_autoencoder",
        layout=layout,
        num_classes=4,
        in_channels=C,
        **{**SMALL, "future": 3, **options},
    )
    assert isinstance(model, STGCNAutoEncoder)
    return model


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def swinging(N: int, T: int, seed: int) -> Tensor:
    """(N, 3, T, 15, 1): every joint swings about its place; phase and speed differ by clip."""
    body, clips = (torch.Generator().manual_seed(s) for s in (99, seed))
    place, swing = torch.randn(2, 3, 1, 15, 1, generator=body)
    phase, speed = torch.rand(2, N, 1, 1, 1, 1, generator=clips)
    angle = 6.28 * phase + (0.2 + 0.3 * speed) * torch.arange(T)[:, None, None]
    return place + 0.5 * swing * angle.sin()


def predicted(model: STGCNAutoEncoder, context: Tensor, lengths: Tensor | None = None) -> Tensor:
    return model.predict_future(context, context[:, :, -1], lengths)[1]


# --------------------------------------------------------------------- shapes


@pytest.mark.parametrize("bottleneck", ["map", "vector"])
@pytest.mark.parametrize(("layout", "C", "M"), [("ntu25", 3, 2), ("jhmdb15", 2, 1)])
@pytest.mark.parametrize("T", [1, 2, 9, 16, 23])
def test_a_rebuilt_clip_has_the_shape_of_the_clip(layout, C, M, T, bottleneck):
    model = small(layout, C, bottleneck=bottleneck).eval()
    x = noise(2, C, T, model.layout.num_joints, M)
    with torch.inference_mode():
        assert model.reconstruct(x).shape == x.shape


@pytest.mark.parametrize(("layout", "C", "M"), [("ntu25", 3, 2), ("jhmdb15", 2, 1)])
@pytest.mark.parametrize("T", [1, 9, 100])
def test_as_many_poses_follow_as_were_asked_for(layout, C, M, T):
    model = small(layout, C, future=7).eval()
    x = noise(2, C, T, model.layout.num_joints, M)
    with torch.inference_mode():
        logits, poses = model.predict_future(x, x[:, :, -1])
        torch.testing.assert_close(logits, model(x))
    assert poses.shape == (2, C, 7, model.layout.num_joints, M)


def test_frames_are_repeated_in_place_and_cut_to_the_recorded_length():
    A = torch.from_numpy(adjacency("jhmdb15"))
    options = {"temporal_kernel": 1, "dropout": 0.0, "edge_importance": True, "adaptive": False}
    block = UpBlock(6, 6, A, factor=3, **options).apply(init_kaiming).eval()
    x = noise(2, 6, 4, 15)
    y = block(x, 10)
    for t in range(10):
        torch.testing.assert_close(y[:, :, t], block(x[:, :, t // 3 : t // 3 + 1])[:, :, 0])
    assert block(x).shape[2] == 12


def test_the_decoder_mirrors_the_encoder_on_its_graph_with_weights_of_its_own():
    model = small(adaptive=True, dropout=0.3)
    sizes = [(b.gcn.weight.shape[1], b.gcn.weight.shape[2], b.factor) for b in model.decoder.blocks]
    assert sizes == [(16, 12, 2), (12, 8, 2), (8, 8, 1)]
    assert [b.dropout.p for b in model.decoder.blocks] == [0.3, 0.3, 0.0]
    encoded, decoded = model.encoder.blocks[0].gcn, model.decoder.blocks[0].gcn
    assert torch.equal(encoded.A, decoded.A)
    assert decoded.edge_importance is not encoded.edge_importance
    assert decoded.free_edges is not None


# --------------------------------------------------------------------- what is learnt


@pytest.mark.parametrize("bottleneck", ["map", "vector"])
def test_one_batch_is_learnt_by_heart(bottleneck):
    model = small(channels=[16, 24], strides=[1, 2], bottleneck=bottleneck)
    x = swinging(2, 9, seed=0)
    assert (x - x.mean(dim=2, keepdim=True)).square().mean() > 0.02  # a still pose will not do
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(250):
        loss = (model.reconstruct(x) - x).square().mean()
        if loss.item() < 1e-3:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3


def test_new_clips_are_foretold_with_less_than_half_the_error_of_the_held_pose():
    model = small(channels=[16, 24], strides=[1, 2], future=4)
    clips = swinging(64, 20, seed=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(50):
        batch = clips[32 * (step % 2) :][:32]
        loss = (predicted(model, batch[:, :, :-4]) - batch[:, :, -4:]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    new = swinging(64, 20, seed=2)
    with torch.inference_mode():
        error = (predicted(model.eval(), new[:, :, :-4]) - new[:, :, -4:]).norm(dim=1).mean()
    held = (new[:, :, -5:-4] - new[:, :, -4:]).norm(dim=1).mean()
    assert error < held / 2


def test_at_first_the_last_pose_is_held_bit_for_bit():
    context, last = noise(3, 3, 11, 15, 2), 1e3 * noise(3, 3, 15, 2)
    for model in (small().train(), small(dropout=0.5, adaptive=True).eval()):
        poses = model.predict_future(context, last)[1]
        assert torch.equal(poses, last.unsqueeze(2).expand(-1, -1, 3, -1, -1))


def test_each_channel_and_frame_gets_its_own_offset():
    model = small(C=2).eval()
    with torch.no_grad():
        model.forecaster.offset.bias.copy_(torch.arange(6.0))  # C outside, k inside
    poses = predicted(model, torch.zeros(1, 2, 8, 15, 1))
    expected = torch.arange(6.0).view(1, 2, 3, 1, 1).expand_as(poses)
    torch.testing.assert_close(poses, expected)


def test_the_forecast_follows_the_latest_frames_of_a_long_clip():
    model = randomise(small())
    context = noise(1, 3, 400, 15, 1)
    early, late = context.clone(), context.clone()
    early[:, :, :40] += 1
    late[:, :, -40:] += 1
    last = context[:, :, -1]
    with torch.inference_mode():
        poses = [model.predict_future(c, last)[1] for c in (context, early, late)]
    assert torch.equal(poses[1], poses[0])
    assert not torch.allclose(poses[2], poses[0])


def test_poses_know_no_classes():
    model = small().train()
    x = noise(2, 3, 9, 15, 1)
    (model.reconstruct(x).square().mean() + predicted(model, x).square().mean()).backward()
    head = [p for name, p in model.named_parameters() if "head" in name.split(".")]
    assert len(head) == 2
    assert all(p.grad is None for p in head)
    model.eval()
    before = model.reconstruct(x), predicted(model, x)
    model.reset_classifier(9)
    assert torch.equal(model.reconstruct(x), before[0])
    assert torch.equal(predicted(model, x), before[1])
    assert model(x).shape == (2, 9)


def test_one_vector_is_all_that_passes_the_vector_bottleneck():
    model = randomise(small(bottleneck="vector"))
    features = noise(1, 16, 4, 15)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        same = model.bottleneck(features.flip(2)[..., order])
        torch.testing.assert_close(same, model.bottleneck(features))
        other = model.bottleneck(features + 1)
    assert not torch.allclose(other, same)
    flat = same.permute(0, 2, 3, 1).flatten(0, 2)
    assert len(flat.unique(dim=0)) == 4 * 15  # every frame and joint has a place of its own


# --------------------------------------------------------------------- persons and padding


def test_absent_persons_are_left_out_and_answered_by_nothing():
    x = noise(2, 3, 9, 15, 1)
    ghost = torch.cat([torch.zeros_like(x), x], dim=-1)
    model = randomise(small())
    with torch.inference_mode():
        rebuilt, poses = model.reconstruct(ghost), predicted(model, ghost)
        torch.testing.assert_close(rebuilt[..., 1:], model.reconstruct(x))
        torch.testing.assert_close(poses[..., 1:], predicted(model, x))
    assert not rebuilt[..., 0].any()
    assert not poses[..., 0].any()
    means = []
    for batch in (x, ghost):
        model = small().train()
        model.reconstruct(batch)
        means.append(model.decoder.blocks[-1].bn.running_mean)
    torch.testing.assert_close(means[0], means[1])


def test_a_person_absent_from_the_context_keeps_its_last_pose():
    context, last = noise(1, 3, 9, 15, 2), noise(1, 3, 15, 2)
    context[..., 1] = 0
    poses = randomise(small()).predict_future(context, last)[1]
    assert torch.equal(poses[..., 1], last[..., 1].unsqueeze(2).expand(-1, -1, 3, -1))
    assert not torch.allclose(poses[..., 0], last[..., 0].unsqueeze(2))


@pytest.mark.parametrize("method", ["reconstruct", "predict_future"])
def test_padding_changes_neither_loss_nor_gradient_once_lengths_are_known(method):
    lengths = torch.tensor([5, 12, 1])
    clips = noise(3, 3, 12, 15, 2)
    padded = torch.arange(12) >= lengths[:, None]
    results = []
    for content in (0.0, 7.0):
        x = clips.masked_fill(padded[:, None, :, None, None], content).requires_grad_()
        model = small().train()
        if method == "reconstruct":
            loss = (model.reconstruct(x, lengths) * ~padded[:, None, :, None, None]).sum()
        else:
            torch.nn.init.ones_(model.forecaster.offset.weight)
            loss = model.predict_future(x, clips[:, :, 0], lengths)[1].square().mean()
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert not x.grad.movedim(2, 1)[padded].any()
        results.append((loss.detach(), *gradients))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert any(gradient.any() for gradient in results[0][1:])


def test_whole_clips_do_not_depend_on_whether_lengths_are_said():
    model = randomise(small())
    x = noise(2, 3, 9, 15, 2)
    whole = torch.tensor([9, 9])
    with torch.inference_mode():
        torch.testing.assert_close(model.reconstruct(x, whole), model.reconstruct(x))
        torch.testing.assert_close(predicted(model, x, whole), predicted(model, x))


# --------------------------------------------------------------------- the encoder


def test_the_encoder_is_handed_on_as_an_stgcn():
    options = {**SMALL, "adaptive": True, "pool": "joints"}
    auto = randomise(small(**options))
    plain = create_model("stgcn", layout="jhmdb15", num_classes=4, **options).eval()
    plain.load_state_dict(auto.encoder.state_dict())
    x = noise(2, 3, 9, 15, 2)
    with torch.inference_mode():
        assert torch.equal(plain(x), auto(x))
        assert torch.equal(plain.forward_features(x), auto.forward_features(x))
        assert torch.equal(predicted(auto, x), predicted(auto, x))
    assert auto.num_features == plain.num_features == 16


def test_it_starts_from_the_weights_of_an_stgcn_of_the_same_seed():
    auto = small()
    torch.manual_seed(0)
    plain = create_model("stgcn", layout="jhmdb15", num_classes=4, **SMALL)
    state = auto.encoder.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in plain.state_dict().items())


# --------------------------------------------------------------------- mistakes


def test_mistakes_are_told():
    x = noise(2, 3, 9, 15, 1)
    with pytest.raises(ModelError, match=r"without a forecaster \(future=0\): give the number"):
        small(future=0).predict_future(x, x[:, :, -1])
    with pytest.raises(ModelError, match=r"to be \(2, 3, 15, 1\), got \(2, 3, 1, 15, 1\)"):
        small().predict_future(x, x[:, :, -1:])
    with pytest.raises(ModelError, match=r"expected input \(N, 3, T, 15, M\)"):
        small().reconstruct(noise(2, 3, 9, 20, 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"future": -1}, "0 or more, got -1"),
        ({"future": 2.5}, "future: input should be a valid integer, got 2.5"),
        ({"bottleneck": "vectors"}, "unknown bottleneck 'vectors' .did you mean 'vector'"),
        ({"temporal_kernel": 4}, "odd and positive, got 4"),
        ({"faithful": True}, "no option 'faithful'"),
    ],
)
def test_options_that_make_no_model(options, message):
    with pytest.raises((ModelError, UnknownNameError), match=message):
        small(**options)
