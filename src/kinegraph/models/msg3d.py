"""MS-G3D: disentangled and unified graph convolutions (Liu, Zhang, Chen, Wang, Ouyang, CVPR 2020).

Shapes: N clips, M persons, n folded persons, C channels, T frames, V joints, K scales, w frames of
a window, whose nodes are frame * V + joint.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError
from kinegraph.models.backbone import Backbone
from kinegraph.models.joint_axes import JointAxes
from kinegraph.models.layers import GraphParts, Residual, find_graph_layout
from kinegraph.models.multi_branch import MultiBranchTemporalConv
from kinegraph.ops.layers import GraphMix, batch_norm_affine, graph_product
from kinegraph.ops.persons import Pool
from kinegraph.ops.window_graph import WindowGraphConv, WindowProduct
from kinegraph.skeleton.graph import hop_scales
from kinegraph.skeleton.layout import SkeletonLayout

CHANNELS = (96, 192, 384)
STRIDES = (1, 2, 2)
WINDOWS = (3, 5)
BRANCH_FRAMES = 3
DILATIONS = (1, 2, 3, 4)
FREE_EDGE_BOUND = 1e-6


class ScaleGraphConv(nn.Module):
    """Graph convolution over all scales: y = relu(BN(sum_k W_k x (A_k + B_k) + b)).

    B is free, and almost zero at the start (Liu et al. 2020, equations 6 and 7).

    Args:
        in_channels: C.
        out_channels: C'.
        A: (K, w * V, w * V), indexed scale, source, target.
        window: w.
        stride: over frames.
        saves_A: whether a state dict holds A, as PYSKL's does.
    """

    A: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        A: Tensor,
        *,
        window: int = 1,
        stride: int = 1,
        saves_A: bool = False,
    ) -> None:
        super().__init__()
        self.window, self.stride = window, stride
        # checkpoints refuse tensors that share memory, and all layers of a network get one A
        self.register_buffer("A", A.clone() if saves_A else A, persistent=saves_A)
        self.free_edges = nn.Parameter(
            torch.empty_like(A).uniform_(-FREE_EDGE_BOUND, FREE_EDGE_BOUND)
        )
        self.conv = nn.Conv2d(len(A) * in_channels, out_channels, 1)
        self.bn = nn.BatchNorm2d(out_channels)

    def joint_axes(self) -> dict[str, JointAxes]:
        """Return the joint axes of the free edges, whose nodes are frames and joints."""
        nodes = (self.window, self.A.shape[1] // self.window)
        return {"free_edges": JointAxes((2, 4), (len(self.A), *nodes, *nodes))}

    def graph_parts(self) -> GraphParts:
        """Return A and B: the sum over the source's frames, the mean over the target's."""
        fixed, free = (
            part.unflatten(2, (self.window, -1)).unflatten(1, (self.window, -1)).sum(1).mean(2)
            for part in (self.A, self.free_edges)
        )
        return GraphParts(fixed=fixed, free=free)

    def weights_by_scale(self) -> Tensor:
        """(K, C, C'): the weight of the 1x1 convolution, whose channel k*C + c is scale k's."""
        weight = self.conv.weight.flatten(1)
        return weight.view(len(weight), len(self.A), -1).permute(1, 2, 0)

    def mix_nodes(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', w * V, ceil(T / stride)), channels last in memory."""
        product = WindowProduct.build(
            self.A + self.free_edges, self.weights_by_scale(), self.window
        )
        frames = product.prepare_frames(x.permute(0, 2, 3, 1))
        nodes = product.mix_windows(frames, self.stride, self.window // 2)
        bias: Tensor = self.conv.bias  # type: ignore[assignment]
        return torch.relu_(self.bn((nodes + bias).permute(0, 3, 1, 2)))

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', T, V), of windows of one frame."""
        A = self.A + self.free_edges
        K, V = A.shape[:2]
        gather = A.permute(2, 0, 1).reshape(1, V * K, V)
        bias: Tensor = self.conv.bias  # type: ignore[assignment]
        frames = graph_product(
            x.permute(0, 2, 3, 1),
            gather,
            self.weights_by_scale().flatten(0, 1),
            bias.expand(1, V, -1),
            relu=False,
        )
        return torch.relu_(self.bn(frames.permute(0, 3, 1, 2)))

    def fold(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return A + B, weight (K, C, C') and bias (C',), with the batch norm folded in."""
        scale, shift = batch_norm_affine(self.bn)
        bias: Tensor = self.conv.bias  # type: ignore[assignment]
        weight = self.weights_by_scale().detach() * scale
        return (self.A + self.free_edges).detach(), weight, bias.detach() * scale + shift

    def inference_layer(self) -> GraphMix:
        """Return the graph convolution with the batch norm folded in and a ReLU."""
        A, weight, bias = self.fold()
        V = A.shape[1]
        layer = GraphMix(A, weight, bias.expand(V, -1).contiguous())
        layer.fuse_relu()
        return layer


class WindowBranch(nn.Module):
    """G3D: graph convolution of windows of w frames, then their frames as one.

    A joint is linked to its neighbors in all frames of the window at once (Liu et al. 2020,
    section 3.3). No activation follows.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        A: Tensor,
        *,
        window: int,
        stride: int,
        saves_A: bool,
    ) -> None:
        super().__init__()
        self.gcn = ScaleGraphConv(
            in_channels, mid_channels, A, window=window, stride=stride, saves_A=saves_A
        )
        self.window_conv = nn.Conv2d(mid_channels, out_channels, (window, 1))
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', ceil(T / stride), V)."""
        nodes = self.gcn.mix_nodes(x)
        window, t = self.gcn.window, nodes.shape[3]
        y = self.bn(self.window_conv(nodes.unflatten(2, (window, -1)).flatten(3)))
        by_joint = y.squeeze(2).unflatten(2, (-1, t))
        return by_joint.transpose(2, 3).contiguous(memory_format=torch.channels_last)

    def inference_layer(self) -> WindowGraphConv:
        """Return the layer with both batch norms folded in."""
        scale, shift = batch_norm_affine(self.bn)
        bias: Tensor = self.window_conv.bias  # type: ignore[assignment]
        out_weight = self.window_conv.weight.detach()[..., 0].permute(2, 1, 0) * scale
        out_bias = bias.detach() * scale + shift
        return WindowGraphConv(*self.gcn.fold(), out_weight, out_bias, self.gcn.stride)


class ResidualTemporalConv(MultiBranchTemporalConv):
    """Six temporal branches, a residual around them, and ReLU (Liu et al. 2020, figure 4)."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, *, relu: bool = True
    ) -> None:
        super().__init__(
            in_channels, out_channels, stride, kernel=BRANCH_FRAMES, dilations=DILATIONS
        )
        self.residual = Residual(in_channels, out_channels, stride)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', ceil(T / stride), V)."""
        y = super().forward(x) + self.residual(x)
        return torch.relu_(y) if self.relu else y


class MSG3DBlock(nn.Module):
    """The factorized pathway beside the windows, then a temporal convolution of their sum."""

    def __init__(
        self,
        graph_conv: ScaleGraphConv,
        windows: Sequence[WindowBranch],
        hidden_channels: int,
        out_channels: int,
        *,
        stride: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.factorized = nn.Sequential(
            graph_conv,
            ResidualTemporalConv(hidden_channels, out_channels, stride),
            ResidualTemporalConv(out_channels, out_channels, relu=False),
        )
        self.windows = nn.ModuleList(windows)
        self.tcn = ResidualTemporalConv(out_channels, out_channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', ceil(T / stride), V)."""
        y = self.factorized(x)
        for branch in self.windows:
            y = y + branch(x)
        out: Tensor = self.dropout(self.tcn(torch.relu_(y)))
        return out


class MSG3D(Backbone):
    """MS-G3D for any layout and any number of persons.

    Args:
        layout: the skeleton, or its name.
        num_classes: number of actions.
        in_channels: C of the input.
        channels: output channels of each block; the published network has three.
        strides: temporal stride of each block.
        scales: K of the graph convolutions of single frames: hops 0 to K - 1.
        window_scales: K of those of windows.
        windows: frames of the windows beside each other, odd; none: the factorized pathway only.
        graph_layout: the layout whose bones make the graph, if it is not that of the clips, see
            `kinegraph.models.stgcn.STGCN`.
        dropout: at the end of every block.
        pool: ``mean`` (the paper) or ``joints``, see `kinegraph.ops.persons.pool_places`.
        head_dropout: before the classifier.
        persons: M of the clips, if ``faithful``.
        pyskl: the network of PYSKL: scales normalized by column. Needed for its weights.
        faithful: reproduce the released code: every joint of each of ``persons`` persons has its
            own data normalization, absent persons, all zero, are counted, and the windows of the
            first block widen the channels before their frames become one only if the input has
            3. Needed for published weights.

    Raises:
        ModelError: options that do not make a network.
    """

    def __init__(
        self,
        layout: SkeletonLayout | str,
        num_classes: int,
        *,
        in_channels: int = 3,
        channels: Sequence[int] = CHANNELS,
        strides: Sequence[int] = STRIDES,
        scales: int = 13,
        window_scales: int = 6,
        windows: Sequence[int] = WINDOWS,
        graph_layout: str | None = None,
        dropout: float = 0.0,
        pool: Pool = "mean",
        head_dropout: float = 0.0,
        persons: int = 2,
        pyskl: bool = False,
        faithful: bool = False,
    ) -> None:
        super().__init__(
            layout,
            num_classes,
            in_channels=in_channels,
            channels=channels,
            strides=strides,
            pool=pool,
            head_dropout=head_dropout,
            faithful=faithful,
            persons=persons,
        )
        _check_windows(windows)
        self.channels, self.pyskl = tuple(channels), pyskl
        self.graph_layout = find_graph_layout(self.layout, graph_layout)
        graph = partial(
            hop_scales, self.graph_layout, normalization="column" if pyskl else "symmetric"
        )
        A = torch.from_numpy(graph(scales))
        A_windows = {w: torch.from_numpy(graph(window_scales, window=w)) for w in windows}
        blocks = []
        for i, (c_out, stride) in enumerate(zip(channels, strides, strict=True)):
            c_in = channels[i - 1] if i else in_channels
            hidden = c_in if i else c_out
            mid = hidden if not faithful or in_channels == 3 else c_in
            branches = [
                WindowBranch(c_in, mid, c_out, A_windows[w], window=w, stride=stride, saves_A=pyskl)
                for w in windows
            ]
            graph_conv = ScaleGraphConv(c_in, hidden, A, saves_A=pyskl)
            blocks.append(
                MSG3DBlock(graph_conv, branches, hidden, c_out, stride=stride, dropout=dropout)
            )
        self.blocks = nn.Sequential(*blocks)
        self.reset_classifier(num_classes)
        self.to(memory_format=torch.channels_last)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a fresh one, with PyTorch's own initial weights, as released."""
        self.head = nn.Linear(self.pooled_features, num_classes)


def _check_windows(windows: Sequence[int]) -> None:
    if any(w < 1 or w % 2 == 0 for w in windows) or len({*windows}) < len(windows):
        raise ModelError(f"windows: expected different odd numbers of frames, got {list(windows)}")
