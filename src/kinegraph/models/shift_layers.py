"""Spatial and temporal shift of Shift-GCN: features move to other joints and frames.

Shapes: n folded persons, C channels, T frames, V joints, P the farthest frame that a shift reads.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from kinegraph.errors import ModelError
from kinegraph.ops.layers import Permute, flatten_features
from kinegraph.ops.temporal import TemporalConv
from kinegraph.skeleton.graph import hop_distance
from kinegraph.skeleton.layout import SkeletonLayout

Spatial = Literal["nonlocal", "local"]
Temporal = Literal["adaptive", "naive"]
GradMode = Literal["official", "exact"]

MAX_SHIFT_FRAMES = 4096


def nonlocal_sources(num_joints: int, channels: int, direction: int) -> Tensor:
    """(V*C,) int64: from where each feature v*C + c of a frame is read.

    Channel c of joint v reads joint (v + direction * c) mod V: every joint gets features of all
    others (Cheng et al., CVPR 2020). Directions 1 and -1 undo each other.
    """
    v, c = torch.arange(num_joints)[:, None], torch.arange(channels)
    return ((v + direction * c) % num_joints * channels + c).flatten()


def local_sources(layout: SkeletonLayout, channels: int) -> Tensor:
    """(V*C,) int64: from where each feature v*C + c of a frame is read.

    A joint with m neighbors, taken by index, keeps its first C // (m + 1) channels and reads as
    many from each neighbor in turn; the last one also gives what the division leaves over
    (Cheng et al., CVPR 2020, equation 3).
    """
    adjacent = torch.from_numpy(hop_distance(layout) == 1)
    c = torch.arange(channels)
    sources = []
    for v in range(layout.num_joints):
        givers = torch.cat([torch.tensor([v]), adjacent[v].nonzero().flatten()])
        share = channels // len(givers)
        turn = c // share if share else torch.full_like(c, len(givers))
        sources.append(givers[turn.clamp(max=len(givers) - 1)] * channels + c)
    return torch.cat(sources)


class SpatialShift(nn.Module):
    """Features of one frame change joints; nothing is computed.

    Args:
        layout: the skeleton.
        channels: C.
        spatial: ``nonlocal``, a permutation that ``direction`` -1 undoes, or ``local``. The paper
            leaves the way back of the local shift open; it is the same shift in both directions.
        direction: 1 before the channels are mixed, -1 after.
    """

    def __init__(
        self, layout: SkeletonLayout, channels: int, spatial: Spatial, direction: int
    ) -> None:
        super().__init__()
        V = layout.num_joints
        far = spatial == "nonlocal"
        index = nonlocal_sources(V, channels, direction) if far else local_sources(layout, channels)
        back = nonlocal_sources(V, channels, -direction) if far else None
        self.register_buffer("index", index, persistent=False)
        self.register_buffer("back", back, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C, T, V)."""
        rows, unflatten = flatten_features(x)
        if self.back is None:
            return unflatten(rows.index_select(1, self.index))
        return unflatten(_Permute.apply(rows, self.index, self.back))

    def inference_layer(self) -> Permute:
        """Return the layer that reads the features in their new order."""
        return Permute(self.index)


class TemporalShift(nn.Module):
    """Each channel reads another moment: a whole or broken number of frames later or earlier.

    A positive shift reads the future. Frames outside the clip are zero. With a stride s, moments
    lie (s - 1) / 2 later, in the middle of the frames that become one.

    Args:
        shift: (C,) frames.
        stride: s.
        grad_mode: of the learned shifts; ``exact`` is the derivative of the interpolation, from the
            right where the shift is whole; ``official`` keeps only its sign, as in the released
            code: 0.01 times the sign, 0.0001 for 0. None: the shifts are fixed, and a stride takes
            every s-th frame from the first on.
    """

    def __init__(self, shift: Tensor, stride: int, grad_mode: GradMode | None) -> None:
        super().__init__()
        self.stride = stride
        self.grad_mode = grad_mode
        self.middle = 0.0 if grad_mode is None else (stride - 1) / 2
        if grad_mode is None:
            self.register_buffer("shift", shift, persistent=False)
        else:
            self.shift = nn.Parameter(shift)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C, ceil(T / s), V)."""
        shift = _SignedGradient.apply(self.shift) if self.grad_mode == "official" else self.shift
        return temporal_sample(x, shift + self.middle, self.stride)

    def inference_layer(self) -> TemporalConv:
        """Return a depthwise convolution over the frames that the channels read.

        Raises:
            ModelError: a shift so far that training must have gone wrong.
        """
        position = self.shift.detach() + self.middle
        if not bool((position.abs() < MAX_SHIFT_FRAMES).all()):
            raise ModelError(
                f"a temporal shift of {position.abs().max()} frames (at most {MAX_SHIFT_FRAMES}): "
                "the training has diverged"
            )
        frame = position.floor()
        left, right = int((-frame.min()).clamp(min=0)), int((frame.max() + 1).clamp(min=0))
        taps = torch.arange(-left, right + 1, device=position.device)
        kernel = (1 - (position[:, None] - taps).abs()).clamp(min=0)
        if right and not kernel[:, -1].any():
            kernel = kernel[:, :-1]
        weight = kernel[:, None, :, None]
        return TemporalConv(weight, None, left=left, stride=self.stride, groups=len(kernel))


@torch.compiler.disable  # the size of the kernel depends on the values of the shifts
def temporal_sample(x: Tensor, position: Tensor, stride: int) -> Tensor:
    """(n, C, T, V) -> (n, C, ceil(T / s), V): out[h] = x at the moment h * s + position[c].

    Between two frames the value is interpolated; outside the clip it is zero (Cheng et al., CVPR
    2020, adaptive temporal shift). As every channel has one position, this is a depthwise
    convolution over time whose kernel has two neighboring taps, 1 - d and d.

    Args:
        x: features.
        position: (C,) frames, any real number.
        stride: s.
    """
    frame = position.detach().floor()
    farthest = torch.maximum(-frame.min(), frame.max() + 1).nan_to_num(nan=1.0)
    P = int(farthest.clamp(1, x.shape[2]))  # beyond the clip all is zero anyway
    taps = torch.arange(-P, P + 1, device=x.device)
    later = position - frame
    kernel = torch.where(taps == frame[:, None], 1 - later[:, None], 0)
    kernel = torch.where(taps == frame[:, None] + 1, later[:, None], kernel)
    weight = kernel.to(x.dtype)[:, None, :, None]
    return conv2d(x, weight, stride=(stride, 1), padding=(P, 0), groups=x.shape[1])


def naive_shifts(channels: int, reach: int) -> Tensor:
    """(C,) whole shifts: 2u + 1 equal groups read +1 .. +u, -1 .. -u and, with the rest, 0.

    Raises:
        ModelError: fewer channels than groups.
    """
    groups = 2 * reach + 1
    if channels < groups:
        raise ModelError(
            f"a naive shift of up to {reach} frames both ways needs at least {groups} channels, "
            f"got {channels}"
        )
    frames = torch.arange(1, reach + 1, dtype=torch.float32)
    moved = torch.cat([frames, -frames]).repeat_interleave(channels // groups)
    return torch.cat([moved, torch.zeros(channels - len(moved))])


class _Permute(torch.autograd.Function):
    """Columns in another order; the gradient reads back by the inverse, which is quicker."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return rows.index_select(1, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (back,) = ctx.saved_tensors
        return grad.index_select(1, back), None, None


class _SignedGradient(torch.autograd.Function):
    """The identity, whose gradient keeps only the sign (released Shift-GCN code)."""

    @staticmethod
    def forward(_: Any, shift: Tensor) -> Tensor:
        return shift.clone()

    @staticmethod
    def backward(_: Any, grad: Tensor) -> Tensor:
        return torch.where(grad == 0, 1e-4, 0.01 * grad.sign())
