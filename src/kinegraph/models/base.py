"""Contract of a model: methods that every family implements, and methods that it inherits.

Shapes: N clips, M persons, n folded persons, C channels, T frames, V joints, P pooled features.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from kinegraph.models.joint_axes import JointAxes
from kinegraph.models.layers import init_published
from kinegraph.models.unknown import UnknownLogit
from kinegraph.ops.persons import (
    Pool,
    check_input,
    check_persons,
    fold_persons,
    mean_over_persons,
    pool_places,
    present_persons,
    unfold_persons,
)
from kinegraph.skeleton.layout import SkeletonLayout


class SkeletonModel(nn.Module):
    """A model of actions: clips (N, C, T, V, M) to logits (N, classes).

    A family implements `forward_persons` and calls `reset_classifier`, or implements
    `forward_features`, `forward_head` and `forward` itself. It is constructed with
    ``(layout, num_classes, *, in_channels=3, ...)``; further options are keyword arguments with
    defaults, which a recipe may set under ``model``.

    Three promises: any T of at least ``min_frames``; nothing fixed to a number of joints, persons
    or a device; in evaluation mode the answer for a clip does not depend on the others in the
    batch. Constants such as an adjacency are buffers.

    Attributes:
        layout: the skeleton.
        in_channels: C of the input.
        num_features: C' of the features.
        pool: how features become one vector a person, see `pool_places`.
        head: the classifier of pooled features (N, P).
        head_dropout: before the classifier.
        unknown_head: adds the logit of "none of the actions"; None for a model that has none.
        counts_absent: whether absent persons, all zero, are computed and averaged like others.
        fixed_persons: M, where the model takes clips of so many persons only; else None.
        min_frames: T of the shortest clip.
        takes_lengths: whether `forward` also takes (N,) real lengths.
        options_of: another model whose options this one takes too (as ``**options``), and the
            names of those that it does not take.
    """

    layout: SkeletonLayout
    in_channels: int
    num_features: int
    pool: Pool = "mean"
    head: nn.Module
    counts_absent = False
    fixed_persons: int | None = None
    min_frames = 1
    takes_lengths = False
    options_of: tuple[type[nn.Module], tuple[str, ...]] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.head_dropout: nn.Module = nn.Identity()
        self.unknown_head: UnknownLogit | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V, M) -> logits (N, classes)."""
        return self.forward_head(self.forward_features(x), self.counted_persons(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, C, T, V, M) -> (N, M, C', T', V'); zero where a person is absent and not counted."""
        check_input(x, self.layout, self.in_channels)
        check_persons(x.shape[4], self.fixed_persons)
        rows, present = fold_persons(x), self.counted_persons(x)
        if present is None:
            return self.forward_persons(rows).unflatten(0, (x.shape[0], x.shape[4]))
        return unfold_persons(self.forward_persons(rows[present.flatten()]), present)

    def forward_persons(self, rows: Tensor) -> Tensor:
        """(n, C, T, V), persons one by one -> (n, C', T', V')."""
        raise NotImplementedError(f"{type(self).__name__} implements no forward_persons")

    def forward_head(self, features: Tensor, present: Tensor | None = None) -> Tensor:
        """(N, M, C', T', V') and (N, M) bool -> (N, classes); all persons count if None."""
        return self.classify(self.pool_features(features, present))

    def forward_pooled(self, x: Tensor) -> Tensor:
        """(N, C, T, V, M) -> (N, P), what `classify` reads of each clip."""
        return self.pool_features(self.forward_features(x), self.counted_persons(x))

    def pool_features(self, features: Tensor, present: Tensor | None = None) -> Tensor:
        """(N, M, C', T', V') and (N, M) bool -> (N, P); all persons count if None."""
        return mean_over_persons(pool_places(features, self.pool), present)

    def classify(self, pooled: Tensor) -> Tensor:
        """(N, P) pooled features -> logits (N, classes)."""
        logits = self.apply_head(pooled)
        if self.unknown_head is not None:
            logits = self.unknown_head(pooled, logits)
        return logits

    def apply_head(self, pooled: Tensor) -> Tensor:
        """(N, P) pooled features -> logits (N, classes) of the head."""
        logits: Tensor = self.head(self.head_dropout(pooled))
        return logits

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a new linear one, to learn other classes."""
        self.head = nn.Linear(self.pooled_features, num_classes)
        init_published(self.head)

    def set_classifier(self, weight: Tensor, bias: Tensor) -> None:
        """Replace the head by the linear layer ``weight @ pooled + bias``.

        Args:
            weight: (classes, P).
            bias: (classes,).
        """
        self.reset_classifier(len(bias))
        self.head.load_state_dict({"weight": weight, "bias": bias})

    def joint_axes(self) -> dict[str, JointAxes]:
        """Return the joint axis of a head that reads the features of each joint."""
        head = getattr(self, "head", None)
        if self.pool != "joints" or not isinstance(head, nn.Linear):
            return {}
        shape = (head.out_features, -1, self.layout.num_joints)
        return {"head.weight": JointAxes((2,), shape)}

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return groups for an optimizer, with every parameter in exactly one; all decay alike."""
        return [{"params": list(self.parameters()), "weight_decay": weight_decay}]

    def strip_training_parts(self) -> None:
        """Delete, in a copy for inference, what `forward` does not use."""

    def counted_persons(self, x: Tensor) -> Tensor | None:
        """Return (N, M) bool, the persons that count; None where absent ones do too."""
        return None if self.counts_absent else present_persons(x)

    def works_by_person(self) -> bool:
        """Return whether the forward pass is the one of this class, person by person."""
        own = type(self)
        shared = ("forward", "forward_features", "forward_head")
        return own.forward_persons is not SkeletonModel.forward_persons and all(
            getattr(own, name) is getattr(SkeletonModel, name) for name in shared
        )

    @property
    def pooled_features(self) -> int:
        """P: the number of features that the classifier reads."""
        return self.num_features * (self.layout.num_joints if self.pool == "joints" else 1)


def predict_logits(model: nn.Module, x: Tensor, lengths: Tensor | None) -> Tensor:
    """(N, C, T, V, M) -> (N, classes); real lengths go to the models that take them.

    Args:
        model: any model.
        x: the clips.
        lengths: (N,) how many of the first frames are real, None for all.
    """
    logits: Tensor = model(x, lengths) if getattr(model, "takes_lengths", False) else model(x)
    return logits


def pool_clips(model: nn.Module, x: Tensor, lengths: Tensor | None) -> Tensor:
    """(N, C, T, V, M) -> (N, P), what the classifier reads; lengths are as for `predict_logits`."""
    given = (x, lengths) if getattr(model, "takes_lengths", False) else (x,)
    pooled: Tensor = model.forward_pooled(*given)
    return pooled
