"""State dicts of published code -> ours, strictly: no key is ignored, none is missing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from kinegraph.errors import ModelError
from kinegraph.models.shiftgcn import ShiftGCN
from kinegraph.models.stgcn import STGCN
from kinegraph.models.twostream import TwoStreamSTGCN

Rules = tuple[tuple[str, str], ...]

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
BN = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
_SHIFTGCN_RULES = (
    (r"l(\d+)\.gcn1\.Linear_(weight|bias)", r"blocks.\1.gcn.\2"),
    (r"l(\d+)\.gcn1\.Feature_Mask", r"blocks.\1.gcn.mask"),
    (r"l(\d+)\.gcn1\.(shift_in|shift_out)", r"blocks.\1.gcn.\2.index"),
    (rf"l(\d+)\.gcn1\.bn\.{BN}", r"blocks.\1.gcn.bn.\2"),
    (r"l(\d+)\.gcn1\.down\.0\.(weight|bias)", r"blocks.\1.gcn.residual.conv.\2"),
    (rf"l(\d+)\.gcn1\.down\.1\.{BN}", r"blocks.\1.gcn.residual.bn.\2"),
    (rf"l(\d+)\.tcn1\.bn\.{BN}", r"blocks.\1.tcn.bn_in.\2"),
    (rf"l(\d+)\.tcn1\.bn2\.{BN}", r"blocks.\1.tcn.bn_out.\2"),
    (r"l(\d+)\.tcn1\.(shift_in|shift_out)\.xpos", r"blocks.\1.tcn.\2.xpos"),
    (r"l(\d+)\.tcn1\.(shift_in|shift_out)\.ypos", r"blocks.\1.tcn.\2.shift"),
    (r"l(\d+)\.tcn1\.temporal_linear\.(weight|bias)", r"blocks.\1.tcn.conv.\2"),
    (r"l(\d+)\.residual\.conv\.(weight|bias)", r"blocks.\1.residual.conv.\2"),
    (rf"l(\d+)\.residual\.bn\.{BN}", r"blocks.\1.residual.bn.\2"),
    (rf"data_bn\.{BN}", r"data_bn.\1"),
    (r"fc\.(weight|bias)", r"head.\1"),
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
    model.load_state_dict({**ours, **matched(learnt, weights, _stgcn_name)})


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
    V = model.layout.num_joints
    flat = {
        key: value.flatten() if "Feature_Mask" in key and value.shape[:2] == (1, V) else value
        for key, value in state.items()
    }
    ours = model.state_dict()
    orders = {name: order for name, order in model.named_buffers() if name.endswith(".index")}
    unused = {
        name.removesuffix("shift") + "xpos": shift
        for name, shift in ours.items()
        if name.endswith(".shift")
    }
    found = matched({**ours, **orders, **unused}, flat, _shiftgcn_name)
    for name, order in orders.items():
        if not torch.equal(found[name].to(order.device), order):
            raise ModelError(
                f"the state dict shifts features in another order than the model's {name!r} "
                f"(layout {model.layout.name!r})"
            )
    model.load_state_dict({name: found.get(name, value) for name, value in ours.items()})


def matched(
    expected: Mapping[str, Tensor], state: Mapping[str, Tensor], name_of: Callable[[str], str]
) -> dict[str, Tensor]:
    """The tensors of ``state`` by our names, each with the shape of the expected one.

    Raises:
        ModelError: a key that is not expected, a missing one, a shape that does not fit.
    """
    found = {}
    for key, value in state.items():
        target = name_of(plain(key))
        if target not in expected:
            raise ModelError(f"the state dict holds {key!r}, which this model does not have")
        found[target] = _reshape(key, target, value, expected[target])
    missing = [
        key for key in expected if key not in found and not key.endswith("num_batches_tracked")
    ]
    if missing:
        raise ModelError(f"the state dict lacks {len(missing)} tensors, the first: {missing[0]!r}")
    return found


def plain(key: str) -> str:
    """The key without the prefixes of wrappers, Paddle's names as PyTorch's."""
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    stem, _, last = key.rpartition(".")
    return f"{stem}.{_PADDLE[last]}" if last in _PADDLE else key


def rename(key: str, rules: Rules) -> str:
    """Our name by the first rule that fits, or an empty one."""
    for pattern, replacement in rules:
        if match := re.fullmatch(pattern, key):
            return match.expand(replacement)
    return ""


def _stgcn_name(key: str) -> str:
    return rename(key, _STGCN_RULES)


def _shiftgcn_name(key: str) -> str:
    """Their blocks are counted from 1, ours from 0."""
    name = rename(key, _SHIFTGCN_RULES)
    return re.sub(r"^blocks\.(\d+)", lambda found: f"blocks.{int(found[1]) - 1}", name)


def _reshape(key: str, target: str, value: Tensor, like: Tensor) -> Tensor:
    expected = value
    if target.endswith("gcn.weight") and value.ndim == 4 and like.ndim == 3:
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
