"""Published weights as checkpoints of ours: with class names and the preprocessing they expect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.errors import CheckpointError, RecipeError, unknown_name
from kinegraph.files import atomic_write
from kinegraph.models import create_model
from kinegraph.models.published_weights import load_shiftgcn, load_stgcn, load_twostream
from kinegraph.models.published_weights_asgcn import load_asgcn
from kinegraph.readers.class_names import class_names
from kinegraph.skeleton.layouts import get_layout
from kinegraph.training.checkpoint import (
    LAST_FILE,
    CheckpointHeader,
    collect_versions,
    require_empty_folder,
    save_checkpoint,
)
from kinegraph.training.recipe import Recipe, list_recipes, load_recipe
from kinegraph.training.stages import RECIPE_FILE

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Family:
    """Weights that a paper's code has saved.

    Attributes:
        load: gives a model the tensors of the file, and of a second one (empty if there is none).
        head: the key of the classifier's weights, whose rows are the classes.
        persons: how the reader of NTU has to choose the persons.
        parts: whether a second file is needed.
    """

    load: Callable[[Any, State, State], None]
    head: str
    persons: str
    parts: bool = False


FAMILIES = {
    "stgcn": Family(lambda m, s, _: load_stgcn(m, s), "fcn.weight", "stgcn"),
    "shiftgcn": Family(lambda m, s, _: load_shiftgcn(m, s), "fc.weight", "agcn"),
    "stgcn_twostream": Family(
        lambda m, s, _: load_twostream(m, s), "origin_stream.fcn.weight", "stgcn"
    ),
    "asgcn": Family(load_asgcn, "fcn.weight", "agcn", parts=True),
}
_SETS = {60: "ntu60", 120: "ntu120"}


def import_weights(
    family: str,
    weights: Path,
    out: Path,
    *,
    protocol: str,
    stream: str = "joint",
    links: Path | None = None,
) -> Path:
    """Turn published NTU RGB+D weights into a run that predicts.

    Args:
        family: one of `FAMILIES`.
        weights: the file as published: a PyTorch state dict; nothing in it is executed.
        out: the run's folder; must be new.
        protocol: what the weights were trained on, such as xsub; decides the recipe.
        stream: what they were trained on, such as bone.
        links: AS-GCN's second file, with the link inference.

    Returns:
        ``out`` with last.safetensors and recipe.yaml.

    Raises:
        CheckpointError: no state dict in the file, or ``out`` is not empty.
        ModelError: keys that are unknown, missing or misshapen, by name.
        RecipeError: no recipe for this family, number of classes and protocol.
    """
    if family not in FAMILIES:
        raise unknown_name("family of weights", family, FAMILIES)
    known = FAMILIES[family]
    if known.parts != (links is not None):
        wanted = "needs its link inference: --links FILE" if known.parts else "has no second file"
        raise CheckpointError(f"{family} {wanted}")
    require_empty_folder(out)
    state = _read_state(weights)
    classes = _number_of_classes(state, known, weights)
    recipe = _recipe(family, classes, protocol, stream)
    names = class_names(_SETS[classes])
    model = create_model(
        family, layout="ntu25", num_classes=len(names), in_channels=3, **recipe.model.options
    )
    known.load(model, state, _read_state(links) if links else {})
    _write(out, model, recipe, names, known)
    return out


def _write(
    out: Path, model: nn.Module, recipe: Recipe, names: tuple[str, ...], family: Family
) -> None:
    header = CheckpointHeader(
        model={"name": recipe.model.name, "options": recipe.model.options},
        layout=get_layout("ntu25").to_dict(),
        num_classes=len(names),
        in_channels=3,
        classes=list(names),
        persons=recipe.persons,
        confidence=recipe.confidence,
        stream=recipe.stream,
        transforms=recipe.pipeline().to_list(),
        reader={"name": "ntu", "options": {"persons": family.persons}},
        recipe=recipe.model_dump(),
        training={"coordinates": 3, "imported": True},
        versions=collect_versions(),
    )
    out.mkdir(parents=True, exist_ok=True)
    save_checkpoint(out / LAST_FILE, model.state_dict(), header)
    atomic_write(out / RECIPE_FILE, recipe.to_yaml())


def _read_state(path: Path) -> State:
    """The tensors of a PyTorch file, read without executing anything in it."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many kinds for what is no file of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} holds no weights that can be read: {reason}") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"{path} holds no state dict: expected names and tensors")
    return state


def _number_of_classes(state: State, family: Family, path: Path) -> int:
    for key, value in state.items():
        if key.removeprefix("module.") == family.head and value.ndim:
            return int(value.shape[0])
    raise CheckpointError(f"{path} holds no {family.head!r}: not the weights of this family")


def _recipe(family: str, classes: int, protocol: str, stream: str) -> Recipe:
    name = f"{family}_{_SETS.get(classes, f'{classes}classes')}_{protocol}"
    if name not in list_recipes():
        known = [recipe for recipe in list_recipes() if recipe.startswith(f"{family}_ntu")]
        raise RecipeError(
            f"no published setting for {family} with {classes} classes and protocol {protocol!r}; "
            f"known: {', '.join(known)}"
        )
    return load_recipe(name, [f"stream={stream}"])
