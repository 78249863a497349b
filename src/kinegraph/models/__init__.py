"""Registry of model families: clips (N, C, T, V, M) in, logits out."""

from __future__ import annotations

import inspect
import json
import re
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError
from torch import nn

from kinegraph.errors import ModelError, did_you_mean, unknown_name
from kinegraph.models.agcn import AAGCN, AGCN
from kinegraph.models.asgcn import ASGCN
from kinegraph.models.autoencoder import STGCNAutoEncoder
from kinegraph.models.ctrgcn import CTRGCN
from kinegraph.models.dgstgcn import DGSTGCN
from kinegraph.models.efficientgcn import EfficientGCN
from kinegraph.models.msg3d import MSG3D
from kinegraph.models.shiftgcn import ShiftGCN
from kinegraph.models.skateformer import SkateFormer
from kinegraph.models.stgcn import STGCN
from kinegraph.models.stgcnpp import STGCNPlus
from kinegraph.models.twostream import TwoStreamSTGCN
from kinegraph.skeleton.layout import SkeletonLayout

MODELS: dict[str, type[nn.Module]] = {
    "aagcn": AAGCN,
    "agcn": AGCN,
    "asgcn": ASGCN,
    "ctrgcn": CTRGCN,
    "dgstgcn": DGSTGCN,
    "efficientgcn": EfficientGCN,
    "msg3d": MSG3D,
    "shiftgcn": ShiftGCN,
    "skateformer": SkateFormer,
    "stgcn": STGCN,
    "stgcn_autoencoder": STGCNAutoEncoder,
    "stgcn_twostream": TwoStreamSTGCN,
    "stgcnpp": STGCNPlus,
}

#: The entry points by which an installed package adds models: name = "module:Class".
ENTRY_POINT_GROUP = "kinegraph.models"

_CONTRACT = ("forward", "forward_features", "forward_head", "reset_classifier", "parameter_groups")
_FIXED = ("layout", "num_classes", "in_channels")


def register_model(name: str, cls: type[nn.Module]) -> None:
    """Add a model of one's own; from then on its name works wherever a model is named.

    It is known in this process. A package that is installed may state it as an entry point of the
    group ``kinegraph.models`` instead, which every process and the command line find.

    Args:
        name: letters, digits and underscores.
        cls: keeps the contract of `kinegraph.models.base.SkeletonModel`.

    Raises:
        ModelError: a name that is taken or not allowed, or a class that does not keep the contract.
    """
    if not name.isidentifier():
        raise ModelError(f"expected a model name of letters, digits and underscores, got {name!r}")
    if MODELS.get(name, cls) is not cls:
        raise ModelError(
            f"model {name!r} is already registered ({MODELS[name].__name__}); choose another name"
        )
    _check_contract(name, cls)
    MODELS[name] = cls


def list_models() -> list[str]:
    """Return the names that `create_model` accepts."""
    return sorted({*MODELS, *_plugins()})


def find_model(name: str) -> type[nn.Module]:
    """Return the class of a model, from this package, `register_model` or an installed package.

    Raises:
        UnknownNameError: there is no such model.
        ModelError: the installed package that states it cannot be loaded.
    """
    if name not in MODELS and name in (plugins := _plugins()):
        try:
            cls = plugins[name].load()
        except Exception as error:
            # a foreign package is imported here, which may fail in any way
            raise ModelError(
                f"model {name!r} cannot be loaded from {plugins[name].value}: {error}"
            ) from error
        register_model(name, cls)
    if name not in MODELS:
        raise unknown_name("model", name, list_models())
    return MODELS[name]


def model_options(name: str) -> dict[str, Any]:
    """Return the options of a model with their defaults, beside those that every model has.

    Raises:
        UnknownNameError: there is no such model.
    """
    return _options(find_model(name))


def check_options(name: str, options: dict[str, Any]) -> list[str]:
    """Return what is wrong with the names and types of these options, a sentence each."""
    known = model_options(name)
    annotations = _option_annotations(find_model(name))
    unknown = [
        f"model {name!r} has no option {key!r}{did_you_mean(key, known)}; known: {', '.join(known)}"
        for key in options
        if key not in known
    ]
    return unknown + [
        f"model {name!r}: {mistake}"
        for key, value in options.items()
        if key in known
        for mistake in _find_type_errors(key, annotations.get(key, Any), value)
    ]


def create_model(
    name: str,
    *,
    layout: SkeletonLayout | str,
    num_classes: int,
    in_channels: int = 3,
    **options: Any,
) -> nn.Module:
    """Return a new model with random weights.

    Args:
        name: one of `list_models`.
        layout: the skeleton, or its name.
        num_classes: number of actions.
        in_channels: C of the input.
        options: see the model's class, or `model_options`.

    Raises:
        UnknownNameError: there is no such model or layout.
        ModelError: an option that the model does not have, or a value that it does not accept.
    """
    if mistakes := check_options(name, options):
        raise ModelError("; ".join(mistakes))
    try:
        return find_model(name)(layout, num_classes, in_channels=in_channels, **options)
    except (TypeError, ValueError) as error:
        raise ModelError(f"model {name!r} does not accept {options}: {error}") from error


def _options(cls: type[nn.Module]) -> dict[str, Any]:
    shared, without = getattr(cls, "options_of", None) or (None, ())
    options = {} if shared is None else _options(shared)
    parameters = inspect.signature(cls).parameters.values()
    own = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}
    return {k: v for k, v in {**options, **own}.items() if k not in {*_FIXED, *without}}


def _option_annotations(cls: type[nn.Module]) -> dict[str, Any]:
    """Return the annotations of a model's options; without those that cannot be resolved."""
    shared, _ = getattr(cls, "options_of", None) or (None, ())
    try:
        own = get_type_hints(cls.__init__)
    except (NameError, TypeError):  # of a class that was registered
        own = {}
    return {**({} if shared is None else _option_annotations(shared)), **own}


def _find_type_errors(key: str, annotation: Any, value: Any) -> list[str]:
    if annotation is bool:
        right = isinstance(value, bool)
        return [] if right else [f"expected {key} to be true or false, got {value!r:.80}"]
    try:
        _option_type(annotation).validate_json(json.dumps(value))  # strict tuples take JSON lists
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] in {"enum", "literal_error"} and isinstance(value, str):
            known = re.findall(r"'([^']*)'", first["ctx"]["expected"])
            return [str(unknown_name(key, value, known))]
        where = ".".join([key, *(str(part) for part in first["loc"] if isinstance(part, int))])
        message = f"{first['msg'][0].lower()}{first['msg'][1:]}"
        return [f"{where}: {message}, got {first['input']!r:.80}"]
    except (PydanticSchemaGenerationError, TypeError):  # not plain data: the model checks it
        pass
    return []


@cache
def _option_type(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False))


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def _check_contract(name: str, cls: Any) -> None:
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise ModelError(f"model {name!r}: expected a class of torch.nn.Module, got {cls!r}")
    if missing := [method for method in _CONTRACT if not hasattr(cls, method)]:
        raise ModelError(
            f"model {name!r}: {cls.__name__} has no method {', '.join(missing)} (see "
            "kinegraph.models.base.SkeletonModel)"
        )
    parameters = inspect.signature(cls).parameters
    if missing := [given for given in _FIXED if given not in parameters]:
        raise ModelError(
            f"model {name!r}: {cls.__name__}() takes no argument {', '.join(missing)}; expected "
            "(layout, num_classes, *, in_channels=3, ...)"
        )
