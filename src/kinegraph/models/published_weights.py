"""Conversion of published state dicts: every unknown or missing key is an error."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kinegraph.errors import ModelError
from kinegraph.models.shiftgcn import ShiftGCN
from kinegraph.models.stgcn import STGCN
from kinegraph.models.twostream import TwoStreamSTGCN

Rules = tuple[tuple[str, str], ...]

_PREFIXES = ("module.", "backbone.", "head.")
_PADDLE = {"_mean": "running_mean", "_variance": "running_var"}
_COUNTER = "num_batches_tracked"
#: So many missing keys are named.
_SHOWN = 5
#: From our names to theirs.
_STGCN_RULES = (
    (r"blocks\.(\d+)\.gcn\.(weight|bias)", r"st_gcn_networks.\1.gcn.conv.\2"),
    (r"blocks\.(\d+)\.gcn\.edge_importance", r"edge_importance.\1"),
    (r"blocks\.(\d+)\.bn\.(\w+)", r"st_gcn_networks.\1.tcn.0.\2"),
    (r"blocks\.(\d+)\.tcn\.(\w+)", r"st_gcn_networks.\1.tcn.2.\2"),
    (r"blocks\.(\d+)\.tcn_bn\.(\w+)", r"st_gcn_networks.\1.tcn.3.\2"),
    (r"blocks\.(\d+)\.residual\.conv\.(\w+)", r"st_gcn_networks.\1.residual.0.\2"),
    (r"blocks\.(\d+)\.residual\.bn\.(\w+)", r"st_gcn_networks.\1.residual.1.\2"),
    (r"data_bn\.(\w+)", r"data_bn.\1"),
    (r"head\.(\w+)", r"fcn.\1"),
)
_SHIFTGCN_RULES = (
    (r"blocks\.(\d+)\.gcn\.(weight|bias)", r"l\1.gcn1.Linear_\2"),
    (r"blocks\.(\d+)\.gcn\.mask", r"l\1.gcn1.Feature_Mask"),
    (r"blocks\.(\d+)\.gcn\.(shift_in|shift_out)\.index", r"l\1.gcn1.\2"),
    (r"blocks\.(\d+)\.gcn\.bn\.(\w+)", r"l\1.gcn1.bn.\2"),
    (r"blocks\.(\d+)\.gcn\.residual\.conv\.(\w+)", r"l\1.gcn1.down.0.\2"),
    (r"blocks\.(\d+)\.gcn\.residual\.bn\.(\w+)", r"l\1.gcn1.down.1.\2"),
    (r"blocks\.(\d+)\.tcn\.bn_in\.(\w+)", r"l\1.tcn1.bn.\2"),
    (r"blocks\.(\d+)\.tcn\.bn_out\.(\w+)", r"l\1.tcn1.bn2.\2"),
    (r"blocks\.(\d+)\.tcn\.(shift_in|shift_out)\.xpos", r"l\1.tcn1.\2.xpos"),
    (r"blocks\.(\d+)\.tcn\.(shift_in|shift_out)\.shift", r"l\1.tcn1.\2.ypos"),
    (r"blocks\.(\d+)\.tcn\.conv\.(\w+)", r"l\1.tcn1.temporal_linear.\2"),
    (r"blocks\.(\d+)\.residual\.(conv|bn)\.(\w+)", r"l\1.residual.\2.\3"),
    (r"data_bn\.(\w+)", r"data_bn.\1"),
    (r"head\.(\w+)", r"fc.\1"),
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
    weights = {}
    for key, value in state.items():
        if plain(key) == "A":
            check_adjacency(value, model.blocks[0].gcn.A, model.layout.name, model.faithful)
        else:
            weights[key] = value
    learnt = {key: value for key, value in ours.items() if not key.endswith(".A")}
    found = matched({key: (_stgcn_name(key), value) for key, value in learnt.items()}, weights)
    model.load_state_dict({**ours, **found})


def load_twostream(model: TwoStreamSTGCN, state: Mapping[str, Tensor]) -> None:
    """Load a state dict of the original two-stream st-gcn code into ``model``.

    Args:
        model: a `TwoStreamSTGCN` with ``faithful=True`` and the layout, classes and channels of
            the file.
        state: the tensors by their original names: ``origin_stream.`` or ``motion_stream.`` and
            a name of `load_stgcn`.

    Raises:
        ModelError: as `load_stgcn`.
    """
    parts: dict[str, dict[str, Tensor]] = {"origin_stream": {}, "motion_stream": {}}
    for key, value in state.items():
        stream, _, name = plain(key).partition(".")
        if stream not in parts:
            raise ModelError(f"the state dict holds {key!r}, which this model does not have")
        parts[stream][name] = value
    for stream, part in parts.items():
        try:
            load_stgcn(model.get_submodule(stream), part)  # type: ignore[arg-type]
        except ModelError as error:
            raise ModelError(f"{stream}: {error}") from error


def load_shiftgcn(model: ShiftGCN, state: Mapping[str, Tensor]) -> None:
    """Load a state dict of the original Shift-GCN code into ``model``.

    Its shifts along the joint axis (``xpos``), which that code never applies, are dropped; the
    orders in which it stores its spatial shifts must be ours.

    Args:
        model: a `ShiftGCN` with ``faithful=True`` and the layout, persons, classes and channels of
            the file.
        state: the tensors by their original names; a ``module.`` prefix and missing
            ``num_batches_tracked`` are accepted.

    Raises:
        ModelError: an unknown, missing or misshapen key, or another spatial shift.
    """
    ours = model.state_dict()
    orders = {name: order for name, order in model.named_buffers() if name.endswith(".index")}
    unused = {
        name.removesuffix("shift") + "xpos": shift
        for name, shift in ours.items()
        if name.endswith(".shift")
    }
    theirs = {
        name: (_shiftgcn_name(name), _shaped_as_theirs(name, own, model.layout.num_joints))
        for name, own in {**ours, **orders, **unused}.items()
    }
    found = matched(theirs, state)
    for name, order in orders.items():
        if not torch.equal(found[name].to(order.device), order):
            raise ModelError(
                f"{_shiftgcn_name(name)!r} of the state dict shifts features in another order than "
                f"the model (layout {model.layout.name!r})"
            )
    model.load_state_dict(
        {name: found.get(name, value).view_as(value) for name, value in ours.items()}
    )


def matched(
    expected: Mapping[str, tuple[str, Tensor]], state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors of ``state`` by our names, each with the shape of the expected one.

    Args:
        expected: by our name, their name and a tensor of ours; "[...]" at the end of a name selects
            a part of their tensor.
        state: the tensors by their names.

    Raises:
        ModelError: a key that is not expected, a missing one, one that is there twice, a shape that
            does not fit, or numbers that are not finite. The message names it as the file does.
    """
    names = {theirs: name for name, (theirs, _) in expected.items()}
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        name = names.get(plain(key))
        if name is None:
            raise ModelError(f"the state dict holds {key!r}, which this model does not have")
        if name in found:
            raise ModelError(f"the state dict holds {plain(key)!r} twice")
        if value.is_floating_point() and not value.isfinite().all():
            raise ModelError(f"{key!r} holds numbers that are not finite")
        found[name] = _reshape(key, name, value, expected[name][1])
    missing = [theirs for theirs, name in names.items() if name not in found]
    whole = {theirs.partition("[")[0]: None for theirs in missing if not theirs.endswith(_COUNTER)}
    if whole:
        raise ModelError(f"the state dict lacks {_some([*whole])}")
    return found


def _some(keys: Sequence[str]) -> str:
    shown = ", ".join(repr(key) for key in keys[:_SHOWN])
    return f"{shown} and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else shown


def plain(key: str) -> str:
    """The key without the prefixes of wrappers, Paddle's names as PyTorch's."""
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    stem, _, last = key.rpartition(".")
    return f"{stem}.{_PADDLE[last]}" if last in _PADDLE else key


def rename(name: str, rules: Rules) -> str:
    """Their name of ours, by the first rule that fits."""
    for pattern, replacement in rules:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    raise ModelError(f"the released network has no {name!r}: build the model with faithful=True")


def _stgcn_name(name: str) -> str:
    return rename(name, _STGCN_RULES)


def _shiftgcn_name(name: str) -> str:
    """Their blocks are counted from 1, ours from 0."""
    theirs = rename(name, _SHIFTGCN_RULES)
    return re.sub(r"^l(\d+)", lambda found: f"l{int(found[1]) + 1}", theirs)


def _shaped_as_theirs(name: str, own: Tensor, num_joints: int) -> Tensor:
    """Masks are (1, V, C) in the released Shift-GCN, biases of its graph convolutions (1, 1, C)."""
    if name.endswith("gcn.mask"):
        return own.view(1, num_joints, -1)
    return own.view(1, 1, -1) if name.endswith("gcn.bias") else own


def _reshape(key: str, name: str, value: Tensor, like: Tensor) -> Tensor:
    """The same numbers as we hold them: graph convolutions by partition, no axes of size 1."""
    shaped = value
    if name.endswith("gcn.weight") and value.ndim == 4 and like.ndim == 3:
        K, c_in, c_out = like.shape
        if value.shape == (K * c_out, c_in, 1, 1):
            shaped = value.view(K, c_out, c_in).transpose(1, 2)
    elif name.endswith("gcn.bias") and like.ndim == 2:
        shaped = value.view(like.shape) if value.shape == (like.numel(),) else value
    elif name.endswith("head.weight") and value.shape == (*like.shape, 1, 1):
        shaped = value.view(like.shape)
    if shaped.shape != like.shape:
        raise ModelError(
            f"{key!r} has shape {tuple(value.shape)}, the model's {name!r} is {tuple(like.shape)}"
        )
    return shaped


def check_adjacency(A: Tensor, own: Tensor, layout: str, faithful: bool) -> None:
    """Refuse a file that was trained on another graph than the model's ``own``.

    Raises:
        ModelError: the adjacencies differ.
    """
    if A.shape != own.shape or not torch.allclose(A.to(own), own, atol=1e-6):
        raise ModelError(
            f"the state dict was trained on another graph: its A is {tuple(A.shape)}, the model's "
            f"{tuple(own.shape)} (layout {layout!r}, faithful={faithful})"
        )
