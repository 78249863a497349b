"""Inference layers that look at neighboring frames.

Shapes: n folded persons, C channels, T frames of a clip, f frames of a step, V joints, k frames of
a kernel. All activations are (n, T, V, C) and contiguous.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d, pad

from kinegraph.ops.layers import InferenceLayer
from kinegraph.ops.row_product import row_product
from kinegraph.ops.step_context import StepContext, fill_outside

GEMM_MAX_FRAMES = 16  # with more frames a convolution is faster than unfolded windows


class TemporalLayer(InferenceLayer):
    """A layer that looks at frames before and after; outside the clip it reads ``fill``.

    Args:
        left: how many frames before.
        right: how many after.
        stride: of how many frames one is left.
    """

    fill = 0.0

    def __init__(self, left: int, right: int, stride: int = 1) -> None:
        super().__init__()
        self.left, self.right, self.stride = left, right, stride
        self.first = self.offset = 0
        self.rate = 1

    def valid(self, x: Tensor) -> Tensor:
        """(n, left + T + right, V, C) -> (n, ceil(T / stride), V, C')."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> (n, ceil(T / stride), V, C')."""
        return self.valid(pad(x, (0, 0, 0, 0, self.left, self.right), value=self.fill))

    def infer_delay(self, first: int, rate: int) -> tuple[int, int]:
        """An output is known as soon as the last frame that it reads has come."""
        self.first, self.rate = first, rate
        self.offset = (self.right - first) % self.stride
        return (first - self.right + self.offset) // self.stride, rate * self.stride

    def step(self, x: Tensor, context: StepContext) -> Tensor:
        """(n, f, V, C) -> (n, f / stride, V, C')."""
        if context.mask:
            inside = context.inside(self.first, x.shape[1], self.rate)
            x = fill_outside(x, inside, self.fill)
        seen = context.prepend_history(x, self.left + self.right, self.fill)[:, self.offset :]
        return self.unfolded_gemm(seen) if x.shape[1] <= GEMM_MAX_FRAMES else self.valid(seen)

    def unfolded_gemm(self, x: Tensor) -> Tensor:
        """Compute `valid` in the order of work that suits few frames."""
        return self.valid(x)


class TemporalConv(TemporalLayer):
    """A convolution over frames, and over joints in their order if its kernel is wide.

    Args:
        weight: (C', C / groups, k, width), k odd or not, width odd.
        bias: (C',) or None.
        left: frames before; the others are after.
        stride: over frames.
        groups: of channels.
        dilation: frames from one of the k to the next.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        left: int,
        stride: int = 1,
        groups: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__(left, (weight.shape[2] - 1) * dilation - left, stride)
        weight = weight.contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.groups, self.dilation = groups, dilation

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> (n, ceil(T / stride), V, C'); padded by the convolution, not before."""
        most = max(self.left, self.right)
        early = most - self.left
        if early % self.stride:
            return super().forward(x)
        # ONNX rounds quotients towards zero, so that ceil(a / b) must not be made of negative ones
        start, frames = early // self.stride, (x.shape[1] + self.stride - 1) // self.stride
        return self._conv(x, most)[:, start : start + frames]

    def valid(self, x: Tensor) -> Tensor:
        """(n, left + T + right, V, C) -> (n, ceil(T / stride), V, C')."""
        return self._conv(x, 0)

    def fold_affine(self, scale: Tensor, bias: Tensor) -> bool:
        """Scale the kernels of each output channel."""
        scaled = self.weight * scale[:, None, None, None]
        self.weight = scaled.contiguous(memory_format=torch.channels_last)
        self.bias = bias if self.bias is None else self.bias * scale + bias
        return True

    def _conv(self, x: Tensor, padding: int) -> Tensor:
        y = conv2d(
            x.permute(0, 3, 1, 2),
            self.weight,
            self.bias,
            stride=(self.stride, 1),
            padding=(padding, self.weight.shape[3] // 2),
            dilation=(self.dilation, 1),
            groups=self.groups,
        )
        return y.permute(0, 2, 3, 1)

    def unfolded_gemm(self, x: Tensor) -> Tensor:
        """Multiply the frames of each window, side by side, by one matrix."""
        C_out, C, k, width = self.weight.shape
        depthwise = self.groups == C_out
        if width > 1 or (self.groups > 1 and not depthwise):
            return self.valid(x)
        windows = x.unfold(1, self.left + 1 + self.right, self.stride)[..., :: self.dilation]
        if depthwise:
            y = (windows * self.weight[:, 0, :, 0]).sum(dim=4)
            return y if self.bias is None else y.add_(self.bias)
        windows = windows.permute(0, 1, 2, 4, 3)
        rows = windows.reshape(-1, k * C)
        weight = self.weight.permute(2, 3, 1, 0).reshape(k * C, C_out)
        mixed = row_product(rows, weight, self.bias)
        return mixed.view(*windows.shape[:3], C_out)


class TemporalPool(TemporalLayer):
    """The mean or the largest of k neighboring frames.

    Frames outside the clip count as zeros in the mean, and not at all in the maximum.

    Args:
        reduction: ``mean`` or ``max``.
        kernel: k.
        left: frames before.
        stride: over frames.
    """

    def __init__(
        self, reduction: Literal["mean", "max"], kernel: int, *, left: int, stride: int
    ) -> None:
        super().__init__(left, kernel - 1 - left, stride)
        self.kernel = kernel
        self.pool = avg_pool2d if reduction == "mean" else max_pool2d
        self.fill = 0.0 if reduction == "mean" else float("-inf")

    def valid(self, x: Tensor) -> Tensor:
        """(n, left + T + right, V, C) -> (n, ceil(T / stride), V, C)."""
        frames = x.permute(0, 3, 1, 2)
        return self.pool(frames, (self.kernel, 1), (self.stride, 1)).permute(0, 2, 3, 1)


class TemporalStride(TemporalLayer):
    """Every s-th frame, from the first on."""

    def __init__(self, stride: int) -> None:
        super().__init__(0, 0, stride)

    def valid(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> (n, ceil(T / stride), V, C)."""
        return x[:, :: self.stride]


class ZeroPaddedEdge(TemporalLayer):
    """A layer whose first or last output frame is zero by definition, instead of reading padding.

    Args:
        left: frames before; so many first outputs are zero.
        right: frames after; so many last outputs are zero.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> (n, T, V, C')."""
        T, seen = x.shape[1], self.left + self.right
        if seen >= T:
            x = pad(x, (0, 0, 0, 0, 0, seen + 1 - T))
        y = pad(self.valid(x), (0, 0, 0, 0, self.left, self.right))
        if seen < T:
            return y
        return torch.zeros_like(y[:, :T])

    def step(self, x: Tensor, context: StepContext) -> Tensor:
        """(n, f, V, C) -> (n, f, V, C')."""
        y = self.valid(context.prepend_history(x, self.left + self.right))
        if not context.mask:
            return y
        first = self.first - self.right
        inside = context.inside(first, y.shape[1], self.rate, early=self.left, late=self.right)
        return fill_outside(y, inside)
