"""How weights are fitted: an objective's loss, the schedule, averaged weights, what is frozen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from kinegraph.errors import TrainingError
from kinegraph.training.checkpoint import is_head_parameter
from kinegraph.training.distributed import MeanMetrics, average_buffers
from kinegraph.training.objectives import Batch, LossOutput, Objective
from kinegraph.training.recipe import TrainConfig


class TrainingModule(LightningModule):
    """Moves a model's weights towards an objective.

    Args:
        model: the model.
        objective: what it is trained for.
        settings: the recipe's train part.
        steps_per_epoch: optimizer steps, for the schedule.
        seed: of what the model draws, such as dropout.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        settings: TrainConfig,
        *,
        steps_per_epoch: int,
        seed: int,
    ) -> None:
        super().__init__()
        if settings.freeze_backbone:
            _freeze_backbone(model)
        self.model = model
        self.objective = objective
        self.settings = settings
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self.averaged = _averaged(model, settings.ema) if settings.ema else None
        self.means = MeanMetrics()

    @property
    def eval_model(self) -> nn.Module:
        """The model to validate, save and ship: averaged weights if there are any."""
        return self.model if self.averaged is None else self.averaged.module

    def on_train_batch_start(self, _: Batch, number: int) -> None:
        """Dropout draws alike, whatever loaders or a restart have drawn before.

        Each of several processes draws as one by itself would in its accumulated batches. A frozen
        backbone is in evaluation mode: its batch-norm statistics stand still.
        """
        share = self.settings.accumulate  # batches a step
        drawn = self.global_step * share + number % share
        drawn = drawn * self.trainer.world_size + self.global_rank
        torch.manual_seed(self.seed * 1_000_003 + drawn)
        if self.settings.freeze_backbone:
            self.model.eval()

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """One batch."""
        smoothing = self.settings.label_smoothing
        outcome = self.objective.compute_loss(self.model, batch, smoothing)
        self._count(outcome, batch)
        return outcome.loss

    def on_train_batch_end(self, *_: Any) -> None:
        """Average the weights after each batch, and what the processes have seen after the last."""
        self.average_weights()
        if self.trainer.is_last_batch:
            average_buffers(self)
            self._require_finite(self._log("train")["loss"])

    def average_weights(self) -> None:
        """Move the averaged weights towards the present ones, if there are any."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)

    def validation_step(self, batch: Batch, _: int) -> None:
        """One held-out batch, answered by the averaged weights."""
        self.eval_model.eval()
        self._count(self.objective.compute_loss(self.eval_model, batch), batch)

    def on_validation_epoch_end(self) -> None:
        """Tell what came of all held-out batches."""
        self._log("val")

    def _count(self, outcome: LossOutput, batch: Batch) -> None:
        clips = len(batch.labels)
        self.means.add("loss", outcome.loss * clips, clips)
        for name, value in outcome.metrics.items():
            self.means.add(name, value * clips, clips)
        if outcome.logits is not None:
            right = outcome.logits.argmax(dim=1) == batch.labels
            self.means.add("accuracy", right.sum(), clips)

    def _log(self, split: str) -> Mapping[str, float]:
        means = self.means.take()
        for name, value in means.items():
            self.log(f"{split}_{name}", value, on_step=False, on_epoch=True, batch_size=1)
        return means

    def _require_finite(self, loss: float) -> None:
        """A loss that is no number any more never becomes one again.

        Raises:
            TrainingError: it is none; what was saved after the epochs before stays.
        """
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss of epoch {self.current_epoch + 1} is {loss}, the training has diverged: "
                f"lower train.lr (now {self.settings.lr:g}), or limit gradients by train.clip_grad"
            )

    def configure_optimizers(self) -> dict[str, Any]:
        """The optimizer with its learning rate scheduled per step."""
        s = self.settings
        groups = self.objective.parameter_groups(self.model, s.weight_decay)
        optimizer: torch.optim.Optimizer
        if s.optimizer == "sgd":
            nesterov = s.nesterov and s.momentum > 0
            optimizer = torch.optim.SGD(groups, lr=s.lr, momentum=s.momentum, nesterov=nesterov)
        else:
            optimizer = torch.optim.AdamW(groups, lr=s.lr)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(s, step / self.steps_per_epoch)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def learning_rate_factor(settings: TrainConfig, epoch: float) -> float:
    """The share of the base learning rate at a (fractional) epoch.

    A linear warm-up, then ``gamma`` to the number of milestones passed, or half a cosine
    over ``cosine_epochs`` (default: all epochs; past its end it rises again).
    """
    s = settings
    if epoch < s.warmup_epochs:
        return (epoch + 1e-3) / (s.warmup_epochs + 1e-3)
    if s.schedule == "step":
        return float(s.gamma ** sum(m <= epoch + 1e-9 for m in s.milestones))
    if s.schedule == "cosine":
        length = (s.cosine_epochs or s.epochs) - s.warmup_epochs
        return 0.5 * (1 + math.cos(math.pi * (epoch - s.warmup_epochs) / max(length, 1e-6)))
    return 1.0


def _freeze_backbone(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_head_parameter(name))


def _averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential average that starts short, so that few steps are enough to forget the init."""

    def average(old: Tensor, new: Tensor, updates: Tensor | int) -> Tensor:
        share = 1 - min(decay, (1 + int(updates)) / (10 + int(updates)))
        return old.lerp(new.to(old.dtype), share) if old.is_floating_point() else new

    return AveragedModel(model, avg_fn=average, use_buffers=True).requires_grad_(False)
