"""Comparison of runs: which settings are better, over several seeds each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from kinegraph.clips.scores import Scores
from kinegraph.errors import CheckpointError, unknown_name
from kinegraph.inference.evaluate import evaluate, evaluate_run
from kinegraph.inference.fuse_runs import ProgressFactory
from kinegraph.training.checkpoint import CheckpointHeader, find_checkpoint, load_header

Metric = Literal["top1", "top5", "mean_class"]

#: Keys of a recipe that do not make another setting.
_IGNORED_KEYS = {
    "name",
    "about",
    "seed",
    "train.workers",
    "train.threads",
    "train.evaluate_every",
}
_MAX_VALUE_CHARS = 40


@dataclass(frozen=True)
class PairedDifference:
    """The difference of a setting to the baseline, over the seeds that both have.

    Attributes:
        by_seed: difference of the metric, a fraction, for each common seed.
        mean: mean over these seeds.
        std: sample standard deviation, None for a single seed.
        interval: 95 % confidence interval of the mean (Student's t), None for a single seed.
    """

    by_seed: dict[int, float]
    mean: float
    std: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Setting:
    """Runs that differ in their seed only.

    Attributes:
        name: the recipe values that distinguish it from the other settings.
        runs: the runs' folders, in the order of ``values``.
        values: the metric of each run, a fraction, by seed.
        mean: mean over the seeds.
        std: sample standard deviation over the seeds, None for a single one.
        difference: to the first setting; None for that one, and without a common seed.
    """

    name: str
    runs: tuple[str, ...]
    values: dict[int, float]
    mean: float
    std: float | None
    difference: PairedDifference | None


@dataclass(frozen=True)
class RunComparison:
    """Settings in the order of their first runs; the first one is the baseline."""

    metric: Metric
    clips: int
    settings: tuple[Setting, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain data, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _ScoredRun:
    path: Path
    header: CheckpointHeader
    scores: Scores

    @property
    def seed(self) -> int:
        return int(self.header.recipe["seed"])

    @property
    def settings(self) -> dict[str, Any]:
        """The recipe's values by dotted key; epochs are those that a selection could choose of."""
        values = _flatten(self.header.recipe)
        selection = self.header.training.get("selection")
        return values if selection is None else values | {"train.epochs": selection["of"]}


def compare_runs(
    runs: Sequence[Path],
    *,
    metric: Metric = "top1",
    split: str = "test",
    progress: ProgressFactory | None = None,
) -> RunComparison:
    """Compare runs that were tested on the same clips.

    Runs whose recipes differ in nothing but the seed are one setting. Scores that a run's folder
    contains are used if they are newer than its checkpoint; otherwise the run is evaluated.

    Args:
        runs: folders of two or more runs.
        metric: top1, top5 or mean_class (the mean of the classes' accuracies).
        split: test, train, val or all.
        progress: called with a title for each run that is evaluated; returns a context that yields
            a callback for (clips done, clips in all).

    Raises:
        UnknownNameError: an unknown metric.
        CheckpointError: fewer than two runs, runs tested on different clips, or two runs of the
            same setting and seed.
    """
    if metric not in get_args(Metric):
        raise unknown_name("metric", metric, get_args(Metric))
    if len(runs) < 2:
        raise CheckpointError(f"expected two or more runs to compare, got {len(runs)}")
    loaded = [_load(Path(run), split, progress) for run in runs]
    first = loaded[0]
    for run in loaded[1:]:
        if set(run.scores.ids) != set(first.scores.ids):
            common = len({*run.scores.ids} & {*first.scores.ids})
            raise CheckpointError(
                f"{first.path} and {run.path} were tested on different clips: {common} of "
                f"{len(first.scores.ids)} and {len(run.scores.ids)} are the same"
            )
    settings: list[Setting] = []
    for name, members in _group(loaded).items():
        values = {run.seed: _measure(run, metric) for run in members}
        difference = _pair(values, settings[0].values) if settings else None
        paths = tuple(str(run.path) for run in members)
        mean, std, _ = _summarize([*values.values()])
        settings.append(Setting(name, paths, values, mean, std, difference))
    return RunComparison(metric, len(first.scores.ids), tuple(settings))


def _load(run: Path, split: str, progress: ProgressFactory | None) -> _ScoredRun:
    checkpoint = find_checkpoint(run)
    header = load_header(checkpoint)
    if not header.create_objective().is_classifier:
        raise CheckpointError(f"{run} does not name actions, so it has no accuracy to compare")
    file = run / f"scores-{split}.npz"
    if file.is_file() and file.stat().st_mtime >= checkpoint.stat().st_mtime:
        return _ScoredRun(run, header, Scores.load(file))
    if progress is None:
        return _ScoredRun(run, header, evaluate_run(run, split=split)[0])
    with progress(f"evaluating {run.name}") as update:
        return _ScoredRun(run, header, evaluate_run(run, split=split, progress=update)[0])


def _measure(run: _ScoredRun, metric: Metric) -> float:
    return float(getattr(evaluate(run.scores, run.header.class_name), metric))


def _group(runs: Sequence[_ScoredRun]) -> dict[str, list[_ScoredRun]]:
    """Return the runs of each setting by its name, in the order of their first runs."""
    flat = [run.settings for run in runs]
    keys = sorted({key for recipe in flat for key in recipe})
    varied = [key for key in keys if len({_text(recipe.get(key)) for recipe in flat}) > 1]
    groups: dict[tuple[str, ...], list[_ScoredRun]] = {}
    for run, recipe in zip(runs, flat, strict=True):
        members = groups.setdefault(tuple(_text(recipe.get(key)) for key in varied), [])
        for other in members:
            if other.seed == run.seed:
                raise CheckpointError(
                    f"{other.path} and {run.path} have the same settings and seed "
                    f"({run.seed}): leave one of them out"
                )
        members.append(run)
    names = _name_settings(varied, list(groups)) if varied else [runs[0].header.recipe["name"]]
    return dict(zip(names, groups.values(), strict=True))


def _flatten(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a recipe by dotted key, such as train.lr."""
    flat: dict[str, Any] = {}
    for key, value in recipe.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": content for inner, content in value.items()}
        else:
            flat[key] = value
    return {key: value for key, value in flat.items() if key not in _IGNORED_KEYS}


def _text(value: Any) -> str:
    """Return a value as a recipe override has it."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace('"', "")


def _name_settings(keys: Sequence[str], values: Sequence[tuple[str, ...]]) -> list[str]:
    """Return ``key=value, ...`` for each setting.

    Keys are shortened to their last part where that is clear, long values are numbered.
    """
    last = [key.split(".")[-1] for key in keys]
    short = [part if last.count(part) == 1 else key for key, part in zip(keys, last, strict=True)]
    shown = []
    for i, key in enumerate(short):
        known = list(dict.fromkeys(row[i] for row in values))
        long = any(len(value) > _MAX_VALUE_CHARS for value in known)
        shown.append([f"{key}=" + (f"#{n}" if long else v) for n, v in enumerate(known, start=1)])
        shown[-1] = [shown[-1][known.index(row[i])] for row in values]
    return [", ".join(column[i] for column in shown) for i in range(len(values))]


def _summarize(
    values: Sequence[float],
) -> tuple[float, float | None, tuple[float, float] | None]:
    """Return mean, standard deviation and 95 % interval; the latter two None for one value."""
    from scipy.stats import t

    mean, count = float(np.mean(values)), len(values)
    if count < 2:
        return mean, None, None
    std = float(np.std(values, ddof=1))
    half = float(t.ppf(0.975, count - 1)) * std / count**0.5
    return mean, std, (mean - half, mean + half)


def _pair(values: Mapping[int, float], baseline: Mapping[int, float]) -> PairedDifference | None:
    by_seed = {seed: values[seed] - baseline[seed] for seed in values if seed in baseline}
    if not by_seed:
        return None
    return PairedDifference(by_seed, *_summarize([*by_seed.values()]))
