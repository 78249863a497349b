"""A step network is the clip network: what it says after the last frame is what that says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kinegraph.errors import ModelError
from kinegraph.ops.step_context import StepContext
from kinegraph.runtime.fuse import optimize_for_inference, relative_error
from kinegraph.runtime.step import UNKNOWN_LENGTH, StepNetwork
from models.networks import LOCAL, case_name, clips, settled


def stepped(step: StepNetwork, x: Tensor, hops: int, noise: bool = True) -> Tensor:
    """A clip through a step network, ``hops`` hops at a time; around it is noise."""
    S, C, T, V, M = x.shape
    network = step.network
    after = network.delay + (-(T + network.hop - 1 + network.delay)) % (network.hop * hops)
    fill = torch.randn if noise else torch.zeros
    padded = torch.cat([fill(S, C, network.hop - 1, V, M), x, fill(S, C, after, V, M)], dim=2)
    state = step.initial_state(S)
    before, end = torch.zeros(S, dtype=torch.int64), torch.full((S,), T)
    for frames in padded.split(network.hop * hops, dim=2):
        logits, *state = step(frames, before, end, *state)
        before = before + frames.shape[2]
    return logits


@pytest.mark.parametrize("case", LOCAL, ids=case_name)
@torch.inference_mode()
def test_steps_equal_the_clip(case):
    model = settled(*case)
    step = StepNetwork(optimize_for_inference(model), persons=2)
    for frames, hops in ((1, 1), (2, 1), (7, 2), (26, 1), (26, 3)):
        x = clips(frames)
        assert relative_error(stepped(step, x, hops), model(x)) < 1e-5


@torch.inference_mode()
def test_streams_of_different_ages_go_together():
    step = StepNetwork(optimize_for_inference(settled("stgcn", LOCAL[0][1])), persons=1)
    x = clips(24)[:2, ..., :1]
    alone, both = [step.initial_state(1), step.initial_state(1)], None
    ages = torch.tensor([0, 0])
    ages[0] = 4
    never = torch.full((1,), UNKNOWN_LENGTH)
    _, *alone[0] = step(x[:1, :, :4], ages[1:], never, *alone[0])
    both = [torch.cat(pair) for pair in zip(*alone, strict=True)]
    together, *_ = step(x[:, :, 4:8], ages, never.expand(2), *both)
    for i in range(2):
        single, *_ = step(x[i : i + 1, :, 4:8], ages[i : i + 1], never, *alone[i])
        torch.testing.assert_close(together[i], single[0], equal_nan=True)


@pytest.mark.parametrize("pool", ["mean", "joints"])
@torch.inference_mode()
def test_a_window_forgets(pool):
    model = settled("stgcn", {"channels": (8,), "strides": (1,), "pool": pool})
    network = optimize_for_inference(model)
    x = clips(30)
    features = model.forward_features(x)[..., -6:, :]
    expected = model.forward_head(features, present=torch.tensor([[1, 1], [1, 1], [1, 0]]).bool())
    for hops in (1, 4):
        got = stepped(StepNetwork(network, persons=2, window=6), x, hops)
        assert relative_error(got, expected) < 1e-5
    long = stepped(StepNetwork(network, persons=2, window=1000), x, 1)
    assert relative_error(long, model(x)) < 1e-5


@torch.inference_mode()
def test_nothing_is_known_before_the_first_feature():
    network = optimize_for_inference(settled("stgcn", LOCAL[0][1]))
    step = StepNetwork(network, persons=2)
    before, state = torch.zeros(3, dtype=torch.int64), step.initial_state(3)
    never = torch.full((3,), UNKNOWN_LENGTH)
    answered = []
    for _ in range(12):
        logits, *state = step(clips(network.hop), before, never, *state)
        before = before + network.hop
        answered.append(bool(logits.isfinite().all()))
        assert answered[-1] == (int(before[0]) >= network.first_answer)
    assert answered[0] is False and answered[-1] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"persons": 0}, "at least one person"),
        ({"persons": 1, "window": 0}, "window of 1 to 100000 frames, got 0"),
        ({"persons": 1, "window": 2.5}, "got 2.5"),
        ({"persons": 1, "window": 10**10}, "got 10000000000"),
    ],
)
def test_what_is_no_stream_is_refused(options, message):
    network = optimize_for_inference(settled("stgcn", LOCAL[0][1]))
    with pytest.raises(ModelError, match=message):
        StepNetwork(network, **options)


def test_a_mean_of_hours_does_not_drift():
    """Twenty thousand equal hops, as of somebody who stands still."""
    network = optimize_for_inference(settled("stgcn", {"channels": (8,), "strides": (1,)}))
    step = StepNetwork(network, persons=1)
    features = torch.rand(1, 1, 20, 8)
    kept = [torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 8)]
    for _ in range(20_000):
        hop = StepContext(torch.zeros(1), None, kept, mask=False)
        pooled = step._pool(features, hop)
        kept = hop.next_state
    torch.testing.assert_close(pooled, features.mean(dim=(1, 2)), rtol=1e-6, atol=0)


@torch.inference_mode()
def test_a_window_forgets_who_has_left():
    network = optimize_for_inference(settled("stgcn", LOCAL[0][1]))
    left, never = clips(200)[:1], clips(200)[:1]
    left[:, :, 20:, :, 1] = never[..., 1] = 0
    both = [
        stepped(StepNetwork(network, persons=2, window=8), x, 1, noise=False) for x in (left, never)
    ]
    assert relative_error(both[0], both[1]) < 1e-5


@torch.inference_mode()
def test_what_stands_before_the_clip_does_not_matter_even_if_it_is_no_number():
    model = settled("shiftgcn", {**LOCAL[4][1], "excitation": {"kind": "me", "reduction": 4}})
    step, x = StepNetwork(optimize_for_inference(model), persons=2), clips(9)[:1]
    hop = step.network.hop
    before, end, state = torch.zeros(1, dtype=torch.int64), torch.tensor([9]), step.initial_state(1)
    after = step.network.delay + -(hop - 1 + 9 + step.network.delay) % hop
    nothing = torch.full((1, 3, 1, 20, 2), float("nan"))
    padded = torch.cat(
        [nothing.expand(-1, -1, hop - 1, -1, -1), x, nothing.expand(-1, -1, after, -1, -1)], dim=2
    )
    for frames in padded.split(hop, dim=2):
        logits, *state = step(frames, before, end, *state)
        before = before + hop
    assert relative_error(logits, model(x)) < 1e-5
