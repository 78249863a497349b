"""Import of published weights as runs, with class names and the expected preprocessing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kinegraph.errors import (
    CheckpointError,
    ModelError,
    ReadError,
    RecipeError,
    unknown_name,
)
from kinegraph.files import atomic_write, exclusive_lock
from kinegraph.inference.torch_file import load_torch
from kinegraph.models.efficientgcn import recognize_variant
from kinegraph.models.published_weights import (
    load_aagcn_pyskl,
    load_asgcn,
    load_ctrgcn,
    load_msg3d,
    load_renamed,
    load_shiftgcn,
    load_skateformer,
    load_stgcn,
    load_twostream,
    plain_key,
)
from kinegraph.readers.class_names import class_names, list_class_sets
from kinegraph.readers.formats.numpy_file import list_npz, read_npz
from kinegraph.readers.formats.pickle_file import load_pickle
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.space import IMAGE_SHARES, KINECT, PREPARATIONS, Space
from kinegraph.training.checkpoint import (
    LAST_FILE,
    CheckpointHeader,
    collect_versions,
    require_empty_folder,
    save_checkpoint,
)
from kinegraph.training.recipe import ModelConfig, Recipe, list_recipes, load_recipe
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
        faithful_reader: whether the NTU reader repeats the errors of the released code.
        recognize: returns the options of the model that the tensors show, by `plain_key`.
    """

    load: Callable[..., None]
    head: str
    persons: str
    needs_links: bool = False
    faithful_reader: bool = False
    recognize: Callable[[StateDict], dict[str, Any]] | None = None

    def reader_options(self) -> dict[str, Any]:
        """Return the options of the NTU reader."""
        return {"persons": self.persons} | ({"faithful": True} if self.faithful_reader else {})


WEIGHT_FORMATS = {
    "stgcn": WeightFormat(load_stgcn, "fcn.weight", "stgcn"),
    "shiftgcn": WeightFormat(load_shiftgcn, "fc.weight", "agcn"),
    "stgcn_twostream": WeightFormat(load_twostream, "origin_stream.fcn.weight", "stgcn"),
    "agcn": WeightFormat(partial(load_renamed, family="agcn"), "fc.weight", "agcn"),
    "aagcn": WeightFormat(partial(load_renamed, family="aagcn"), "fc.weight", "agcn"),
    "aagcn_pyskl": WeightFormat(load_aagcn_pyskl, "cls_head.fc_cls.weight", "pyskl"),
    "asgcn": WeightFormat(load_asgcn, "fcn.weight", "agcn", needs_links=True),
    "skateformer": WeightFormat(load_skateformer, "head.weight", "ctrgcn", faithful_reader=True),
    "ctrgcn": WeightFormat(load_ctrgcn, "fc.weight", "ctrgcn", faithful_reader=True),
    "ctrgcn_pyskl": WeightFormat(load_ctrgcn, "cls_head.fc_cls.weight", "pyskl"),
    **{
        name: WeightFormat(partial(load_renamed, family=name), "cls_head.fc_cls.weight", "pyskl")
        for name in ("stgcn_pyskl", "stgcnpp", "dgstgcn")
    },
    "msg3d": WeightFormat(load_msg3d, "fc.weight", "agcn"),
    "msg3d_pyskl": WeightFormat(load_msg3d, "cls_head.fc_cls.weight", "pyskl"),
    "efficientgcn": WeightFormat(
        partial(load_renamed, family="efficientgcn"),
        "classifier.fc.weight",
        "agcn",
        recognize=recognize_variant,
    ),
}


@dataclass(frozen=True)
class PublishedDataset:
    """A dataset with published weights.

    Attributes:
        name: as the names of its recipes have it.
        layout: the layout of its clips.
        reader: the reader of its raw files.
        coordinates: of a joint, without the confidence.
        space: what its coordinates mean.
        variant: the end of the names of its recipes, if the data set has several kinds of poses.
    """

    name: str
    layout: str = "ntu25"
    reader: str = "ntu"
    coordinates: int = 3
    space: Space = KINECT
    variant: str = ""


#: Datasets by the number of their classes, which are rows of the classifier.
DATASETS = {
    10: PublishedDataset("nw_ucla", "kinect20", "nw_ucla"),
    30: PublishedDataset("fsd", "body25", "fsd", 2, PREPARATIONS["fsd"].result),
    60: PublishedDataset("ntu60"),
    120: PublishedDataset("ntu120"),
    400: PublishedDataset("kinetics", "openpose18", "kinetics", 2, IMAGE_SHARES),
}
#: Those of poses that HRNet found in the videos, which PYSKL's networks also come for.
HRNET_DATASETS = {
    classes: PublishedDataset(name, "coco17", "pyskl", 2, Space("image"), "_hrnet")
    for classes, name in ((60, "ntu60"), (120, "ntu120"))
}
#: Joints, and numbers for each, of HRNet's poses: x, y, confidence; of one person, or of two.
_HRNET_INPUTS = (17 * 3, 2 * 17 * 3)
#: Keys under which training code saves a state dict beside other things.
WRAPPERS = ("state_dict", "model_state_dict", "net", "model")
PADDLE_SUFFIX = ".pdparams"
NUMPY_SUFFIX = ".npz"
ARCHIVE_SUFFIX = ".tar"
"""Of files of EfficientGCN, after the other suffix; they are not archives."""
_PADDLE_NAME_TABLE = "StructuredToParameterName@@"
#: So many keys of a file are named.
_SHOWN_KEYS = 8


def import_weights(
    family: str,
    weights: Path,
    out: Path,
    *,
    protocol: str,
    stream: str | None = None,
    links: Path | None = None,
) -> Path:
    """Convert published weights into a run: of NTU RGB+D, NW-UCLA, Kinetics-skeleton or FSD-10.

    Args:
        family: one of `WEIGHT_FORMATS`.
        weights: the published file: a PyTorch state dict, by itself or under one of `WRAPPERS`, a
            .pdparams file of PaddlePaddle, or .npz arrays; nothing in it is executed.
        out: the run's folder; must be new.
        protocol: that the weights were trained with, such as xsub; selects the recipe.
        stream: that they were trained on, such as bone; None: that of the recipe.
        links: AS-GCN's second file, with the link inference.

    Returns:
        ``out``, with last.safetensors and recipe.yaml.

    Raises:
        CheckpointError: no state dict in the file, or ``out`` is not empty.
        ModelError: keys that are unknown, missing or of another shape.
        RecipeError: no recipe for this family, number of classes and protocol.
        ReadError: a damaged .pdparams or .npz file, or one of other things than arrays.
    """
    if family not in WEIGHT_FORMATS:
        raise unknown_name("family of weights", family, WEIGHT_FORMATS)
    form = WEIGHT_FORMATS[family]
    if form.needs_links != (links is not None):
        expected = "needs --links FILE" if form.needs_links else "does not take --links"
        raise CheckpointError(f"{family} {expected}")
    require_empty_folder(out)
    files = [_read_state_dict(path) for path in (weights, links) if path]
    classes = _count_classes(files[0], form)
    dataset, recipe = _find_setting(family, files[0], classes, protocol, stream)
    if form.recognize is not None:
        named = {plain_key(key): value for key, value in files[0].state.items()}
        options = {**recipe.model.model_dump(), **form.recognize(named)}
        recipe = recipe.model_copy(update={"model": ModelConfig.model_validate(options)})
    has_names = dataset.name in list_class_sets()
    header = CheckpointHeader(
        model=recipe.model_spec(),
        layout=get_layout(dataset.layout).to_dict(),
        num_classes=classes,
        in_channels=recipe.pipeline().output_channels(dataset.coordinates) + recipe.confidence,
        classes=list(class_names(dataset.name)) if has_names else None,
        persons=recipe.persons,
        confidence=recipe.confidence,
        stream=recipe.stream,
        transforms=recipe.pipeline().to_list(),
        reader={
            "name": dataset.reader,
            "options": form.reader_options() if dataset.reader == "ntu" else {},
        },
        recipe=recipe.model_dump(),
        training={"coordinates": dataset.coordinates, "imported": True},
        versions=collect_versions(),
        space=dataset.space.to_dict(),
    )
    model = header.build_model()
    try:
        form.load(model, *(file.state for file in files))
    except ModelError as error:
        raise ModelError(f"{' and '.join(file.source for file in files)}: {error}") from error
    out.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(out):
        save_checkpoint(out / LAST_FILE, model.state_dict(), header)
        atomic_write(out / RECIPE_FILE, recipe.to_yaml())
    return out


class _WeightFile(NamedTuple):
    """The tensors of a file, and its name for messages, with the keys around the tensors."""

    state: StateDict
    source: str


def _read_state_dict(path: Path) -> _WeightFile:
    """Read the tensors of a file without executing anything in it."""
    suffix = Path(path.name.removesuffix(ARCHIVE_SUFFIX)).suffix
    content = {PADDLE_SUFFIX: _load_paddle, NUMPY_SUFFIX: _load_npz}.get(suffix, _load_torch)(path)
    keys: tuple[str, ...] = ()
    source = str(path)
    if isinstance(content, Mapping) and _wrapper_key(content):
        source = f"{path} ({_describe_content(content)})"
    while isinstance(content, Mapping) and (key := _wrapper_key(content)):
        content, keys = content[key], (*keys, key)
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        where = f"{path} under {'.'.join(keys)}" if keys else str(path)
        raise CheckpointError(
            f"expected a state dict of names and tensors in {where}, by itself or under one of "
            f"{', '.join(WRAPPERS)}; it holds {_describe_content(content)}"
        )
    return _WeightFile(content, source)


def _wrapper_key(content: Mapping[Any, Any]) -> str | None:
    return next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)


def _describe_content(content: object) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    keys = [repr(key) for key in content]
    more = f" and {len(keys) - _SHOWN_KEYS} more" if len(keys) > _SHOWN_KEYS else ""
    return f"the keys {', '.join(keys[:_SHOWN_KEYS])}{more}" if keys else "no keys"


def _load_torch(path: Path) -> object:
    try:
        return load_torch(path)
    except OSError as error:
        raise CheckpointError(f"cannot read weights from {path}: {error}") from error
    except ReadError as error:
        raise CheckpointError(
            f"cannot read weights from {path}: {_explain_refusal(str(error))}"
        ) from error


def _explain_refusal(message: str) -> str:
    """Return what a file holds instead of tensors, from the message of `load_torch`."""
    advice = "where the model's code is, save torch.save(model.state_dict(), FILE), and import that"
    if "TorchScript" in message:
        return f"it is a TorchScript program, not a state dict; {advice}"
    if named := re.search(r"it names (\S+);", message):
        return (
            f"it is a pickle of Python objects such as {named[1]}, perhaps a whole module, and "
            f"would run code, so nothing of it was opened; {advice}"
        )
    return (
        f"expected a file of tensors by torch.save, a {PADDLE_SUFFIX} file of PaddlePaddle, or a "
        f"{NUMPY_SUFFIX} file: {message}"
    )


def _load_npz(path: Path) -> object:
    arrays = read_npz(path, list_npz(path))
    return {key: _to_tensor(array) for key, array in arrays.items()}


def _load_paddle(path: Path) -> object:
    """Read the arrays that `paddle.save` has pickled, by name or as pairs of name and array."""
    return _to_tensor(load_pickle(path))


def _to_tensor(value: object) -> object:
    """Return an array, or a pair of a name and an array, as a tensor; other things as they are.

    The values of a mapping become tensors, without PaddlePaddle's table of names.
    """
    if isinstance(value, dict):
        return {key: _to_tensor(item) for key, item in value.items() if key != _PADDLE_NAME_TABLE}
    array: Any = value[1] if isinstance(value, tuple) and len(value) == 2 else value
    is_numeric = isinstance(array, np.ndarray) and array.dtype.kind in "fiub"
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="))) if is_numeric else value


def _count_classes(file: _WeightFile, form: WeightFormat) -> int:
    for key, value in file.state.items():
        if plain_key(key) == form.head and value.ndim:
            return int(value.shape[0])
    raise CheckpointError(
        f"{file.source} lacks {form.head!r}: expected weights of this family, but it holds "
        f"{_describe_content(file.state)}"
    )


def _find_setting(
    family: str, file: _WeightFile, classes: int, protocol: str, stream: str | None
) -> tuple[PublishedDataset, Recipe]:
    """Return the dataset with so many classes, and its first recipe by name with this protocol.

    HRNet's poses have a store for each of the original protocols, with the protocol official there.
    """
    dataset = (HRNET_DATASETS if _takes_hrnet_poses(file) else DATASETS).get(classes)
    prefixes = [f"{family}_{known.name}" for known in DATASETS.values()]
    recipes = {
        name: load_recipe(name, [] if stream is None else [f"stream={stream}"])
        for name in list_recipes()
        if name.startswith(tuple(prefixes))
    }
    for name, recipe in recipes.items():
        if dataset and name.startswith(f"{family}_{dataset.name}"):
            is_variant = name.endswith(f"_{protocol}{dataset.variant}")
            if is_variant if dataset.variant else recipe.protocol == protocol:
                return dataset, recipe
    variant = next(iter(HRNET_DATASETS.values())).variant
    protocols = {
        name: name.removesuffix(variant).rpartition("_")[2]
        if name.endswith(variant)
        else recipe.protocol
        for name, recipe in recipes.items()
    }
    listed = ", ".join(f"{name} (--protocol {known})" for name, known in protocols.items())
    raise RecipeError(
        f"no published setting for {family} with {classes} classes and protocol {protocol!r}; "
        f"known: {listed}"
    )


def _takes_hrnet_poses(file: _WeightFile) -> bool:
    norms = [value for key, value in file.state.items() if plain_key(key) == "data_bn.weight"]
    return any(value.numel() in _HRNET_INPUTS for value in norms)
