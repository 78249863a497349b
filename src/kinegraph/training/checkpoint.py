"""Checkpoints: weights and everything needed to use them, in one safetensors file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from threading import get_ident
from typing import Any, Self

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_parameter_registration_hook,
)

from kinegraph.errors import CheckpointError, KinegraphError
from kinegraph.files import atomic_write, is_leftover
from kinegraph.models import create_model
from kinegraph.models.segmenter import FrameSegmenter
from kinegraph.models.unknown import UnknownLogit
from kinegraph.plain_text import parse_json
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.space import Space
from kinegraph.training.header_fields import (
    STRICT,
    CenterCount,
    ChannelCount,
    ClassCount,
    LayoutFields,
    ModelFields,
    ObjectiveFields,
    PersonCount,
    PositiveNumber,
    ReaderFields,
    RecipeFacts,
    SpaceFields,
    Steps,
    TrainingFacts,
    describe_errors,
    parse_fields,
)
from kinegraph.training.model_zoo import bundled_weights, list_pretrained
from kinegraph.training.objectives import Objective, create_objective
from kinegraph.training.recipe import SELECTION_FOLDER, Recipe
from kinegraph.transforms import Pipeline

BEST_FILE, LAST_FILE = "best.safetensors", "last.safetensors"
FORMAT_VERSION = 2  # 1: the checksum may be missing
DEFAULT_FPS = 30.0  # of a run that does not state its frame rate
DEFAULT_WINDOW_S = 3.0  # of streams
FREE_PARAMETERS = 1 << 22  # numbers of a model that its file may lack


@dataclass(frozen=True)
class CheckpointHeader:
    """Header of a checkpoint, as plain data.

    Attributes:
        model: ``{"name": ..., "options": {...}}``, with ``"head": {"name": ..., ...}`` if it names
            the action of each frame.
        layout: `SkeletonLayout.to_dict`.
        num_classes: number of actions.
        in_channels: C of the input.
        classes: class names by label, or None.
        persons: M of the input.
        confidence: whether the last channel is the confidence.
        stream: input stream, such as joint or bone.
        transforms: the transforms from a raw clip to the input.
        reader: ``{"name": ..., "options": {...}}`` of the reader of the training clips.
        recipe: the whole recipe.
        training: facts of the training: epoch, metrics, clips, seconds, store.
        versions: versions of the packages that trained it.
        objective: the training objective, as in the recipe.
        calibration: the calibration of its logits (`kinegraph.inference.calibration`), or None.
        fps: frames per second of the training clips, None if unknown.
        space: `Space.to_dict` of the training clips; None means the usual space of the layout.
        stream_window_seconds: how many of the latest seconds a prediction of a stream covers.
        unknown_centers: how many centers the logit of the last class is computed from
            (`kinegraph.models.unknown`); 0 for a model without this logit.
    """

    model: ModelFields
    layout: LayoutFields
    num_classes: ClassCount
    in_channels: ChannelCount
    classes: list[str] | None
    persons: PersonCount
    confidence: bool
    stream: str
    transforms: Steps
    reader: ReaderFields
    recipe: RecipeFacts
    training: TrainingFacts
    versions: dict[str, str]
    objective: ObjectiveFields = field(default_factory=lambda: {"name": "recognition"})
    calibration: dict[str, Any] | None = None
    fps: PositiveNumber | None = None
    space: SpaceFields | None = None
    stream_window_seconds: PositiveNumber = DEFAULT_WINDOW_S
    unknown_centers: CenterCount = 0

    __pydantic_config__ = STRICT

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Return the header of plain data, with the type and range of every field checked.

        Raises:
            ValueError: a field is missing, unknown, of a wrong type or out of range, or the fields
                do not fit together.
        """
        try:
            header = parse_fields(cls, data)
            pipeline = header.pipeline()
        except KinegraphError as error:
            raise ValueError(str(error)) from error
        if header.classes is not None and len(header.classes) > header.num_classes:
            raise ValueError(f"{len(header.classes)} names for {header.num_classes} classes")
        if "coordinates" in header.training:
            given = 2 if pipeline.has_camera else header.training["coordinates"]
            made = pipeline.output_channels(given) + header.confidence
            if made != header.in_channels:
                raise ValueError(
                    f"the transforms make {made} channels, field 'in_channels' is "
                    f"{header.in_channels}"
                )
        return header

    def build_model(self) -> nn.Module:
        """Create the model, with untrained weights."""
        model = create_model(
            self.model["name"],
            layout=SkeletonLayout.from_dict(self.layout),
            num_classes=self.num_classes - bool(self.unknown_centers),
            in_channels=self.in_channels,
            **self.model["options"],
        )
        if head := self.model.get("head"):
            return FrameSegmenter(model, head, self.num_classes)
        if self.unknown_centers:
            centers = torch.zeros(self.unknown_centers, int(model.pooled_features))
            model.unknown_head = UnknownLogit(centers, 0.0, 0.0)
        return model

    def pipeline(self) -> Pipeline:
        """Return the transform pipeline that the model was trained with."""
        return Pipeline.from_list(self.transforms, self.stream)

    def clip_space(self) -> Space:
        """Return what the coordinates of the training clips mean."""
        if self.space is not None:
            return Space.from_dict(self.space)
        coordinates = self.training.get("coordinates", self.in_channels - self.confidence)
        return SkeletonLayout.from_dict(self.layout).default_space(coordinates)

    def parse_recipe(self) -> Recipe:
        """Return the recipe, with the defaults of keys that it does not state.

        Raises:
            CheckpointError: it is not a complete recipe of this version.
        """
        try:
            return Recipe.model_validate(self.recipe)
        except ValidationError as error:
            raise CheckpointError(
                f"the recipe in the header of this checkpoint: {describe_errors(error)}"
            ) from error

    def create_objective(self) -> Objective:
        """Create the objective that the model was trained with."""
        return create_objective(self.objective)

    def class_name(self, label: int) -> str:
        """Return the name of a class, or ``class 7`` if the data set has no names."""
        known = self.classes is not None and label < len(self.classes)
        return self.classes[label] if known and self.classes else f"class {label}"


def collect_versions() -> dict[str, str]:
    """Return the versions of the packages that determine the results of a run."""
    return {name: version(name) for name in ("kinegraph", "torch", "lightning", "numpy", "pyarrow")}


def save_checkpoint(path: Path, state: dict[str, Tensor], header: CheckpointHeader) -> None:
    """Write weights, header and checksum atomically.

    Raises:
        CheckpointError: the file cannot be written.
    """
    atomic_write(path, pack_checkpoint(state, header))


def pack_checkpoint(state: dict[str, Tensor], header: CheckpointHeader) -> bytes:
    """Return the content of a checkpoint file: weights, header and checksum."""
    from safetensors.torch import save

    content = json.dumps({"format": FORMAT_VERSION, **header.__dict__})
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    metadata = {"kinegraph": content, "sha256": _checksum(content, tensors)}
    return save(tensors, metadata=metadata)


def _checksum(content: str, tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of the header and of each tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(content.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def require_empty_folder(out: Path) -> None:
    """Check that a run may be written to a folder; what a killed process left does not count.

    Raises:
        CheckpointError: ``out`` is a file, or a folder that is not empty.
    """
    if out.exists() and not (out.is_dir() and all(map(is_leftover, out.iterdir()))):
        raise CheckpointError(f"{out} is not empty: choose another folder (or train with --resume)")


def find_checkpoint(run: Path) -> Path:
    """Return the checkpoint file of a run (its best epoch, else its last), or the file itself.

    A name of `list_pretrained` that is not a path here means the bundled weights.

    Raises:
        CheckpointError: there is none.
    """
    if run.is_file():
        return run
    if not run.exists() and (bundled := bundled_weights(str(run))):
        return bundled
    for name in (BEST_FILE, LAST_FILE):
        if (run / name).is_file():
            return run / name
    if run.is_dir():
        raise CheckpointError(
            f"{run} does not contain a checkpoint: expected a run of `kinegraph train` with a "
            f"{LAST_FILE}"
        )
    raise CheckpointError(
        f"{run} does not exist: expected a run of `kinegraph train` with a {LAST_FILE}, or one of "
        f"`kinegraph list pretrained`: {', '.join(list_pretrained())}"
    )


def load_header(path: Path) -> CheckpointHeader:
    """Return the header of a checkpoint file.

    Raises:
        CheckpointError: the file is damaged, or not a checkpoint of kinegraph.
    """
    return _load_tensors(path)[1]


def training_seconds(run: Path) -> float:
    """Return how long a run was trained, all of its stages, their selection and resumed parts.

    Raises:
        CheckpointError: a checkpoint is missing or damaged.
    """
    header = load_header(run / LAST_FILE)
    folders = [stage["name"] for stage in header.recipe.get("stages", [])]
    folders += [SELECTION_FOLDER] if "selection" in header.training else []
    others = [load_header(run / folder / LAST_FILE) for folder in folders]
    return float(sum(part.training["seconds"] for part in (header, *others)))


def load_model(run: Path) -> tuple[nn.Module, CheckpointHeader]:
    """Load the model of a run, in evaluation mode, and its header.

    Raises:
        CheckpointError: there is no checkpoint, it is damaged, or its weights do not fit its model.
    """
    path = find_checkpoint(Path(run))
    state, header = _load_tensors(path)
    try:
        with _limit_parameters(sum(tensor.numel() for tensor in state.values())):
            model = header.build_model()
        model.load_state_dict(state)
    # the options of a model are whatever the file states
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: the weights do not fit their header: {reason}") from error
    return model.eval(), header


@contextmanager
def _limit_parameters(stored: int) -> Iterator[None]:
    """Refuse models far larger than the weights of their file, before their memory is written.

    Models may replace layers that they made, and keep constants that the file does not have.
    """
    limit, made, thread = FREE_PARAMETERS + 4 * stored, 0, get_ident()

    def count(module: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal made
        made += 0 if tensor is None or get_ident() != thread else tensor.numel()
        if made > limit:
            raise CheckpointError("its model is far larger than its weights")

    hooks = (register_module_parameter_registration_hook, register_module_buffer_registration_hook)
    handles = [register(count) for register in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _load_tensors(path: Path) -> tuple[dict[str, Tensor], CheckpointHeader]:
    """Read weights and header; if the file is damaged, the error names an undamaged alternative."""
    try:
        return _read_tensors(path)
    except CheckpointError as error:
        others = {BEST_FILE: LAST_FILE, LAST_FILE: BEST_FILE}
        other = path.with_name(others.get(path.name, path.name))
        with suppress(CheckpointError):
            _read_tensors(other)
            error = CheckpointError(f"{error}; {other} is not damaged")
        raise error


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], CheckpointHeader]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        content = metadata.pop("kinegraph")
        data = parse_json(content)
        format = data.pop("format")
        # any other key may be that of the checksum, damaged
        has_checksum = bool(metadata) or format != 1
        if has_checksum and metadata != {"sha256": _checksum(content, state)}:
            raise CheckpointError(f"{path} is damaged: its content does not match its checksum")
        if format not in (1, FORMAT_VERSION):
            raise CheckpointError(f"{path} was written by another version of kinegraph")
        return state, CheckpointHeader.from_dict(data)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a checkpoint, or it is damaged: {error}") from error
    except KeyError as error:
        raise CheckpointError(f"{path} has no header of kinegraph") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} has no valid header of kinegraph: {error}") from error


def is_head_parameter(name: str) -> bool:
    """Return whether a parameter belongs to the classifier, by its name in the state dict."""
    return not {"head", "unknown_head"}.isdisjoint(name.split("."))
