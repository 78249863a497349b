"""Graph convolution over the joints of several frames at once, without unfolding the windows.

A window of w frames has the nodes frame * V + joint. Its graph product is a convolution over
frames whose "channels" are joints: the frames of a window are the taps of its kernel, and every
target node is an output. So no window is copied out of the clip.

Shapes: n folded persons, C channels, T frames, T' windows, V joints, K scales, w frames a window.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.nn.functional import conv2d

from kinegraph.ops.row_product import row_product
from kinegraph.ops.step_context import StepContext, fill_outside
from kinegraph.ops.temporal import TemporalLayer


class WindowProduct(NamedTuple):
    """The graph product and the channel product of windows, in the order that is cheaper.

    y[t, w, v] = sum over k, i, u of A[k, (i, u), (w, v)] (x[t * stride + i, u] W_k). Channels that
    are mixed first are mixed once a frame instead of once a window; this is the order unless it
    widens the channels, as in the first layer of a network.

    Attributes:
        kernel: (w * V, V * K, w, 1), or (w * V * K, V, w, 1) if the graph is first.
        weight: (C, K * C'), or (K * C, C') if the graph is first.
        scales: K.
        graph_first: the order.
    """

    kernel: Tensor
    weight: Tensor
    scales: int
    graph_first: bool

    @classmethod
    def build(cls, A: Tensor, weight: Tensor, window: int) -> WindowProduct:
        """Return the product of an adjacency and a weight.

        Args:
            A: (K, w * V, w * V), indexed scale, source, target.
            weight: (K, C, C').
            window: w.
        """
        K, nodes = A.shape[:2]
        V = nodes // window
        taps = A.view(K, window, V, nodes)
        if weight.shape[2] > weight.shape[1]:
            kernel = taps.permute(3, 0, 2, 1).reshape(nodes * K, V, window, 1)
            return cls(kernel, weight.flatten(0, 1), K, graph_first=True)
        kernel = taps.permute(3, 2, 0, 1).reshape(nodes, V * K, window, 1)
        return cls(kernel, weight.transpose(0, 1).flatten(1), K, graph_first=False)

    def prepare_frames(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> what the windows are made of: (n, T, V * K, C'), or x."""
        if self.graph_first:
            return x
        n, t, v, c = x.shape
        return row_product(x.reshape(-1, c), self.weight).view(n, t, v * self.scales, -1)

    def mix_windows(self, frames: Tensor, stride: int, padding: int) -> Tensor:
        """Return (n, w * V, T', C') of the prepared frames, with zeros outside the clip."""
        y = conv2d(
            frames.transpose(1, 2).contiguous(),
            self.kernel,
            stride=(stride, 1),
            padding=(padding, 0),
        )
        if not self.graph_first:
            return y
        n, _, t, c = y.shape
        rows = y.view(n, -1, self.scales, t, c).transpose(2, 3).reshape(-1, len(self.weight))
        return row_product(rows, self.weight).view(n, -1, t, self.weight.shape[1])


class WindowGraphConv(TemporalLayer):
    """Graph convolution of every window, ReLU, and the sum of its frames, each by its own matrix.

    Args:
        A: (K, w * V, w * V), indexed scale, source, target.
        weight: (K, C, C').
        bias: (C',).
        out_weight: (w, C', C'').
        out_bias: (C'').
        stride: over frames.
    """

    kernel: Tensor
    weight: Tensor
    bias: Tensor
    out_weight: Tensor
    out_bias: Tensor

    def __init__(
        self,
        A: Tensor,
        weight: Tensor,
        bias: Tensor,
        out_weight: Tensor,
        out_bias: Tensor,
        stride: int,
    ) -> None:
        window = len(out_weight)
        super().__init__(window // 2, window // 2, stride)
        product = WindowProduct.build(A, weight, window)
        self.scales, self.graph_first = product.scales, product.graph_first
        self.register_buffer("kernel", product.kernel.contiguous())
        self.register_buffer("weight", product.weight.contiguous())
        self.register_buffer("bias", bias)
        self.register_buffer("out_weight", out_weight.contiguous())
        self.register_buffer("out_bias", out_bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> (n, T', V, C'')."""
        return self._collapse(self._product.prepare_frames(x), self.left)

    def step(self, x: Tensor, context: StepContext) -> Tensor:
        """(n, f, V, C) -> (n, f / stride, V, C''); the prepared frames are the state."""
        if context.mask:
            x = fill_outside(x, context.inside(self.first, x.shape[1], self.rate))
        frames = self._product.prepare_frames(x)
        return self._collapse(
            context.prepend_history(frames, self.left + self.right)[:, self.offset :], 0
        )

    @property
    def _product(self) -> WindowProduct:
        return WindowProduct(self.kernel, self.weight, self.scales, self.graph_first)

    def _collapse(self, frames: Tensor, padding: int) -> Tensor:
        nodes = self._product.mix_windows(frames, self.stride, padding).add_(self.bias).relu_()
        (n, _, t, _), (w, c, c_out) = nodes.shape, self.out_weight.shape
        by_frame = nodes.view(n, w, -1, c)
        y = (by_frame @ self.out_weight).sum(dim=1).add_(self.out_bias)
        return y.view(n, -1, t, c_out).transpose(1, 2).contiguous()
