"""Schedules and averaged weights, by hand values."""

from __future__ import annotations

import pytest
import torch

from kinegraph.training.lightning_module import TrainingModule, learning_rate_factor
from kinegraph.training.objectives import RecognitionObjective
from kinegraph.training.recipe import TrainConfig


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
