"""Import of published weights as runs, with class names and the expected preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kinegraph.errors import CheckpointError, RecipeError, unknown_name
from kinegraph.files import atomic_write
from kinegraph.models.published_weights import load_asgcn, load_shiftgcn, load_stgcn, load_twostream
from kinegraph.readers.class_names import class_names
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import KINECT
from kinegraph.training.checkpoint import (
    LAST_FILE,
    CheckpointHeader,
    collect_versions,
    require_empty_folder,
    save_checkpoint,
)
from kinegraph.training.recipe import Recipe, list_recipes, load_recipe
from kinegraph.training.stages import RECIPE_FILE

StateDict = Mapping[str, Tensor]


@dataclass(frozen=True)
class WeightFormat:
    """The format of weights saved by a paper's code.

    Attributes:
        load: loads a model from the tensors of the file, and of the second one if there is one.
        head: the key of the classifier's weights, with a row for each class.
        persons: the option ``persons`` of the NTU reader.
        needs_links: whether there is a second file.
    """

    load: Callable[..., None]
    head: str
    persons: str
    needs_links: bool = False


WEIGHT_FORMATS = {
    "stgcn": WeightFormat(load_stgcn, "fcn.weight", "stgcn"),
    "shiftgcn": WeightFormat(load_shiftgcn, "fc.weight", "agcn"),
    "stgcn_twostream": WeightFormat(load_twostream, "origin_stream.fcn.weight", "stgcn"),
    "asgcn": WeightFormat(load_asgcn, "fcn.weight", "agcn", needs_links=True),
}
DATASETS = {60: "ntu60", 120: "ntu120"}


def import_weights(
    family: str,
    weights: Path,
    out: Path,
    *,
    protocol: str,
    stream: str = "joint",
    links: Path | None = None,
) -> Path:
    """Convert published NTU RGB+D weights into a run.

    Args:
        family: one of `WEIGHT_FORMATS`.
        weights: the published file, a PyTorch state dict; nothing in it is executed.
        out: the run's folder; must be new.
        protocol: that the weights were trained with, such as xsub; selects the recipe.
        stream: that they were trained on, such as bone.
        links: AS-GCN's second file, with the link inference.

    Returns:
        ``out``, with last.safetensors and recipe.yaml.

    Raises:
        CheckpointError: no state dict in the file, or ``out`` is not empty.
        ModelError: keys that are unknown, missing or of another shape.
        RecipeError: no recipe for this family, number of classes and protocol.
    """
    if family not in WEIGHT_FORMATS:
        raise unknown_name("family of weights", family, WEIGHT_FORMATS)
    form = WEIGHT_FORMATS[family]
    if form.needs_links != (links is not None):
        expected = "needs --links FILE" if form.needs_links else "does not take --links"
        raise CheckpointError(f"{family} {expected}")
    require_empty_folder(out)
    states = [_read_state_dict(path) for path in (weights, links) if path]
    classes = _count_classes(states[0], form, weights)
    recipe = _find_recipe(family, classes, protocol, stream)
    names = class_names(DATASETS[classes])
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
        reader={"name": "ntu", "options": {"persons": form.persons}},
        recipe=recipe.model_dump(),
        training={"coordinates": 3, "imported": True},
        versions=collect_versions(),
        space=KINECT.to_dict(),
    )
    model = header.build_model()
    form.load(model, *states)
    out.mkdir(parents=True, exist_ok=True)
    save_checkpoint(out / LAST_FILE, model.state_dict(), header)
    atomic_write(out / RECIPE_FILE, recipe.to_yaml())
    return out


def _read_state_dict(path: Path) -> StateDict:
    """Read the tensors of a PyTorch file without executing anything in it."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of errors for files that are not its own
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if not isinstance(error, OSError):
            reason = f"expected a file of tensors by torch.save ({reason})"
        raise CheckpointError(f"cannot read weights from {path}: {reason}") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(f"expected a state dict of names and tensors in {path}")
    return state


def _count_classes(state: StateDict, form: WeightFormat, path: Path) -> int:
    for key, value in state.items():
        if key.removeprefix("module.") == form.head and value.ndim:
            return int(value.shape[0])
    raise CheckpointError(f"{path} lacks {form.head!r}: expected weights of this family")


def _find_recipe(family: str, classes: int, protocol: str, stream: str) -> Recipe:
    name = f"{family}_{DATASETS.get(classes, f'{classes}classes')}_{protocol}"
    if name not in list_recipes():
        known = [recipe for recipe in list_recipes() if recipe.startswith(f"{family}_ntu")]
        raise RecipeError(
            f"no published setting for {family} with {classes} classes and protocol {protocol!r}; "
            f"known: {', '.join(known)}"
        )
    return load_recipe(name, [f"stream={stream}"])
