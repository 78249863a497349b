"""Training objectives: each one cuts its inputs and targets out of a batch and returns a loss.

Shapes: N clips, M persons, C channels, T frames, V joints, k future frames.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, normalize

from kinegraph.clips.intervals import IGNORED
from kinegraph.errors import ModelError, RecipeError, did_you_mean, unknown_name
from kinegraph.models.base import pool_clips, predict_logits
from kinegraph.models.layers import frames_at
from kinegraph.training.batch import Batch


class PosePrediction(NamedTuple):
    """Predicted and true poses, each (N, C, k, V, M).

    Attributes:
        true: the target.
        predicted: the model's output.
        baseline: a prediction without a model: the last pose repeated, or the clip's mean pose.
        seen: (N, k, V, M) bool; only these joints are scored.
    """

    true: Tensor
    predicted: Tensor
    baseline: Tensor
    seen: Tensor

    def squared_error(self) -> Tensor:
        """Return the mean squared error over seen joints and channels, in squared input units."""
        square = ((self.predicted - self.true) ** 2).mean(dim=1)
        return (square * self.seen).sum() / self.seen.sum().clamp(min=1)

    def mpjpe(self, of: Tensor) -> Tensor:
        """Return the mean per-joint position error of each clip, (N,) in input units.

        Ionescu et al. 2014 (Human3.6M). ``of`` is ``predicted`` or ``baseline``; NaN for a clip
        without seen joints.
        """
        distance = (of - self.true).square().sum(dim=1).sqrt() * self.seen
        return distance.flatten(1).sum(dim=1) / self.seen.flatten(1).sum(dim=1)


@dataclass(frozen=True)
class LossOutput:
    """Loss of a batch, logits if the objective is classification, and further metrics to log."""

    loss: Tensor
    logits: Tensor | None = None
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Objective:
    """Base class of the training objectives.

    Attributes:
        best_metric: the logged metric that selects the best epoch, and 1 (higher is better) or -1.
        required_method: the method that a model must have.
        is_classifier: whether the model learns to name actions.
        predicts_poses: whether `predict_poses` returns poses.
        reconstructs: whether these poses are the clip's own frames rather than future ones.
        names_frames: whether the model, which then has a frame head, learns the action of each
            frame.
        can_mix_labels: whether the loss is that of the labels alone, which mixup can mix.
        draws: number of random draws of each clip in a training batch, next to each other.
    """

    best_metric: tuple[str, int] = ("val_loss", -1)
    required_method = "forward"
    is_classifier = False
    predicts_poses = False
    reconstructs = False
    names_frames = False
    can_mix_labels = False
    draws = 1

    def compute_loss(
        self,
        model: nn.Module,
        batch: Batch,
        smoothing: float = 0,
        weights: Tensor | None = None,
    ) -> LossOutput:
        """Return loss and metrics of a batch.

        Args:
            smoothing: label smoothing.
            weights: (N,) factors of the clips' losses, for objectives that classify.
        """
        raise NotImplementedError

    def predict_poses(self, model: nn.Module, batch: Batch) -> PosePrediction | None:
        """Return predicted and true poses of a batch, or None without pose prediction."""
        return None

    def parameter_groups(self, model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        """Return the optimizer's parameter groups: those of the model without frozen parameters."""
        groups = model.parameter_groups(weight_decay)  # type: ignore[operator]
        kept = [
            {**group, "params": [p for p in group["params"] if p.requires_grad]} for group in groups
        ]
        return [group for group in kept if group["params"]]


class RecognitionObjective(Objective):
    """Action recognition: cross entropy on the labels, optionally with future poses as second task.

    Args:
        future_weight: weight of the mean squared error of the predicted future poses (AS-GCN,
            Li et al. 2019, section 4.4, uses 0.01). The model's option ``future`` is the number of
            frames at the end of each clip, before any padding, that it has to predict. For a model
            with ``faithful=True`` they are cut from the end of the *padded* clip, and all joints
            of only the first person are scored, as in AS-GCN's released code.
    """

    is_classifier = True

    def __init__(self, *, future_weight: float = 0.0) -> None:
        if future_weight < 0:
            raise RecipeError(f"recognition: future_weight must be 0 or more, got {future_weight}")
        self.future_weight = future_weight
        self.required_method = "predict_future" if future_weight else "forward"
        self.predicts_poses = future_weight > 0
        self.can_mix_labels = not future_weight

    def compute_loss(
        self,
        model: nn.Module,
        batch: Batch,
        smoothing: float = 0,
        weights: Tensor | None = None,
    ) -> LossOutput:
        if not self.future_weight:
            logits = predict_logits(model, batch.x, batch.lengths)
            return LossOutput(label_loss(logits, batch.labels, smoothing, weights), logits)
        logits, poses = _predict_future(model, batch, released=getattr(model, "faithful", False))
        loss = label_loss(logits, batch.labels, smoothing, weights)
        loss = loss + self.future_weight * poses.squared_error()
        return LossOutput(loss, logits, _pose_metrics(poses))

    def predict_poses(self, model: nn.Module, batch: Batch) -> PosePrediction | None:
        if not self.future_weight:
            return None
        return _predict_future(model, batch, released=getattr(model, "faithful", False))[1]


def label_loss(logits: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None) -> Tensor:
    """Return the mean cross entropy of a batch, each clip's multiplied by its weight.

    ``labels`` are classes (N,) or class probabilities (N, classes).
    """
    if weights is None:
        return cross_entropy(logits, labels, label_smoothing=smoothing)
    losses = cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    return (weights * losses).mean()


class SegmentationObjective(Objective):
    """The action of every frame: cross entropy of each stage of the head, and a smoothing loss.

    The smoothing loss is the truncated mean squared error of MS-TCN (Abu Farha and Gall, CVPR
    2019, equations 9 to 11): the squared difference of the log probabilities of neighboring
    frames, at most ``tau`` squared, the earlier frame without gradient.

    Args:
        smooth_weight: weight of the smoothing loss (0.15 in the paper).
        tau: largest difference that counts (4 in the paper).
    """

    best_metric = ("val_frame_accuracy", 1)
    names_frames = True

    def __init__(self, *, smooth_weight: float = 0.15, tau: float = 4.0) -> None:
        if smooth_weight < 0 or tau <= 0:
            raise RecipeError(
                "segmentation: expected smooth_weight of 0 or more and tau above 0, got "
                f"smooth_weight={smooth_weight}, tau={tau}"
            )
        self.smooth_weight = smooth_weight
        self.tau = tau

    def compute_loss(
        self,
        model: nn.Module,
        batch: Batch,
        smoothing: float = 0,
        weights: Tensor | None = None,
    ) -> LossOutput:
        labels = batch.labels
        stages = model.forward_stages(batch.x, batch.lengths)  # type: ignore[operator]
        loss = stages.new_zeros(())
        for logits in stages:
            loss = loss + cross_entropy(
                logits, labels, ignore_index=IGNORED, label_smoothing=smoothing
            )
            loss = loss + self.smooth_weight * self.smoothing_loss(logits, labels != IGNORED)
        seen = labels != IGNORED
        correct = (stages[-1].argmax(dim=1) == labels) & seen
        return LossOutput(loss, None, {"frame_accuracy": correct.sum() / seen.sum().clamp(min=1)})

    def smoothing_loss(self, logits: Tensor, seen: Tensor) -> Tensor:
        """Return the smoothing loss of logits (N, K, T) over pairs of frames that count (N, T)."""
        log_p = log_softmax(logits, dim=1)
        square = (log_p[..., 1:] - log_p[..., :-1].detach()).square().clamp(max=self.tau**2)
        pairs = seen[:, 1:] & seen[:, :-1]
        return (square.mean(dim=1) * pairs).sum() / pairs.sum().clamp(min=1)


class LinkInferenceObjective(Objective):
    """Link inference of AS-GCN: finds joints that move together by predicting the next frame.

    Negative log likelihood of the predicted poses plus the divergence of the link types from
    their prior (Li et al. 2019, equations 7 and 8).
    """

    required_method = "link_loss"

    def compute_loss(
        self,
        model: nn.Module,
        batch: Batch,
        smoothing: float = 0,
        weights: Tensor | None = None,
    ) -> LossOutput:
        losses = model.link_loss(batch.x, batch.lengths)  # type: ignore[operator]
        return LossOutput(losses["loss"], None, {"nll": losses["nll"], "kl": losses["kl"]})

    def parameter_groups(self, model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
        """Return the parameters of the link inference only."""
        parameters = list(model.link_parameters())  # type: ignore[operator]
        return [{"params": parameters, "weight_decay": weight_decay}]


class ContrastObjective(Objective):
    """Contrast: two random draws of a clip have similar pooled features, other clips others.

    The loss is NT-Xent (Chen et al., SimCLR, ICML 2020) of what the classifier reads, without a
    projection head. What the model is to ignore is what the recipe's random transforms change. In
    evaluation, which draws nothing, the two views are the halves of each clip.

    Args:
        temperature: divides the cosine similarities.
    """

    required_method = "forward_pooled"
    draws = 2

    def __init__(self, *, temperature: float = 0.2) -> None:
        if temperature <= 0:
            raise RecipeError(f"contrast: temperature must be above 0, got {temperature}")
        self.temperature = temperature

    def compute_loss(
        self,
        model: nn.Module,
        batch: Batch,
        smoothing: float = 0,
        weights: Tensor | None = None,
    ) -> LossOutput:
        views = batch if model.training else _halve(batch)
        unit = normalize(pool_clips(model, views.x, views.lengths), dim=1)
        similarity = (unit @ unit.T / self.temperature).fill_diagonal_(float("-inf"))
        partners = torch.arange(len(unit), device=unit.device) ^ 1
        found = (similarity.argmax(dim=1) == partners).float().mean()
        return LossOutput(cross_entropy(similarity, partners), None, {"found": found})


def _halve(batch: Batch) -> Batch:
    """Return the first and the second half of each clip, next to each other."""
    half = (batch.lengths + 1) // 2
    step = torch.arange(-(-batch.x.shape[2] // 2), device=batch.x.device)[None]
    parts = [
        frames_at(batch.x, torch.minimum(first[:, None] + step, batch.lengths[:, None] - 1))
        for first in (torch.zeros_like(half), batch.lengths - half)
    ]
    x = torch.stack(parts, dim=1).flatten(0, 1)
    return Batch(x, batch.labels.repeat_interleave(2, dim=0), half.repeat_interleave(2))


class PoseObjective(Objective):
    """Base class of objectives that only predict poses: mean squared error, selection by MPJPE."""

    best_metric = ("val_mpjpe", -1)
    predicts_poses = True

    def compute_loss(
        self,
        model: nn.Module,
        batch: Batch,
        smoothing: float = 0,
        weights: Tensor | None = None,
    ) -> LossOutput:
        poses = self.predict_poses(model, batch)
        return LossOutput(poses.squared_error(), None, _pose_metrics(poses))

    def predict_poses(self, model: nn.Module, batch: Batch) -> PosePrediction:
        raise NotImplementedError


class FuturePredictionObjective(PoseObjective):
    """Prediction of the last frames of each clip; the model's option ``future`` is their number.

    The baseline repeats the last pose (zero velocity). All poses are real frames, before any
    padding.
    """

    required_method = "predict_future"

    def predict_poses(self, model: nn.Module, batch: Batch) -> PosePrediction:
        return _predict_future(model, batch, released=False)[1]


class ReconstructionObjective(PoseObjective):
    """Reconstruction of each clip from its own features; the baseline is the clip's mean pose."""

    reconstructs = True
    required_method = "reconstruct"

    def predict_poses(self, model: nn.Module, batch: Batch) -> PosePrediction:
        given, true = self._given(model, batch), self._true(batch)
        seen = (true != 0).any(dim=1) & _real_frames(batch)[..., None, None]
        predicted = model.reconstruct(given, batch.lengths)  # type: ignore[operator]
        count = seen.sum(dim=1, keepdim=True).clamp(min=1)
        mean = ((true * seen[:, None]).sum(dim=2, keepdim=True) / count[:, None]).expand_as(true)
        return PosePrediction(true, predicted, mean, seen)

    def _given(self, model: nn.Module, batch: Batch) -> Tensor:
        return batch.x

    def _true(self, batch: Batch) -> Tensor:
        return batch.x


class ReversalObjective(ReconstructionObjective):
    """Reconstruction of each clip's real frames in reverse order.

    The pretext task ``rev_rec`` of Locality-Aware SGE.
    """

    def _true(self, batch: Batch) -> Tensor:
        return reverse_frames(batch.x, batch.lengths)


class DenoisingObjective(ReconstructionObjective):
    """Reconstruction of whole clips from clips with hidden joints and frames.

    Args:
        joints: fraction of joints hidden in every frame, in training only.
        frames: fraction of frames hidden in one block; in evaluation the block is in the middle.
    """

    def __init__(self, *, joints: float = 0.1, frames: float = 0.25) -> None:
        if not (0 <= joints < 1 and 0 <= frames < 1):
            raise RecipeError(
                "denoise: the hidden fractions must be at least 0 and below 1, got "
                f"joints={joints}, frames={frames}"
            )
        self.joints = joints
        self.frames = frames

    def _given(self, model: nn.Module, batch: Batch) -> Tensor:
        N, _, T, V, M = batch.x.shape
        span = int(self.frames * T)
        begin = torch.full((N, 1), (T - span) // 2)
        shown = torch.ones(N, 1, 1, V, M)
        if model.training:
            begin = torch.randint(0, T - span + 1, (N, 1))
            shown = (torch.rand(N, 1, 1, V, M) >= self.joints).float()
        frames = torch.arange(T)
        hidden = (frames >= begin) & (frames < begin + span)
        kept = (~hidden)[:, None, :, None, None] * shown
        return batch.x * kept.to(batch.x)


OBJECTIVES: dict[str, type[Objective]] = {
    "recognition": RecognitionObjective,
    "segmentation": SegmentationObjective,
    "links": LinkInferenceObjective,
    "contrast": ContrastObjective,
    "reconstruct": ReconstructionObjective,
    "reverse": ReversalObjective,
    "denoise": DenoisingObjective,
    "predict_future": FuturePredictionObjective,
}


def objective_options(name: str) -> dict[str, Any]:
    """Return the options of an objective with their defaults.

    Raises:
        UnknownNameError: there is no such objective.
    """
    if name not in OBJECTIVES:
        raise unknown_name("objective", name, OBJECTIVES)
    parameters = inspect.signature(OBJECTIVES[name]).parameters
    return {key: p.default for key, p in parameters.items()}


def create_objective(config: Mapping[str, Any]) -> Objective:
    """Create an objective from its ``name`` (default: recognition) and its options.

    Raises:
        UnknownNameError: there is no such objective.
        RecipeError: an option is unknown, or its value is invalid.
    """
    name = str(config.get("name", "recognition"))
    options = {str(key): value for key, value in config.items() if key != "name"}
    known = objective_options(name)
    for key in options:
        if key not in known:
            hint = did_you_mean(key, known)
            listed = ", ".join(known) or "none"
            raise RecipeError(f"objective {name!r} has no option {key!r}{hint}; known: {listed}")
    try:
        return OBJECTIVES[name](**options)
    except TypeError as error:
        raise RecipeError(f"objective {name!r}: invalid options {options}: {error}") from error


def split_future(batch: Batch, future: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Split each clip into its last k = ``future`` real frames and the context before them.

    A context shorter than T - k frames is padded as the clip was: with empty frames, or by
    repeating the context. A clip of k or fewer frames keeps one frame as its context.

    Returns:
        context (N, C, T-k, V, M), last (N, C, V, M), future (N, C, k, V, M), whether a future frame
        exists (N, k), and the real length of the context (N,).

    Raises:
        ModelError: the clips have k or fewer frames.
    """
    x, lengths = batch.x, batch.lengths
    T = x.shape[2]
    if future >= T:
        raise ModelError(
            f"cannot split {future} future frames off clips of {T} frames: use fewer future frames "
            "(model.future) or longer clips"
        )
    real = (lengths - future).clamp(min=1)[:, None]
    step = torch.arange(T - future, device=x.device)[None]
    shown = (x != 0).any(dim=1).flatten(2).any(dim=2)
    repeats = (shown & ~_real_frames(batch)).any(dim=1, keepdim=True)
    index = torch.where(step < real, step, torch.where(repeats, step % real, T - 1))
    ahead = real + torch.arange(future, device=x.device)[None]
    exists = ahead < lengths[:, None]
    true = frames_at(x, ahead.clamp(max=T - 1)) * exists[:, None, :, None, None]
    return frames_at(x, index), frames_at(x, real - 1)[:, :, 0], true, exists, real[:, 0]


def reverse_frames(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse the real frames of each clip, x (N, C, T, V, M); padding stays in place."""
    step = torch.arange(x.shape[2], device=x.device)[None]
    return frames_at(x, torch.where(step < lengths[:, None], lengths[:, None] - 1 - step, step))


def _predict_future(
    model: nn.Module, batch: Batch, *, released: bool
) -> tuple[Tensor, PosePrediction]:
    """Return logits and poses; ``released``: cut and scored as in the released AS-GCN code."""
    future = int(getattr(model, "future", 0))
    if future < 1:
        raise ModelError(
            "this model does not predict future frames: set its option `future`, such as "
            "model.future=10"
        )
    if released:
        context, true, lengths = batch.x[:, :, :-future], batch.x[:, :, -future:], batch.lengths
        last = context[:, :, -1]
        seen = torch.ones_like(true[:, 0], dtype=torch.bool)
        seen[..., 1:] = False
    else:
        context, last, true, exists, lengths = split_future(batch, future)
        has_last_pose = (last != 0).any(dim=1)[:, None]
        seen = (true != 0).any(dim=1) & exists[..., None, None] & has_last_pose
    logits, predicted = model.predict_future(context, last, lengths)  # type: ignore[operator]
    held = last.unsqueeze(2).expand_as(true)
    return logits, PosePrediction(true, predicted, held, seen)


def _real_frames(batch: Batch) -> Tensor:
    """Return which frames are not padding, (N, T) bool."""
    return torch.arange(batch.x.shape[2], device=batch.x.device) < batch.lengths[:, None]


@torch.no_grad()
def _pose_metrics(poses: PosePrediction) -> dict[str, Tensor]:
    """Return the mean errors of the clips that show any joint; empty if no clip does.

    A NaN would make the mean of the whole epoch NaN.
    """
    if not poses.seen.any():
        return {}
    return {
        "mpjpe": poses.mpjpe(poses.predicted).nanmean(),
        "baseline_mpjpe": poses.mpjpe(poses.baseline).nanmean(),
    }
