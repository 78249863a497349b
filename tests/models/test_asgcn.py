"""AS-GCN against the paper and its released code: sizes, shapes, quirks, links, future poses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinegraph.clips.clip import Clip
from kinegraph.errors import ModelError, UnknownNameError
from kinegraph.models import create_model
from kinegraph.models.asgcn import ASGCN
from kinegraph.models.asgcn_layers import even_means, to_rest
from kinegraph.models.link_inference import released_link_frames
from kinegraph.skeleton.layouts import get_layout
from kinegraph.training.recipe import load_recipe
from kinegraph.transforms import Pipeline, to_array
from models.test_stgcn import randomise


def small(**options: object) -> ASGCN:
    settings = {"channels": [8, 8, 12], "strides": [1, 2, 1], "link_frames": 6, "future": 4}
    torch.manual_seed(0)
    return create_model("asgcn", layout="ntu25", num_classes=5, **{**settings, **options})


def clips(N: int = 3, T: int = 16, M: int = 2, C: int = 3) -> torch.Tensor:
    return torch.randn(N, C, T, 25, M, generator=torch.Generator().manual_seed(1))


def stirred(model: ASGCN) -> ASGCN:
    """Weights off their start values, statistics of real batches, links that differ by edge."""
    x = clips()
    randomise(model)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.links.encoder.fc_out.weight.mul_(20)
        logits = model.infer_links(x).probabilities.clamp(min=1e-9).log()
        model.links.encoder.fc_out.bias -= logits.mean(dim=(0, 1, 2))
        model.train().predict_future(x, x[:, :, -1])
    return model.eval()


def test_parameter_counts_are_the_published_ones():
    model = create_model("asgcn", layout="ntu25", num_classes=60, faithful=True)
    links = sum(p.numel() for p in model.link_parameters())
    assert links == 417_798
    assert sum(p.numel() for p in model.parameters()) - links == 6_987_478
    assert model.blocks[0].gcn.structural.A.shape == (9, 25, 25)


def test_weights_that_the_released_code_never_uses_exist_for_its_files_only():
    unused = {"forecast.unused_importance.0", "forecast.unused_importance.1"}
    for part in ("msg_fc1", "msg_fc2"):
        unused |= {f"links.decoder.{part}.2.{kind}" for kind in ("weight", "bias")}
    faithful, corrected = (set(small(faithful=f).state_dict()) for f in (True, False))
    assert faithful - corrected == unused
    assert corrected < faithful


def test_shapes_of_the_published_time_axis():
    model = create_model(
        "asgcn",
        layout="ntu25",
        num_classes=60,
        channels=(8, 8, 8, 12, 12, 12, 16, 16, 16),
        faithful=True,
    ).eval()
    shapes = []
    for block in (*model.blocks, *model.forecast.blocks):
        block.register_forward_hook(lambda _m, _i, y: shapes.append(tuple(y.shape[1:3])))
    context, last = torch.randn(1, 3, 290, 25, 2), torch.randn(1, 3, 25, 2)
    with torch.inference_mode():
        logits, predicted = model.predict_future(context, last)
        links = model.infer_links(context)
    assert shapes[:9] == [(8, 290)] * 3 + [(12, 145)] * 3 + [(16, 73)] * 3
    assert shapes[9:] == [(8, 73), (8, 37), (8, 19), (8, 10), (8, 5), (8, 1)]
    assert logits.shape == (1, 60)
    assert predicted.shape == (1, 3, 10, 25, 2)
    assert links.adjacency.shape == (1, 2, 2, 25, 25)
    assert links.probabilities.shape == links.edges.shape == (1, 2, 600, 3)
    torch.testing.assert_close(links.adjacency.sum(dim=3), torch.full((1, 2, 2, 25), 0.1))


@pytest.mark.parametrize("faithful", [False, True])
@pytest.mark.parametrize("parts", [2, 3])
def test_pieces_of_a_batch_give_what_the_whole_gives(faithful, parts):
    model = stirred(small(faithful=faithful))
    x, lengths = clips(N=7), torch.tensor([16, 9, 3, 16, 12, 1, 5])
    x[2, ..., 1] = 0

    def answers(x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, ...]:
        links = model.infer_links(x, lengths)
        future = model.predict_future(x[:, :, :-4], x[:, :, -5], (lengths - 4).clamp(min=1))
        return (model(x, lengths), *future, links.adjacency, links.edges)

    with torch.inference_mode():
        whole = answers(x, lengths)
        chunks = zip(torch.chunk(x, parts), torch.chunk(lengths, parts), strict=True)
        pieces = [torch.cat(part) for part in zip(*(answers(*c) for c in chunks), strict=True)]
    assert whole[-1].mean(dim=(0, 1, 2)).min() > 0.05
    for one, other in zip(whole, pieces, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_an_absent_person_does_not_count_unless_faithful():
    x = clips(M=1)
    with_ghost = torch.cat([x, torch.zeros_like(x)], dim=-1)
    for faithful in (False, True):
        model = stirred(small(faithful=faithful))
        with torch.inference_mode():
            same = torch.allclose(model(with_ghost), model(x), atol=1e-5)
            poses = model.predict_future(with_ghost[:, :, :-4], with_ghost[:, :, -5])[1]
            links = model.infer_links(with_ghost).adjacency
        assert same is not faithful
        assert bool(poses[..., 1].any()) is faithful
        assert bool(links[:, 1].any()) is faithful


@pytest.mark.parametrize("what", ["forward", "link_loss"])
def test_absent_persons_leave_batch_statistics_alone(what):
    x = clips(M=1)
    runs = []
    for batch in (x, torch.cat([x, torch.zeros_like(x)], dim=-1)):
        model = small(link_mode="drifting").train()
        torch.manual_seed(0)
        getattr(model, what)(batch)
        runs.append(model.state_dict())
    for key in runs[0]:
        torch.testing.assert_close(runs[0][key], runs[1][key], rtol=1e-4, atol=1e-5)


def test_padding_tells_nothing_about_links():
    model = stirred(small())
    x, lengths = clips(), torch.tensor([16, 10, 3])
    changed = x.clone()
    for clip, length in enumerate(lengths):
        changed[clip, :, length:] += 5
    with torch.inference_mode():
        given = model.infer_links(x, lengths).probabilities
        torch.testing.assert_close(model.infer_links(changed, lengths).probabilities, given)
        everything = model.infer_links(x).probabilities
        assert not torch.allclose(model.infer_links(changed).probabilities, everything)
        torch.testing.assert_close(everything[0], given[0])


def test_clips_of_any_length_have_an_answer():
    model = small().eval()
    with torch.inference_mode():
        for T in (1, 2, 5, 40):
            x = clips(T=T)
            assert model(x).shape == (3, 5)
            assert model.predict_future(x, x[:, :, -1])[1].shape == (3, 3, 4, 25, 2)


@pytest.mark.parametrize("C", [2, 6])
def test_any_number_of_channels_is_predicted(C):
    x = clips(C=C)
    model = small(in_channels=C).eval()
    assert model.predict_future(x, x[:, :, -1])[1].shape == (3, C, 4, 25, 2)
    assert torch.isfinite(model.link_loss(x)["loss"])


def test_a_frozen_link_inference_stands_still():
    model, x = small(link_mode="frozen").train(), clips()
    before = {key: value.clone() for key, value in model.links.state_dict().items()}
    model(x).sum().backward()
    assert not model.links.training
    assert all(p.grad is None for p in model.link_parameters())
    for key, value in model.links.state_dict().items():
        torch.testing.assert_close(value, before[key])


def test_quirk_7_a_drifting_link_inference_moves_without_learning():
    model, x = small(link_mode="drifting", faithful=True).train(), clips()
    before = model.links.encoder.mlp1.bn.running_mean.clone()
    model(x).sum().backward()
    assert model.links.training
    assert all(p.grad is None for p in model.link_parameters())
    assert not torch.allclose(model.links.encoder.mlp1.bn.running_mean, before)


def test_a_joint_link_inference_learns_from_the_labels():
    model = small(link_mode="joint").train()
    model(clips()).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.links.encoder.fc_out.parameters())
    assert all(p.grad is None for p in model.links.decoder.parameters())


def test_link_training_moves_the_link_inference_only_and_leaves_its_mode():
    model, x = small(link_mode="frozen").train(), clips()
    losses = model.link_loss(x)
    losses["loss"].backward()
    torch.testing.assert_close(losses["nll"] + losses["kl"], losses["loss"])
    learnt = {id(p) for p in model.link_parameters()}
    for parameter in model.parameters():
        assert (parameter.grad is not None) is (id(parameter) in learnt)
    assert not model.links.training
    assert model.links.encoder.mlp4.bn.num_batches_tracked == 1
    with torch.no_grad():
        model.eval()
        torch.testing.assert_close(model.link_loss(x)["loss"], model.link_loss(x)["loss"])
        assert model.links.encoder.mlp4.bn.num_batches_tracked == 1


def test_links_without_weight_are_as_no_links():
    torch.manual_seed(0)
    without = small(actional=False).eval()
    linked = stirred(small(link_weight=0.0))
    unweighted = linked.state_dict()
    linked.load_state_dict({**unweighted, **without.state_dict()})
    x = clips()
    with torch.inference_mode():
        torch.testing.assert_close(linked(x), without(x))
        linked.link_weight = 0.5
        assert not torch.allclose(linked(x), without(x), atol=1e-4)
    assert not list(without.link_parameters())
    for method in (without.infer_links, without.link_loss):
        with pytest.raises(ModelError, match="infers no links: build it with actional=True"):
            method(x)


def test_the_first_prediction_is_the_last_pose():
    x = clips()
    predicted = small().train().predict_future(x, x[:, :, -1])[1]
    assert torch.equal(predicted, x[:, :, -1:].expand(-1, -1, 4, -1, -1))


def test_the_future_is_learnt():
    model = small(dropout=0.0, actional=False).train()
    start = torch.randn(4, 3, 1, 25, 1, generator=torch.Generator().manual_seed(2))
    x = start * (1 + 0.1 * torch.arange(16).view(1, 1, 16, 1, 1))
    context, last, future = x[:, :, :12], x[:, :, 11], x[:, :, 12:]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = (model.predict_future(context, last)[1] - future).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_quirk_1_the_last_pose_is_scrambled():
    last = torch.tensor([0.0, 1.0, 2.0]).view(1, 3, 1, 1)
    held = {
        f: small(faithful=f, future=10)._held(last)[0, ..., 0, 0].tolist() for f in (False, True)
    }
    assert held[False] == [[0.0] * 10, [1.0] * 10, [2.0] * 10]
    assert held[True] == [
        [0, 1, 2, 0, 1, 2, 0, 1, 2, 0],
        [1, 2, 0, 1, 2, 0, 1, 2, 0, 1],
        [2, 0, 1, 2, 0, 1, 2, 0, 1, 2],
    ]


def test_quirk_2_the_second_block_is_evaluated_twice_in_training():
    for faithful in (False, True):
        model = small(faithful=faithful).train()
        model(clips())
        counts = [int(block.bn.num_batches_tracked) for block in model.blocks]
        assert counts == [1, 1 + faithful, 1]


def test_quirk_3_half_of_the_offsets_are_dropped_in_training():
    x = clips()
    for faithful in (False, True):
        model = stirred(small(faithful=faithful)).train()
        predicted = model.predict_future(x, x[:, :, -1])[1]
        dropped = (predicted == model._held(x[:, :, -1])).float().mean().item()
        assert dropped == pytest.approx(0.5 if faithful else 0.0, abs=0.05)


def test_quirk_8_transposed_convolutions_keep_their_start_weights():
    model = create_model(
        "asgcn", layout="ntu25", num_classes=5, channels=[32, 32], strides=[1, 1], faithful=True
    )
    assert model.blocks[1].gcn.structural.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.blocks[1].gcn.actional.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.forecast.blocks[1].tcn.weight.std().item() == pytest.approx(0.02, rel=0.1)
    for part, fan in ((model.forecast.gcn.structural, 330), (model.forecast.offset, 30)):
        assert part.weight.abs().max().item() == pytest.approx(fan**-0.5, rel=0.02)
        assert part.bias.abs().max() > 0.5 * fan**-0.5
    first = model.links.encoder.mlp1.fc1
    assert first.weight.std().item() == pytest.approx((2 / (150 + 128)) ** 0.5, rel=0.05)
    assert first.bias.unique().tolist() == [pytest.approx(0.1)]


def test_quirk_the_last_frames_are_not_seen():
    x = clips()
    changed = x.clone()
    changed[:, :, -4:] += 1
    for faithful in (False, True):
        model = stirred(small(faithful=faithful))
        with torch.inference_mode():
            assert torch.allclose(model(changed), model(x)) is faithful
    with pytest.raises(ModelError, match=r"last 4 frames .future. are not seen: .* got 4"):
        model(x[:, :, :4])


def test_quirk_joints_beyond_the_reach_count_as_equally_far():
    counts = {
        f: (small(faithful=f).blocks[0].gcn.structural.A != 0).sum(dim=(1, 2)).tolist()
        for f in (False, True)
    }
    assert counts[True] == [25, 28, 20, 34, 20, 30, 30, 40, 26]
    assert counts[False] == [25, 24, 24, 34, 20, 30, 30, 40, 26]


def moved_by_the_recipe(clip: Clip, name: str) -> tuple[np.ndarray, int]:
    """(C, T, V, M) and the real frames of a clip padded, and shifted in y from -0.2 to 0.1."""
    options = dict(load_recipe(name).pipeline().steps)
    drawn = {**options["random_move"], "angles": [0.0], "scales": [1.0], "shifts": [-0.2, 0.1]}
    pipeline = Pipeline([("repeat_pad", options["repeat_pad"]), ("random_move", drawn)])
    seed = next(seed for seed in range(99) if shifts_in_y(seed) == [0, 1])
    moved = pipeline(clip, np.random.default_rng(seed))
    return to_array(moved, 2), moved.num_real_frames


def shifts_in_y(seed: int) -> list[int]:
    """Which of two shifts `random_move` draws for the first and the last frame."""
    rng = np.random.default_rng(seed)
    return [rng.choice(np.arange(n), 2).tolist() for n in (1, 1, 2, 2)][-1]


def test_quirk_ghosts_move_in_the_released_recipe_and_not_in_ours():
    """A shift in y from -0.2 to 0.1 explains every figure that the seed dumped of person 2."""
    joints = np.random.default_rng(0).normal(size=(1, 74, 25, 3))
    clip = Clip(joints, get_layout("ntu25"))
    array, length = moved_by_the_recipe(clip, "asgcn_ntu60_xsub")
    assert length == 74
    ghost = array[1, :, 0, 1]
    assert (array[1, :, :, 1] == ghost[:, None]).all()
    assert ghost[[287, 289, 290, 297]].round(5).tolist() == pytest.approx(
        [0.08796, 0.08997, 0.09097, 0.09799], abs=1e-6
    )
    looked_at = ghost[released_link_frames(torch.tensor([length]), 50, 10, 1)[0]]
    assert looked_at[[0, 1, 2, 47]].round(5).tolist() == pytest.approx(
        [-0.19900, -0.19799, -0.19699, -0.13880], abs=1e-6
    )
    ours, _ = moved_by_the_recipe(clip, "asgcn_ntu60_xsub_corrected")
    assert ours[..., 0].any(axis=(0, 2)).all()
    assert not ours[..., 1].any()


def test_links_do_not_decay():
    model = small()
    others, links = model.parameter_groups(0.01)
    assert [id(p) for p in links["params"]] == [id(p) for p in model.link_parameters()]
    assert (others["weight_decay"], links["weight_decay"]) == (0.01, 0.0)


def test_every_block_drops_out_and_the_first_has_no_residual():
    model = small(dropout=0.3)
    assert [block.dropout.p for block in model.blocks] == [0.3] * 3
    assert [block.residual is None for block in model.blocks] == [True, False, False]
    assert model.takes_lengths


def test_edge_importance_is_learnt_unless_switched_off():
    model, x = stirred(small()).train(), clips()
    model.predict_future(x, x[:, :, -1])[1].square().sum().backward()
    convs = [block.gcn for block in (*model.blocks, *model.forecast.blocks)]
    for conv in (*convs, model.forecast.gcn):
        assert conv.structural.edge_importance.grad.abs().sum() > 0
    for faithful in (False, True):
        without = small(edge_importance=False, faithful=faithful)
        assert not [name for name, _ in without.named_parameters() if "importance" in name]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": [8, 8], "strides": [1]}, "as long as each other"),
        ({"temporal_kernel": 4}, "odd and positive, got 4"),
        ({"link_mode": "forzen"}, "unknown link_mode 'forzen' .did you mean 'frozen'"),
        ({"pool": "joint"}, "unknown pool 'joint' .did you mean 'joints'"),
        ({"link_frames": 1}, "link_frames of at least 2"),
        ({"future": -1}, "got link_frames=6, future=-1"),
        ({"link_weight": float("nan")}, "link_weight: .* got nan"),
        ({"max_hop": 0}, "max_hop: expected"),
        ({"dropout": 1.5}, "does not accept"),
    ],
)
def test_options_that_make_no_model(options, message):
    with pytest.raises((ModelError, UnknownNameError), match=message):
        small(**options)


def test_wrong_input_is_refused():
    model, x = small(), clips()
    with pytest.raises(ModelError, match=r"expected input \(N, 3, T, 25, M\)"):
        model(torch.zeros(1, 3, 10, 20, 1))
    with pytest.raises(ModelError, match=r"a length for each of the 3 clips, got \(2,\)"):
        model(x, torch.tensor([1, 2]))
    with pytest.raises(ModelError, match=r"to be \(3, 3, 25, 2\), got \(3, 3, 1, 25, 2\)"):
        model.predict_future(x, x[:, :, -1:])
    with pytest.raises(ModelError, match=r"predicts no future frames .future=0."):
        small(future=0).predict_future(x, x[:, :, -1])


@pytest.mark.parametrize("T", [1, 2, 4, 7, 13])
def test_means_without_pooling_are_those_of_pooling(T):
    y = torch.randn(2, 3, T, 4)
    torch.testing.assert_close(even_means(y), to_rest(y))
