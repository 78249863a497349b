"""What of a run is still to be trained: its legs, the stages and what follows them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from kinegraph.errors import CheckpointError, RecipeError
from kinegraph.training.checkpoint import require_empty_folder
from kinegraph.training.recipe import Recipe, parse_recipe
from kinegraph.training.resume import RESUME_FILE, find_resume_checkpoint, is_finished

RECIPE_FILE = "recipe.yaml"


@dataclass(frozen=True)
class StageRun:
    """One training: a stage of a run, or what follows the stages.

    Attributes:
        whole: the run's recipe.
        out: the run's folder.
        number: of the stage; as many as there are stages for what follows them.
        start: a run whose weights are the first ones.
        resume: the file that it goes on from, if it has begun.
    """

    whole: Recipe
    out: Path
    number: int
    start: Path | None
    resume: Path | None

    @property
    def recipe(self) -> Recipe:
        """The recipe of this leg by itself."""
        stages = self.whole.stages
        return self.whole.stage(self.number) if self.number < len(stages) else self.whole

    @property
    def folder(self) -> Path:
        """Where it is written."""
        return _folders(self.whole, self.out)[self.number]


def _folders(recipe: Recipe, out: Path) -> list[Path]:
    return [*(out / stage.name for stage in recipe.stages), out]


def remaining_stages(recipe: Recipe, out: Path, *, resume: bool) -> list[StageRun]:
    """What is left of a run; nothing if it is finished.

    Raises:
        CheckpointError: the folder holds another run, or something else, or a damaged file.
    """
    if resume:
        _check_resumable(recipe, out)
    else:
        require_empty_folder(out)
    folders = _folders(recipe, out)
    points = [find_resume_checkpoint(folder) if resume else None for folder in folders]
    begun = max((i for i, point in enumerate(points) if point), default=0)
    starts = [Path(recipe.init_from) if recipe.init_from else None, *folders]
    legs = [
        StageRun(recipe, out, i, None if points[i] else starts[i], points[i])
        for i in range(begun, len(folders))
    ]
    return legs[1:] if points[begun] and is_finished(folders[begun]) else legs


def _check_resumable(recipe: Recipe, out: Path) -> None:
    """A run of this recipe, or what is left of one that was killed before it wrote anything."""
    path = out / RECIPE_FILE
    if not path.is_file():
        if out.is_dir() and all(entry.name.startswith(".") for entry in out.iterdir()):
            return
        raise CheckpointError(
            f"{out} holds no {RECIPE_FILE} and no {RESUME_FILE}: there is nothing to resume (train "
            "without --resume)"
        )
    try:
        trained = parse_recipe(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
    except (RecipeError, OSError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path} is no recipe: {error}") from error
    differing = _differing(trained, recipe)
    if differing:
        raise CheckpointError(
            f"{out} was trained by another recipe, {', '.join(differing)} differ: see {path}"
        )


def _differing(one: Recipe, two: Recipe) -> list[str]:
    """Keys whose values differ; how many processes load data changes no result."""
    first, second = (r.model_dump(exclude={"train": {"workers"}}) for r in (one, two))
    keys = [key for key in first if key != "train" and first[key] != second[key]]
    inner = [key for key in first["train"] if first["train"][key] != second["train"][key]]
    return [*keys, *(f"train.{key}" for key in inner)]


def stages_to_json(legs: list[StageRun]) -> str:
    """Legs as one line for another process."""
    return json.dumps(
        [
            {
                "whole": leg.whole.model_dump(),
                "number": leg.number,
                **{key: str(getattr(leg, key) or "") for key in ("out", "start", "resume")},
            }
            for leg in legs
        ]
    )


def stages_from_json(text: str) -> list[StageRun]:
    """What `stages_to_json` wrote."""
    return [
        StageRun(
            Recipe.model_validate(leg["whole"]),
            Path(leg["out"]),
            leg["number"],
            Path(leg["start"]) if leg["start"] else None,
            Path(leg["resume"]) if leg["resume"] else None,
        )
        for leg in json.loads(text)
    ]
