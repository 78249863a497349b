"""State dicts of published code -> ours, strictly: no key is ignored, none is missing."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from kinegraph.errors import ModelError
from kinegraph.models.stgcn import STGCN

_PREFIXES = ("module.", "backbone.", "head.")
_PADDLE = {"_mean": "running_mean", "_variance": "running_var"}
_STGCN_RULES = (
    (r"st_gcn_networks\.(\d+)\.gcn\.conv\.(weight|bias)", r"blocks.\1.gcn.\2"),
    (r"st_gcn_networks\.(\d+)\.tcn\.0\.(\w+)", r"blocks.\1.bn.\2"),
    (r"st_gcn_networks\.(\d+)\.tcn\.2\.(\w+)", r"blocks.\1.tcn.\2"),
    (r"st_gcn_networks\.(\d+)\.tcn\.3\.(\w+)", r"blocks.\1.tcn_bn.\2"),
    (r"st_gcn_networks\.(\d+)\.residual\.0\.(\w+)", r"blocks.\1.residual.conv.\2"),
    (r"st_gcn_networks\.(\d+)\.residual\.1\.(\w+)", r"blocks.\1.residual.bn.\2"),
    (r"edge_importance\.(\d+)", r"blocks.\1.gcn.edge_importance"),
    (r"data_bn\.(\w+)", r"data_bn.\1"),
    (r"fcn\.(\w+)", r"head.\1"),
)


def load_stgcn(model: STGCN, state: Mapping[str, Tensor]) -> None:
    """Load a state dict of the original st-gcn code (or PaddleVideo's) into ``model``.

    The original names are those of the rules above. A ``module.`` prefix and missing
    ``num_batches_tracked`` are accepted.

    Args:
        model: a `STGCN` with ``faithful=True`` and the layout, classes and channels of the file.
        state: the tensors by their original names.

    Raises:
        ModelError: an unknown, missing or misshapen key, or an adjacency other than the model's.
    """
    ours = model.state_dict()
    found = {}
    for key, value in state.items():
        name = _plain(key)
        if name == "A":
            _check_adjacency(value, model)
            continue
        target = _rename(name)
        if target not in ours:
            raise ModelError(f"the state dict holds {key!r}, which this model does not have")
        found[target] = _reshape(key, target, value, ours[target])
    allowed = (".A", "num_batches_tracked")
    missing = [key for key in ours if key not in found and not key.endswith(allowed)]
    if missing:
        raise ModelError(f"the state dict lacks {len(missing)} tensors, the first: {missing[0]!r}")
    model.load_state_dict({**ours, **found})


def _plain(key: str) -> str:
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    stem, _, last = key.rpartition(".")
    return f"{stem}.{_PADDLE[last]}" if last in _PADDLE else key


def _rename(key: str) -> str:
    for pattern, replacement in _STGCN_RULES:
        if match := re.fullmatch(pattern, key):
            return match.expand(replacement)
    return key


def _reshape(key: str, target: str, value: Tensor, like: Tensor) -> Tensor:
    expected = value
    if target.endswith("gcn.weight") and value.ndim == 4:
        K, c_in, c_out = like.shape
        if value.shape[:2] == (K * c_out, c_in):
            expected = value.view(K, c_out, c_in).transpose(1, 2)
    elif target.endswith(("gcn.bias", "head.weight")) and value.numel() == like.numel():
        expected = value.view(like.shape)
    if expected.shape != like.shape:
        raise ModelError(
            f"{key!r} has shape {tuple(value.shape)}, the model's {target!r} is {tuple(like.shape)}"
        )
    return expected


def _check_adjacency(A: Tensor, model: STGCN) -> None:
    own = model.blocks[0].gcn.A
    if A.shape != own.shape or not torch.allclose(A.to(own), own, atol=1e-6):
        raise ModelError(
            f"the state dict was trained on another graph: its A is {tuple(A.shape)}, the model's "
            f"{tuple(own.shape)} (layout {model.layout.name!r}, faithful={model.faithful})"
        )
