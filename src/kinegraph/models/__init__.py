"""The model families: (N, C, T, V, M) tensors in, logits out."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from kinegraph.errors import ModelError, did_you_mean, unknown_name
from kinegraph.models.asgcn import ASGCN
from kinegraph.models.autoencoder import STGCNAutoEncoder
from kinegraph.models.shiftgcn import ShiftGCN
from kinegraph.models.stgcn import STGCN
from kinegraph.models.twostream import TwoStreamSTGCN
from kinegraph.skeleton.layout import SkeletonLayout

MODELS: dict[str, type[nn.Module]] = {
    "asgcn": ASGCN,
    "shiftgcn": ShiftGCN,
    "stgcn": STGCN,
    "stgcn_autoencoder": STGCNAutoEncoder,
    "stgcn_twostream": TwoStreamSTGCN,
}

_FIXED = ("self", "layout", "num_classes", "in_channels")


def list_models() -> list[str]:
    """Names that `create_model` knows."""
    return sorted(MODELS)


def model_options(name: str) -> dict[str, Any]:
    """The options of a model with their defaults, beside layout, num_classes and in_channels.

    Raises:
        UnknownNameError: no such model.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    parameters = inspect.signature(MODELS[name].__init__).parameters
    return {key: p.default for key, p in parameters.items() if key not in _FIXED}


def check_options(name: str, options: dict[str, Any]) -> list[str]:
    """What is wrong with the names of these options, a sentence each."""
    known = model_options(name)
    mistakes = []
    for key in options:
        if key not in known:
            hint = did_you_mean(key, known)
            mistakes.append(
                f"model {name!r} has no option {key!r}{hint}; known: {', '.join(known)}"
            )
    return mistakes


def create_model(
    name: str,
    *,
    layout: SkeletonLayout | str,
    num_classes: int,
    in_channels: int = 3,
    **options: Any,
) -> nn.Module:
    """A fresh model.

    Args:
        name: one of `list_models`.
        layout: the skeleton, or its name.
        num_classes: number of actions.
        in_channels: C of the input.
        options: see the model's class, or `model_options`.

    Raises:
        UnknownNameError: no such model or layout.
        ModelError: an option that the model does not have, or cannot take.
    """
    if mistakes := check_options(name, options):
        raise ModelError("; ".join(mistakes))
    try:
        return MODELS[name](layout, num_classes, in_channels=in_channels, **options)
    except (TypeError, ValueError) as error:
        raise ModelError(f"model {name!r} cannot take {options}: {error}") from error
