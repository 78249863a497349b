"""State dicts of the released AS-GCN code -> ours, strictly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from kinegraph.models.asgcn import ASGCN
from kinegraph.models.published import BN, check_adjacency, matched, plain, rename

_PARTS = ("structural", "actional")
#: One key of theirs holds the weights of both: the part's name is appended to it.
_PART = rf"\[({'|'.join(_PARTS)})\]"
_RULES = (
    (rf"class_layer_(\d+)\.gcn\.conv\.(weight|bias){_PART}", r"blocks.\1.gcn.\3.\2"),
    (rf"class_layer_(\d+)\.tcn\.0\.{BN}", r"blocks.\1.bn.\2"),
    (r"class_layer_(\d+)\.tcn\.2\.(weight|bias)", r"blocks.\1.tcn.\2"),
    (rf"class_layer_(\d+)\.tcn\.3\.{BN}", r"blocks.\1.tcn_bn.\2"),
    (r"class_layer_(\d+)\.residual\.0\.(weight|bias)", r"blocks.\1.residual.conv.\2"),
    (rf"class_layer_(\d+)\.residual\.1\.{BN}", r"blocks.\1.residual.bn.\2"),
    (r"edge_importance\.(\d+)", r"blocks.\1.gcn.structural.edge_importance"),
    (rf"recon_layer_6\.gcn_recon\.deconv\.(weight|bias){_PART}", r"forecast.gcn.\2.\1"),
    (rf"recon_layer_6\.tcn_recon\.0\.{BN}", r"forecast.bn.\1"),
    (r"recon_layer_6\.tcn_recon\.2\.(weight|bias)", r"forecast.offset.\1"),
    (rf"recon_layer_6\.tcn_recon\.3\.{BN}", r"forecast.offset_bn.\1"),
    (r"edge_importance_recon\.6", r"forecast.gcn.structural.edge_importance"),
    (r"edge_importance_recon\.7", r"forecast.unused_importance.0"),
    (r"edge_importance_recon\.8", r"forecast.unused_importance.1"),
    (r"edge_importance_recon\.(\d+)", r"forecast.blocks.\1.gcn.structural.edge_importance"),
    (rf"data_bn\.{BN}", r"data_bn.\1"),
    (r"fcn\.(weight|bias)", r"head.\1"),
)
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
    ours = model.state_dict()
    learnt = {key: value for key, value in ours.items() if not key.endswith(".A")}
    main = {key: value for key, value in learnt.items() if not key.startswith(_LINK)}
    links = {key: value for key, value in learnt.items() if key.startswith(_LINK)}
    weights: dict[str, Tensor] = {}
    for key, value in state.items():
        if plain(key) == "A":
            check_adjacency(value, A, model.layout.name, model.faithful)
        else:
            weights.update(_as_ours(key, value, len(A)))
    found = matched(main, weights, _name)
    found_links = matched(links, link_state, lambda key: _LINK + key)
    model.load_state_dict({**ours, **found, **found_links})


def _name(key: str) -> str:
    """The future head's blocks are named as the others; only its last one is of another kind."""
    if key.startswith("recon_layer_") and not key.startswith("recon_layer_6"):
        name = rename(key.replace("recon_layer_", "class_layer_"), _RULES)
        return f"forecast.{name}" if name else ""
    return rename(key, _RULES)


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
