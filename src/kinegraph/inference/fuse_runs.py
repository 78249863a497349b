"""Fusion of runs: a check that they fit together, their scores on a split, and the sum."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kinegraph.clips.scores import Scores
from kinegraph.clips.store import ClipStore
from kinegraph.errors import CheckpointError, RecipeError
from kinegraph.inference.evaluate import Evaluation, evaluate, evaluate_run
from kinegraph.inference.fusion import (
    FoundWeights,
    check_weights,
    fuse_scores,
    published_stream_weights,
    search_weights,
)
from kinegraph.inference.trained_model import ProgressCallback
from kinegraph.training.checkpoint import CheckpointHeader, find_checkpoint, load_header

WeightSource = Literal["published", "equal", "given", "held-out clips"]
ProgressFactory = Callable[[str], AbstractContextManager[ProgressCallback]]


@dataclass(frozen=True)
class FusedRun:
    """One run of a fusion, with its weight and its own evaluation."""

    run: Path
    name: str
    stream: str
    weight: float
    evaluation: Evaluation

    def to_dict(self) -> dict[str, Any]:
        """Return run, stream, weight and accuracies, for JSON."""
        return {
            "run": str(self.run),
            "stream": self.stream,
            "weight": self.weight,
            "top1": self.evaluation.top1,
            "top5": self.evaluation.top5,
        }


@dataclass(frozen=True)
class Fusion:
    """The result of `fuse_runs`.

    Attributes:
        runs: the runs in the order given.
        scores: the fused logits.
        evaluation: of the fused logits.
        weights_from: the source of the weights.
        found: the result of the search on held-out clips, if there was one.
        store, protocol, split: the clips of all evaluations.
    """

    runs: tuple[FusedRun, ...]
    scores: Scores
    evaluation: Evaluation
    weights_from: WeightSource
    found: FoundWeights | None
    store: Path
    protocol: str
    split: str

    def to_dict(self) -> dict[str, Any]:
        """Return runs and results, for JSON; ``held_out`` only after a search."""
        result = {
            "runs": [run.to_dict() for run in self.runs],
            "fused": self.evaluation.to_dict(),
            "weights_from": self.weights_from,
        }
        return {**result, "held_out": self.found.to_dict()} if self.found else result


def fuse_runs(
    runs: Sequence[Path],
    *,
    weights: Sequence[float] | None = None,
    search: bool = False,
    store: ClipStore | None = None,
    protocol: str | None = None,
    split: str = "test",
    progress: ProgressFactory | None = None,
) -> Fusion:
    """Score a split with every run and fuse the scores.

    Args:
        runs: folders or checkpoint files, of one store and protocol unless these are given.
        weights: one for each run; by default the published ones if all streams have one, else
            equal ones.
        search: search the weights on the training clips that the runs held out.
        store: the clips, the held-out ones too; by default the recipes' store.
        protocol: of the split; by default the recipes'.
        split: train, test, all, or val (the held-out clips).
        progress: opens a progress bar of a title, for each run that is scored.

    Raises:
        CheckpointError: the runs do not fit together, or held out no clips to search on.
        RecipeError: weights that are not valid, too few or too many, or given *and* searched.
        StoreError, ProtocolError: the store or split is missing or does not fit.
    """
    if search and weights is not None:
        raise RecipeError("give --weights or --search, not both")
    headers = [load_header(find_checkpoint(run)) for run in runs]
    where = {"store": store, "protocol": protocol, "split": split}
    check_runs(runs, headers, free=[key for key, value in where.items() if value is not None])
    if weights is not None:
        check_weights(weights, len(runs))
    found = _search(runs, headers, store, progress) if search else None
    names, streams = run_names(runs), [header.stream for header in headers]
    results = [
        _score(run, f"{name}: {split}", progress, **where)
        for run, name in zip(runs, names, strict=True)
    ]
    scores, evaluations = zip(*results, strict=True)
    if found and (both := set(found.ids) & set(scores[0].ids)):
        raise CheckpointError(
            f"the weights were searched on {len(both)} of the {len(scores[0].ids)} clips of split "
            f"{split!r}, so their accuracy would be too high: fuse on the test split"
        )
    chosen, source = _choose_weights(streams, weights, found)
    fused = fuse_scores(scores, chosen, names=[str(run) for run in runs])
    return Fusion(
        runs=tuple(map(FusedRun, runs, names, streams, chosen, evaluations)),
        scores=fused,
        evaluation=evaluate(fused, headers[0].class_name),
        weights_from=source,
        found=found,
        store=store.path if store else Path(headers[0].recipe["store"]),
        protocol=protocol or headers[0].recipe["protocol"],
        split=split,
    )


def run_names(runs: Sequence[Path]) -> list[str]:
    """Return the names of the runs' folders, or their paths if two names are the same."""
    folders = [run.parent if run.is_file() else run for run in runs]
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _search(
    runs: Sequence[Path],
    headers: Sequence[CheckpointHeader],
    store: ClipStore | None,
    progress: ProgressFactory | None,
) -> FoundWeights:
    """Return weights searched on the clips that the runs held out, by their own protocol."""
    _check_held_out(runs, headers)
    held_out = []
    for run, name, header in zip(runs, run_names(runs), headers, strict=True):
        scores, _ = _score(run, f"{name}: held-out clips", progress, store=store, split="val")
        then, now = header.training["held_out"], len(scores.ids)
        if then != now:  # of another store, the "held-out" clips may be training clips
            raise CheckpointError(
                f"{run} held out {then} clips in training, but this store gives {now}: a search of "
                "weights needs the store that the runs were trained on"
            )
        held_out.append(scores)
    return search_weights(held_out, names=[f"the held-out clips of {run}" for run in runs])


def _score(
    run: Path, title: str, progress: ProgressFactory | None, **where: Any
) -> tuple[Scores, Evaluation]:
    with progress(title) if progress else nullcontext() as bar:
        return evaluate_run(run, progress=bar, **where)


def _choose_weights(
    streams: Sequence[str], given: Sequence[float] | None, found: FoundWeights | None
) -> tuple[list[float], WeightSource]:
    if given is not None:
        return list(given), "given"
    if found:
        return list(found.weights), "held-out clips"
    if published := published_stream_weights(streams):
        return published, "published"
    return [1 / len(streams)] * len(streams), "equal"


def check_runs(
    runs: Sequence[Path], headers: Sequence[CheckpointHeader], free: Collection[str]
) -> None:
    """Raise CheckpointError, with the names of two runs, unless their scores can be fused.

    Store and protocol must be the same in all recipes, except for keys that are ``free``.
    """
    if len(runs) < 2:
        raise CheckpointError(f"expected two runs or more to fuse, got {len(runs)}")
    files = [find_checkpoint(run).resolve() for run in runs]
    for i, (run, header) in enumerate(zip(runs, headers, strict=True)):
        if files[i] in files[:i]:
            raise CheckpointError(f"{run} is given twice: each run counts once, by its weight")
        if not header.create_objective().is_classifier:
            raise CheckpointError(
                f"{run} does not name actions, its objective is {header.objective['name']!r}: fuse "
                "recognizers"
            )
        _check_classes(runs[0], headers[0], run, header)
        for key in ("protocol", "store"):
            one, other = headers[0].recipe[key], header.recipe[key]
            if key == "store":  # two paths may name one store
                one, other = str(Path(one).resolve()), str(Path(other).resolve())
            if one != other and key not in free:
                raise CheckpointError(
                    f"{runs[0]} and {run} differ in their {key}, {one!r} and {other!r}: give "
                    f"--{key} to choose one for all"
                )


def _check_classes(
    first_run: Path, first: CheckpointHeader, run: Path, header: CheckpointHeader
) -> None:
    both = f"{first_run} and {run} differ in their classes"
    if first.num_classes != header.num_classes:
        raise CheckpointError(f"{both}: {first.num_classes} and {header.num_classes} of them")
    for label in range(first.num_classes):
        one, other = first.class_name(label), header.class_name(label)
        if one != other:
            raise CheckpointError(f"{both}: label {label} is {one!r} and {other!r}")


def _check_held_out(runs: Sequence[Path], headers: Sequence[CheckpointHeader]) -> None:
    parts = [header.recipe["validation"] for header in headers]
    for run, part in zip(runs, parts, strict=True):
        if part["fraction"] == 0:
            raise CheckpointError(
                f"{run} held out no training clips to search weights on: train it with "
                "validation.fraction=0.1, or give --weights"
            )
        for key, value in part.items():
            if value != parts[0][key]:
                raise CheckpointError(
                    f"{runs[0]} and {run} held out different clips, validation.{key} is "
                    f"{parts[0][key]!r} and {value!r}: a search of weights needs clips that no run "
                    "was trained on"
                )
