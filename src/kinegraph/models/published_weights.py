"""Conversion of published state dicts: every unknown or missing key is an error.

The original names are those of published_weights.yaml. Prefixes up to ``module.`` and missing
``num_batches_tracked`` are accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import resources
from itertools import chain

import torch
import yaml
from torch import Tensor, nn

from kinegraph.errors import ModelError
from kinegraph.models.agcn import AAGCN
from kinegraph.models.asgcn import ASGCN
from kinegraph.models.ctrgcn import CTRGCN
from kinegraph.models.msg3d import MSG3D
from kinegraph.models.shiftgcn import ShiftGCN
from kinegraph.models.skateformer import SkateFormer
from kinegraph.models.stgcn import STGCN
from kinegraph.models.twostream import TwoStreamSTGCN
from kinegraph.skeleton.graph import directed_adjacency, hop_distance

#: From our names to theirs, by family.
RULES: dict[str, list[tuple[str, str]]] = yaml.safe_load(
    resources.files("kinegraph.models").joinpath("published_weights.yaml").read_text("utf-8")
)
RULES["msg3d_pyskl"] += RULES["msg3d"]
#: Of DistributedDataParallel, of mmcv's and of PaddleVideo's recognizers, whose heads have parts.
_WRAPPER_PREFIX = re.compile(r"(.*\bmodule\.)?(backbone\.|head\.(?=\w+\.))?")
#: Blocks of the released Shift-GCN and MS-G3D.
_COUNTED_FROM_1 = re.compile(r"^(l|sgcn|gcn3d|tcn)(\d+)")
_PADDLE = {"_mean": "running_mean", "_variance": "running_var"}
_COUNTER = "num_batches_tracked"
#: So many keys are named.
_SHOWN = 5
_ASGCN_PARTS = ("structural", "actional")
_FUTURE = "forecast.blocks."
_LINK = "links."
_UNUSED = "unused "


def plain_key(key: str) -> str:
    """Return a key without the prefixes of wrappers, and PaddlePaddle's names as PyTorch's."""
    key = _WRAPPER_PREFIX.sub("", key, count=1)
    stem, _, last = key.rpartition(".")
    return f"{stem}.{_PADDLE[last]}" if last in _PADDLE else key


def load_renamed(
    model: nn.Module,
    state: Mapping[str, Tensor],
    family: str,
    *,
    unused: Mapping[str, Tensor] | None = None,
) -> None:
    """Load a state dict whose tensors are the model's, by the names of published_weights.yaml.

    Constants, which are all buffers but the statistics of batch norms, have to be the model's.

    Args:
        model: the model, with the options of the file.
        state: the tensors by their original names.
        family: a family of published_weights.yaml.
        unused: constants that the released code stores and does not use, by their original names.

    Raises:
        ModelError: an unknown, missing or misshapen key, or a constant other than the model's.
    """
    ours = model.state_dict()
    constants = {name: own for name, own in model.named_buffers() if not _is_statistic(name)}
    parts = {name: published_parts(name, own, family) for name, own in ours.items()}
    theirs = dict(chain.from_iterable(part.items() for part in parts.values()))
    for name, own in (unused or {}).items():
        theirs[f"{_UNUSED}{name}"], constants[f"{_UNUSED}{name}"] = (name, own), own
    found = _match(theirs, state)
    for name, own in constants.items():
        if name in found and not torch.allclose(found[name].to(own), own, atol=1e-6):
            raise ModelError(
                f"{theirs[name][0]!r} of the state dict is not the model's {name!r}: it was "
                "trained on another graph or with other options"
            )
    model.load_state_dict(
        {
            name: found.get(name, own)
            if name in theirs
            else torch.stack([found[k] for k in parts[name]])
            for name, own in ours.items()
        }
    )


def _is_statistic(name: str) -> bool:
    return name.endswith((".running_mean", ".running_var", _COUNTER))


def load_aagcn_pyskl(model: AAGCN, state: Mapping[str, Tensor]) -> None:
    """Load a state dict of PYSKL's AAGCN, which also holds the graph it has started from.

    Args:
        model: an `AAGCN` with ``faithful=True`` and the graph, classes and channels of the file.
        state: the tensors by their original names.

    Raises:
        ModelError: see `load_renamed`.
    """
    start = model.get_buffer("blocks.0.gcn.A")
    load_renamed(model, state, "aagcn_pyskl", unused={"backbone.A": start})


def load_stgcn(model: STGCN, state: Mapping[str, Tensor]) -> None:
    """Load a state dict of the original st-gcn code (or PaddleVideo's) into ``model``.

    Args:
        model: a `STGCN` with ``faithful=True`` and the layout, classes and channels of the file.
        state: the tensors by their original names.

    Raises:
        ModelError: an unknown, missing or misshapen key, or an adjacency other than the model's.
    """
    weights = _remove_adjacency(state, model, model.get_buffer("blocks.0.gcn.A"))
    ours = model.state_dict()
    learned = {key: value for key, value in ours.items() if not key.endswith(".A")}
    found = _match(
        {k: (published_name(k, "stgcn"), value) for k, value in learned.items()}, weights
    )
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
        stream, _, name = plain_key(key).partition(".")
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
        state: the tensors by their original names.

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
        name: (
            published_name(name, "shiftgcn"),
            _shaped_as_theirs(name, own, model.layout.num_joints),
        )
        for name, own in {**ours, **orders, **unused}.items()
    }
    found = _match(theirs, state)
    for name, order in orders.items():
        if not torch.equal(found[name].to(order.device), order):
            raise ModelError(
                f"{theirs[name][0]!r} of the state dict shifts features in another order than "
                f"the model (layout {model.layout.name!r})"
            )
    model.load_state_dict(
        {name: found.get(name, value).view_as(value) for name, value in ours.items()}
    )


def load_ctrgcn(model: CTRGCN, state: Mapping[str, Tensor]) -> None:
    """Load a state dict of the original CTR-GCN code, or of PYSKL's port, into ``model``.

    Args:
        model: a `CTRGCN` with ``faithful=True`` and the layout, persons, classes and channels of
            the file; with ``contraction="source"`` for a file of PYSKL.
        state: the tensors by their original names.

    Raises:
        ModelError: an unknown, missing or misshapen key, or another graph.
    """
    ports = model.contraction == "source"
    # PYSKL's port stores the graph at which its topologies start
    unused = (
        {"backbone.A": torch.from_numpy(directed_adjacency(model.graph_layout))} if ports else {}
    )
    load_renamed(model, state, "ctrgcn_pyskl" if ports else "ctrgcn", unused=unused)


def load_msg3d(model: MSG3D, state: Mapping[str, Tensor]) -> None:
    """Load a state dict of the original MS-G3D code, or of PYSKL's port, into ``model``.

    Args:
        model: a `MSG3D` with ``faithful=True`` and the layout, persons, classes, channels and
            scales of the file; with ``pyskl=True`` for a file of PYSKL.
        state: the tensors by their original names.

    Raises:
        ModelError: an unknown, missing or misshapen key, or another graph.
    """
    bones = torch.from_numpy(hop_distance(model.graph_layout) == 1).float()
    unused = {"A": bones} if model.pyskl else {}
    load_renamed(model, state, "msg3d_pyskl" if model.pyskl else "msg3d", unused=unused)


def load_skateformer(model: SkateFormer, state: Mapping[str, Tensor]) -> None:
    """Load a state dict of the released SkateFormer code into ``model``.

    Args:
        model: a `SkateFormer` with ``faithful=True`` and the layout, persons, classes and channels
            of the file.
        state: the tensors by their original names.

    Raises:
        ModelError: an unknown, missing or misshapen key, or another index of relative frames.
    """
    load_renamed(model, state, "skateformer", unused=model.released_constants())


def load_asgcn(model: ASGCN, state: Mapping[str, Tensor], link_state: Mapping[str, Tensor]) -> None:
    """Load the state dicts of the released AS-GCN code into ``model``.

    Args:
        model: an `ASGCN` with ``faithful=True`` and the layout, classes, channels and future of
            the files.
        state: the tensors of the network (its "model1") by their original names.
        link_state: those of the link inference (its "model2").

    Raises:
        ModelError: an unknown, missing or misshapen key, or an adjacency other than the model's.
    """
    A = model.get_buffer("blocks.0.gcn.structural.A")
    whole = _remove_adjacency(state, model, A)
    if len(whole) == len(state):
        raise ModelError("the state dict lacks 'A'")
    ours = model.state_dict()
    learned = {key: value for key, value in ours.items() if not key.endswith(".A")}
    main = {
        key: (_asgcn_name(key), own) for key, own in learned.items() if not key.startswith(_LINK)
    }
    links = {key: (key[len(_LINK) :], learned[key]) for key in learned if key.startswith(_LINK)}
    weights = dict(chain.from_iterable(_split_parts(*item, len(A)) for item in whole.items()))
    found = {**_match(main, weights), **_match(links, link_state)}
    model.load_state_dict({**ours, **found})


def _match(
    expected: Mapping[str, tuple[str, Tensor]], state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors of ``state`` by our names, each with the shape of the expected one.

    Args:
        expected: by our name, their name and a tensor of ours; "[...]" at the end of a name selects
            a part of their tensor.
        state: the tensors by their names.
    """
    names = {plain_key(theirs): name for name, (theirs, _) in expected.items()}
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        name = names.get(plain_key(key))
        if name is None:
            raise ModelError(f"the state dict holds {key!r}, which this model does not have")
        if name in found:
            raise ModelError(f"the state dict holds {plain_key(key)!r} twice")
        if value.is_floating_point() and not value.isfinite().all():
            raise ModelError(f"{key!r} holds numbers that are not finite")
        found[name] = _reshape(key, name, value, expected[name][1])
    missing = [theirs for name, (theirs, _) in expected.items() if name not in found]
    whole = {theirs.partition("[")[0]: None for theirs in missing if not theirs.endswith(_COUNTER)}
    if whole:
        named = ", ".join(map(repr, list(whole)[:_SHOWN]))
        more = f" and {len(whole) - _SHOWN} more" if len(whole) > _SHOWN else ""
        few = f"; it holds {', '.join(map(repr, state))}" if len(state) <= _SHOWN else ""
        raise ModelError(f"the state dict lacks {named}{more}{few}")
    return found


def published_name(name: str, family: str) -> str:
    """Return the released network's name of a tensor of ours, by the first rule that fits.

    Raises:
        ModelError: the released network does not have it.
    """
    for pattern, replacement in RULES[family]:
        if match := re.fullmatch(pattern, name):
            theirs = match.expand(replacement)
            return _COUNTED_FROM_1.sub(lambda found: f"{found[1]}{int(found[2]) + 1}", theirs)
    raise ModelError(f"the released network has no {name!r}: build the model with faithful=True")


def published_parts(name: str, value: Tensor, family: str) -> dict[str, tuple[str, Tensor]]:
    """Return the released name and value of a tensor of ours, by our name.

    Where the rule has a star, the released network has a tensor for each place along our first
    axis: these are "name[0]", "name[1]", ...

    Raises:
        ModelError: the released network does not have it.
    """
    theirs = published_name(name, family)
    if "*" not in theirs:
        return {name: (theirs, value)}
    return {f"{name}[{i}]": (theirs.replace("*", str(i)), v) for i, v in enumerate(value)}


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
    elif name.endswith("free_edges") and value.shape == (like.shape[:2].numel(), like.shape[2]):
        shaped = value.view(like.shape).transpose(1, 2)
    elif name.endswith("window_conv.weight") and value.ndim == 5 and value.shape[2] == 1:
        shaped = value.squeeze(2)
    elif like.ndim == 2 and value.shape == (*like.shape, *[1] * (value.ndim - 2)):
        shaped = value.view(like.shape)
    if shaped.shape != like.shape:
        raise ModelError(
            f"{key!r} has shape {tuple(value.shape)}, the model's {name!r} is {tuple(like.shape)}"
        )
    return shaped


def _remove_adjacency(
    state: Mapping[str, Tensor], model: STGCN | ASGCN, own: Tensor
) -> dict[str, Tensor]:
    """The tensors but A, which has to be the model's ``own``."""
    weights = dict(state)
    for key in [key for key in state if plain_key(key) == "A"]:
        A = weights.pop(key)
        if A.shape != own.shape or not torch.allclose(A.to(own), own, atol=1e-6):
            raise ModelError(
                f"the state dict was trained on another graph: its A is {tuple(A.shape)}, the "
                f"model's {tuple(own.shape)} (layout {model.layout.name!r}, "
                f"faithful={model.faithful})"
            )
    return weights


def _asgcn_name(key: str) -> str:
    """The future head's blocks are named as the others; only its last one is of another kind."""
    if not key.startswith(_FUTURE):
        return published_name(key, "asgcn")
    theirs = published_name(key.removeprefix("forecast."), "asgcn")
    recon = theirs.replace("class_layer_", "recon_layer_")
    return recon.replace("edge_importance.", "edge_importance_recon.")


def _split_parts(key: str, value: Tensor, K: int) -> Iterator[tuple[str, Tensor]]:
    """The tensor as we hold it; graph convolutions in two parts, of K and of 2 groups."""
    if ".tcn_recon.2.weight" in key and value.ndim == 4:
        yield key, value.transpose(0, 1)
    elif ".conv." not in key and ".deconv." not in key:
        yield key, value
    else:
        groups = _split_groups(value, K + 2, transposed=".deconv." in key)
        for part, name in zip((groups[:K], groups[K:]), _ASGCN_PARTS, strict=True):
            yield f"{key}[{name}]", part


def _split_groups(value: Tensor, groups: int, transposed: bool) -> Tensor:
    """(groups * C', C, 1, 1), or (C, groups * C', 1, 1) if ``transposed`` -> (groups, C, C').

    Biases (groups * C') become (groups, C'); what cannot be cut evenly stays in one group.
    """
    if value.ndim not in (1, 4):
        return value[None]
    rows = value.flatten(1) if value.ndim == 4 else value
    rows = rows.T if rows.ndim == 2 and transposed else rows
    if len(rows) % groups:
        return rows[None]
    cut = rows.unflatten(0, (groups, -1))
    return cut.transpose(1, 2) if cut.ndim == 3 else cut
