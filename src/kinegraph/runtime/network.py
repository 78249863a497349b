"""Networks that compute what a trained model does, for inference only.

Shapes: N clips, M persons, n folded persons, C channels, T frames, V joints, P pooled features.
"""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn

from kinegraph.ops.persons import (
    Pool,
    check_input,
    check_persons,
    fold_persons,
    mean_over_persons,
    present_persons,
)
from kinegraph.runtime.graph import LayerGraph
from kinegraph.skeleton.layout import SkeletonLayout


class InferenceNetwork(nn.Module):
    """A network made from a trained model by `kinegraph.runtime.fuse.optimize_for_inference`.

    It shares no tensor with the model: train the model, then make another. Logits are float32.

    Args:
        model: the model, of the contract `kinegraph.models.base.SkeletonModel` or like it.

    Attributes:
        layout: the skeleton.
        in_channels: C of the input.
        persons: M, where the model takes clips of so many persons only; else None.
        min_frames: T of the shortest clip.
        takes_lengths: whether `forward` takes real lengths (N,) beside the clips.
        dtype: of the activations.
        difference: largest difference from the model's logits, as a share of the largest logit.
        reason: why the network is not a `PersonNetwork`; empty if it is one.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.layout: SkeletonLayout = model.layout
        self.in_channels: int = model.in_channels
        self.persons: int | None = getattr(model, "fixed_persons", None)
        self.min_frames: int = getattr(model, "min_frames", 1)
        self.takes_lengths: bool = getattr(model, "takes_lengths", False)
        self.dtype = torch.float32
        self.difference = 0.0
        self.reason = ""

    @property
    def device(self) -> torch.device:
        """The device of its tensors."""
        return next(chain(self.buffers(), self.parameters())).device


class WholeClipNetwork(InferenceNetwork):
    """A network that needs the whole clip at once: a copy of the model, with fused modules in it.

    Args:
        model: the model, whose options are read.
        network: the copy.
        dtype: of the activations of its fused modules.
        cast: whether the whole network computes in that type.
    """

    def __init__(
        self, model: nn.Module, network: nn.Module, dtype: torch.dtype, *, cast: bool
    ) -> None:
        super().__init__(model)
        self.network = network.to(dtype) if cast else network
        self.cast = cast
        self.dtype = dtype
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(N, C, T, V, M) and (N,) real lengths -> logits (N, classes)."""
        given = x.to(self.dtype) if self.cast else x
        logits: Tensor = self.network(given, lengths) if self.takes_lengths else self.network(given)
        return logits.float()


class FusedModule(nn.Module):
    """Inference layers in place of a module of a model.

    Args:
        layers: what the module computes.
    """

    def __init__(self, layers: LayerGraph) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor, *others: Tensor | None) -> Tensor:
        """(n, C, T, V) and further inputs of the module -> (n, C', T', V), like x in precision."""
        dtype = next(b.dtype for b in self.layers.buffers() if b.is_floating_point())
        given = (x.permute(0, 2, 3, 1).contiguous(), *others)
        y: Tensor = self.layers(*(t if t is None else t.to(dtype) for t in given))
        return y.permute(0, 3, 1, 2).to(x.dtype)


class PersonNetwork(InferenceNetwork):
    """A network that works on each person by itself, on whole clips or on a few frames at a time.

    Features, pooled over frames and joints, and averaged over persons, are classified in float32.

    Args:
        model: the model, whose options are read.
        layers: what its `forward_persons` computes: (n, T, V, C) -> (n, T', V, F).
        classifier: what its `classify` computes: (N, P) -> logits (N, classes).
        dtype: of the activations.

    Attributes:
        pool: how features are pooled.
        counts_absent: whether absent persons count in the mean (models of released code). Others
            are not computed, except where the network is exported: there the result is the same.
        hop: frames of a step of a stream: as many as make one feature.
        first: number of the first feature of the first step.
        delay: frames that have to follow a frame until all of its features are known.
    """

    def __init__(
        self, model: nn.Module, layers: LayerGraph, classifier: nn.Module, dtype: torch.dtype
    ) -> None:
        super().__init__(model)
        self.layers = layers.to(dtype)
        self.classifier = classifier
        self.dtype = dtype
        self.pool: Pool = model.pool
        self.counts_absent = bool(model.counts_absent)
        self.hop = layers.infer_delays(0)[1]
        self.first = layers.infer_delays(1 - self.hop)[0]
        self.delay = -self.first * self.hop
        self.eval().requires_grad_(False)

    @property
    def first_answer(self) -> int:
        """Frames that a stream needs until a feature is known.

        From then on no frame lies before the clip for any layer.
        """
        return self.delay + self.hop

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V, M) -> logits (N, classes)."""
        check_input(x, self.layout, self.in_channels)
        check_persons(x.shape[4], self.persons)
        counted = None if self.counts_absent else present_persons(x)
        rows = fold_persons(x).permute(0, 2, 3, 1).to(self.dtype)
        if counted is None or torch.compiler.is_exporting() or bool(counted.all()):
            pooled = self.pool_frames(self.layers(rows))
        else:
            chosen = counted.flatten().nonzero().flatten()
            present = self.pool_frames(self.layers(rows[chosen]))
            pooled = present.new_zeros(len(rows), present.shape[1]).index_copy(0, chosen, present)
        return self.logits(pooled, counted, x.shape[4])

    def pool_joints(self, features: Tensor) -> Tensor:
        """(n, T', V, F) -> (n, T', P) float32: what is pooled over frames, of each frame."""
        if self.pool == "joints":
            return features.transpose(2, 3).flatten(2).float()
        return features.float().mean(dim=2)

    def pool_frames(self, features: Tensor) -> Tensor:
        """(n, T', V, F) -> (n, P) float32."""
        frames = self.pool_joints(features)
        return frames.amax(dim=1) if self.pool == "joints" else frames.mean(dim=1)

    def logits(self, pooled: Tensor, counted: Tensor | None, persons: int) -> Tensor:
        """(n, P) and (N, M), which persons count -> (N, classes)."""
        logits: Tensor = self.classifier(
            mean_over_persons(pooled.unflatten(0, (-1, persons)), counted)
        )
        return logits
