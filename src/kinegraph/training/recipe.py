"""What a recipe says: one short YAML file that settles a whole training run."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from kinegraph.clips.splits import get_protocol
from kinegraph.errors import KinegraphError, RecipeError, did_you_mean
from kinegraph.models import MODELS, check_options, list_models
from kinegraph.training.objectives import Objective, create_objective
from kinegraph.transforms import Pipeline, check_steps, parse_steps
from kinegraph.transforms.input_streams import normalize_stream_name

#: Folder of TensorBoard's files within a run's.
TENSORBOARD_FOLDER = "tensorboard"


class _StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class ModelConfig(BaseModel):
    """Which model, and its options (any further keys; `kinegraph.models.model_options`)."""

    model_config = ConfigDict(extra="allow")

    name: str = "stgcn"

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of the model."""
        return dict(self.model_extra or {})


class ObjectiveConfig(BaseModel):
    """What is trained for, and its options (any further keys; `kinegraph.training.objectives`)."""

    model_config = ConfigDict(extra="allow")

    name: str = "recognition"

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of the objective."""
        return dict(self.model_extra or {})


class ValidationConfig(_StrictModel):
    """The part of the *training* split that is held out to choose the best epoch.

    ``fraction: 0`` trains on all of it and keeps the last epoch.
    """

    fraction: float = Field(0.1, ge=0, lt=1)
    by: str | None = None
    seed: int = 0


def _devices(value: Any) -> Any:
    if value == "auto" or (type(value) is int and value > 0):
        return value
    raise PydanticCustomError("devices", "expected a number above 0, or auto")


class TrainConfig(_StrictModel):
    """How the weights are fitted; learning rates change per step, milestones count epochs.

    ``batch_size`` is of each device: a step is of batch_size x accumulate x devices x nodes clips.
    ``threads`` is for the CPU: small models are quickest with one, whatever else the machine does.
    """

    epochs: int = Field(50, ge=1)
    batch_size: int = Field(32, ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(0.1, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Literal["step", "cosine", "constant"] = "cosine"
    milestones: list[int] = []
    gamma: float = Field(0.1, gt=0)
    cosine_epochs: int | None = Field(None, ge=1)
    warmup_epochs: float = Field(0, ge=0)
    label_smoothing: float = Field(0, ge=0, lt=1)
    clip_grad: float | None = Field(None, gt=0)
    ema: float | None = Field(None, gt=0, lt=1)
    early_stop: int | None = Field(None, ge=1)
    accumulate: int = Field(1, ge=1)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    devices: Annotated[int | Literal["auto"], BeforeValidator(_devices)] = 1
    nodes: int = Field(1, ge=1)
    workers: int = Field(0, ge=0)
    threads: int | None = Field(None, ge=1)
    freeze_backbone: bool = False


class StageConfig(_StrictModel):
    """A training that goes before the recipe's own, on the same clips with the same model.

    Attributes:
        name: of its folder within the run.
        objective: what this stage is for.
        train: the keys of the recipe's train part that differ.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    objective: ObjectiveConfig
    train: dict[str, Any] = {}


class Recipe(_StrictModel):
    """Everything that a training run needs beside the store's content.

    Attributes:
        name: what the run is called.
        about: where the setting comes from, in a sentence.
        store: path of the clip store.
        protocol: which split of it (`kinegraph list protocols`).
        seed: of initial weights, order and augmentation.
        persons: M of the batches; further persons are dropped, missing ones are absent.
        confidence: append the joints' confidence as a last channel.
        stream: joint, bone, joint_motion, bone_motion, or several joined by ``+``.
        transforms: steps in order, each a name or ``{name: {options}}``; the random ones act in
            training only.
        model, objective, train, validation: see there.
        share: of the training clips of each class that are used (at least one), to see what few
            labels give; drawn by ``seed``.
        init_from: a run whose weights are the first ones, all but a head of other classes.
        stages: trainings that go before, each starting from the weights of the one before it.
    """

    name: str
    about: str = ""
    store: str
    protocol: str
    seed: int = Field(0, ge=0)
    persons: int = Field(1, ge=1)
    confidence: bool = False
    stream: Annotated[str, AfterValidator(normalize_stream_name)] = "joint"
    transforms: list[Any] = []
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    train: TrainConfig = TrainConfig()
    validation: ValidationConfig = ValidationConfig()
    share: float = Field(1, gt=0, le=1)
    init_from: str | None = None
    stages: list[StageConfig] = []

    def pipeline(self) -> Pipeline:
        """The transforms, ready to run."""
        return Pipeline.from_list(self.transforms, self.stream)

    def stage(self, number: int) -> Recipe:
        """The recipe of one of the stages by itself."""
        stage = self.stages[number]
        changes = {"name": f"{self.name}-{stage.name}", "objective": stage.objective, "stages": []}
        data = self.model_copy(update=changes).model_dump()
        data["train"] |= stage.train
        return Recipe.model_validate(data)

    def to_yaml(self) -> str:
        """The whole recipe, defaults written out."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False)


def list_recipes() -> list[str]:
    """Names of the shipped recipes."""
    folder = resources.files("kinegraph") / "recipes"
    return sorted(
        f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")
    )


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        source: a YAML file, or the name of a shipped recipe.
        overrides: ``key=value`` with dotted keys, the values as in YAML.

    Raises:
        RecipeError: no such recipe, no YAML, or mistakes in it: all of them at once.
    """
    data = _parse(source)
    for item in overrides:
        _override(data, item)
    return parse_recipe(data, str(source))


def parse_recipe(data: dict[str, Any], source: str) -> Recipe:
    """The recipe of this content.

    Raises:
        RecipeError: its mistakes, all of them at once.
    """
    mistakes: list[str] = []
    recipe = None
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        mistakes += [_sentence(dict(e)) for e in error.errors()]
    mistakes += _cross_check(data)
    if recipe and not mistakes:
        mistakes += _training_mistakes(recipe) + _stage_mistakes(recipe)
    if mistakes or recipe is None:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise RecipeError(f"{source}: {count}: " + "; ".join(mistakes))
    return recipe


def _parse(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"cannot read the recipe {path}: {error}") from error
    else:
        text = _shipped(str(source))
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{source} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise RecipeError(f"{source}: expected keys and values, got {type(data).__name__}")
    return data


def _shipped(name: str) -> str:
    known = list_recipes()
    if name not in known:
        hint = did_you_mean(name, known)
        raise RecipeError(
            f"no recipe {name!r}{hint}: give a .yaml file or one of `kinegraph list recipes`"
        )
    return (resources.files("kinegraph") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


def _override(data: dict[str, Any], item: str) -> None:
    key, equals, value = item.partition("=")
    if not equals or not key:
        raise RecipeError(f"expected key=value, got {item!r} (for example train.epochs=2)")
    *parents, last = key.split(".")
    for parent in parents:
        named = {item.get("name"): item for item in data} if isinstance(data, list) else data
        if isinstance(data, list) and parent not in named:
            raise RecipeError(f"{key!r}: no {parent!r} in the list; known: {', '.join(named)}")
        data = named.setdefault(parent, {})
        if not isinstance(data, dict | list):
            raise RecipeError(f"{key!r}: {parent!r} is a value, it has no {last!r}")
    if isinstance(data, list):
        raise RecipeError(f"{key!r}: expected stages.NAME.KEY, such as stages.links.train.epochs=2")
    try:
        data[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"{item!r}: the value is no YAML: {error}") from error


def _sentence(error: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _known_keys(error["loc"][:-1])
        hint = did_you_mean(str(error["loc"][-1]), known) or f"; known: {', '.join(known)}"
        return f"unknown key {where!r}{hint}"
    if error["type"] == "missing":
        return f"{where!r} is missing"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{where!r}: {message}, got {error['input']!r}"


def _known_keys(parents: Sequence[Any]) -> list[str]:
    part: type[BaseModel] = Recipe
    for parent in parents:
        if isinstance(parent, int):
            continue
        annotation = part.model_fields[str(parent)].annotation
        inner = (annotation, *get_args(annotation))
        part = next((a for a in inner if isinstance(a, type) and issubclass(a, BaseModel)), part)
    return list(part.model_fields)


def _cross_check(data: dict[str, Any]) -> list[str]:
    """Mistakes that no type shows: names of protocols, models, transforms and their options."""
    mistakes = []
    model = data.get("model", {})
    if isinstance(model, dict):
        name = model.get("name", "stgcn")
        options = {key: value for key, value in model.items() if key != "name"}
        mistakes += _attempt(lambda: check_options(str(name), options))
        objectives = [data.get("objective")]
        stages = data.get("stages", [])
        if isinstance(stages, list):
            objectives += [stage.get("objective") for stage in stages if isinstance(stage, dict)]
        for objective in objectives:
            if isinstance(objective, dict):
                mistakes += _attempt(lambda o=objective: _objective_mistakes(o, str(name)))
    if isinstance(data.get("protocol"), str):
        mistakes += _attempt(lambda: get_protocol(data["protocol"]) and [])
    steps = data.get("transforms", [])
    if isinstance(steps, list):
        stream = str(data.get("stream", "joint"))
        mistakes += _attempt(lambda: check_steps(parse_steps(steps), stream))
    return mistakes


def _objective_mistakes(objective: dict[str, Any], model: str) -> list[str]:
    options = {key: value for key, value in objective.items() if key != "name"}
    made = create_objective(str(objective.get("name", "recognition")), options)
    if model not in MODELS or hasattr(MODELS[model], made.required_method):
        return []
    method, asked = made.required_method, objective.get("name", "recognition")
    able = ", ".join(name for name in list_models() if hasattr(MODELS[name], method))
    return [f"objective {asked!r} needs a model with `{method}`, {model!r} has none: {able}"]


def _training_mistakes(recipe: Recipe) -> list[str]:
    """Keys of the train part that do not go with the rest of the recipe."""
    mistakes = []
    if recipe.train.early_stop and recipe.validation.fraction == 0:
        mistakes.append("'train.early_stop' needs a held-out part: validation.fraction above 0")
    objective = recipe.objective
    if recipe.train.freeze_backbone and not _made(objective).is_classifier:
        mistakes.append(
            f"'train.freeze_backbone' leaves only the classifier to learn, which objective "
            f"{objective.name!r} does not teach"
        )
    return mistakes


def _made(objective: ObjectiveConfig) -> Objective:
    return create_objective(objective.name, objective.options)


def _stage_mistakes(recipe: Recipe) -> list[str]:
    mistakes = []
    names = [stage.name for stage in recipe.stages]
    for number, stage in enumerate(recipe.stages):
        told = f"stage {stage.name!r}"
        if stage.name in (*names[:number], TENSORBOARD_FOLDER):
            mistakes.append(f"{told}: its folder would be that of something else: rename it")
        mistakes += [
            f"{told}: 'train.{key}' is the whole run's: give it there"
            for key in ("devices", "nodes")
            if key in stage.train
        ]
        try:
            mistakes += [f"{told}: {m}" for m in _training_mistakes(recipe.stage(number))]
        except ValidationError as error:
            mistakes += [f"{told}: {_sentence(dict(e))}" for e in error.errors()]
    return mistakes


def _attempt(check: Any) -> list[str]:
    try:
        return list(check() or [])
    except KinegraphError as error:
        return [str(error)]
