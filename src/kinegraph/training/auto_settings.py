"""Settings of a recipe that follow store and device: protocol, persons, epochs, precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from kinegraph.clips.class_sides import names_side
from kinegraph.clips.schema import Indices
from kinegraph.clips.store import ClipStore
from kinegraph.training.data import split_training_clips
from kinegraph.training.devices import default_device, fastest_dtype
from kinegraph.training.recipe import AUTO, Recipe
from kinegraph.transforms import Pipeline, parse_steps

#: Number of subjects from which ``validation.by: auto`` holds out whole subjects.
MIN_SUBJECTS = 3
#: Share of the training clips that do not have more persons than ``persons: 0`` keeps.
PERSONS_SHARE = 0.99


def fit_recipe(recipe: Recipe, store: ClipStore, processes: int = 1) -> Recipe:
    """Return the recipe with numbers and names in place of its auto settings.

    - ``protocol: auto`` is official if the clips state their split, else holdout.
    - ``persons: 0`` is the number of persons that nearly all training clips have at most; if that
      is one, the step pair_offsets is left out.
    - ``validation.by: auto`` is subject if all training clips state it and there are at least
      `MIN_SUBJECTS`, else null.
    - ``mirror: auto`` leaves out the step mirror if the layout has no left and right joints, the
      classes have no names, or one of their names distinguishes left and right. With
      ``test_mirror`` it stays, with the probability 0, because it is the place where the evaluation
      mirrors.
    - ``train.precision: auto`` is bf16-mixed if the device multiplies bfloat16 fastest.
    - ``train.min_steps`` multiplies the epochs, and the epochs of the schedule.

    Args:
        processes: number of processes that share a step.

    Raises:
        RecipeError, ProtocolError: see `split_training_clips`.
    """
    changes: dict[str, Any] = {}
    steps = parse_steps(recipe.transforms)
    if recipe.protocol == AUTO:
        states_split = any(meta.get("split") is not None for meta in store.metas)
        changes["protocol"] = "official" if states_split else "holdout"
    part = {"fraction": 0.0} if recipe.validation.by == AUTO else {}
    validation = recipe.validation.model_copy(update=part)
    whole = recipe.model_copy(update={**changes, "validation": validation})
    splits = split_training_clips(whole, store)
    clips = np.concatenate([splits.train, splits.val])
    if recipe.persons == 0:
        enough = np.quantile(store.persons[clips], PERSONS_SHARE, method="inverted_cdf")
        changes["persons"] = int(enough)
        if enough == 1:
            steps = [step for step in steps if step[0] != "pair_offsets"]
    if recipe.validation.by == AUTO:
        by = "subject" if _count_subjects(store, splits.train) >= MIN_SUBJECTS else None
        changes["validation"] = recipe.validation.model_copy(update={"by": by})
    if recipe.mirror == AUTO:
        changes["mirror"] = "always"
        if not _is_mirrored(store):
            never = {"p": 0.0} if recipe.test_mirror else None
            changed = [(name, never if name == "mirror" else own) for name, own in steps]
            steps = [(name, own) for name, own in changed if own is not None]
    changes["transforms"] = Pipeline(steps, recipe.stream).to_list()
    changes["train"] = _fit_training(recipe, len(clips), processes)
    return recipe.model_copy(update=changes)


def describe_settings(recipe: Recipe, fitted: Recipe) -> str:
    """Return the settings that `fit_recipe` changed as ``key=value, ...``, empty if none."""
    keys = {
        "protocol": lambda r: r.protocol,
        "persons": lambda r: r.persons,
        "validation.by": lambda r: r.validation.fraction and (r.validation.by or "clip"),
        "train.epochs": lambda r: r.train.epochs,
        "train.precision": lambda r: r.train.precision,
        "mirror": lambda r: AUTO if r.mirror == AUTO else _mirrors(r),
    }
    changed = [(key, get(fitted)) for key, get in keys.items() if get(recipe) != get(fitted)]
    return ", ".join(f"{key}={value}" for key, value in changed)


def _mirrors(recipe: Recipe) -> str:
    options = dict(recipe.pipeline().steps).get("mirror")
    return "no" if options is None or options.get("p") == 0 else "yes"


def _is_mirrored(store: ClipStore) -> bool:
    """Return whether a mirrored clip is one of the same class, as far as names show."""
    named = store.classes is not None and not any(map(names_side, store.classes))
    return named and bool(store.layout.mirror_pairs)


def _count_subjects(store: ClipStore, clips: Indices) -> int:
    """Return the number of subjects, 0 if a clip does not state its subject."""
    subjects = {store.metas[i].get("subject") for i in clips}
    return 0 if None in subjects else len(subjects)


def _fit_training(recipe: Recipe, clips: int, processes: int) -> Any:
    """Return the training settings for ``min_steps`` steps, in the precision of this device."""
    settings = recipe.train
    steps_per_epoch = -(-clips // (settings.batch_size * settings.accumulate * processes))
    epochs = max(settings.epochs, -(-settings.min_steps // steps_per_epoch))
    factor = epochs / settings.epochs
    cosine = settings.cosine_epochs
    precision = settings.precision
    if precision == AUTO:
        is_fast = fastest_dtype(default_device()) == torch.bfloat16
        precision = "bf16-mixed" if is_fast else "32-true"
    changes = {
        "precision": precision,
        "epochs": epochs,
        "min_steps": 0,
        "warmup_epochs": settings.warmup_epochs * factor,
        "milestones": [round(epoch * factor) for epoch in settings.milestones],
        "cosine_epochs": None if cosine is None else max(1, round(cosine * factor)),
    }
    return settings.model_copy(update=changes)
