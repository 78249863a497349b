"""Schedules and averaged weights, by hand values."""

from __future__ import annotations

import csv

import pytest
import torch

from kinegraph.errors import RecipeError
from kinegraph.models import create_model
from kinegraph.training.batch import Batch
from kinegraph.training.lightning_module import TrainingModule, learning_rate_factor
from kinegraph.training.mixup import compute_mixup_loss
from kinegraph.training.objectives import LossOutput, RecognitionObjective
from kinegraph.training.recipe import TrainConfig, parse_recipe
from kinegraph.training.train import train


def test_step_schedule_counts_the_milestones_passed():
    settings = TrainConfig(schedule="step", milestones=[10, 50], gamma=0.1)
    values = [learning_rate_factor(settings, e) for e in (0, 9.99, 10, 49.9, 50, 80)]
    assert values == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_cosine_falls_to_zero_and_rises_again_past_its_end():
    settings = TrainConfig(schedule="cosine", epochs=100, cosine_epochs=60)
    values = [0.05 * learning_rate_factor(settings, e) for e in (0, 30, 60, 90)]
    assert values == pytest.approx([0.05, 0.025, 0.0, 0.025])


def test_warm_up_starts_low_and_reaches_the_full_rate():
    settings = TrainConfig(schedule="constant", warmup_epochs=2)
    assert learning_rate_factor(settings, 0) < 0.01
    assert learning_rate_factor(settings, 1) == pytest.approx(0.5, abs=0.01)
    assert learning_rate_factor(settings, 2) == 1.0


class _Scalar(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor(0.0))


def test_the_average_starts_short_and_lags_behind():
    model = _Scalar()
    settings = TrainConfig(ema=0.99)
    module = TrainingModule(model, RecognitionObjective(), settings, steps_per_epoch=1, seed=0)
    for value in (1.0, 2.0, 3.0):
        model.w.data.fill_(value)
        module.average_weights()
    # first update copies; then shares 1 - 2/11 and 1 - 3/12
    expected = 1.0 + (2.0 - 1.0) * (1 - 2 / 11)
    expected += (3.0 - expected) * (1 - 3 / 12)
    assert module.eval_model.w.item() == pytest.approx(expected)
    assert module.model.w.item() == 3.0


def test_weighted_correct_answers_are_the_mean_class_accuracy():
    labels = torch.tensor([0, 0, 0, 1])
    answers = torch.tensor([0, 0, 1, 1])  # 2 of 3 and 1 of 1 right
    logits = torch.nn.functional.one_hot(answers, 2).float()
    weights = {"val": torch.tensor([4 / 6, 4 / 2])}
    settings = TrainConfig(class_weights="balanced")
    module = TrainingModule(
        _Scalar(),
        RecognitionObjective(),
        settings,
        steps_per_epoch=1,
        seed=0,
        class_weights=weights,
    )
    for part in (slice(0, 1), slice(1, 4)):
        batch = Batch(torch.zeros(1), labels[part], torch.zeros(1))
        output = LossOutput(torch.tensor(1.0), logits[part])
        module._add_metrics(output, batch, module._clip_weights("val", batch))
    means = module.metrics.compute_and_reset()
    assert means["accuracy"] == pytest.approx(3 / 4)
    assert means["mean_class"] == pytest.approx((2 / 3 + 1) / 2)


class FirstChannel(torch.nn.Module):
    """A model whose logits are the values of the first frame."""

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        return x[:, :, 0, 0, 0]


def test_mixup_mixes_clips_and_their_losses_alike():
    x = torch.randn(6, 3, 2, 1, 1)
    batch = Batch(x, torch.arange(6) % 3, torch.tensor([1, 2, 2, 1, 2, 1]))
    torch.manual_seed(4)
    output = compute_mixup_loss(
        RecognitionObjective(), FirstChannel(), batch, 1.0, 0.0, lambda mixed: None
    )
    torch.manual_seed(4)
    share = float(torch.distributions.Beta(1.0, 1.0).sample())
    share = max(share, 1 - share)
    assert 0.5 < share < 1
    order = torch.randperm(6)
    logits = (share * x + (1 - share) * x[order])[:, :, 0, 0, 0]
    torch.testing.assert_close(output.logits, logits)
    truth = torch.eye(3)[batch.labels] * share + torch.eye(3)[batch.labels[order]] * (1 - share)
    expected = -(truth * logits.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(output.loss, expected)


def test_mixup_needs_labels(tiny_recipe):
    tiny_recipe["train"]["mixup"] = 0.2
    assert parse_recipe(tiny_recipe, "tiny").train.mixup == 0.2
    tiny_recipe["model"] = {"name": "stgcn_autoencoder"}
    tiny_recipe["objective"] = {"name": "reconstruct"}
    with pytest.raises(RecipeError, match=r"'train.mixup' mixes labels, which only the objective"):
        parse_recipe(tiny_recipe, "tiny")


def test_a_training_with_mixup_learns(tiny_recipe, tmp_path):
    tiny_recipe["train"] |= {"mixup": 0.5, "epochs": 2}
    recipe = parse_recipe(tiny_recipe, "tiny")
    text = (train(recipe, tmp_path / "run") / "history.csv").read_text()
    losses = [float(row["train_loss"]) for row in csv.DictReader(text.splitlines())]
    assert len(losses) == 2 and all(loss > 0 for loss in losses)


def test_cosine_ends_at_the_lowest_learning_rate():
    settings = TrainConfig(lr=0.1, min_lr=0.001, schedule="cosine", epochs=20, warmup_epochs=10)
    values = [0.1 * learning_rate_factor(settings, e) for e in (10, 15, 20)]
    assert values == pytest.approx([0.1, 0.0505, 0.001])


@pytest.mark.parametrize("epochs", [0, 1])
def test_learned_graphs_get_no_gradient_while_they_are_frozen(epochs):
    model = create_model("agcn", layout="ntu25", num_classes=3, channels=[8], strides=[1])
    settings = TrainConfig(freeze_graph_epochs=epochs)
    module = TrainingModule(model, RecognitionObjective(), settings, steps_per_epoch=1, seed=0)
    optimizer = module.configure_optimizers()["optimizer"]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.randn(2, 3, 8, 25, 1)).square().sum().backward()
    module.on_before_optimizer_step(optimizer)
    optimizer.step()
    after = model.state_dict()
    assert torch.equal(before["blocks.0.gcn.edges"], after["blocks.0.gcn.edges"]) == bool(epochs)
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_a_model_without_learned_graphs_is_refused():
    data = {"name": "a", "store": "a.arrow", "protocol": "auto", "model": {"name": "shiftgcn"}}
    with pytest.raises(RecipeError, match="freeze_graph_epochs' freezes learned graphs, but"):
        parse_recipe({**data, "train": {"freeze_graph_epochs": 2}}, "a")
