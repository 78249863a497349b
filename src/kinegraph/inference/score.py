"""Accuracy of score files of any code, per stream and fused, with and without leaked clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kinegraph.clips.scores import Scores
from kinegraph.clips.splits import find_splits_of_names
from kinegraph.errors import ReadError, RecipeError, UnknownNameError
from kinegraph.inference.evaluate import Evaluation, evaluate
from kinegraph.inference.fusion import check_weights, fuse_scores, published_stream_weights
from kinegraph.inference.label_lists import derive_label_list, read_label_list
from kinegraph.inference.score_files import read_score_file
from kinegraph.transforms.input_streams import parse_stream

EQUAL, PUBLISHED = "equal", "published"


@dataclass(frozen=True)
class ScoredFile:
    """The accuracy of one score file, or of the sum of all.

    Attributes:
        name: of the file within the table.
        stream: its stream, "" if not known.
        weight: its weight in the sum, None for the sum itself.
        full: the metrics of all clips.
        clean: those without leaked clips; None if leaks are not known, or none is left.
    """

    name: str
    stream: str
    weight: float | None
    full: Evaluation
    clean: Evaluation | None

    def to_dict(self) -> dict[str, Any]:
        """Return name, stream, weight and accuracies, for JSON."""
        clean = {"top1": self.clean.top1, "top5": self.clean.top5} if self.clean else None
        return {
            "name": self.name,
            "stream": self.stream,
            "weight": self.weight,
            "top1": self.full.top1,
            "top5": self.full.top5,
            "clean": clean,
        }


@dataclass(frozen=True)
class ScoreResult:
    """The result of `score_files`.

    Attributes:
        files: one for each score file.
        fused: the weighted sum; None for one file.
        weights_from: the source of the weights: given, equal or published.
        clips: number of clips.
        leaked: number of clips that equal a training clip, None if that is not known.
        split: the published test split with this number of clips, "" if there is none.
    """

    files: tuple[ScoredFile, ...]
    fused: ScoredFile | None
    weights_from: str
    clips: int
    leaked: int | None
    split: str

    def to_dict(self) -> dict[str, Any]:
        """Return all figures, for JSON."""
        return {
            "files": [file.to_dict() for file in self.files],
            "fused": self.fused.to_dict() if self.fused else None,
            "weights_from": self.weights_from,
            "clips": self.clips,
            "leaked": self.leaked,
            "split": self.split,
        }


def score_files(
    paths: Sequence[Path],
    *,
    labels: Path | None = None,
    protocol: str | None = None,
    weights: Sequence[float] | str | None = None,
    streams: Sequence[str] | None = None,
) -> ScoreResult:
    """Return the accuracy of score files and of their weighted sum.

    Args:
        paths: the score files, see `read_score_file`.
        labels: the label list, see `read_label_list`; by default the labels in the files, or those
            that their clip names state.
        protocol: of a label list that is a store or a folder.
        weights: one for each file, ``"equal"``, or ``"published"`` (those of Shift-GCN); by default
            the published ones if all streams have one, else equal ones.
        streams: the stream of each file; by default files named like a stream have it.

    Raises:
        ReadError: a file cannot be read, or does not fit the labels.
        CheckpointError: files of different clips or classes, a label without a class.
        RecipeError: weights that are not valid, or too few or too many.
    """
    tables = [read_score_file(path) for path in paths]
    names = _name_files(paths)
    if streams is not None and len(streams) != len(paths):
        raise RecipeError(f"expected a stream for each of {len(paths)} files, got {len(streams)}")
    known = [_find_stream(name) for name in streams or names]
    chosen, source = _choose(weights, known)
    if labels is not None:
        lists = [read_label_list(labels, len(tables[0].logits), protocol)] * len(tables)
    else:
        lists = [derive_label_list(table) for table in tables]
    scores = [found.match(table) for found, table in zip(lists, tables, strict=True)]
    fused = fuse_scores(scores, chosen, names=[str(path) for path in paths])
    leaked = lists[0].leaked
    splits = [
        f"{split.data} ({split.protocol})"
        for split in find_splits_of_names(scores[0].ids)
        if split.test == len(scores[0].ids)
    ]
    files = tuple(
        _evaluate(name, stream, weight, own, leaked)
        for name, stream, weight, own in zip(names, known, chosen, scores, strict=True)
    )
    return ScoreResult(
        files=files,
        fused=_evaluate("fused", "", None, fused, leaked) if len(files) > 1 else None,
        weights_from=source,
        clips=len(fused.ids),
        leaked=None if leaked is None else len(leaked),
        split=splits[0] if splits else "",
    )


def _name_files(paths: Sequence[Path]) -> list[str]:
    """Return the names of the files, of their folders where these are equal, or their paths."""
    for names in ([p.stem for p in paths], [p.absolute().parent.name for p in paths]):
        if len(set(names)) == len(names):
            return names
    if len(set(map(str, paths))) < len(paths):
        raise ReadError(f"{paths[0]}: each file counts once, by its weight; one is given twice")
    return [str(path) for path in paths]


def _find_stream(name: str) -> str:
    """Return the stream of this name, "" if it is not one."""
    try:
        return "+".join(parse_stream(name))
    except UnknownNameError:
        return ""


def _choose(
    weights: Sequence[float] | str | None, streams: Sequence[str]
) -> tuple[list[float], str]:
    published = published_stream_weights(streams) if all(streams) else None
    if weights == PUBLISHED and published is None:
        raise RecipeError(
            "the published weights are those of joint, bone, joint_motion and bone_motion: name "
            "the stream of each file by --streams, or give --weights"
        )
    if isinstance(weights, str) and weights not in (EQUAL, PUBLISHED):
        raise RecipeError(f"expected weights, {EQUAL!r} or {PUBLISHED!r}, got {weights!r}")
    if weights is not None and not isinstance(weights, str):
        check_weights(weights, len(streams))
        return list(weights), "given"
    if published is not None and weights != EQUAL:
        return published, PUBLISHED
    return [1 / len(streams)] * len(streams), EQUAL


def _evaluate(
    name: str, stream: str, weight: float | None, scores: Scores, leaked: frozenset[str] | None
) -> ScoredFile:
    kept = np.array([clip not in (leaked or ()) for clip in scores.ids])
    clean = None
    if leaked and kept.any():
        ids = tuple(clip for clip in scores.ids if clip not in leaked)
        clean = replace(scores, ids=ids, labels=scores.labels[kept], logits=scores.logits[kept])
    return ScoredFile(
        name=name,
        stream=stream,
        weight=weight,
        full=evaluate(scores, str),
        clean=evaluate(clean, str) if clean else None,
    )
