"""A checkpoint: weights and everything needed to use them, in one safetensors file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.errors import CheckpointError, KinegraphError
from kinegraph.files import atomic_write
from kinegraph.models import create_model
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.training.model_zoo import bundled_weights, list_pretrained
from kinegraph.training.objectives import Objective, create_objective
from kinegraph.transforms import Pipeline

BEST_FILE, LAST_FILE = "best.safetensors", "last.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class CheckpointHeader:
    """What a checkpoint says of itself, as plain data.

    Attributes:
        model: ``{"name": ..., "options": {...}}``.
        layout: `SkeletonLayout.to_dict`.
        num_classes: number of actions.
        in_channels: C of the input.
        classes: class names by label, or None.
        persons: M of the input.
        confidence: whether the last channel is the confidence.
        stream: what the input is made of.
        transforms: the steps from a raw clip to the input.
        reader: ``{"name": ..., "options": {...}}`` that made the training clips.
        recipe: the whole recipe.
        training: facts of the run: epoch, metrics, clips, seconds, store.
        versions: of the packages that trained it.
        objective: what it was trained for, as in the recipe.
        calibration: how its logits become probabilities, and when it does not know
            (`kinegraph.inference.calibration`); None where that was not measured.
    """

    model: dict[str, Any]
    layout: dict[str, Any]
    num_classes: int
    in_channels: int
    classes: list[str] | None
    persons: int
    confidence: bool
    stream: str
    transforms: list[Any]
    reader: dict[str, Any]
    recipe: dict[str, Any]
    training: dict[str, Any]
    versions: dict[str, str]
    objective: dict[str, Any] = field(default_factory=lambda: {"name": "recognition"})
    calibration: dict[str, Any] | None = None

    def build_model(self) -> nn.Module:
        """A fresh model of this kind."""
        return create_model(
            self.model["name"],
            layout=SkeletonLayout.from_dict(self.layout),
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            **self.model["options"],
        )

    def pipeline(self) -> Pipeline:
        """The transforms that the model was trained with."""
        return Pipeline.from_list(self.transforms, self.stream)

    def create_objective(self) -> Objective:
        """The objective that the model was trained for."""
        options = {key: value for key, value in self.objective.items() if key != "name"}
        return create_objective(self.objective["name"], options)

    def class_name(self, label: int) -> str:
        """The name of a class, or ``class 7`` where the set has no names."""
        known = self.classes is not None and label < len(self.classes)
        return self.classes[label] if known and self.classes else f"class {label}"


def collect_versions() -> dict[str, str]:
    """Versions of the packages that decide what a run computes."""
    return {name: version(name) for name in ("kinegraph", "torch", "lightning", "numpy", "pyarrow")}


def save_checkpoint(path: Path, state: dict[str, Tensor], header: CheckpointHeader) -> None:
    """Write weights and header with their checksum: whole, or not at all.

    Raises:
        CheckpointError: the file cannot be written.
    """
    from safetensors.torch import save

    content = json.dumps({"format": FORMAT, **header.__dict__})
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    metadata = {"kinegraph": content, "sha256": _checksum(content, tensors)}
    atomic_write(path, save(tensors, metadata=metadata))


def _checksum(content: str, tensors: dict[str, Tensor]) -> str:
    """Of the header's text and every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(content.encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def require_empty_folder(out: Path) -> None:
    """Nothing is ever written over what is there already.

    Raises:
        CheckpointError: ``out`` is a file, or a folder that is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out} is not empty: give another folder (or train with --resume)")


def find_checkpoint(run: Path) -> Path:
    """The checkpoint file of a run (its best epoch, else its last), or the file itself.

    A name that is no path here, but one of `list_pretrained`, means the weights that came along.

    Raises:
        CheckpointError: there is none.
    """
    if run.is_file():
        return run
    if not run.exists() and (shipped := bundled_weights(str(run))):
        return shipped
    for name in (BEST_FILE, LAST_FILE):
        if (run / name).is_file():
            return run / name
    if run.is_dir():
        raise CheckpointError(
            f"{run} holds no checkpoint: expected a run of `kinegraph train` with a {LAST_FILE}"
        )
    raise CheckpointError(
        f"{run} does not exist: expected a run of `kinegraph train` with a {LAST_FILE}, or one of "
        f"`kinegraph list pretrained`: {', '.join(list_pretrained())}"
    )


def load_header(path: Path) -> CheckpointHeader:
    """The header of a checkpoint file.

    Raises:
        CheckpointError: the file is damaged, or not a checkpoint of ours.
    """
    return _load(path)[1]


def load_model(run: Path) -> tuple[nn.Module, CheckpointHeader]:
    """The model of a run, in evaluation mode, and its header.

    Raises:
        CheckpointError: no checkpoint there, a damaged one, or weights that do not fit its model.
    """
    path = find_checkpoint(Path(run))
    state, header = _load(path)
    try:
        model = header.build_model()
        model.load_state_dict(state)
    except (KinegraphError, RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: the weights do not fit their header: {reason}") from error
    return model.eval(), header


def _load(path: Path) -> tuple[dict[str, Tensor], CheckpointHeader]:
    """Weights and header of a file, in one reading; damage ends with the other file's name."""
    try:
        return _read(path)
    except CheckpointError as error:
        for other in (
            path.with_name(name)
            for name in (BEST_FILE, LAST_FILE)
            if path.name in (BEST_FILE, LAST_FILE)
        ):
            if other != path and _is_whole(other):
                raise CheckpointError(f"{error}; {other} is whole") from error
        raise


def _is_whole(path: Path) -> bool:
    try:
        _read(path)
    except CheckpointError:
        return False
    return True


def _read(path: Path) -> tuple[dict[str, Tensor], CheckpointHeader]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        content = metadata["kinegraph"]
        data = json.loads(content)
        # files of the time before there were checksums have none
        if metadata.get("sha256", checksum := _checksum(content, state)) != checksum:
            raise CheckpointError(f"{path} is damaged: its content does not match its checksum")
        if data.pop("format") != FORMAT:
            raise CheckpointError(f"{path} was written by another version of kinegraph")
        return state, CheckpointHeader(**data)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is no checkpoint, or a damaged one: {error}") from error
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} carries no kinegraph header: {error!r}") from error


def load_initial_weights(model: nn.Module, header: CheckpointHeader, run: Path) -> None:
    """Give a fresh model the weights of a run: all of them, but a head for other classes.

    An auto-encoder hands on its encoder to a model of the encoder's kind.

    Args:
        model: the fresh model.
        header: of the run that begins.
        run: where the weights are.

    Raises:
        CheckpointError: no checkpoint there, or one of a model that does not fit.
    """
    source, trained = load_model(run)
    if trained.layout["joints"] != header.layout["joints"]:
        raise CheckpointError(
            f"{run} cannot be the start: its layout {trained.layout['name']!r} has other joints "
            f"than {header.layout['name']!r}"
        )
    encoder = getattr(source, "encoder", None)
    if isinstance(encoder, type(model)):
        source = encoder
    theirs, ours = source.state_dict(), model.state_dict()
    if trained.classes != header.classes or trained.num_classes != header.num_classes:
        theirs = {key: value for key, value in theirs.items() if not is_head_parameter(key)}
    for key, value in ours.items():
        if is_head_parameter(key) and (key not in theirs or theirs[key].shape != value.shape):
            theirs[key] = value
    wrong = [key for key in ours if key not in theirs or theirs[key].shape != ours[key].shape]
    wrong += [key for key in theirs if key not in ours]
    fit = [key for key in ours if key not in wrong]
    wrong += [key for key in fit if _is_graph(key) and not torch.equal(ours[key], theirs[key])]
    if wrong:
        raise CheckpointError(
            f"{run} cannot be the start: its {trained.model['name']!r} on layout "
            f"{trained.layout['name']!r} does not fit, {len(wrong)} tensors differ, the first: "
            f"{wrong[0]!r}"
        )
    model.load_state_dict(theirs)


def _is_graph(name: str) -> bool:
    """Whether a buffer is an adjacency, by its name in the state dict."""
    return name.rpartition(".")[2] == "A"


def is_head_parameter(name: str) -> bool:
    """Whether a parameter belongs to the classifier, by its name in the state dict."""
    return "head" in name.split(".")
