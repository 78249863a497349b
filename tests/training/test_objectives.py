"""Objectives: how the future is cut off, what counts as seen, what the losses are."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from kinegraph.errors import ModelError, RecipeError, UnknownNameError
from kinegraph.training.batch import Batch
from kinegraph.training.objectives import (
    OBJECTIVES,
    DenoisingObjective,
    FuturePredictionObjective,
    RecognitionObjective,
    ReconstructionObjective,
    ReversalObjective,
    create_objective,
    reverse_frames,
    split_future,
)


def counted(lengths: list[int], frames: int = 12, repeat: bool = False) -> Batch:
    """Clips whose every joint holds its frame's number, from 1 on; padding after ``lengths``."""
    step = torch.arange(frames)[None] % torch.tensor(lengths)[:, None] + 1.0
    if not repeat:
        step = step * (torch.arange(frames)[None] < torch.tensor(lengths)[:, None])
    x = step[:, None, :, None, None].expand(len(lengths), 3, frames, 5, 2).clone()
    return Batch(x, torch.zeros(len(lengths), dtype=torch.int64), torch.tensor(lengths))


def numbers(x: torch.Tensor) -> list[float]:
    """The frame numbers of a (C, T, V, M) clip."""
    return x[0, :, 0, 0].tolist()


def test_the_future_is_cut_before_the_padding():
    context, last, future, exists, lengths = split_future(counted([12, 7]), 3)
    assert numbers(context[0]) == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert numbers(future[0]) == [10, 11, 12]
    assert numbers(context[1]) == [1, 2, 3, 4, 0, 0, 0, 0, 0]
    assert numbers(future[1]) == [5, 6, 7]
    assert last[:, 0, 0, 0].tolist() == [9, 4]
    assert exists.all()
    assert lengths.tolist() == [9, 4]


def test_a_repeated_clip_repeats_what_is_left_of_it_and_never_its_future():
    context, _, future, _, _ = split_future(counted([7], repeat=True), 3)
    assert numbers(context[0]) == [1, 2, 3, 4, 1, 2, 3, 4, 1]
    assert numbers(future[0]) == [5, 6, 7]


def test_a_repeated_clip_may_begin_its_padding_with_an_empty_frame():
    batch = counted([7], repeat=True)
    batch.x[:, :, [0, 7]] = 0  # nobody is seen in the first frame, nor in its repetition
    context, *_ = split_future(batch, 3)
    assert numbers(context[0]) == [0, 2, 3, 4, 0, 2, 3, 4, 0]


def test_a_clip_shorter_than_the_future_keeps_one_frame_of_context():
    context, last, future, exists, lengths = split_future(counted([2]), 3)
    assert numbers(context[0])[:2] == [1, 0]
    assert last[0, 0, 0, 0] == 1
    assert numbers(future[0]) == [2, 0, 0]
    assert exists[0].tolist() == [True, False, False]
    assert lengths.tolist() == [1]


def test_batches_without_room_for_a_future_are_refused():
    with pytest.raises(ModelError, match="cannot split 12 future frames off clips of 12"):
        split_future(counted([12]), 12)


def test_reversing_twice_changes_nothing_and_padding_stays():
    batch = counted([12, 7])
    once = reverse_frames(batch.x, batch.lengths)
    assert numbers(once[1]) == [7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 0, 0]
    assert torch.equal(reverse_frames(once, batch.lengths), batch.x)


class Holds(nn.Module):
    """Predicts the last pose plus a learnt step, answers with a learnt bias."""

    future = 3

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return self.bias.expand(len(x), 2)

    def predict_future(self, context, last, lengths=None):
        poses = last.unsqueeze(2) + self.step * torch.arange(1, 4)[:, None, None]
        return self(context), poses

    def reconstruct(self, x, lengths=None):
        return x + self.step


def test_zero_velocity_is_the_baseline_of_the_future():
    model, batch = Holds(), counted([12, 7])
    poses = FuturePredictionObjective().predict_poses(model, batch)
    held = poses.mpjpe(poses.baseline)
    assert held.tolist() == pytest.approx([2 * 3**0.5] * 2)  # 1, 2, 3 frames on, three channels
    assert torch.equal(poses.mpjpe(poses.predicted), held)
    model.step.data.fill_(1.0)
    outcome = FuturePredictionObjective().compute_loss(model, batch)
    assert outcome.loss == 0
    assert float(outcome.metrics["mpjpe"]) == 0
    assert float(outcome.metrics["baseline_mpjpe"]) == pytest.approx(2 * 3**0.5)


def test_joints_that_are_absent_or_have_no_last_pose_do_not_count():
    batch = counted([12])
    batch.x[:, :, :, 1, :] = 0  # never seen
    batch.x[:, :, 8, 2, :] = 0  # not seen in the last frame of the context
    batch.x[:, :, :, :, 1] = 0  # no second person
    seen = FuturePredictionObjective().predict_poses(Holds(), batch).seen
    assert seen.shape == (1, 3, 5, 2)
    assert seen[0, 0, :, 0].tolist() == [True, False, False, True, True]
    assert not seen[..., 1].any()


@pytest.mark.parametrize(
    "objective", [FuturePredictionObjective(), ReconstructionObjective(), ReversalObjective()]
)
def test_padding_changes_neither_loss_nor_gradient(objective):
    def run(fill: float) -> tuple[float, float]:
        model, batch = Holds(), counted([7])
        batch.x[:, :, 10:] = fill  # frame 7 stays empty: the padding is no repetition
        loss = objective.compute_loss(model, batch).loss
        loss.backward()
        return loss.item(), model.step.grad.item()

    assert run(0.0) == run(5.0)


def test_recognition_adds_the_weighted_error_of_the_future():
    model, batch = Holds(), counted([12])
    plain = RecognitionObjective().compute_loss(model, batch)
    both = RecognitionObjective(future_weight=0.01).compute_loss(model, batch)
    squares = (1 + 4 + 9) / 3
    assert (both.loss - plain.loss).item() == pytest.approx(0.01 * squares)
    assert both.metrics.keys() == {"mpjpe", "baseline_mpjpe"}
    assert RecognitionObjective().predict_poses(model, batch) is None


def test_the_faithful_future_is_the_end_of_the_padded_clip_of_the_first_person():
    batch = counted([7], repeat=True)
    model = Holds()
    model.faithful = True
    poses = RecognitionObjective(future_weight=0.01).predict_poses(model, batch)
    assert numbers(poses.true[0]) == [3, 4, 5]  # frames 9 to 11 of 1..7, 1..5
    assert poses.seen[..., 0].all()
    assert not poses.seen[..., 1].any()


def test_denoising_hides_from_the_model_and_asks_for_everything():
    objective, batch = DenoisingObjective(joints=0.5, frames=0.25), counted([12] * 40)
    model = Holds().eval()
    poses = objective.predict_poses(model, batch)
    assert numbers(poses.predicted[0]) == [1, 2, 3, 4, 0, 0, 0, 8, 9, 10, 11, 12]
    assert torch.equal(poses.true, batch.x)
    assert poses.seen.all()
    torch.manual_seed(0)
    hidden = objective.predict_poses(model.train(), batch).predicted == 0
    assert float(hidden.float().mean()) == pytest.approx(1 - 0.5 * 0.75, abs=0.05)


def test_a_model_without_a_future_says_what_to_set():
    model = Holds()
    model.future = 0
    with pytest.raises(ModelError, match=r"model\.future=10"):
        FuturePredictionObjective().compute_loss(model, counted([12]))


def test_names_and_options_are_checked():
    assert set(OBJECTIVES) >= {"recognition", "links", "reconstruct", "reverse", "denoise"}
    with pytest.raises(UnknownNameError, match="did you mean 'reverse'"):
        create_objective({"name": "revers"})
    with pytest.raises(RecipeError, match=r"no option 'future' .*did you mean 'future_weight'"):
        create_objective({"future": 0.1})
    with pytest.raises(RecipeError, match="hidden fractions"):
        create_objective({"name": "denoise", "frames": 1.0})
    for options in ({"joints": "many"}, {"frames": None}):
        with pytest.raises(RecipeError, match="objective 'denoise': invalid options"):
            create_objective({"name": "denoise", **options})
    with pytest.raises(RecipeError, match="future_weight must be 0 or more"):
        create_objective({"future_weight": -1})


def test_a_batch_without_a_joint_that_counts_has_a_loss_but_no_figures():
    batch = counted([1])  # nothing follows its only frame
    outcome = FuturePredictionObjective().compute_loss(Holds(), batch)
    assert outcome.loss == 0
    assert outcome.metrics == {}


def test_weights_multiply_the_losses_of_the_clips():
    torch.manual_seed(0)
    logits, labels = torch.randn(4, 3), torch.tensor([0, 0, 0, 2])

    class Fixed(nn.Module):
        def forward(self, x):
            return logits

    batch = Batch(torch.zeros(4, 2, 5, 3, 1), labels, torch.full((4,), 5))
    alone = [float(cross_entropy(logits[i : i + 1], labels[i : i + 1])) for i in range(4)]
    weights = torch.tensor([2 / 3, 2 / 3, 2 / 3, 2.0])
    loss = RecognitionObjective().compute_loss(Fixed(), batch, weights=weights).loss
    assert float(loss) == pytest.approx((sum(alone[:3]) / 3 + alone[3]) / 2)


class Pooled(nn.Module):
    """A network whose pooled features are the mean of a clip's frames."""

    def forward_pooled(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=2).flatten(1)


def views(x: torch.Tensor) -> Batch:
    return Batch(x, torch.full((len(x),), -1), torch.full((len(x),), x.shape[2]))


def test_contrast_is_low_where_the_draws_of_a_clip_are_alike():
    objective, model = create_objective({"name": "contrast"}), Pooled().train()
    assert objective.draws == 2
    clips = torch.randn(6, 3, 4, 5, 1)
    alike = objective.compute_loss(model, views(clips.repeat_interleave(2, dim=0)))
    apart = objective.compute_loss(model, views(torch.cat([clips, clips])))
    assert alike.metrics["found"] == 1
    assert apart.metrics["found"] == 0
    assert alike.loss < 1 < apart.loss
    # every other row is at a right angle: e^5 against 2 (N - 1) times e^0
    rows = torch.eye(6).view(6, 6, 1, 1, 1).repeat_interleave(2, dim=0)
    loss = objective.compute_loss(model, views(rows)).loss
    torch.testing.assert_close(loss, torch.tensor(1 + 10 * math.exp(-5)).log())


def test_contrast_is_evaluated_with_the_halves_of_each_clip_without_its_padding():
    objective, model = create_objective({"name": "contrast"}), Pooled().eval()
    batch = counted([8, 5])
    batch.x[0, 0] *= -1  # so that the clips are apart
    output = objective.compute_loss(model, batch)
    assert output.metrics["found"] == 1
    batch.x[1, :, 5:] = 100 * torch.randn(3, 7, 5, 2)
    assert torch.equal(objective.compute_loss(model, batch).loss, output.loss)


def test_contrast_needs_a_temperature_above_zero():
    with pytest.raises(RecipeError, match="temperature must be above 0, got 0"):
        create_objective({"name": "contrast", "temperature": 0})
