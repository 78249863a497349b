"""Fast layers: what a trained network computes, on whole clips or on a few frames at a time.

Shapes: n folded persons, C channels, T frames of a clip, f frames of a hop, V joints, k frames that
a convolution sees. All activations are (n, T, V, C) and contiguous, so that the graph product, the
channel product and the temporal convolution all read whole rows.

A stream gives a layer f frames at a time, a *hop*. What is local in time then needs only the last
few frames of the hop before, which the stream keeps for it. Every layer knows, by `plan`, which
frame the first hop begins with: frames with negative numbers, before the clip, and those after its
end are zero for every layer that looks at neighbouring frames, as its padding is in a whole clip.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

Combination = Literal["sum", "gate", "concat"]

Result = TypeVar("Result")

BLOCK = 32  # frames whose neighbourhood sums are made at a time
FEW = 16  # frames; of more, a convolution is quicker than windows laid out side by side


class Hop:
    """A few frames on their way through the layers, and what layers keep from one to the next.

    Args:
        before: (n,) frames that earlier hops have brought.
        end: (n,) frames of the whole clip, where it is known that it ends; None: not yet.
        kept: what the layers kept of the hop before, in their order; None for the first hop.
        mask: whether frames may lie outside the clip.
    """

    def __init__(
        self, before: Tensor, end: Tensor | None, kept: Iterable[Tensor] | None, *, mask: bool
    ) -> None:
        self.before = before
        self.end = end
        self.mask = mask
        self.keeping: list[Tensor] = []
        self._kept: Iterator[Tensor] | None = None if kept is None else iter(kept)

    def inside(self, first: int, frames: int, rate: int, early: int = 0, late: int = 0) -> Tensor:
        """(n, frames) bool: which of a layer's frames lie in the clip.

        Args:
            first: number of the first frame of the first hop at this layer.
            frames: of this hop at this layer.
            rate: frames of the clip for one of this layer.
            early: how many of the clip's first frames do not count.
            late: how many of its last.
        """
        start = torch.div(self.before, rate, rounding_mode="floor") + first
        number = start[:, None] + torch.arange(frames, device=start.device)
        inside = number >= early
        if self.end is not None:
            length = torch.div(self.end + rate - 1, rate, rounding_mode="floor")
            inside = inside & (number < length[:, None] - late)
        return inside

    def kept(
        self,
        shape: Sequence[int],
        like: Tensor,
        fill: float = 0.0,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """What this layer kept: ``shape`` full of ``fill`` in the first hop."""
        if self._kept is None:
            return like.new_full(shape, fill, dtype=dtype or like.dtype)
        return next(self._kept)

    def keep(self, tensor: Tensor) -> None:
        """Keep it for the next hop."""
        self.keeping.append(tensor)

    def follow(self, x: Tensor, frames: int) -> Tensor:
        """(n, f, V, C) -> (n, frames + f, V, C): the last ``frames`` frames before, then x."""
        if not frames:
            return x
        past = self.kept((x.shape[0], frames, *x.shape[2:]), x)
        joined = torch.cat([past, x], dim=1)
        self.keep(joined[:, joined.shape[1] - frames :])
        return joined


def zero_outside(x: Tensor, inside: Tensor) -> Tensor:
    """(n, f, ...) and (n, f) bool -> x, zero where not inside, whatever stood there."""
    return x.masked_fill(~inside.view(*inside.shape, *[1] * (x.ndim - 2)), 0)


Work = Generator[float, None, Tensor]


def done(work: Generator[float, None, Result]) -> Result:
    """What comes out of some work in the end."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            result: Result = stop.value
            return result


class FastLayer(nn.Module):
    """One that looks at each frame by itself."""

    def plan(self, first: int, rate: int) -> tuple[int, int]:
        """Take note of the frame that the first hop begins with, and how many make one here.

        Returns:
            both for the layer that follows.
        """
        return first, rate

    def hop(self, x: Tensor, hop: Hop) -> Tensor:
        """(n, f, V, C) -> (n, f', V, C'): the frames that can be known by now."""
        y: Tensor = self(x)
        return y

    def work(self, x: Tensor, hop: Hop) -> Work:
        """`hop`, a bit at a time: yields how much each bit was, in multiplications of one joint."""
        y = self.hop(x, hop)
        yield y.shape[1] * self.size
        return y

    @cached_property
    def size(self) -> int:
        """How many numbers it knows: about as many multiplications for each joint of a frame."""
        return sum(buffer.numel() for buffer in self.buffers())


class Composite(FastLayer):
    """One that is made of layers."""

    def hop(self, x: Tensor, hop: Hop) -> Tensor:
        """(n, f, V, C) -> (n, f', V, C')."""
        return done(self.work(x, hop))


class Affine(FastLayer):
    """A factor and a summand for each joint and channel, or each channel.

    Args:
        scale: (V, C) or (C,), or (M, V, C) for M folded persons.
        bias: of the same shape.
    """

    def __init__(self, scale: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> the same."""
        if self.scale.ndim < 3:
            return torch.addcmul(self.bias, x, self.scale)
        persons = x.unflatten(0, (-1, len(self.scale))).transpose(1, 2)
        return torch.addcmul(self.bias, persons, self.scale).transpose(1, 2).flatten(0, 1)


class Mix(FastLayer):
    """A product with a (C, C') matrix, then ReLU if asked for.

    Args:
        weight: (C, C').
        bias: (C',) or None.
        relu: whether negative values become zero.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, relu: bool = False) -> None:
        super().__init__()
        self.register_buffer("weight", weight.contiguous())
        self.register_buffer("bias", bias)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> (n, T, V, C')."""
        rows = x.reshape(-1, x.shape[-1])
        mixed = rows @ self.weight if self.bias is None else self.bias.addmm(rows, self.weight)
        return (mixed.relu_() if self.relu else mixed).view(*x.shape[:-1], -1)


def neighbour_mix(x: Tensor, gather: Tensor, weight: Tensor, bias: Tensor, *, relu: bool) -> Tensor:
    """Neighbourhood sums of K partitions, then one product over channels, then ReLU if asked for.

    Args:
        x: (n, T, V, C).
        gather: (n, V*K, V), or (1, V*K, V) for all persons alike.
        weight: (K*C, C').
        bias: (n, V, C') or (1, V, C').
        relu: whether negative values become zero.

    Returns:
        (n, T, V, C').
    """
    n, t, v, c = x.shape
    plainly = torch.compiler.is_exporting() or (torch.is_grad_enabled() and x.requires_grad)
    if plainly or t <= BLOCK or x.device.type != "cpu":
        summed = (gather.unsqueeze(1) @ x).reshape(n * t * v, -1)
        mixed = (summed @ weight).view(n, t, v, -1).add_(bias.unsqueeze(1))
        return mixed.relu_() if relu else mixed
    mixed = x.new_empty(n, t, v, weight.shape[1])
    sums = x.new_empty(BLOCK, gather.shape[1], c)
    for i in range(n):
        own = i if len(gather) > 1 else 0
        for start in range(0, t, BLOCK):  # some frames at a time, so that their sums stay cached
            frames, out = x[i, start : start + BLOCK], mixed[i, start : start + BLOCK]
            some = sums[: len(frames)]
            torch.bmm(gather[own].expand(len(frames), -1, -1), frames, out=some)
            torch.mm(some.view(-1, len(weight)), weight, out=out.view(-1, weight.shape[1]))
            out.add_(bias[own])
            if relu:
                out.relu_()
    return mixed


class GraphMix(FastLayer):
    """Neighbourhood sums over the skeleton, and the product of their channels.

    Args:
        A: (K, V, V) adjacency; joint w of the output reads A[k, v, w] of joint v.
        weight: (K, C, C').
        bias: (V, C').
        relu: whether negative values become zero.
    """

    def __init__(self, A: Tensor, weight: Tensor, bias: Tensor, *, relu: bool = True) -> None:
        super().__init__()
        K, V = A.shape[:2]
        self.register_buffer("gather", A.permute(2, 0, 1).reshape(1, V * K, V).contiguous())
        self.register_buffer("weight", weight.flatten(0, 1).contiguous())
        self.register_buffer("bias", bias.unsqueeze(0))
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> (n, T, V, C')."""
        return neighbour_mix(x, self.gather, self.weight, self.bias, relu=self.relu)


class Reorder(FastLayer):
    """Features of one frame change places, and each gets a factor.

    Args:
        index: (V*C,) from where each feature v*C + c is read.
        scale: (V*C,) or None.
    """

    def __init__(self, index: Tensor, scale: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("index", index)
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> the same."""
        rows = x.reshape(x.shape[0] * x.shape[1], -1).index_select(1, self.index)
        return (rows if self.scale is None else rows.mul_(self.scale)).view_as(x)


class Pick(FastLayer):
    """Some of the channels; to each of them another may be added.

    Args:
        start: the first channel.
        stop: the one after the last.
        add: the first of those to add, None for none.
    """

    def __init__(self, start: int, stop: int, add: int | None = None) -> None:
        super().__init__()
        self.start, self.stop, self.add = start, stop, add

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> (n, T, V, stop - start)."""
        picked = x[..., self.start : self.stop]
        if self.add is None:
            return picked
        return picked + x[..., self.add : self.add + self.stop - self.start]


class Neighbours(FastLayer):
    """Every joint becomes a weighted sum of joints, each channel by itself.

    Args:
        A: (V, V); joint w of the output reads A[v, w] of joint v.
    """

    def __init__(self, A: Tensor) -> None:
        super().__init__()
        self.register_buffer("gather", A.T.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> the same."""
        return self.gather @ x


class Mean(FastLayer):
    """The mean over joints (dim 2) or channels (dim 3), which stays as an axis of length 1."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> (n, T, 1, C) or (n, T, V, 1)."""
        return x.mean(dim=self.dim, keepdim=True)


class Sigmoid(FastLayer):
    """sigmoid(x) + summand."""

    def __init__(self, summand: float) -> None:
        super().__init__()
        self.summand = summand

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> the same."""
        return torch.sigmoid(x) + self.summand


class Relu(FastLayer):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> the same."""
        return torch.relu(x)


class TimeLayer(FastLayer):
    """One that looks at frames before and after; where there are none it sees zeros.

    Args:
        left: how many frames before.
        right: how many after.
        stride: of how many frames one is left.
    """

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
        return self.valid(pad(x, (0, 0, 0, 0, self.left, self.right)))

    def plan(self, first: int, rate: int) -> tuple[int, int]:
        """An output is known as soon as the last frame that it sees has come."""
        self.first, self.rate = first, rate
        self.offset = (self.right - first) % self.stride
        return (first - self.right + self.offset) // self.stride, rate * self.stride

    def hop(self, x: Tensor, hop: Hop) -> Tensor:
        """(n, f, V, C) -> (n, f / stride, V, C')."""
        if hop.mask:
            x = zero_outside(x, hop.inside(self.first, x.shape[1], self.rate))
        joined = hop.follow(x, self.left + self.right)[:, self.offset :]
        return self.valid_few(joined) if x.shape[1] <= FEW else self.valid(joined)

    def valid_few(self, x: Tensor) -> Tensor:
        """`valid`, where few frames call for another order of work."""
        return self.valid(x)


class TimeConv(TimeLayer):
    """A convolution over frames, and over joints in their order if its kernel is wide.

    Args:
        weight: (C', C / groups, k, width), k odd or not, width odd.
        bias: (C',) or None.
        left: frames before; k - 1 - left are after.
        stride: over frames.
        groups: of channels.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, *, left: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(left, weight.shape[2] - 1 - left, stride)
        weight = weight.contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.groups = groups

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

    def _conv(self, x: Tensor, padding: int) -> Tensor:
        y = conv2d(
            x.permute(0, 3, 1, 2),
            self.weight,
            self.bias,
            stride=(self.stride, 1),
            padding=(padding, self.weight.shape[3] // 2),
            groups=self.groups,
        )
        return y.permute(0, 2, 3, 1)

    def valid_few(self, x: Tensor) -> Tensor:
        """The frames of each window side by side: one product, without packing the weights."""
        C_out, C, k, width = self.weight.shape
        depthwise = self.groups == C_out
        if width > 1 or (self.groups > 1 and not depthwise):
            return self.valid(x)
        windows = x.unfold(1, k, self.stride)
        if depthwise:
            y = (windows * self.weight[:, 0, :, 0]).sum(dim=4)
            return y if self.bias is None else y.add_(self.bias)
        windows = windows.permute(0, 1, 2, 4, 3)
        rows = windows.reshape(-1, k * C)
        weight = self.weight.permute(2, 3, 1, 0).reshape(k * C, C_out)
        mixed = rows @ weight if self.bias is None else self.bias.addmm(rows, weight)
        return mixed.view(*windows.shape[:3], C_out)


class Thin(TimeLayer):
    """Every s-th frame, from the first on."""

    def __init__(self, stride: int) -> None:
        super().__init__(0, 0, stride)

    def valid(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> (n, ceil(T / stride), V, C)."""
        return x[:, :: self.stride]


class EdgeZero(TimeLayer):
    """One whose first or last output frame is zero by definition, instead of seeing padding.

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

    def hop(self, x: Tensor, hop: Hop) -> Tensor:
        """(n, f, V, C) -> (n, f, V, C')."""
        y = self.valid(hop.follow(x, self.left + self.right))
        if not hop.mask:
            return y
        first = self.first - self.right
        inside = hop.inside(first, y.shape[1], self.rate, early=self.left, late=self.right)
        return zero_outside(y, inside)


class Difference(EdgeZero):
    """The first half of the channels one frame later, minus the second half; zero at the end."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def valid(self, x: Tensor) -> Tensor:
        """(n, T + 1, V, 2C) -> (n, T, V, C)."""
        later, now = x.chunk(2, dim=3)
        return later[:, 1:] - now[:, :-1]


class RelativeMotion(EdgeZero):
    """Each frame minus the mean of its neighbours, see `kinegraph.models.twostream`.

    Args:
        ghosts: whether absent joints, all zero, count as if they stood at the origin.
    """

    def __init__(self, *, ghosts: bool) -> None:
        super().__init__(1, 1)
        self.ghosts = ghosts

    def valid(self, x: Tensor) -> Tensor:
        """(n, T + 2, V, C) -> (n, T, V, C)."""
        moved = x[:, 1:-1] - (x[:, :-2] + x[:, 2:]) / 2
        if self.ghosts:
            return moved
        seen = (x != 0).any(dim=3, keepdim=True)
        return moved * (seen[:, :-2] & seen[:, 1:-1] & seen[:, 2:])


class Chain(Composite):
    """Layers one after the other."""

    def __init__(self, *layers: FastLayer) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> (n, T', V, C')."""
        for layer in self.layers:
            x = layer(x)
        return x

    def plan(self, first: int, rate: int) -> tuple[int, int]:
        """That of the last layer."""
        for layer in self._each():
            first, rate = layer.plan(first, rate)
        return first, rate

    def work(self, x: Tensor, hop: Hop) -> Work:
        """(n, f, V, C) -> (n, f', V, C')."""
        for layer in self._each():
            x = yield from layer.work(x, hop)
        return x

    def _each(self) -> Iterator[FastLayer]:
        return iter(self.layers)  # type: ignore[arg-type]


class Together(Composite):
    """Ways side by side from one input, put together in the frame that they belong to.

    In a stream the quicker ways wait for the slowest.

    Args:
        ways: at least two.
        combination: ``sum``, ``gate`` (the product) or ``concat`` (side by side as channels).
        relu: whether negative values become zero then.
    """

    def __init__(
        self, *ways: FastLayer, combination: Combination = "sum", relu: bool = False
    ) -> None:
        super().__init__()
        self.ways = nn.ModuleList(ways)
        self.combination = combination
        self.relu = relu
        self.ahead = [0] * len(ways)

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> (n, T', V, C')."""
        return self._combine([way(x) for way in self.ways])

    def plan(self, first: int, rate: int) -> tuple[int, int]:
        """That of the slowest way."""
        plans = [way.plan(first, rate) for way in self._each()]
        slowest = min(first for first, _ in plans)
        self.ahead = [first - slowest for first, _ in plans]
        return slowest, plans[0][1]

    def work(self, x: Tensor, hop: Hop) -> Work:
        """(n, f, V, C) -> (n, f', V, C')."""
        results = []
        for way, ahead in zip(self._each(), self.ahead, strict=True):
            y = yield from way.work(x, hop)
            results.append(hop.follow(y, ahead)[:, : y.shape[1]])
        return self._combine(results)

    def _each(self) -> Iterator[FastLayer]:
        return iter(self.ways)  # type: ignore[arg-type]

    def _combine(self, results: list[Tensor]) -> Tensor:
        if self.combination == "concat":
            y = torch.cat(results, dim=3)
        else:
            combine: Callable[[Tensor, Tensor], Tensor] = (
                torch.add if self.combination == "sum" else torch.mul
            )
            y = results[0]
            for other in results[1:]:
                y = combine(y, other)
        return y.relu_() if self.relu else y
