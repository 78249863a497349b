"""Conversion of state dicts of the released AS-GCN code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from kinegraph.errors import ModelError
from kinegraph.models.asgcn import ASGCN
from kinegraph.models.published_weights import check_adjacency, matched, plain, rename

_PARTS = ("structural", "actional")
#: One tensor of theirs holds the weights of both: the part's name is appended to its key.
_PART = rf"({'|'.join(_PARTS)})"
#: From our names to theirs.
_RULES = (
    (rf"blocks\.(\d+)\.gcn\.{_PART}\.(weight|bias)", r"class_layer_\1.gcn.conv.\3[\2]"),
    (r"blocks\.(\d+)\.gcn\.structural\.edge_importance", r"edge_importance.\1"),
    (r"blocks\.(\d+)\.bn\.(\w+)", r"class_layer_\1.tcn.0.\2"),
    (r"blocks\.(\d+)\.tcn\.(\w+)", r"class_layer_\1.tcn.2.\2"),
    (r"blocks\.(\d+)\.tcn_bn\.(\w+)", r"class_layer_\1.tcn.3.\2"),
    (r"blocks\.(\d+)\.residual\.conv\.(\w+)", r"class_layer_\1.residual.0.\2"),
    (r"blocks\.(\d+)\.residual\.bn\.(\w+)", r"class_layer_\1.residual.1.\2"),
    (rf"forecast\.gcn\.{_PART}\.(weight|bias)", r"recon_layer_6.gcn_recon.deconv.\2[\1]"),
    (r"forecast\.gcn\.structural\.edge_importance", r"edge_importance_recon.6"),
    (r"forecast\.bn\.(\w+)", r"recon_layer_6.tcn_recon.0.\1"),
    (r"forecast\.offset\.(\w+)", r"recon_layer_6.tcn_recon.2.\1"),
    (r"forecast\.offset_bn\.(\w+)", r"recon_layer_6.tcn_recon.3.\1"),
    (r"forecast\.unused_importance\.0", r"edge_importance_recon.7"),
    (r"forecast\.unused_importance\.1", r"edge_importance_recon.8"),
    (r"data_bn\.(\w+)", r"data_bn.\1"),
    (r"head\.(\w+)", r"fcn.\1"),
)
_FUTURE = "forecast.blocks."
_LINK = "links."


def load_asgcn(model: ASGCN, state: Mapping[str, Tensor], link_state: Mapping[str, Tensor]) -> None:
    """Load the state dicts of the released AS-GCN code into ``model``.

    A ``module.`` prefix and missing ``num_batches_tracked`` are accepted.

    Args:
        model: an `ASGCN` with ``faithful=True`` and the layout, classes, channels and future of
            the files.
        state: the tensors of the network (its "model1") by their original names.
        link_state: those of the link inference (its "model2").

    Raises:
        ModelError: an unknown, missing or misshapen key, or an adjacency other than the model's.
    """
    A = model.get_buffer("blocks.0.gcn.structural.A")
    graphs = [value for key, value in state.items() if plain(key) == "A"]
    if not graphs:
        raise ModelError("the state dict lacks 'A'")
    check_adjacency(graphs[0], A, model.layout.name, model.faithful)
    ours = model.state_dict()
    learnt = {key: value for key, value in ours.items() if not key.endswith(".A")}
    main = {
        key: (_their_name(key), own) for key, own in learnt.items() if not key.startswith(_LINK)
    }
    links = {key: (key[len(_LINK) :], learnt[key]) for key in learnt if key.startswith(_LINK)}
    weights: dict[str, Tensor] = {}
    for key, value in state.items():
        if plain(key) != "A":
            weights.update(_as_ours(key, value, len(A)))
    found = {**matched(main, weights), **matched(links, link_state)}
    model.load_state_dict({**ours, **found})


def _their_name(key: str) -> str:
    """The future head's blocks are named as the others; only its last one is of another kind."""
    if not key.startswith(_FUTURE):
        return rename(key, _RULES)
    theirs = rename(key.removeprefix("forecast."), _RULES)
    recon = theirs.replace("class_layer_", "recon_layer_")
    return recon.replace("edge_importance.", "edge_importance_recon.")


def _as_ours(key: str, value: Tensor, K: int) -> Iterator[tuple[str, Tensor]]:
    """The tensor as we hold it; graph convolutions in two parts, of K and of 2 groups."""
    if ".tcn_recon.2.weight" in key and value.ndim == 4:
        yield key, value.transpose(0, 1)
    elif ".conv." not in key and ".deconv." not in key:
        yield key, value
    else:
        groups = _grouped(value, K + 2, transposed=".deconv." in key)
        for part, name in zip((groups[:K], groups[K:]), _PARTS, strict=True):
            yield f"{key}[{name}]", part


def _grouped(value: Tensor, groups: int, transposed: bool) -> Tensor:
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
