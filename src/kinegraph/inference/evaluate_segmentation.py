"""Evaluation of a segmentation run on a split: its metrics, and the labels of every recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinegraph.clips.intervals import (
    find_intervals,
    has_intervals,
    label_frames,
    parse_intervals,
)
from kinegraph.clips.store import ClipStore
from kinegraph.errors import CheckpointError, did_you_mean
from kinegraph.inference.evaluate import select_clips
from kinegraph.inference.segment import Segmentation, Segmenter
from kinegraph.inference.segmentation_metrics import (
    F1_OVERLAPS,
    MAP_OVERLAPS,
    ScoredInterval,
    average_precision,
    edit_score,
    f1_at,
    frame_accuracy,
)
from kinegraph.inference.trained_model import ProgressCallback


@dataclass(frozen=True)
class SegmentedClass:
    """Metrics of one class of actions; None where the class has no true interval.

    Attributes:
        name: of the class.
        intervals: number of true ones.
        frame_recall: fraction of its true frames that have its label.
        f1: by overlap, see `f1_at`.
        average_precision: by overlap.
    """

    name: str
    intervals: int
    frame_recall: float | None
    f1: Mapping[str, float]
    average_precision: Mapping[str, float] | None


@dataclass(frozen=True)
class SegmentationEvaluation:
    """Metrics of one split, as fractions; see `kinegraph.inference.segmentation_metrics`.

    Attributes:
        recordings, frames: numbers of them.
        frame_accuracy: of all frames.
        edit: mean of the edit scores of the recordings.
        f1: by overlap.
        mean_average_precision: by overlap, the mean over the classes with a true interval.
        per_class: each class of actions.
    """

    recordings: int
    frames: int
    frame_accuracy: float
    edit: float
    f1: Mapping[str, float]
    mean_average_precision: Mapping[str, float]
    per_class: tuple[SegmentedClass, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as plain data, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class LabeledSegmentation:
    """The answer for a recording beside its true labels (T,)."""

    answer: Segmentation
    true: NDArray[np.int64]

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """(T,) the predicted labels."""
        return self.answer.labels


def segment_split(
    run: Path,
    *,
    store: ClipStore | None = None,
    protocol: str | None = None,
    split: str = "test",
    progress: ProgressCallback | None = None,
) -> list[LabeledSegmentation]:
    """Segment the labeled recordings of a split.

    Args:
        run: folder of the run, or a checkpoint file.
        store: the recordings; default the recipe's store.
        protocol: default the recipe's.
        split: train, test, all, or val (the recordings that selected the best epoch).
        progress: called with (recordings done, recordings in all).

    Raises:
        CheckpointError, StoreError, ProtocolError: the run, the recordings or the split do not
            exist, or do not fit each other.
    """
    segmenter = Segmenter.load(run)
    store, indices = select_clips(segmenter.header, store, protocol, split)
    indices = indices[has_intervals(store.metas)[indices]]
    if not len(indices):
        raise CheckpointError(f"{store.path}: split {split!r} has no recordings with intervals")
    found = []
    for done, index in enumerate(indices, start=1):
        clip = store[int(index)]
        intervals = parse_intervals(clip.meta, clip.num_frames, store.num_classes) or ()
        names = [(store.classes or ())[i.label] for i in intervals]
        for name in names:
            if name not in segmenter.classes:
                raise CheckpointError(
                    f"{store.path}: recording {clip.id!r} has intervals of {name!r}, which is not "
                    f"a class of the model{did_you_mean(name, segmenter.classes)}"
                )
        matched = [
            i._replace(label=segmenter.classes.index(name))
            for i, name in zip(intervals, names, strict=True)
        ]
        true = label_frames(matched, clip.num_frames, segmenter.background)
        found.append(LabeledSegmentation(segmenter(clip), true))
        if progress:
            progress(done, len(indices))
    return found


def evaluate_segmentation(found: Sequence[LabeledSegmentation]) -> SegmentationEvaluation:
    """Compute the metrics of recordings that one model segmented."""
    answer = found[0].answer
    background, classes = answer.background, answer.classes
    true, predicted = [one.true for one in found], [one.predicted for one in found]
    actions = [label for label in range(len(classes)) if label != background]
    per_class = tuple(_evaluate_class(found, label) for label in actions)
    scored = [row.average_precision for row in per_class if row.average_precision is not None]
    return SegmentationEvaluation(
        recordings=len(found),
        frames=sum(map(len, true)),
        frame_accuracy=frame_accuracy(true, predicted),
        edit=float(
            np.mean([edit_score(t, p, background) for t, p in zip(true, predicted, strict=True)])
        ),
        f1={f"{least:.2f}": f1_at(true, predicted, least, background) for least in F1_OVERLAPS},
        mean_average_precision={
            f"{least:.1f}": float(np.mean([ap[f"{least:.1f}"] for ap in scored] or [0.0]))
            for least in MAP_OVERLAPS
        },
        per_class=per_class,
    )


def _evaluate_class(found: Sequence[LabeledSegmentation], label: int) -> SegmentedClass:
    true = [[i for i in find_intervals(one.true) if i.label == label] for one in found]
    predicted = [
        ScoredInterval(number, i, float(one.answer.probabilities[i.start : i.stop, label].mean()))
        for number, one in enumerate(found)
        for i in find_intervals(one.predicted)
        if i.label == label
    ]
    # 1 where the frame is of the class, else 0, which is the background
    marks = [((one.true == label) + 0, (one.predicted == label) + 0) for one in found]
    frames = sum(int(t.sum()) for t, _ in marks)
    precision = {
        f"{least:.1f}": average_precision(true, predicted, least)
        for least in (MAP_OVERLAPS if frames else ())
    }
    true_marks, predicted_marks = ([pair[i] for pair in marks] for i in (0, 1))
    f1 = {
        f"{least:.2f}": f1_at(true_marks, predicted_marks, least, background=0)
        for least in F1_OVERLAPS
    }
    return SegmentedClass(
        name=found[0].answer.classes[label],
        intervals=sum(map(len, true)),
        frame_recall=sum(int((t * p).sum()) for t, p in marks) / frames if frames else None,
        f1=f1,
        average_precision=precision or None,
    )
