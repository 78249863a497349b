"""A backbone of any family with a head that names the action of every frame.

Shapes: N recordings, M persons, C channels, F features of a frame, K classes, T frames, V joints.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError, did_you_mean, unknown_name
from kinegraph.models.asformer import ASFormerHead
from kinegraph.models.base import SkeletonModel
from kinegraph.models.frame_heads import CausalHead, FrameHead, LinearHead, MSTCNHead
from kinegraph.ops.persons import mean_over_persons

_STRIDE_PROBE_FRAMES = 64  # a multiple of the temporal stride of every backbone


#: The heads of every frame that a recipe may name.
HEADS: dict[str, type[FrameHead]] = {
    "asformer": ASFormerHead,
    "causal": CausalHead,
    "linear": LinearHead,
    "ms_tcn": MSTCNHead,
}


def head_options(name: str) -> dict[str, Any]:
    """Return the options of a head with their defaults.

    Raises:
        UnknownNameError: there is no such head.
    """
    if name not in HEADS:
        raise unknown_name("head", name, HEADS)
    parameters = inspect.signature(HEADS[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def create_head(spec: Mapping[str, Any], features: int, classes: int) -> FrameHead:
    """Create a head from its ``name`` and its options.

    Raises:
        UnknownNameError: there is no such head.
        ModelError: an option that the head does not have, or a value that it does not accept.
    """
    name = str(spec["name"])
    options = {str(key): value for key, value in spec.items() if key != "name"}
    known = head_options(name)
    for key in options:
        if key not in known:
            listed = ", ".join(known)
            raise ModelError(
                f"head {name!r} has no option {key!r}{did_you_mean(key, known)}; known: {listed}"
            )
    try:
        return HEADS[name](features, classes, **options)
    except TypeError as error:
        raise ModelError(f"head {name!r} does not accept {options}: {error}") from error


class FrameSegmenter(nn.Module):
    """Recordings (N, C, T, V, M) to the logits of every frame (N, K, T).

    The features of a frame are those of the backbone, pooled over joints (``pool`` of the backbone:
    their mean, or side by side) and averaged over the persons who are present. A backbone with
    temporal strides has one feature for several frames, which all of them get.

    Args:
        backbone: a model of actions; its own classifier is removed.
        head: name and options, one of `HEADS`.
        classes: K.

    Attributes:
        fixed_persons, min_frames: of the backbone.
        stride: frames that share a feature of the backbone.
    """

    def __init__(self, backbone: SkeletonModel, head: Mapping[str, Any], classes: int) -> None:
        super().__init__()
        self.layout, self.in_channels = backbone.layout, backbone.in_channels
        self.fixed_persons, self.min_frames = backbone.fixed_persons, backbone.min_frames
        self.takes_lengths = True
        features = backbone.pooled_features
        for module in backbone.modules():
            if isinstance(getattr(module, "head", None), nn.Module):
                module.head = nn.Identity()
        self.backbone = backbone
        self.head = create_head(head, features, classes)
        self.stride = self._measure_stride()

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(N, C, T, V, M) and the number of real frames (N,) -> logits (N, K, T)."""
        return self.forward_stages(x, lengths)[-1]

    def forward_stages(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(N, C, T, V, M) and (N,) -> logits of each stage of the head (S, N, K, T)."""
        frames = torch.arange(x.shape[2], device=x.device)
        ends = torch.full_like(frames[:1], x.shape[2]) if lengths is None else lengths
        mask = (frames < ends[:, None]).to(x.dtype)[:, None]
        stages: Tensor = self.head(self.frame_features(x, lengths) * mask, mask)
        return stages

    def frame_features(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(N, C, T, V, M) and (N,) -> features of each frame (N, F, T)."""
        backbone = self.backbone
        given = (x, lengths) if backbone.takes_lengths else (x,)
        features = backbone.forward_features(*given)  # (N, M, C', T', V')
        if backbone.pool == "joints":
            features = features.transpose(3, 4).flatten(2, 3)
        else:
            features = features.mean(dim=4)
        pooled = mean_over_persons(features.flatten(2), backbone.counted_persons(x))
        pooled = pooled.unflatten(1, features.shape[2:])
        return pooled.repeat_interleave(self.stride, dim=2)[..., : x.shape[2]]

    def strip_training_parts(self) -> None:
        """Delete, in a copy for inference, what `forward` does not use."""
        self.backbone.strip_training_parts()

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return the groups of the backbone, and one of the head."""
        head = {"params": list(self.head.parameters()), "weight_decay": weight_decay}
        return [*self.backbone.parameter_groups(weight_decay), head]

    @torch.no_grad()
    def _measure_stride(self) -> int:
        backbone = self.backbone
        shape = (1, self.in_channels, _STRIDE_PROBE_FRAMES, self.layout.num_joints)
        was_training = backbone.training
        backbone.eval()
        features = backbone.forward_features(torch.zeros(*shape, backbone.fixed_persons or 1))
        backbone.train(was_training)
        return -(-_STRIDE_PROBE_FRAMES // features.shape[3])
