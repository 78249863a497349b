"""Several runs as one: whether they go together, what each says of a split, and all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kinegraph.clips.store import ClipStore
from kinegraph.errors import CheckpointError, RecipeError
from kinegraph.inference.evaluate import Evaluation, evaluate, evaluate_run
from kinegraph.inference.fusion import (
    FoundWeights,
    check_weights,
    fuse,
    published_weights,
    search_weights,
)
from kinegraph.inference.scores import Scores
from kinegraph.inference.trained_model import ProgressCallback
from kinegraph.training.checkpoint import CheckpointHeader, find_checkpoint, load_header

WeightSource = Literal["published", "equal", "given", "held-out clips"]
ProgressFactory = Callable[[str], AbstractContextManager[ProgressCallback]]


@dataclass(frozen=True)
class FusedRun:
    """One of the runs of a fusion: where, on which stream, its weight, its figures alone."""

    run: Path
    name: str
    stream: str
    weight: float
    evaluation: Evaluation

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        told = {"run": str(self.run), "stream": self.stream, "weight": self.weight}
        return {**told, "top1": self.evaluation.top1, "top5": self.evaluation.top5}


@dataclass(frozen=True)
class Fusion:
    """What `fuse_runs` found.

    Attributes:
        runs: each by itself, in the order given.
        scores: the fused logits.
        evaluation: of the fused logits.
        weights_from: where the weights come from.
        found: how they were found, if on held-out clips.
        store, protocol, split: the clips that all figures are of.
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
        """For JSON; ``held_out`` is there if the weights were found on held-out clips."""
        told = {
            "runs": [run.to_dict() for run in self.runs],
            "fused": self.evaluation.to_dict(),
            "weights_from": self.weights_from,
        }
        if self.found:
            told["held_out"] = self.found.to_dict()
        return told


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
    """Score a split with every run, and fuse what they say.

    Args:
        runs: folders or checkpoint files; of one store and protocol unless others are given.
        weights: one a run; default the published ones if all streams have one, else equal ones.
        search: find the weights on the training clips that the runs held out.
        store: the clips; default the recipes' store. The held-out clips come from it too.
        protocol: of the split; default the recipes'.
        split: train, test, all, or val (the clips held out).
        progress: opens a bar of that title for each scoring of a run.

    Raises:
        CheckpointError: the runs do not go together, or (to search) held out no clips.
        RecipeError: weights that are none, too few or too many, or given *and* to be found.
        StoreError, ProtocolError: something is missing or does not fit.
    """
    if search and weights is not None:
        raise RecipeError("give --weights or --search, not both")
    headers = [load_header(find_checkpoint(run)) for run in runs]
    check_runs(runs, headers, any_store=store is not None, any_protocol=protocol is not None)
    if weights is not None:
        check_weights(weights, len(runs))
    found = _search(runs, headers, store, progress) if search else None
    alone = [
        _scored(run, f"{name}: {split}", progress, store=store, protocol=protocol, split=split)
        for run, name in zip(runs, run_names(runs), strict=True)
    ]
    if found:
        _check_apart(found, alone[0][0], split)
    chosen, origin = _chosen_weights(headers, weights, found)
    fused = fuse([scores for scores, _ in alone], chosen, names=[str(run) for run in runs])
    return Fusion(
        runs=tuple(
            map(
                FusedRun,
                runs,
                run_names(runs),
                (header.stream for header in headers),
                chosen,
                (figures for _, figures in alone),
            )
        ),
        scores=fused,
        evaluation=evaluate(fused, headers[0].class_name),
        weights_from=origin,
        found=found,
        store=store.path if store else Path(headers[0].recipe["store"]),
        protocol=protocol or headers[0].recipe["protocol"],
        split=split,
    )


def run_names(runs: Sequence[Path]) -> list[str]:
    """The names of the runs' folders, or their paths where two have the same name."""
    folders = [run.parent if run.is_file() else run for run in runs]
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _search(
    runs: Sequence[Path],
    headers: Sequence[CheckpointHeader],
    store: ClipStore | None,
    progress: ProgressFactory | None,
) -> FoundWeights:
    """Weights found on the clips that the runs held out, by the protocol they were trained on."""
    _check_held_out(runs, headers)
    held_out = []
    for run, name, header in zip(runs, run_names(runs), headers, strict=True):
        scores, _ = _scored(run, f"{name}: held-out clips", progress, store=store, split="val")
        _check_still_there(run, header, scores)
        held_out.append(scores)
    return search_weights(held_out, names=[f"the held-out clips of {run}" for run in runs])


def _scored(
    run: Path, title: str, progress: ProgressFactory | None, **which: Any
) -> tuple[Scores, Evaluation]:
    with progress(title) if progress else nullcontext() as bar:
        return evaluate_run(run, progress=bar, **which)


def _chosen_weights(
    headers: Sequence[CheckpointHeader], given: Sequence[float] | None, found: FoundWeights | None
) -> tuple[list[float], WeightSource]:
    if given is not None:
        return list(given), "given"
    if found:
        return list(found.weights), "held-out clips"
    published = published_weights([header.stream for header in headers])
    if published:
        return published, "published"
    return [1 / len(headers)] * len(headers), "equal"


# --------------------------------------------------------------------- checks


def check_runs(
    runs: Sequence[Path],
    headers: Sequence[CheckpointHeader],
    *,
    any_store: bool,
    any_protocol: bool,
) -> None:
    """Raises CheckpointError, naming two runs, unless their answers can be added up."""
    if len(runs) < 2:
        raise CheckpointError(f"expected two runs or more to fuse, got {len(runs)}")
    files = [find_checkpoint(run).resolve() for run in runs]
    for i, (run, header) in enumerate(zip(runs, headers, strict=True)):
        if files[i] in files[:i]:
            raise CheckpointError(f"{run} is given twice: each run counts once, by its weight")
        if not header.create_objective().is_classifier:
            told = f"it was trained for {header.objective['name']!r}"
            raise CheckpointError(f"{run} names no actions ({told}): fuse recognisers")
        _check_classes(runs[0], headers[0], run, header)
        for key, free in (("protocol", any_protocol), ("store", any_store)):
            one, other = (_told(h.recipe[key], key) for h in (headers[0], header))
            if one != other and not free:
                raise CheckpointError(
                    f"{runs[0]} and {run} differ in their {key}, {one!r} and {other!r}: give "
                    f"--{key} to say which one all are to answer on"
                )


def _told(value: str, key: str) -> str:
    """A store is the same by whatever path it is reached."""
    return str(Path(value).resolve()) if key == "store" else value


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
                f"{run} held out no training clips to find weights on: train it with "
                "validation.fraction=0.1, or give --weights"
            )
        for key, value in part.items():
            if value != parts[0][key]:
                raise CheckpointError(
                    f"{runs[0]} and {run} held out different clips, validation.{key} is "
                    f"{parts[0][key]!r} and {value!r}: weights are found on clips that no run "
                    "was trained on"
                )


def _check_still_there(run: Path, header: CheckpointHeader, held_out: Scores) -> None:
    """Another store's "held-out" clips may well be clips that the run was trained on."""
    then, now = header.training["held_out"], len(held_out.ids)
    if then != now:
        raise CheckpointError(
            f"{run} held out {then} clips when it was trained, in this store it would be {now}: "
            "weights are found on the store that the runs were trained on"
        )


def _check_apart(found: FoundWeights, tested: Scores, split: str) -> None:
    both = set(found.ids) & set(tested.ids)
    if both:
        raise CheckpointError(
            f"the weights were found on {len(both)} of the {len(tested.ids)} clips of split "
            f"{split!r}, whose accuracy would flatter them: fuse on the test split"
        )
