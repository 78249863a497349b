"""Persons of a clip: folded into the batch, selected, averaged and pooled.

Shapes: N clips, M persons, n folded persons, C channels, T frames, V joints, F features.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor

from kinegraph.errors import ModelError
from kinegraph.skeleton.layout import SkeletonLayout

Pool = Literal["mean", "joints"]


def present_persons(x: Tensor) -> Tensor:
    """(N, C, T, V, M) -> (N, M) bool: persons with any non-zero coordinate.

    A clip without present persons keeps all its persons, so that every clip has an answer. While
    a network is exported, the result is a mask that selects all persons, see `ExportMask`.
    """
    seen = (x != 0).any(dim=1).any(dim=1).any(dim=1)
    present = seen | ~seen.any(dim=1, keepdim=True)
    return cast(Tensor, ExportMask(present)) if torch.compiler.is_exporting() else present


class ExportMask:
    """Stands for the mask of present persons (N, M) while a network is exported.

    A graph of operations cannot select a number of persons that depends on the clip. So all of them
    are computed: ``rows[present.flatten()]`` is all rows, and absent persons are left out of the
    mean over persons only. The logits are the same.

    Args:
        mask: (N, M) bool, the persons that count.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    def flatten(self) -> slice:
        """Return what selects all rows."""
        return slice(None)


def fold_persons(x: Tensor) -> Tensor:
    """(N, C, T, V, M) -> (N*M, C, T, V), channels last in memory; row index n*M + m."""
    rows_ntvc = x.permute(0, 4, 2, 3, 1).flatten(0, 1).contiguous()
    return rows_ntvc.permute(0, 3, 1, 2)


def unfold_persons(rows: Tensor, present: Tensor) -> Tensor:
    """(n, C, T, V) of the present persons -> (N, M, C, T, V), zero where a person is absent."""
    if isinstance(present, ExportMask):
        return rows.unflatten(0, present.mask.shape)
    if rows.shape[0] < present.numel():
        full = rows.new_zeros(present.numel(), *rows.shape[1:])
        rows = full.index_copy(0, present.flatten().nonzero().flatten(), rows)
    return rows.unflatten(0, present.shape)


def mean_over_persons(x: Tensor, present: Tensor | None) -> Tensor:
    """(N, M, F) -> (N, F): mean over the present persons, or over all M if ``present`` is None."""
    if present is None:
        return x.mean(dim=1)
    present = present.mask if isinstance(present, ExportMask) else present
    weight = present.to(x.dtype).unsqueeze(-1)
    return (x * weight).sum(dim=1) / weight.sum(dim=1)


def pool_places(features: Tensor, pool: Pool) -> Tensor:
    """(N, M, C, T, V) -> (N, M, F), one vector a person: ``mean`` over frames and joints, F = C;
    ``joints``: the maximum over frames for each joint by itself, side by side, F = C * V.
    """
    return features.amax(dim=3).flatten(2) if pool == "joints" else features.mean(dim=(3, 4))


def check_persons(persons: int, expected: int | None) -> None:
    """Refuse more or fewer persons than a network takes; None: it takes any number.

    Raises:
        ModelError: with both numbers.
    """
    if expected not in (None, persons):
        raise ModelError(
            f"this network takes {expected} persons together (model option persons={expected}), "
            f"but the clips have {persons}"
        )


def check_input(x: Tensor, layout: SkeletonLayout, in_channels: int) -> None:
    """Refuse clips of another layout or another number of channels.

    Raises:
        ModelError: x is not (N, in_channels, T, V, M).
    """
    V = layout.num_joints
    if x.ndim != 5 or x.shape[3] != V or x.shape[1] != in_channels:
        raise ModelError(
            f"expected input (N, {in_channels}, T, {V}, M) for layout {layout.name!r}, "
            f"got {tuple(x.shape)}"
        )
