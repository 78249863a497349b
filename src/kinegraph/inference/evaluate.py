"""Evaluation of a run on a split: accuracy, calibration error, confusion matrix."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.scores import Scores
from kinegraph.clips.splits import get_split_indices
from kinegraph.clips.store import ClipStore
from kinegraph.errors import CheckpointError, ProtocolError, StoreError
from kinegraph.inference.backends.exported_model import is_exported, read_manifest
from kinegraph.inference.calibration import Calibration
from kinegraph.inference.class_matching import NO_CLASS, match_classes
from kinegraph.inference.pose_errors import PoseErrors, PoseScorer
from kinegraph.inference.recognizer import Precision, Recognizer
from kinegraph.inference.trained_model import ProgressCallback
from kinegraph.training.checkpoint import CheckpointHeader, find_checkpoint, load_header
from kinegraph.training.data import split_training_clips

NUM_BINS = 15


@dataclass(frozen=True)
class ClassResult:
    """Accuracy of one class, None for a class without clips."""

    label: int
    name: str
    clips: int
    accuracy: float | None


@dataclass(frozen=True)
class ReliabilityBin:
    """Accuracy and mean confidence of the clips whose top probability is in (low, high]."""

    low: float
    high: float
    clips: int
    accuracy: float
    confidence: float


@dataclass(frozen=True)
class CleanResult:
    """Accuracy on the test clips without leaked ones, whose joints equal those of a training clip.

    Attributes:
        leaked: number of clips that are left out.
        clips: number of the others.
        top1: their accuracy, None if there are none.
    """

    leaked: int
    clips: int
    top1: float | None


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one split; all accuracies are fractions.

    Attributes:
        top1, top5: fraction of clips whose label is the first, among the first five.
        mean_class: mean of the classes' accuracies.
        ece: expected calibration error with 15 bins (Guo et al. 2017, equation 3).
        confusion: (classes, classes) counts, rows true, columns predicted.
        unknown: fraction of clips that a calibrated model answers with "unknown", else None.
        clean: the result without leaked clips, None if none is leaked.
        left_out: number of clips by class of the store, of classes that the model does not have;
            they are not in the metrics.
    """

    clips: int
    top1: float
    top5: float
    mean_class: float
    ece: float
    per_class: tuple[ClassResult, ...]
    confusion: NDArray[np.int64]
    bins: tuple[ReliabilityBin, ...]
    unknown: float | None = None
    clean: CleanResult | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as plain data, for JSON."""
        return {**asdict(self), "confusion": self.confusion.tolist()}


def evaluate_run(
    run: str | Path,
    *,
    store: ClipStore | None = None,
    protocol: str | None = None,
    split: str = "test",
    batch_size: int = 64,
    progress: ProgressCallback | None = None,
    score: Callable[..., Scores] | None = None,
    precision: Precision = "fp32",
) -> tuple[Scores, Evaluation]:
    """Evaluate a run on a split.

    The classes of a store are matched with the model's by name. In the test split, clips that equal
    a training clip of the run are counted, and the accuracy without them is computed.

    Args:
        run: the run's folder, or a checkpoint file.
        store: the clips; default the recipe's store.
        protocol: default the recipe's.
        split: train, test, all, or val (the clips that selected the best epoch).
        progress: called with (clips done, clips in all).
        score: scores the clips, with the arguments of `Recognizer.score_store`; default that method
            of the run's recognizer.
        precision: precision of that recognizer, see `Recognizer.load`.

    Raises:
        CheckpointError, StoreError, ProtocolError: the run, the clips or the split do not exist, or
            do not fit each other.
    """
    run = Path(run)
    recognizer = Recognizer.load(run, precision)
    store, indices = select_clips(recognizer.header, store, protocol, split)
    indices = indices[store.labels[indices] >= 0]
    if not len(indices):
        raise CheckpointError(f"{store.path}: split {split!r} has no labelled clips")
    header = recognizer.header
    matched = match_classes(header, store, indices)
    known = matched[store.labels[indices]] != NO_CLASS
    left_out = _count_by_class(store, indices[~known])
    score = score or recognizer.score_store
    scores = score(store, indices[known], batch_size=batch_size, progress=progress)
    scores = replace(scores, labels=matched[scores.labels])
    calibration = recognizer.calibration if header.calibration else None
    result = evaluate(scores, header.class_name, calibration)
    leaked = _find_leaked_ids(header, store, indices) if split == "test" else set()
    return scores, replace(result, clean=_evaluate_clean(scores, leaked), left_out=left_out)


def _count_by_class(store: ClipStore, indices: NDArray[np.int64]) -> dict[str, int]:
    labels, counts = np.unique(store.labels[indices], return_counts=True)
    names = store.classes or ()
    return {names[label]: int(n) for label, n in zip(labels, counts, strict=True)}


def _find_leaked_ids(
    header: CheckpointHeader, store: ClipStore, indices: NDArray[np.int64]
) -> set[str]:
    """Return the ids of clips that equal a training clip; none if those are not at hand."""
    recipe = header.parse_recipe()
    try:
        training = ClipStore(Path(recipe.store))
        trained = get_split_indices(training, recipe.protocol, "train")
    except (StoreError, ProtocolError):
        return set()
    known = {training.digests[i] for i in trained}
    digests, ids = store.digests, store.ids
    return {ids[i] for i in indices if digests[i] in known}


def _evaluate_clean(scores: Scores, leaked: Collection[str]) -> CleanResult | None:
    if not leaked:
        return None
    kept = np.array([name not in leaked for name in scores.ids])
    correct = scores.logits.argmax(axis=1) == scores.labels
    top1 = float(correct[kept].mean()) if kept.any() else None
    return CleanResult(int((~kept).sum()), int(kept.sum()), top1)


def evaluate_poses(
    run: Path,
    *,
    store: ClipStore | None = None,
    protocol: str | None = None,
    split: str = "test",
    batch_size: int = 64,
    progress: ProgressCallback | None = None,
    score: Callable[..., PoseErrors] | None = None,
) -> PoseErrors:
    """Return the pose errors of a run on a split; see `evaluate_run` for arguments and errors."""
    scorer = PoseScorer.load(run)
    store, indices = select_clips(scorer.header, store, protocol, split)
    score = score or scorer.score_store
    return score(store, indices, batch_size=batch_size, progress=progress)


class SupportedTasks(NamedTuple):
    """Whether a run names actions of clips, predicts poses, and names actions of frames."""

    names_actions: bool
    predicts_poses: bool = False
    names_frames: bool = False


def supported_tasks(run: Path) -> SupportedTasks:
    """Return what a run can do.

    Raises:
        CheckpointError, ExportError: the run or the exported file is missing or damaged.
    """
    exported = is_exported(run)
    header = read_manifest(run).header if exported else load_header(find_checkpoint(run))
    objective = header.create_objective()
    return SupportedTasks(objective.is_classifier, objective.predicts_poses, objective.names_frames)


def select_clips(
    header: CheckpointHeader,
    store: ClipStore | None = None,
    protocol: str | None = None,
    split: str = "test",
) -> tuple[ClipStore, NDArray[np.int64]]:
    """Return a store and clip indices of a split; for defaults and errors see `evaluate_run`."""
    recipe = header.parse_recipe()
    store = store or ClipStore(Path(recipe.store))
    protocol = protocol or recipe.protocol
    if split == "val":
        indices = split_training_clips(recipe.model_copy(update={"protocol": protocol}), store).val
    else:
        indices = get_split_indices(store, protocol, split)
    if not len(indices):
        raise CheckpointError(f"{store.path}: split {split!r} of {protocol!r} has no clips")
    return store, indices


def evaluate(
    scores: Scores, class_name: Callable[[int], str], calibration: Calibration | None = None
) -> Evaluation:
    """Compute the metrics of scores with known labels.

    Raises:
        CheckpointError: a label is not one of the model's classes, or scores are not finite.
    """
    import torch
    from torchmetrics.functional import classification as metrics

    scores.require_finite()
    classes = scores.logits.shape[1]
    if scores.labels.max() >= classes:
        raise CheckpointError(
            f"the clips have labels up to {scores.labels.max()}, the model has {classes} classes"
        )
    rows = (calibration or Calibration()).probabilities(scores.logits)
    probabilities = torch.from_numpy(rows)
    labels = torch.from_numpy(scores.labels)
    confusion = metrics.multiclass_confusion_matrix(probabilities, labels, classes).numpy()
    accuracy = partial(metrics.multiclass_accuracy, probabilities, labels, classes, average="micro")
    counts = confusion.sum(axis=1)
    per_class = tuple(
        ClassResult(i, class_name(i), int(n), float(confusion[i, i] / n) if n else None)
        for i, n in enumerate(counts)
    )
    ece = metrics.multiclass_calibration_error(probabilities, labels, classes, n_bins=NUM_BINS)
    return Evaluation(
        clips=len(scores.ids),
        top1=float(accuracy(top_k=1)),
        top5=float(accuracy(top_k=min(5, classes))),
        mean_class=float(np.mean([row.accuracy for row in per_class if row.accuracy is not None])),
        ece=float(ece),
        per_class=per_class,
        confusion=confusion,
        bins=_reliability_bins(rows, scores.labels),
        unknown=float(1 - calibration.is_confident(rows).mean()) if calibration else None,
    )


def _reliability_bins(
    probabilities: NDArray[np.floating], labels: NDArray[np.int64]
) -> tuple[ReliabilityBin, ...]:
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    bins = []
    for low, high in itertools.pairwise(np.linspace(0, 1, NUM_BINS + 1)):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            accuracy, mean = float(correct[inside].mean()), float(confidence[inside].mean())
            bins.append(ReliabilityBin(float(low), float(high), int(inside.sum()), accuracy, mean))
    return tuple(bins)
