"""Recipes: short YAML files that define a whole training run."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from kinegraph.clips.splits import get_protocol
from kinegraph.errors import KinegraphError, LayoutError, RecipeError, did_you_mean
from kinegraph.models import MODELS, check_options, find_model, list_models, model_options
from kinegraph.models.segmenter import create_head
from kinegraph.plain_text import PlainTextError, parse_yaml, read_plain_text
from kinegraph.skeleton.layouts import LAYOUT_SUFFIXES, read_layout
from kinegraph.training.batch import Preprocessor
from kinegraph.training.objectives import Objective, create_objective
from kinegraph.transforms import TRANSFORMS, Pipeline, check_steps, parse_steps
from kinegraph.transforms.input_streams import normalize_stream_name

#: Folder of the bundled recipes.
RECIPE_FOLDER = Path(str(resources.files("kinegraph"))) / "recipes"
#: Folders within a run's folder: of the TensorBoard files, and of the training with held-out clips
#: that selects the number of epochs.
TENSORBOARD_FOLDER, SELECTION_FOLDER = "tensorboard", "selection"
#: Value of keys that follow the store, see `kinegraph.training.auto_settings`.
AUTO = "auto"
#: The step for the option of the same name that models have.
FRAME_INDEX_STEP = "frame_index"


class _StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class _NamedConfig(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """All further keys: the keyword arguments."""
        return dict(self.model_extra or {})


class ModelConfig(_NamedConfig):
    """Model name and options (any further keys, see `kinegraph.models.model_options`)."""

    name: str = "stgcn"


class HeadConfig(_NamedConfig):
    """Name and options of a head of every frame (`kinegraph.models.segmenter.HEADS`)."""


class ObjectiveConfig(_NamedConfig):
    """Objective name and options (any further keys, see `kinegraph.training.objectives`)."""

    name: str = "recognition"

    def create(self) -> Objective:
        """Create the objective."""
        return create_objective(self.model_dump())


class ValidationConfig(_StrictModel):
    """Clips that select the best epoch: a fraction of the *training* split, which is held out.

    ``fraction: 0`` trains on the whole split and keeps the last epoch. With ``retrain`` the
    held-out clips only select the number of epochs: the model is then trained anew on all clips.
    With ``split: test`` and fraction 0 the test split selects the epoch, as in much released code;
    its figures are then optimistic.
    """

    split: Literal["train", "test"] = "train"
    fraction: float = Field(0.1, ge=0, lt=1)
    by: str | None = None
    seed: int = 0
    retrain: bool = False

    @property
    def is_used(self) -> bool:
        """Whether clips select the best epoch."""
        return self.fraction > 0 or self.split == "test"


def _devices(value: Any) -> Any:
    if value == "auto" or (type(value) is int and value > 0):
        return value
    is_list = isinstance(value, list) and all(type(i) is int and i >= 0 for i in value)
    if is_list and len(set(value)) == len(value) > 0:
        return value
    raise PydanticCustomError(
        "devices", "expected a number above 0, a list of different device ids, or auto"
    )


def _check_folder_name(name: str) -> str:
    """Refuse names that would place a run outside of ``runs``, or that a terminal would obey."""
    if not name.isprintable() or name.startswith(".") or not name or set(name) & set("/\\:"):
        raise PydanticCustomError(
            "name", "expected a folder name without a path, a colon or control characters"
        )
    return name


class TrainConfig(_StrictModel):
    """Training hyperparameters; the learning rate changes every step, milestones are epochs.

    ``batch_size`` is per device: the effective batch size is batch_size x accumulate x devices x
    nodes. Few clips are trained for more epochs, until there are ``min_steps`` steps. ``devices``
    may list the ids of the devices to use. ``evaluate_every`` is the number of epochs between two
    evaluations of the test split, which select nothing. ``precision: auto`` is bf16-mixed where the
    device has units for bfloat16, else 32-true. ``threads`` is the number of CPU threads:
    small models are fastest with one.
    """

    epochs: int = Field(50, ge=1)
    min_steps: int = Field(0, ge=0)
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
    min_lr: float = Field(0, ge=0)
    warmup_epochs: float = Field(0, ge=0)
    label_smoothing: float = Field(0, ge=0, lt=1)
    mixup: float | None = Field(None, gt=0, le=10)
    class_weights: Literal["balanced"] | None = None
    clip_grad: float | None = Field(None, gt=0)
    ema: float | None = Field(None, gt=0, lt=1)
    early_stop: int | None = Field(None, ge=1)
    evaluate_every: int | None = Field(None, ge=1)
    accumulate: int = Field(1, ge=1)
    precision: Literal["32-true", "bf16-mixed", "16-mixed", "auto"] = "32-true"
    devices: Annotated[int | list[int] | Literal["auto"], BeforeValidator(_devices)] = 1
    nodes: int = Field(1, ge=1)
    workers: int = Field(0, ge=0)
    threads: int | None = Field(None, ge=1)
    freeze_backbone: bool = False
    freeze_graph_epochs: int = Field(0, ge=0)


class StageConfig(_StrictModel):
    """A training before the recipe's own, on the same clips with the same model.

    Attributes:
        name: name of its folder within the run's.
        objective: objective of this stage.
        train: the keys of the recipe's ``train`` that differ.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    objective: ObjectiveConfig
    train: dict[str, Any] = {}


class Recipe(_StrictModel):
    """Everything that defines a training run, except the clips themselves.

    Attributes:
        name: name of the run, and of its folder in ``runs``.
        about: source of the setting, in one sentence.
        store: path of the clip store.
        protocol: name of its train/test split (`kinegraph list protocols`), or auto.
        seed: seed of initial weights, order and augmentation.
        persons: M of the batches; further persons are dropped, missing ones are zeros. 0: as many
            as the clips have.
        confidence: append the joints' confidence as last channel.
        stream: joint, bone, joint_motion, bone_motion, or several joined by ``+``.
        transforms: steps in order, each a name or ``{name: {options}}``; random steps apply in
            training only.
        mirror: always, or auto: without the step mirror if the layout has no left and right joints,
            or the class names do not show that left and right mean the same.
        test_clips: number of clips that an evaluation samples from each clip; their class scores
            are averaged.
        test_mirror: whether an evaluation also averages the scores of the mirrored clip, at the
            step mirror; auto: if the class names show which classes mirrored clips have.
        model, objective, train, validation: see these classes.
        head: the head that names the action of each frame, for the objective segmentation.
        share: fraction of the training clips of each class to use (at least one clip), drawn by
            ``seed``, to measure learning from few labels.
        soft_labels: a file of scores (``scores-train.npz`` of ``evaluate --split train``). Training
            clips without a label, and those that ``share`` leaves out, are trained on with its
            class probabilities as labels (self-training).
        init_from: a run whose weights initialize the model, except a head for other classes.
        stages: trainings before this one, each initialized from the one before it.
    """

    name: Annotated[str, AfterValidator(_check_folder_name)]
    about: str = ""
    store: str
    protocol: str
    seed: int = Field(0, ge=0)
    persons: int = Field(1, ge=0)
    confidence: bool = False
    stream: Annotated[str, AfterValidator(normalize_stream_name)] = "joint"
    transforms: list[Any] = []
    mirror: Literal["always", "auto"] = "always"
    test_clips: int = Field(1, ge=1, le=1000)
    test_mirror: bool | Literal["auto"] = False
    model: ModelConfig = ModelConfig()
    head: HeadConfig | None = None
    objective: ObjectiveConfig = ObjectiveConfig()
    train: TrainConfig = TrainConfig()
    validation: ValidationConfig = ValidationConfig()
    share: float = Field(1, gt=0, le=1)
    soft_labels: str | None = None
    init_from: str | None = None
    stages: list[StageConfig] = []

    def pipeline(self) -> Pipeline:
        """Return the transform pipeline."""
        return Pipeline.from_list(self.transforms, self.stream)

    def model_spec(self) -> dict[str, Any]:
        """Return the model's name and options; its option ``persons`` is the recipe's if unset."""
        options = self.model.options
        if "persons" in model_options(self.model.name) and self.persons:
            options = {"persons": self.persons, **options}
        spec = {"name": self.model.name, "options": options}
        return spec if self.head is None else {**spec, "head": self.head.model_dump()}

    def preprocessor(self, background: int | None = None) -> Preprocessor:
        """Return the conversion of clips to model input; ``background`` as in `Preprocessor`."""
        return Preprocessor(self.pipeline(), self.persons, self.confidence, background=background)

    def stage(self, number: int) -> Recipe:
        """Return the recipe of a stage."""
        stage = self.stages[number]
        changes = {"name": f"{self.name}-{stage.name}", "objective": stage.objective, "stages": []}
        data = self.model_copy(update=changes).model_dump()
        data["train"] |= stage.train
        data["validation"]["retrain"] = False
        return Recipe.model_validate(data)

    def selection(self) -> Recipe:
        """Return the recipe of the training that selects the number of epochs."""
        validation = self.validation.model_copy(update={"retrain": False})
        name = f"{self.name}-{SELECTION_FOLDER}"
        return self.model_copy(update={"name": name, "validation": validation, "stages": []})

    def to_yaml(self) -> str:
        """Return the recipe as YAML, with all defaults."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False)


def list_recipes() -> list[str]:
    """Return the names of the bundled recipes."""
    return sorted(path.stem for path in RECIPE_FOLDER.glob("*.yaml"))


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and validate a recipe.

    Args:
        source: a YAML file, or the name of a bundled recipe.
        overrides: ``key=value`` with dotted keys and YAML values.

    Raises:
        RecipeError: there is no such recipe, it is not YAML, or it is invalid; the message lists
            all errors.
    """
    data = read_recipe_fields(source)
    for item in overrides:
        _apply_override(data, item)
    _embed_layout_files(data, Path(source).parent)
    return parse_recipe(data, str(source))


def _embed_layout_files(data: dict[str, Any], folder: Path) -> None:
    """Replace layout files in steps ``layout: {to: FILE}`` by their fields, which a run keeps.

    A file is looked for in the working directory, then beside the recipe.
    """
    steps = data.get("transforms")
    for step in steps if isinstance(steps, list) else []:
        options = step.get("layout") if isinstance(step, dict) else None
        if not isinstance(options, dict) or not isinstance(to := options.get("to"), str):
            continue
        if Path(to).suffix in LAYOUT_SUFFIXES:
            is_beside = not Path(to).is_file() and (folder / to).is_file()
            try:
                options["to"] = read_layout(folder / to if is_beside else to).to_dict()
            except LayoutError as error:
                raise RecipeError(str(error)) from error


def parse_recipe(data: dict[str, Any], source: str) -> Recipe:
    """Validate the content of a recipe; ``source`` names it in messages.

    Raises:
        RecipeError: the recipe is invalid; the message lists all errors.
    """
    errors: list[str] = []
    recipe = None
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        errors += [_format_error(dict(e)) for e in error.errors()]
    errors += _find_name_errors(data)
    if recipe and not errors:
        errors += _find_training_errors(recipe) + _find_stage_errors(recipe)
        errors += _find_test_errors(recipe) + _find_frame_index_errors(recipe)
        errors += _find_head_errors(recipe)
    if errors or recipe is None:
        count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        raise RecipeError(f"{source}: {count}: " + "; ".join(errors))
    return recipe


def read_recipe_fields(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        try:
            data = parse_yaml(read_plain_text(path))
        except (OSError, PlainTextError) as error:
            raise RecipeError(f"cannot read the recipe {path}: {error}") from error
    else:
        data = parse_yaml(_read_bundled(str(source)))
    if not isinstance(data, dict):
        raise RecipeError(f"{source}: expected keys and values, got {type(data).__name__}")
    return data


def _read_bundled(name: str) -> str:
    known = list_recipes()
    if name not in known:
        hint = did_you_mean(name, known)
        raise RecipeError(
            f"no recipe {name!r}{hint}: give a .yaml file or one of `kinegraph list recipes`"
        )
    return (RECIPE_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def _apply_override(data: dict[str, Any], item: str) -> None:
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
            raise RecipeError(f"{key!r}: {parent!r} is a value, so it has no key {last!r}")
    if isinstance(data, list):
        raise RecipeError(f"{key!r}: expected stages.NAME.KEY, such as stages.links.train.epochs=2")
    try:
        data[last] = parse_yaml(value)
    except PlainTextError as error:
        raise RecipeError(f"{key}: {error}") from error


def _format_error(error: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _known_keys(error["loc"][:-1])
        hint = did_you_mean(str(error["loc"][-1]), known) or f"; known: {', '.join(known)}"
        return f"unknown key {where!r}{hint}"
    if error["type"] == "missing":
        return f"{where!r} is missing"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{where!r}: {message}, got {reprlib.repr(error['input'])}"


def _known_keys(parents: Sequence[Any]) -> list[str]:
    part: type[BaseModel] = Recipe
    for parent in parents:
        if isinstance(parent, int):
            continue
        annotation = part.model_fields[str(parent)].annotation
        inner = (annotation, *get_args(annotation))
        part = next((a for a in inner if isinstance(a, type) and issubclass(a, BaseModel)), part)
    return list(part.model_fields)


def _find_name_errors(data: dict[str, Any]) -> list[str]:
    """Find errors that types do not show: names of protocols, models, transforms; options."""
    errors = []
    model = data.get("model", {})
    if isinstance(model, dict):
        name = str(model.get("name", "stgcn"))
        options = {str(key): value for key, value in model.items() if key != "name"}
        errors += _collect_errors(lambda: check_options(name, options))
        objectives = [data.get("objective")]
        stages = data.get("stages", [])
        if isinstance(stages, list):
            objectives += [stage.get("objective") for stage in stages if isinstance(stage, dict)]
        for objective in objectives:
            if isinstance(objective, dict):
                errors += _collect_errors(lambda o=objective: _find_objective_errors(o, name))
    if isinstance(data.get("protocol"), str) and data["protocol"] != AUTO:
        errors += _collect_errors(lambda: get_protocol(data["protocol"]) and [])
    steps = data.get("transforms", [])
    if isinstance(steps, list):
        stream = str(data.get("stream", "joint"))
        errors += _collect_errors(lambda: check_steps(parse_steps(steps), stream))
    return errors


def _find_objective_errors(objective: dict[str, Any], model: str) -> list[str]:
    name, method = objective.get("name", "recognition"), create_objective(objective).required_method
    if model not in list_models() or hasattr(find_model(model), method):
        return []
    able = ", ".join(other for other in sorted(MODELS) if hasattr(MODELS[other], method))
    return [
        f"objective {name!r} needs a model with the method `{method}`; {model!r} does not have "
        f"it, these models do: {able}"
    ]


def _find_test_errors(recipe: Recipe) -> list[str]:
    """Find keys of the evaluation that no transform of the recipe can follow."""
    errors = []
    pipeline = recipe.pipeline()
    if recipe.test_clips > 1 and not pipeline.samples_clips:
        able = [n for n, step in TRANSFORMS.items() if step.uses_view and not step.random]
        errors.append(
            f"'test_clips: {recipe.test_clips}' needs a step that samples clips: one of "
            f"{', '.join(able)}"
        )
    if recipe.test_mirror and "mirror" not in dict(pipeline.steps):
        errors.append(
            "'test_mirror' needs the step mirror, which states where clips are mirrored: add it "
            "to the transforms, as `mirror: {p: 0}` if training should not mirror"
        )
    return errors


def _find_frame_index_errors(recipe: Recipe) -> list[str]:
    """Find keys that take the place of the frame index, which models read as last channel."""
    if not recipe.model.options.get("frame_index"):
        return []
    names = [name for name, _ in recipe.pipeline().steps]
    if names[-1:] != [FRAME_INDEX_STEP]:
        return [
            f"'model.frame_index' reads the last channel, which the step {FRAME_INDEX_STEP} "
            "appends: make it the last of the transforms"
        ]
    if recipe.confidence:
        return [
            "'model.frame_index' reads the last channel, which is the confidence with "
            "'confidence: true': set confidence to false"
        ]
    return []


def _find_head_errors(recipe: Recipe) -> list[str]:
    """Find a frame head without the objective that trains it, or the other way round."""
    names_frames = recipe.objective.create().names_frames
    if recipe.head is None:
        need = "set 'head', such as head: {name: ms_tcn}"
        return [f"objective {recipe.objective.name!r} needs a frame head: {need}"] * names_frames
    spec = recipe.head.model_dump()
    errors = _collect_errors(lambda: create_head(spec, 1, 2) and [])
    if not names_frames:
        errors.append(
            f"'head' names the action of each frame, which objective {recipe.objective.name!r} "
            "does not train: set 'objective' to {name: segmentation}"
        )
    for_clips = ("stages", "test_clips", "test_mirror", "soft_labels")
    defaults = Recipe.model_fields
    errors += [
        f"{key!r} is for clips with one action each, not for recordings: leave it out"
        for key in for_clips
        if getattr(recipe, key) != defaults[key].default
    ]
    return errors


def _find_training_errors(recipe: Recipe) -> list[str]:
    """Find keys that contradict the rest of the recipe."""
    validation = recipe.validation
    needs = {
        "train.early_stop": recipe.train.early_stop and not validation.is_used,
        "validation.retrain": validation.retrain and not validation.fraction,
    }
    errors = [
        f"{key!r} needs held-out clips: set validation.fraction above 0, or leave {key} out"
        for key, value in needs.items()
        if value
    ]
    if validation.split == "test" and validation.fraction:
        errors.append(
            "'validation.split: test' holds out no training clips: set validation.fraction to 0"
        )
    if recipe.pipeline().joins_persons and recipe.persons != 1:
        errors.append(
            f"step 'join_persons' makes one body of two, but 'persons' is {recipe.persons}: set "
            "persons to 1"
        )
    if recipe.train.freeze_backbone and not recipe.objective.create().is_classifier:
        errors.append(
            "'train.freeze_backbone' trains only the classifier, but objective "
            f"{recipe.objective.name!r} does not use it"
        )
    if recipe.train.mixup and not recipe.objective.create().can_mix_labels:
        errors.append(
            "'train.mixup' mixes labels, which only the objective recognition without "
            f"future_weight can; the objective is {recipe.objective.name!r}: set it to null"
        )
    if recipe.train.freeze_graph_epochs and not hasattr(
        find_model(recipe.model.name), "graph_parameters"
    ):
        errors.append(
            f"'train.freeze_graph_epochs' freezes learned graphs, but model {recipe.model.name!r} "
            "does not list any: set it to 0"
        )
    if recipe.train.class_weights and not recipe.objective.create().is_classifier:
        errors.append(
            f"'train.class_weights' weighs classes, but objective {recipe.objective.name!r} names "
            "none: set it to null"
        )
    return errors


def _find_stage_errors(recipe: Recipe) -> list[str]:
    errors = []
    names = [stage.name for stage in recipe.stages]
    for number, stage in enumerate(recipe.stages):
        label = f"stage {stage.name!r}"
        if stage.name in (*names[:number], TENSORBOARD_FOLDER, SELECTION_FOLDER):
            errors.append(f"{label}: another folder of the run has this name: rename the stage")
        errors += [
            f"{label}: 'train.{key}' applies to the whole run: set it in the recipe's train"
            for key in ("devices", "nodes")
            if key in stage.train
        ]
        try:
            errors += [f"{label}: {e}" for e in _find_training_errors(recipe.stage(number))]
        except ValidationError as error:
            errors += [f"{label}: {_format_error(dict(e))}" for e in error.errors()]
    return errors


def _collect_errors(check: Any) -> list[str]:
    try:
        return list(check() or [])
    except KinegraphError as error:
        return [str(error)]
