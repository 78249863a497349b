"""Actional link inference against the paper: hand values, directions, frames, gradients."""

from __future__ import annotations

import math

import pytest
import torch

from kinegraph.models.link_inference import (
    LinkDecoder,
    LinkInference,
    actional_adjacency,
    by_joints,
    draw_edges,
    edge_joints,
    even_link_frames,
    link_kl,
    pose_nll,
    released_link_frames,
    released_offset,
)


def test_a_constant_error_of_a_tenth_costs_1470():
    true = torch.randn(4, 25, 49, 3)
    assert pose_nll(true + 0.1, true).item() == pytest.approx(49 * 3 * 0.01 * 1000, rel=1e-4)


@pytest.mark.parametrize(
    ("probabilities", "value"), [((1 / 3, 1 / 3, 1 / 3), 33.0657), ((1.0, 0.0, 0.0), 1.2310)]
)
def test_divergence_of_equal_types_and_of_no_links(probabilities, value):
    p = torch.tensor(probabilities).expand(4, 600, 3)
    assert link_kl(p, 25).item() == pytest.approx(value, abs=1e-4)


def test_edges_are_all_pairs_receiver_by_receiver():
    senders, receivers = edge_joints(4)
    assert receivers.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert senders.tolist() == [1, 2, 3, 0, 2, 3, 0, 1, 3, 0, 1, 2]
    values = torch.randn(2, 12, 5)
    square = by_joints(values, 4)
    torch.testing.assert_close(square[:, receivers, senders], values)
    assert not square[:, range(4), range(4)].any()


def test_an_adjacency_leads_from_sender_to_receiver_and_its_columns_sum_to_a_tenth():
    senders, receivers = edge_joints(25)
    types = torch.zeros(600, dtype=torch.long)
    for source, target, kind in ((3, 7, 1), (4, 7, 1), (7, 3, 2)):
        types[(senders == source) & (receivers == target)] = kind
    first, second = actional_adjacency(torch.nn.functional.one_hot(types, 3).float()[None], 25)[0]
    torch.testing.assert_close(first[[3, 4, 7], 7], torch.full((3,), 0.1 / 3))
    torch.testing.assert_close(second[[3, 7], 3], torch.full((2,), 0.05))
    for links in (first, second):
        torch.testing.assert_close(links.sum(dim=0), torch.full((25,), 0.1))
        assert links.diagonal().min() >= 0.1 / 25
    assert (first != 0).sum() == 25 + 2


def test_seed_frames_tell_the_length_and_the_offset():
    frames = released_link_frames(torch.tensor([74]), 50, 10, 1)[0]
    assert frames[[0, 1, 2, 47]].tolist() == [1, 2, 3, 61]
    lengths = torch.arange(61, 301)
    same = [
        (int(length), start)
        for start in range(6)
        for length, row in zip(lengths, released_link_frames(lengths, 50, 10, start), strict=True)
        if row[[0, 1, 2, 47]].tolist() == [1, 2, 3, 61]
    ]
    assert same == [(74, 1)]


def test_released_frames_of_short_clips_are_the_first():
    frames = released_link_frames(torch.tensor([1, 60, 61]), 50, 10, 0)
    assert frames[:2].tolist() == [list(range(50))] * 2
    assert frames[2].tolist() == [math.floor(j * 51 / 50) for j in range(50)]


def test_released_offsets_stay_within_the_clip():
    torch.manual_seed(0)
    lengths = torch.arange(61, 301).repeat(20)
    offsets = released_offset(lengths, 50, 10)
    assert set(offsets[lengths == 74].tolist()) == {0, 1}
    assert (released_link_frames(lengths, 50, 10, offsets) < lengths[:, None] - 10).all()


def test_even_frames_cover_a_clip_and_repeat_those_of_a_short_one():
    frames = even_link_frames(torch.tensor([100, 5, 1]), 10)
    assert frames.tolist() == [
        list(range(0, 100, 10)),
        [0, 0, 1, 1, 2, 2, 3, 3, 4, 4],
        [0] * 10,
    ]
    lengths = torch.arange(1, 400)
    last = even_link_frames(lengths, 50, torch.full((399,), 0.999999, dtype=torch.float64))
    assert (last < lengths[:, None]).all()
    assert (last[:, -1] == lengths - 1).all()


def test_the_likeliest_type_is_taken_without_noise():
    logits = torch.randn(3, 20, 3)
    edges = draw_edges(logits, noise=False)
    assert torch.equal(edges.argmax(dim=-1), logits.argmax(dim=-1))
    assert edges.unique().tolist() == [0.0, 1.0]


def test_with_noise_types_come_as_often_as_their_probability():
    torch.manual_seed(0)
    probabilities = torch.tensor([0.6, 0.3, 0.1])
    edges = draw_edges(probabilities.log().expand(20_000, 3), noise=True)
    torch.testing.assert_close(edges.mean(dim=0), probabilities, rtol=0, atol=0.015)


def test_the_gradient_of_a_drawn_type_is_that_of_the_softmax():
    logits = torch.randn(6, 3, requires_grad=True)
    weight = torch.randn(6, 3)
    edges = draw_edges(logits, noise=False)
    torch.testing.assert_close(edges.sum(dim=-1), torch.ones(6))
    (through,) = torch.autograd.grad((edges * weight).sum(), logits)
    (soft,) = torch.autograd.grad((torch.softmax(logits / 0.5, -1) * weight).sum(), logits)
    torch.testing.assert_close(through, soft)


def test_faithful_divides_messages_by_channels():
    released, corrected = LinkDecoder(3, True).eval(), LinkDecoder(3, False).eval()
    state = released.state_dict()
    for key in list(state):
        if key.startswith("msg_fc"):
            layer, number, kind = key.split(".")
            value = state.pop(key)
            if number != "0":
                state[f"{layer}.{int(number) - 1}.{kind}"] = value
    corrected.load_state_dict(state)
    poses, edges = torch.randn(2, 6, 5, 3), draw_edges(torch.randn(2, 30, 3), noise=True)
    with torch.inference_mode():
        torch.testing.assert_close(corrected(poses, edges * 6 / 3), released(poses, edges))
        assert not torch.allclose(corrected(poses, edges), released(poses, edges), atol=1e-4)


def test_half_of_the_hidden_messages_are_dropped_in_training():
    torch.manual_seed(0)
    decoder, x = LinkDecoder(3, False), torch.randn(4, 5, 5, 128, requires_grad=True)
    y = decoder._dropped_tanh(x * 1.0)
    kept = y != 0
    assert kept.float().mean().item() == pytest.approx(0.5, abs=0.02)
    torch.testing.assert_close(y, 2 * torch.tanh(x) * kept)
    y.sum().backward()
    torch.testing.assert_close(x.grad, 2 * (1 - torch.tanh(x.detach()) ** 2) * kept)
    torch.testing.assert_close(decoder.eval()._dropped_tanh(x * 1.0), torch.tanh(x))


def test_a_pose_is_predicted_from_those_before_it():
    net = LinkInference(6, 3, 8, faithful=False).eval()
    poses, edges = torch.randn(1, 6, 8, 3), draw_edges(torch.randn(1, 30, 3), noise=True)
    changed = poses.clone()
    changed[:, :, 5] += 1
    with torch.inference_mode():
        difference = (net.decoder(changed, edges) - net.decoder(poses, edges)).abs()
    assert difference.amax(dim=(0, 1, 3)).nonzero().flatten().tolist() == [5, 6]


def test_a_message_goes_from_sender_to_receiver_only():
    net = LinkInference(6, 3, 4, faithful=False).eval()
    senders, receivers = edge_joints(6)
    types = torch.where((senders == 2) & (receivers == 4), 1, 0)
    edges = torch.nn.functional.one_hot(types, 3).float()[None]
    poses = torch.randn(1, 6, 4, 3)
    changed = poses.clone()
    changed[:, 2, 0] += 1
    with torch.inference_mode():
        difference = (net.decoder(changed, edges) - net.decoder(poses, edges)).abs()
    assert difference.amax(dim=(0, 2, 3)).nonzero().flatten().tolist() == [2, 4]


def test_training_lowers_the_loss_and_reaches_every_layer():
    torch.manual_seed(0)
    net = LinkInference(5, 2, 6, faithful=False)
    step = torch.randn(8, 5, 1, 2) / 10
    poses = torch.randn(8, 5, 1, 2) + step * torch.arange(6).view(1, 1, 6, 1)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    losses = []
    for _ in range(40):
        loss = net.loss(poses)
        torch.testing.assert_close(loss["nll"] + loss["kl"], loss["loss"])
        optimizer.zero_grad()
        loss["loss"].backward()
        assert all(p.grad is not None for p in net.parameters())
        optimizer.step()
        losses.append(loss["loss"].item())
    assert max(losses[-5:]) < 0.5 * losses[0]


def test_mixed_precision_trains_links_too():
    net = LinkInference(5, 3, 6, faithful=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = net.loss(torch.randn(4, 5, 6, 3))["loss"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None for p in net.parameters())
