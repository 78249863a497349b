"""Explanation of a prediction: the importance of each joint in each frame, and a test of it.

Two methods give importance, both for the log-odds of one class, against all others or some of them:

- *Integrated gradients* (Sundararajan, Taly and Yan, ICML 2017) on the input of the network, which
  all streams are computed into: x - b times the mean gradient between a baseline b and the input x,
  summed over channels. The baseline is the mean input of each joint over time, a body that stands
  still. What a frame of the input gets goes to the frame of the clip that it was taken from, and
  what a joint gets to the joints that it was converted from.
- *Occlusion* of the clip itself: each joint stands still at its mean position during one of
  `SEGMENTS` parts of the clip, and the importance is the drop of the log-odds.

A deletion curve tests both: joints of more and more parts are frozen, the most important first, and
the probability of the class must fall faster than in random order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinegraph.clips.clip import Clip
from kinegraph.errors import CheckpointError, unknown_name
from kinegraph.inference.backends.exported_model import is_exported
from kinegraph.inference.recognizer import Recognizer
from kinegraph.models.base import predict_logits
from kinegraph.skeleton.joint_mapping import map_joints
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.pair_layout import is_pair, single_layout
from kinegraph.training.batch import Batch

SEGMENTS = 8  # parts of a clip in which joints are occluded and deleted
GRADIENT_STEPS = 32
RANDOM_ORDERS = 10
DELETED_SHARES = tuple(k / 10 for k in range(11))
BATCH_SIZE = 16
METHODS = ("integrated gradients", "occlusion")

Importance = NDArray[np.float64]  # (M, T, V)


@dataclass(frozen=True)
class DeletionCurve:
    """Probabilities (K,) of a class after K shares of the joints were frozen, and their mean."""

    shares: tuple[float, ...]
    probabilities: NDArray[np.float64]

    @property
    def area(self) -> float:
        """The area under the curve, by trapezoids: smaller is better."""
        return float(np.trapezoid(self.probabilities, self.shares))


@dataclass(frozen=True)
class Explanation:
    """The importance of the joints of a clip for one class.

    Attributes:
        clip: the clip.
        label, name, probability: the class that is explained; the probability is not calibrated.
        importance: by method, (M, T, V) for the persons, frames and joints of the clip; positive
            values support the class.
        curves: deletion curves by method.
        random: the mean curve over `RANDOM_ORDERS` random orders.
        residual: how far the integrated gradients miss the difference of the log-odds between
            input and baseline, which they sum to in theory, as a share of it.
    """

    clip: Clip
    label: int
    name: str
    probability: float
    importance: Mapping[str, Importance]
    curves: Mapping[str, DeletionCurve]
    random: DeletionCurve
    residual: float

    @property
    def best(self) -> str:
        """The method whose deletion curve has the smaller area."""
        return min(self.curves, key=lambda method: self.curves[method].area)

    def joint_shares(self, method: str) -> dict[str, float]:
        """Return each joint's share of the absolute importance, the largest first."""
        total = np.abs(self.importance[method]).sum(axis=(0, 1))
        shares = total / max(float(total.sum()), 1e-12)
        order = np.argsort(-shares, kind="stable")
        return {self.clip.layout.joints[v]: float(shares[v]) for v in order}

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the clip's joints, for JSON."""
        return {
            "id": self.clip.id,
            "label": self.label,
            "name": self.name,
            "probability": round(self.probability, 6),
            "joints": list(self.clip.layout.joints),
            "importance": {
                method: np.round(values, 5).tolist() for method, values in self.importance.items()
            },
            "deletion": {
                "shares": list(self.random.shares),
                **{
                    name: {"area": round(c.area, 4), "probabilities": c.probabilities.tolist()}
                    for name, c in [*self.curves.items(), ("random", self.random)]
                },
            },
        }


def load_explainable(run: str | Path) -> Recognizer:
    """Return the classifier of a run, checkpoint or bundled model.

    Raises:
        CheckpointError: the file is missing, damaged or exported, or does not name actions.
    """
    if is_exported(Path(run)):
        raise CheckpointError(
            f"{run} is an exported model, which has no gradients: explain the run that it is from"
        )
    return Recognizer.load(run)


def explain(
    model: Recognizer,
    clip: Clip,
    action: str | None = None,
    seed: int = 0,
    *,
    against: str | None = None,
) -> Explanation:
    """Explain the prediction of a class for a clip.

    Args:
        model: the classifier.
        clip: the clip.
        action: name of the class; None for the most probable one.
        seed: of the random orders.
        against: name of the only other class that counts; None for all others.

    Raises:
        CheckpointError, TransformError: the clip does not fit the model.
        UnknownNameError: the model has no such class.
    """
    logits = _score_clips(model, [clip])[0]
    label = int(logits.argmax()) if action is None else _find_class(model, action)
    if against is None:
        others = [k for k in range(model.header.num_classes) if k != label]
    else:
        others = [_find_class(model, against)]
    classes = (label, *others)
    gradients, residual = _integrate_gradients(model, clip, classes)
    units = _list_units(clip)
    occlusion = _occlude_units(model, clip, classes, units)
    importance = dict(zip(METHODS, (gradients, occlusion), strict=True))
    rng = np.random.default_rng(seed)
    curves = {
        method: _trace_deletion(model, clip, classes, _rank_units(values, units))
        for method, values in importance.items()
    }
    orders = [[units[k] for k in rng.permutation(len(units))] for _ in range(RANDOM_ORDERS)]
    random = np.mean(
        [_trace_deletion(model, clip, classes, o).probabilities for o in orders], axis=0
    )
    return Explanation(
        clip,
        label,
        model.header.class_name(label),
        float(_to_probabilities(logits, classes)),
        importance,
        curves,
        DeletionCurve(DELETED_SHARES, random),
        residual,
    )


def attribute(
    model: Recognizer, clip: Clip, classes: Sequence[int], method: str = METHODS[1]
) -> Importance:
    """Return the importance (M, T, V) of joints and frames by one method, without its test.

    Args:
        model: the classifier.
        clip: the clip.
        classes: the label that is explained, followed by those that it is compared with.
        method: one of `METHODS`.

    Raises:
        CheckpointError, TransformError: the clip does not fit the model.
        UnknownNameError: an unknown method.
    """
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    if method == METHODS[0]:
        return _integrate_gradients(model, clip, classes)[0]
    return _occlude_units(model, clip, classes, _list_units(clip))


def _find_class(model: Recognizer, action: str) -> int:
    names = [model.header.class_name(label) for label in range(model.header.num_classes)]
    if action not in names:
        raise unknown_name("action", action, names)
    return names.index(action)


def _score_clips(model: Recognizer, clips: Iterable[Clip]) -> NDArray[np.float64]:
    """Return the logits (N, classes) of clips of equal length, each prepared by itself."""
    batches = (model.batch(clip) for clip in clips)
    found = []
    while part := list(islice(batches, BATCH_SIZE)):
        joined = Batch(*(torch.cat(tensors) for tensors in zip(*part, strict=True)))
        found.append(model.logits(joined))
    return np.concatenate(found).astype(np.float64)


def _to_probabilities(logits: NDArray[np.float64], classes: Sequence[int]) -> NDArray[np.float64]:
    """Return the probability (...) of the first of some classes among them."""
    chosen = logits[..., list(classes)]
    shares = np.exp(chosen - chosen.max(axis=-1, keepdims=True))
    return np.asarray(shares[..., 0] / shares.sum(axis=-1))


def _log_odds(logits: Tensor, classes: Sequence[int]) -> Tensor:
    """(N, classes) -> (N,), log p / (1 - p) of the first of some classes among them."""
    label, *others = classes
    return logits[:, label] - logits[:, others].logsumexp(dim=1)


# --------------------------------------------------------------------- integrated gradients


def _integrate_gradients(
    model: Recognizer, clip: Clip, classes: Sequence[int]
) -> tuple[Importance, float]:
    """Return the integrated gradients, mapped to the clip, and their residual."""
    batch = model.batch(clip)
    x = batch.x
    baseline = _still_input(x)
    gradient = torch.zeros_like(x)
    shares = (torch.arange(GRADIENT_STEPS, device=x.device) + 0.5) / GRADIENT_STEPS
    for part in shares.split(BATCH_SIZE):
        between = (baseline + part.view(-1, 1, 1, 1, 1) * (x - baseline)).requires_grad_()
        odds = _log_odds(_network_logits(model, between, batch.lengths), classes)
        gradient += torch.autograd.grad(odds.sum(), between)[0].sum(dim=0) / GRADIENT_STEPS
    attribution = (gradient * (x - baseline)).sum(dim=1)[0].double()
    with torch.no_grad():
        both = _log_odds(_network_logits(model, torch.cat([baseline, x]), batch.lengths), classes)
    change = float(both[1] - both[0])
    residual = abs(float(attribution.sum()) - change) / max(abs(change), 1e-6)
    return _map_to_clip(model, clip, attribution.cpu().numpy()), residual


def _network_logits(model: Recognizer, x: Tensor, lengths: Tensor) -> Tensor:
    return predict_logits(model.model, x, lengths.expand(len(x))).float()


def _still_input(x: Tensor) -> Tensor:
    """Return the input (1, C, T, V, M) with each joint at its mean where it is present.

    Channels that are equal for all joints, such as the position of the frame, remain.
    """
    present = (x != 0).any(dim=1, keepdim=True)
    number = present.sum(dim=2, keepdim=True).clamp(min=1)
    mean = x.sum(dim=2, keepdim=True) / number
    of_frame = (x == x[..., :1, :1]).flatten(2).all(dim=2).view(1, -1, 1, 1, 1)
    return torch.where(of_frame, x, torch.where(present, mean, torch.zeros_like(x)))


def _map_to_clip(
    model: Recognizer, clip: Clip, attribution: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the attribution (T', V', M') of the input as (M, T, V) of the clip.

    Padding that repeats the clip counts for the frames that it repeats.
    """
    prepared = model.pipeline(model.preprocessor.fit(clip))
    T = clip.num_real_frames
    frames = np.round((prepared.frame_positions + 1) / 2 * T).astype(int) % T
    layout: SkeletonLayout = model.model.layout  # type: ignore[assignment]
    rows = np.moveaxis(attribution, 2, 0)
    if is_pair(layout):
        layout = single_layout(layout)
        rows = np.concatenate(np.split(rows, 2, axis=2))
    mapped = np.zeros((*clip.joints.shape[:2], clip.num_joints))
    for target, sources in enumerate(map_joints(clip.layout, layout)):
        for person in range(min(len(rows), clip.num_persons)):
            for source in sources:
                share = rows[person, :, target] / len(sources)
                np.add.at(mapped[person, :, source], frames, share)
    return mapped


# --------------------------------------------------------------------- occlusion and deletion

Unit = tuple[int, slice, int]  # person, frames, joint


def _list_units(clip: Clip) -> list[Unit]:
    """Return the joints in the parts of the clip in which they are present."""
    edges = np.linspace(0, clip.num_real_frames, min(SEGMENTS, clip.num_real_frames) + 1).round()
    parts = [slice(int(a), int(b)) for a, b in pairwise(edges)]
    return [
        (person, frames, joint)
        for person in range(clip.num_persons)
        for frames in parts
        for joint in range(clip.num_joints)
        if clip.valid[person, frames, joint].any()
    ]


def _freeze_units(clip: Clip, units: Sequence[Unit]) -> Clip:
    """Return the clip with the joints of some units at their mean position over the clip."""
    joints = np.array(clip.joints)
    for person, frames, joint in units:
        mean = np.nanmean(clip.joints[person, :, joint], axis=0)
        part = joints[person, frames, joint]
        joints[person, frames, joint] = np.where(np.isnan(part), part, mean)
    return clip.with_joints(joints)


def _occlude_units(
    model: Recognizer, clip: Clip, classes: Sequence[int], units: Sequence[Unit]
) -> Importance:
    """Return the drop of the log-odds when a unit is frozen, spread over its frames."""
    frozen: Iterator[Clip] = (_freeze_units(clip, [unit]) for unit in units)
    with_clip = torch.from_numpy(
        np.concatenate([_score_clips(model, [clip]), _score_clips(model, frozen)])
    )
    odds = _log_odds(with_clip, classes).numpy()
    importance = np.zeros((*clip.joints.shape[:2], clip.num_joints))
    for (person, frames, joint), own in zip(units, odds[1:], strict=True):
        importance[person, frames, joint] = (odds[0] - own) / (frames.stop - frames.start)
    return importance


def _rank_units(importance: Importance, units: Sequence[Unit]) -> list[Unit]:
    """Return the units by importance, the largest first."""
    return sorted(units, key=lambda unit: -importance[unit].sum())


def _trace_deletion(
    model: Recognizer, clip: Clip, classes: Sequence[int], order: Sequence[Unit]
) -> DeletionCurve:
    """Return the curve of freezing units in an order."""
    counts = [round(share * len(order)) for share in DELETED_SHARES]
    logits = _score_clips(model, (_freeze_units(clip, order[:count]) for count in counts))
    return DeletionCurve(DELETED_SHARES, _to_probabilities(logits, classes))
