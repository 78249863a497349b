"""Positions of excitation modules in the units of a network, as recipes name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from torch import nn

from kinegraph.errors import ModelError
from kinegraph.models.excitation import (
    Action,
    ChannelExcitation,
    Kernel,
    MotionExcitation,
    MultipleTemporalAggregation,
    SpatioTemporalExcitation,
    Variant,
    check_name,
)
from kinegraph.models.layers import Residual
from kinegraph.skeleton.layout import SkeletonLayout

Wiring = Literal["series", "parallel"]
TemporalUnit = Callable[[int, int, int], nn.Module]

#: What `Excitation.kind` is made of, and the options that each takes beside ``units``.
KINDS = {
    "me": {"wiring", "temporal_branch", "kernel", "reduction"},
    "me_tea": {"wiring", "temporal_branch", "kernel", "reduction"},
    "ce": {"wiring", "temporal_branch", "reduction"},
    "ste": {"wiring", "temporal_branch"},
    "mta": {"kernel"},
}

PARALLEL = {"wiring": "parallel", "temporal_branch": True}
#: The wirings that were tried on Shift-GCN (docs/excitation.md), as values of ``excitation``.
WIRINGS: dict[str, dict[str, Any]] = {
    "me_series": {"kind": "me"},
    "me_parallel": {"kind": "me", "kernel": "tv3", **PARALLEL},
    "ce_parallel": {"kind": "ce", **PARALLEL},
    "ce_parallel_plain": {"kind": "ce", "wiring": "parallel"},
    "me_ce_action": {"kind": "me+ce", "kernel": "tv3"},
    "mta": {"kind": "mta"},
}


@dataclass(frozen=True)
class Excitation:
    """Which excitation stands where in the units of a network.

    A unit without it is relu(temporal(graph(x)) + residual(x)).

    Attributes:
        kind: a name of `KINDS`: ``me`` (ACTION-Net's), ``me_tea``, ``ce`` or ``ste``; several
            joined by ``+`` make an `Action` block of them. ``mta`` takes the place of the unit's
            temporal convolution.
        wiring: ``series``: before the graph convolution, the residual goes around it;
            ``parallel``: its output, brought to the unit's shape, is added before the last ReLU.
        temporal_branch: of ``parallel``: brought to that shape by a second temporal convolution of
            the network's kind; if False, by nothing but a 1x1 convolution where the shape changes.
        units: which units, counted from 1; None for all but the first.
        kernel: of ``me``, ``me_tea`` and ``mta``, see `MotionExcitation`.
        reduction: of ``me``, ``me_tea`` and ``ce``.

    Raises:
        ModelError: values that make no excitation.
    """

    kind: str
    wiring: Wiring = "series"
    temporal_branch: bool = False
    units: tuple[int, ...] | None = None
    kernel: Kernel = "graph"
    reduction: int = 16

    def __post_init__(self) -> None:
        for name in self.kinds:
            check_name("excitation kind", name, KINDS)
        if len(set(self.kinds)) < len(self.kinds) or "mta" in self.kinds[:-1] + self.kinds[1:]:
            raise ModelError(
                f"excitation kind {self.kind!r}: each kind may stand once, and 'mta' by itself"
            )
        check_name("excitation wiring", self.wiring, get_args(Wiring))
        check_name("excitation kernel", self.kernel, get_args(Kernel))
        if type(self.temporal_branch) is not bool:
            raise ModelError(
                f"excitation temporal_branch: expected true or false, got {self.temporal_branch!r}"
            )
        if self.temporal_branch and self.wiring == "series":
            raise ModelError("excitation temporal_branch: only wiring 'parallel' has a branch")
        if not _is_count(self.reduction):
            raise ModelError(f"excitation reduction: expected 1 or more, got {self.reduction!r}")

    @property
    def kinds(self) -> list[str]:
        """The kinds that ``kind`` joins."""
        return str(self.kind).split("+")

    @classmethod
    def from_option(cls, option: str | Mapping[str, Any]) -> Excitation:
        """The excitation that a recipe writes: a name of `WIRINGS`, or keys and values.

        >>> Excitation.from_option({"kind": "ce", "units": [9, 10]}).wiring
        'series'

        Raises:
            ModelError: an unknown name or key, a key that the kind does not have.
        """
        if isinstance(option, str):
            check_name("excitation", option, WIRINGS)
            option = WIRINGS[option]
        if not isinstance(option, Mapping) or "kind" not in option:
            raise ModelError(
                f"excitation: expected one of {', '.join(WIRINGS)} or keys with a kind, "
                f"got {option!r}"
            )
        for key in option:
            check_name("excitation key", key, [field.name for field in fields(cls)])
        made = cls(**{**option, "units": _unit_numbers(option.get("units"))})
        taken = {"kind", "units"}.union(*(KINDS[name] for name in made.kinds))
        if foreign := set(option) - taken:
            raise ModelError(f"excitation kind {made.kind!r} has no {', '.join(sorted(foreign))}")
        return made

    def block(self, channels: int, layout: SkeletonLayout | str) -> nn.Module:
        """The excitation itself, (n, C, T, V) -> (n, C, T, V), of C = ``channels``."""
        paths = [self._path(name, channels, layout) for name in self.kinds]
        return paths[0] if len(paths) == 1 else Action(channels, paths)

    def _path(self, name: str, channels: int, layout: SkeletonLayout | str) -> nn.Module:
        if name == "ste":
            return SpatioTemporalExcitation()
        if name == "ce":
            return ChannelExcitation(channels, self.reduction)
        variant: Variant = "tea" if name == "me_tea" else "action"
        return MotionExcitation(channels, variant, self.kernel, self.reduction, layout)


def excite(
    units: Sequence[Any] | nn.Sequential,
    option: str | Mapping[str, Any] | None,
    layout: SkeletonLayout | str,
    temporal: TemporalUnit,
) -> None:
    """Put the excitation that a recipe asks for into the units of a network.

    It comes last, so that a seed gives the rest of the network the same first weights with and
    without excitation.

    Args:
        units: modules with the places ``before`` and ``beside``, the method ``set_temporal``, and
            their ``shape``: input channels, output channels, stride.
        option: see `Excitation.from_option`; None leaves the units as they are.
        layout: of the joints.
        temporal: makes a temporal convolution of (in_channels, out_channels, stride).

    Raises:
        ModelError: an option that makes no excitation, or does not fit the network.
    """
    if option is None:
        return
    chosen = Excitation.from_option(option)
    if chosen.units and max(chosen.units) > len(units):
        raise ModelError(
            f"excitation units: the network has units 1 to {len(units)}, got {list(chosen.units)}"
        )
    for number in chosen.units or range(2, len(units) + 1):
        unit = units[number - 1]
        c_in, c_out, stride = unit.shape
        if chosen.kind == "mta":
            unit.set_temporal(MultipleTemporalAggregation(c_out, stride, chosen.kernel, layout))
        elif chosen.wiring == "series":
            unit.before = chosen.block(c_in, layout)
        else:
            bring = temporal if chosen.temporal_branch else Residual
            unit.beside = nn.Sequential(chosen.block(c_in, layout), bring(c_in, c_out, stride))


def _unit_numbers(given: Any) -> tuple[int, ...] | None:
    if given is None:
        return None
    listed = isinstance(given, list | tuple) and given and all(map(_is_count, given))
    if not listed or len(set(given)) < len(given):
        raise ModelError(
            f"excitation units: expected different numbers counted from 1, got {given!r}"
        )
    return tuple(given)


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0
