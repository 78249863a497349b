"""Lightning module: loss, optimizer, learning rate schedule, weight averaging, freezing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import AveragedModel

from kinegraph.errors import TrainingError
from kinegraph.training.batch import Batch
from kinegraph.training.checkpoint import is_head_parameter
from kinegraph.training.distributed import MeanMetrics, average_buffers
from kinegraph.training.mixup import compute_mixup_loss
from kinegraph.training.objectives import LossOutput, Objective
from kinegraph.training.recipe import TrainConfig

#: Number of most probable classes among which the metric ``top5`` looks for the label.
TOP_CLASSES = 5
#: Name of the mean square of the clips' losses; what is logged is their standard deviation.
SQUARED_LOSS = "squared_loss"
#: Types of devices on which one kernel updates all parameters.
FUSED_DEVICES = ("cpu", "cuda")


class TrainingModule(LightningModule):
    """Trains a model with an objective.

    Args:
        steps_per_epoch: optimizer steps per epoch, for the schedule.
        seed: seed of the model's random numbers, such as dropout.
        class_weights: (classes,) weights by split (train, val, test): factors of the loss of
            clips of each class. The mean class accuracy is then logged too, as ``mean_class``.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        settings: TrainConfig,
        *,
        steps_per_epoch: int,
        seed: int,
        class_weights: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        if settings.freeze_backbone:
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(is_head_parameter(name))
        self.model = model
        self.objective = objective
        self.settings = settings
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self.averaged = _create_average(model, settings.ema) if settings.ema else None
        self.metrics = MeanMetrics()
        self.class_weights = class_weights

    @property
    def eval_model(self) -> nn.Module:
        """The model to validate and save: the one with averaged weights, if there is one."""
        return self.model if self.averaged is None else self.averaged.module

    def on_train_batch_start(self, _: Batch, number: int) -> None:
        """Seed the random numbers of this batch, independent of loaders and restarts.

        N processes draw the same numbers as one process in N accumulated batches. A frozen
        backbone stays in evaluation mode, so that its batch norm statistics do not change.
        """
        batches_per_step = self.settings.accumulate
        batch = self.global_step * batches_per_step + number % batches_per_step
        batch = batch * self.trainer.world_size + self.global_rank
        torch.manual_seed(self.seed * 1_000_003 + batch)
        if self.settings.freeze_backbone:
            self.model.eval()

    def training_step(self, batch: Batch, _: int) -> Tensor:
        smoothing, weights = self.settings.label_smoothing, self._clip_weights("train", batch)
        if self.settings.mixup:
            weigh = partial(self._clip_weights, "train")
            alpha = self.settings.mixup
            output = compute_mixup_loss(self.objective, self.model, batch, alpha, smoothing, weigh)
        else:
            output = self.objective.compute_loss(self.model, batch, smoothing, weights)
        self._add_metrics(output, batch, weights)
        return output.loss

    def on_before_optimizer_step(self, _: torch.optim.Optimizer) -> None:
        """Drop the gradients of learned graphs in the first epochs, if the recipe freezes them.

        Without a gradient an optimizer leaves a parameter as it is, and does not decay it either.
        """
        if self.current_epoch < self.settings.freeze_graph_epochs:
            model: Any = self.model
            for parameter in model.graph_parameters():
                parameter.grad = None

    def on_train_batch_end(self, *_: Any) -> None:
        """Update the averaged weights; after the last batch, average buffers and log metrics.

        Raises:
            TrainingError: the loss is NaN or infinite; the checkpoints of earlier epochs stay.
        """
        self.average_weights()
        if not self.trainer.is_last_batch:
            return
        average_buffers(self)
        loss = self._log("train")["loss"]
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss of epoch {self.current_epoch + 1} is {loss}, the training has diverged: "
                f"lower train.lr (now {self.settings.lr:g}), or clip gradients with train.clip_grad"
            )

    def average_weights(self) -> None:
        """Move the averaged weights, if there are any, towards the current ones."""
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)

    def validation_step(self, batch: Batch, _: int) -> None:
        """Evaluate a held-out batch, with the averaged weights if there are any."""
        self.eval_model.eval()
        output = self._evaluate_batch("val", batch)
        if output.logits is not None:
            losses = cross_entropy(output.logits.float(), batch.labels, reduction="none")
            weights = self._clip_weights("val", batch)
            losses = losses if weights is None else weights * losses
            self.metrics.add(SQUARED_LOSS, losses.square().sum(), len(losses))

    def on_validation_epoch_end(self) -> None:
        self._log("val")

    def evaluate_split(self, split: str, batches: Iterable[Batch]) -> None:
        """Evaluate the batches of a split as in validation, and log their metrics."""
        modes = {module: module.training for module in self.eval_model.modules()}
        self.eval_model.eval()
        with torch.no_grad(), self.trainer.precision_plugin.val_step_context():
            for batch in batches:
                self._evaluate_batch(split, self.trainer.strategy.batch_to_device(batch))
        for module, mode in modes.items():
            module.training = mode
        self._log(split)

    def _evaluate_batch(self, split: str, batch: Batch) -> LossOutput:
        weights = self._clip_weights(split, batch)
        output = self.objective.compute_loss(self.eval_model, batch, weights=weights)
        self._add_metrics(output, batch, weights)
        if output.logits is not None and output.logits.shape[1] > TOP_CLASSES:
            top = output.logits.topk(TOP_CLASSES).indices == batch.labels[:, None]
            self.metrics.add("top5", top.any(dim=1).sum(), len(batch.labels))
        return output

    def _clip_weights(self, split: str, batch: Batch) -> Tensor | None:
        """Return (N,) factors of the clips' losses."""
        if self.class_weights is None:
            return None
        return self.class_weights[split].to(batch.labels.device)[batch.classes]

    def _add_metrics(self, output: LossOutput, batch: Batch, weights: Tensor | None) -> None:
        clips = len(batch.labels)
        self.metrics.add("loss", output.loss * clips, clips)
        for name, value in output.metrics.items():
            self.metrics.add(name, value * clips, clips)
        if output.logits is not None:
            correct = output.logits.argmax(dim=1) == batch.classes
            self.metrics.add("accuracy", correct.sum(), clips)
            if weights is not None:
                self.metrics.add("mean_class", (weights * correct).sum(), clips)

    def _log(self, split: str) -> Mapping[str, float]:
        means = dict(self.metrics.compute_and_reset())
        if (square := means.pop(SQUARED_LOSS, None)) is not None:
            means["loss_std"] = math.sqrt(max(0.0, square - means["loss"] ** 2))
        for name, value in means.items():
            self.log(f"{split}_{name}", value, on_step=False, on_epoch=True, batch_size=1)
        return means

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Limit the norm of the gradients; Lightning refuses fused optimizers in bf16-mixed."""
        if gradient_clip_val:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, gradient_clip_val)

    def configure_optimizers(self) -> dict[str, Any]:
        """Return the optimizer and its learning rate schedule, which acts per step."""
        s = self.settings
        groups = self.objective.parameter_groups(self.model, s.weight_decay)
        # a fused step would unscale the gradients of float16 itself, after they were clipped
        is_fused = s.precision != "16-mixed" and self.device.type in FUSED_DEVICES
        fused: dict[str, Any] = {"fused": True} if is_fused else {}
        optimizer: torch.optim.Optimizer
        if s.optimizer == "sgd":
            nesterov = s.nesterov and s.momentum > 0
            options = {"momentum": s.momentum, "nesterov": nesterov, **fused}
            optimizer = torch.optim.SGD(groups, lr=s.lr, **options)
        else:
            optimizer = torch.optim.AdamW(groups, lr=s.lr, **fused)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(s, step / self.steps_per_epoch)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def learning_rate_factor(settings: TrainConfig, epoch: float) -> float:
    """Return the factor of the base learning rate at a (fractional) epoch.

    After a linear warm-up it is ``gamma`` to the power of the milestones passed, or half a cosine
    from ``lr`` to ``min_lr`` over ``cosine_epochs`` (default: all epochs; it rises again after
    their end).
    """
    s = settings
    if epoch < s.warmup_epochs:
        return (epoch + 1e-3) / (s.warmup_epochs + 1e-3)
    if s.schedule == "step":
        return float(s.gamma ** sum(m <= epoch + 1e-9 for m in s.milestones))
    if s.schedule == "cosine":
        length = (s.cosine_epochs or s.epochs) - s.warmup_epochs
        half = 0.5 * (1 + math.cos(math.pi * (epoch - s.warmup_epochs) / max(length, 1e-6)))
        lowest = s.min_lr / s.lr
        return lowest + (1 - lowest) * half
    return 1.0


def _create_average(model: nn.Module, decay: float) -> AveragedModel:
    """Create an exponential moving average; its decay grows, so that initial weights fade soon."""

    def average(old: Sequence[Tensor], new: Sequence[Tensor], updates: Tensor | int) -> None:
        weight = 1 - min(decay, (1 + int(updates)) / (10 + int(updates)))
        if old[0].is_floating_point():
            torch._foreach_lerp_(old, new, weight)
        else:
            for tensor, latest in zip(old, new, strict=True):
                tensor.copy_(latest)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True).requires_grad_(False)
