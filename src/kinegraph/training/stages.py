"""Stages of a run: what remains to be trained, and where it starts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from kinegraph.errors import CheckpointError, RecipeError
from kinegraph.training.checkpoint import find_checkpoint, load_header, require_empty_folder
from kinegraph.training.history import read_history
from kinegraph.training.recipe import SELECTION_FOLDER, Recipe, parse_recipe, read_recipe_fields
from kinegraph.training.resume import RESUME_FILE, find_resume_checkpoint, is_finished

RECIPE_FILE = "recipe.yaml"


class Selection(BaseModel, frozen=True):
    """The number of epochs that a training with held-out clips found.

    Attributes:
        epochs: the number of epochs, of ``of`` that were trained.
        best: the epoch with the smallest loss, counted from 1.
        clips, held_out: numbers of clips.
        by: the fact by which clips were held out, None if by clip.
        metrics: of the last of the epochs on the held-out clips.
    """

    epochs: int
    of: int
    best: int
    clips: int
    held_out: int
    by: str | None
    metrics: dict[str, float]

    @classmethod
    def load(cls, folder: Path) -> Selection:
        """Return what a finished training found.

        It is the latest epoch whose loss on the held-out clips is not above the smallest loss by
        more than its standard error: few clips do not show which of these epochs is better. For
        models without classes it is the epoch with the smallest error.

        Raises:
            CheckpointError: the checkpoint is missing or damaged.
        """
        header = load_header(find_checkpoint(folder))
        training, objective = header.training, header.create_objective()
        history = read_history(folder)
        best = int(training["epoch"])
        chosen = best
        if objective.best_metric[0] == "val_loss":
            rows = {int(row["epoch"]): row for row in history}
            smallest = rows[best]["val_loss"]
            error = rows[best].get("val_loss_std", 0.0) / math.sqrt(training["held_out"])
            near = [e for e, row in rows.items() if row["val_loss"] <= smallest + error]
            chosen = max(near, default=best)
        row = next(row for row in history if row["epoch"] == chosen)
        return cls(
            epochs=chosen + 1,
            of=header.recipe["train"]["epochs"],
            best=best + 1,
            clips=training["clips"],
            held_out=training["held_out"],
            by=header.recipe["validation"]["by"],
            metrics={key: value for key, value in row.items() if key.startswith("val_")},
        )


class StageRun(BaseModel, frozen=True):
    """One training of a run: a stage, the selection of the epochs, or the final training.

    Attributes:
        run_recipe: recipe of the whole run.
        run_folder: folder of the whole run.
        index: index among the run's trainings, in their order.
        init_from: the run whose weights initialize the model, if any.
        resume_from: the resume checkpoint to continue from, if the training has begun.
    """

    run_recipe: Recipe
    run_folder: Path
    index: int
    init_from: Path | None
    resume_from: Path | None

    @property
    def recipe(self) -> Recipe:
        """The recipe of this training alone.

        That of a training after a selection of the epochs is the recipe of the selection, with the
        epochs that it selected, their learning rates, and no held-out clips.
        """
        if self.index < len(self.run_recipe.stages):
            return self.run_recipe.stage(self.index)
        if self.folder != self.run_folder:
            return self.run_recipe.selection()
        selection = self.load_selection()
        return self.run_recipe if selection is None else self._retraining(selection.epochs)

    @property
    def folder(self) -> Path:
        """The folder of this training."""
        return _stage_folders(self.run_recipe, self.run_folder)[self.index]

    @property
    def title(self) -> str:
        """What this training is for, empty if it is the only one."""
        if self.index < len(self.run_recipe.stages):
            return f"stage {self.run_recipe.stages[self.index].name}"
        if not self.run_recipe.validation.retrain:
            return ""
        selects = self.folder != self.run_folder
        return "selecting the epochs" if selects else "training on all training clips"

    def load_selection(self) -> Selection | None:
        """Return the epochs that were selected if this training follows a selection.

        Raises:
            CheckpointError: the checkpoint of the selection is missing or damaged.
        """
        if not self.run_recipe.validation.retrain or self.folder != self.run_folder:
            return None
        return Selection.load(self.run_folder / SELECTION_FOLDER)

    def _retraining(self, epochs: int) -> Recipe:
        """Return the recipe that repeats the selection on all clips, up to the epoch selected."""
        header = load_header(find_checkpoint(self.run_folder / SELECTION_FOLDER))
        data = header.parse_recipe().model_dump()
        train = data["train"]
        train["cosine_epochs"] = train["cosine_epochs"] or train["epochs"]
        train |= {"epochs": epochs, "min_steps": 0, "early_stop": None}
        data["validation"] |= {"fraction": 0, "retrain": True}
        stages = [stage.model_dump() for stage in self.run_recipe.stages]
        return Recipe.model_validate({**data, "name": self.run_recipe.name, "stages": stages})


#: Writes stages as JSON for another process, and reads them.
STAGE_RUNS = TypeAdapter(list[StageRun])


def _stage_folders(recipe: Recipe, out: Path) -> list[Path]:
    names = [stage.name for stage in recipe.stages]
    names += [SELECTION_FOLDER] if recipe.validation.retrain else []
    return [*(out / name for name in names), out]


def remaining_stages(recipe: Recipe, out: Path, *, resume: bool) -> list[StageRun]:
    """Return the stages that are not finished, an empty list if the run is.

    Raises:
        CheckpointError: the folder holds another run, something else, or a damaged file.
    """
    if resume:
        _check_resumable(recipe, out)
    else:
        require_empty_folder(out)
    folders = _stage_folders(recipe, out)
    checkpoints = [find_resume_checkpoint(folder) if resume else None for folder in folders]
    first = max((i for i, path in enumerate(checkpoints) if path), default=0)
    if checkpoints[first] and is_finished(folders[first]):
        first += 1
    starts = [Path(recipe.init_from) if recipe.init_from else None, *folders]
    return [
        StageRun(
            run_recipe=recipe,
            run_folder=out,
            index=i,
            # the training after a selection starts where the selection started
            init_from=None if checkpoints[i] else starts[min(i, len(recipe.stages))],
            resume_from=checkpoints[i],
        )
        for i in range(first, len(folders))
    ]


def _check_resumable(recipe: Recipe, out: Path) -> None:
    """Check that a folder holds a run of this recipe, or one killed before it wrote anything."""
    path = out / RECIPE_FILE
    if not path.is_file():
        if out.is_dir() and all(entry.name.startswith(".") for entry in out.iterdir()):
            return
        raise CheckpointError(
            f"{out} has no {RECIPE_FILE} and no {RESUME_FILE}: there is nothing to resume (train "
            "without --resume)"
        )
    try:
        trained = parse_recipe(read_recipe_fields(path), str(path))
    except RecipeError as error:
        raise CheckpointError(f"{path} is not a valid recipe: {error}") from error
    differing = _differing_keys(trained, recipe)
    if differing:
        raise CheckpointError(
            f"{out} was trained with another recipe, {', '.join(differing)} differ: see {path}"
        )


def _differing_keys(one: Recipe, two: Recipe) -> list[str]:
    """Return keys whose values differ, without those that do not change any result."""
    ignored: Any = {"about": True, "train": {"workers", "evaluate_every"}}
    first, second = (r.model_dump(exclude=ignored) for r in (one, two))
    keys = [key for key in first if key != "train" and first[key] != second[key]]
    inner = [key for key in first["train"] if first["train"][key] != second["train"][key]]
    return [*keys, *(f"train.{key}" for key in inner)]
