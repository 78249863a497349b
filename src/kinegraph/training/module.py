"""How weights are fitted: an objective's loss, the schedule, averaged weights, what is frozen."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torchmetrics.classification import MulticlassAccuracy

from kinegraph.training.checkpoint import is_head
from kinegraph.training.objectives import Batch, Objective, Outcome
from kinegraph.training.recipe import TrainPart


class Fitting(LightningModule):
    """Moves a model's weights towards an objective.

    Args:
        model: the model.
        objective: what it is trained for.
        settings: the recipe's train part.
        num_classes: number of actions.
        steps_per_epoch: optimizer steps, for the schedule.
        seed: of what the model draws, such as dropout.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        settings: TrainPart,
        *,
        num_classes: int,
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
        self.accuracy = nn.ModuleDict(
            {
                "train_split": MulticlassAccuracy(max(2, num_classes), average="micro"),
                "val_split": MulticlassAccuracy(max(2, num_classes), average="micro"),
            }
        )

    @property
    def answering_model(self) -> nn.Module:
        """The model to validate, save and ship: averaged weights if there are any."""
        return self.model if self.averaged is None else self.averaged.module

    def on_train_batch_start(self, _: Batch, number: int) -> None:
        """Dropout draws alike, whatever loaders or a restart have drawn before.

        A frozen backbone is in evaluation mode: its batch-norm statistics stand still.
        """
        share = self.settings.accumulate  # batches a step
        drawn = self.global_step * share + number % share
        torch.manual_seed(self.seed * 1_000_003 + drawn)
        if self.settings.freeze_backbone:
            self.model.eval()

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """One batch."""
        smoothing = self.settings.label_smoothing
        outcome = self.objective.outcome(self.model, batch, smoothing)
        self._log("train", outcome, batch)
        return outcome.loss

    def on_train_batch_end(self, *_: Any) -> None:
        """Average the weights after each batch."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)

    def validation_step(self, batch: Batch, _: int) -> None:
        """One held-out batch, answered by the averaged weights."""
        self.answering_model.eval()
        self._log("val", self.objective.outcome(self.answering_model, batch), batch)

    def _log(self, split: str, outcome: Outcome, batch: Batch) -> None:
        count: dict[str, Any] = {
            "on_step": False,
            "on_epoch": True,
            "batch_size": len(batch.labels),
        }
        self.log(f"{split}_loss", outcome.loss, **count)
        for name, value in outcome.figures.items():
            self.log(f"{split}_{name}", value, **count)
        if outcome.logits is not None:
            accuracy = self.accuracy[f"{split}_split"]
            accuracy(outcome.logits, batch.labels)
            self.log(f"{split}_accuracy", accuracy, **count)

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


def learning_rate_factor(settings: TrainPart, epoch: float) -> float:
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
        parameter.requires_grad_(is_head(name))


def _averaged(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential average that starts short, so that few steps are enough to forget the init."""

    def average(old: Tensor, new: Tensor, updates: Tensor | int) -> Tensor:
        share = 1 - min(decay, (1 + int(updates)) / (10 + int(updates)))
        return old.lerp(new.to(old.dtype), share) if old.is_floating_point() else new

    return AveragedModel(model, avg_fn=average, use_buffers=True)
