"""The ST-GCN auto-encoder: reconstruction of clips, and prediction of future poses.

Shapes: N clips, M persons, n folded persons that are present, C channels, F features, T frames,
T' frames of the encoder's features, V joints, k future frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError, unknown_name
from kinegraph.models.base import SkeletonModel
from kinegraph.models.joint_axes import JointAxes
from kinegraph.models.layers import (
    GraphConv,
    check_last_pose,
    frames_at,
    init_kaiming,
    init_published,
)
from kinegraph.models.stgcn import CHANNELS, STGCN, STRIDES, STGCNBlock
from kinegraph.ops.persons import fold_persons, present_persons, unfold_persons
from kinegraph.skeleton.layout import SkeletonLayout

Bottleneck = Literal["map", "vector"]

#: Halvings of the time axis before the forecast: feature maps up to 16 frames become one.
HALVINGS = 4


class UpBlock(STGCNBlock):
    """The mirror of a block: graph convolution, frames repeated, temporal convolution.

    A graph convolution treats equal frames equally, so it comes before they are repeated.
    """

    def __init__(
        self, in_channels: int, out_channels: int, A: Tensor, *, factor: int, **options: Any
    ) -> None:
        super().__init__(in_channels, out_channels, A, stride=1, residual=True, **options)
        self.factor = factor

    def forward(self, x: Tensor, frames: int | None = None) -> Tensor:
        """(n, C, T', V) -> (n, C', T, V) with T = ``frames``, by default factor * T'."""
        y = self._repeat(torch.relu(self.bn(self.gcn(x))), frames)
        y = self.dropout(self.tcn_bn(self.tcn(y)))
        around = x if self.residual is None else self.residual(x)
        return torch.relu(y + self._repeat(around, frames))

    def _repeat(self, x: Tensor, frames: int | None) -> Tensor:
        rows = x.permute(0, 2, 3, 1).unsqueeze(2).expand(-1, -1, self.factor, -1, -1)
        return rows.flatten(1, 2)[:, :frames].contiguous().permute(0, 3, 1, 2)


class Decoder(nn.Module):
    """The encoder's blocks in mirror order, then a 1x1 convolution to poses in input units.

    Args:
        in_channels: C of the poses.
        channels: of the encoder's blocks.
        strides: of the encoder's blocks.
        A: (K, V, V), the encoder's.
        dropout: in every block but the last, which mirrors the encoder's first.
        options: further ones of `STGCNBlock`.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        strides: Sequence[int],
        A: Tensor,
        *,
        dropout: float,
        **options: Any,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.blocks = nn.ModuleList(
            UpBlock(
                channels[i],
                channels[max(i - 1, 0)],
                A,
                factor=strides[i],
                dropout=dropout if i else 0.0,
                **options,
            )
            for i in reversed(range(len(channels)))
        )
        self.output = nn.Conv2d(channels[0], in_channels, 1)
        self.apply(init_kaiming)
        init_published(self.output)

    def forward(self, features: Tensor, frames: int) -> Tensor:
        """(n, F, T', V) of a clip of T = ``frames`` -> (n, C, T, V)."""
        lengths = [frames]
        for stride in self.strides[:-1]:
            lengths.append(-(-lengths[-1] // stride))
        for block, length in zip(self.blocks, reversed(lengths), strict=True):
            features = block(features, length)
        return self.output(features)


class VectorBottleneck(nn.Module):
    """One vector a person, laid out again over frames and joints.

    The mean over frames and joints, plus a learned vector a joint and the sines of each frame's
    number (Vaswani et al. 2017, section 3.5), which tell the decoder where it is.
    """

    def __init__(self, num_features: int, num_joints: int) -> None:
        super().__init__()
        self.joint = nn.Parameter(torch.empty(num_joints, num_features))
        nn.init.normal_(self.joint)

    def joint_axes(self) -> dict[str, JointAxes]:
        """Return the joint axis of the learned vectors."""
        return {"joint": JointAxes((0,))}

    def forward(self, features: Tensor) -> Tensor:
        """(n, F, T', V) -> (n, F, T', V)."""
        F, T = features.shape[1:3]
        pairs = (F + 1) // 2
        slowness = torch.arange(pairs, device=features.device) / pairs
        angle = torch.arange(T, device=features.device)[:, None] * 10_000**-slowness
        number = torch.cat([angle.sin(), angle.cos()], dim=1)[:, :F].to(features.dtype)
        vector = features.mean(dim=(2, 3))[:, None, None]
        return (vector + (number[:, None] + self.joint)).permute(0, 3, 1, 2)


class Forecaster(nn.Module):
    """How far each joint will have moved from the last pose, k frames ahead.

    Temporal blocks of stride 2 make one feature a joint; the last pose stands beside it; a graph
    and a 1x1 convolution give the offsets (AS-GCN, Li et al. 2019, section 4.4). Frames are
    counted back from the end, so that the feature kept is that of the latest frames, however
    long the clip is. The last layer is zero at the start, and so are all offsets.
    """

    def __init__(
        self, num_features: int, in_channels: int, future: int, A: Tensor, **options: Any
    ) -> None:
        super().__init__()
        width = (num_features + 1) // 2
        sizes = (num_features, *[width] * HALVINGS)
        self.blocks = nn.Sequential(
            *(
                STGCNBlock(sizes[i], width, A, stride=2, residual=True, **options)
                for i in range(HALVINGS)
            )
        )
        graph = {key: options[key] for key in ("edge_importance", "adaptive")}
        self.gcn = GraphConv(width + in_channels, width, A, **graph)
        self.bn = nn.BatchNorm2d(width)
        self.offset = nn.Conv2d(width, in_channels * future, 1)
        self.apply(init_kaiming)
        nn.init.zeros_(self.offset.weight)

    def forward(self, features: Tensor, last: Tensor) -> Tensor:
        """(n, F, T', V) and (n, C, 1, V) -> offsets (n, C, k, V)."""
        latest = self.blocks(features.flip(2))[:, :, :1]
        both = torch.cat([latest, last], dim=1)
        offset = self.offset(torch.relu(self.bn(self.gcn(both))))
        return offset[:, :, 0].unflatten(1, (last.shape[1], -1))


class STGCNAutoEncoder(SkeletonModel):
    """An ST-GCN that can also rebuild the clip it has seen, or the poses that come next.

    ``encoder`` is a whole `STGCN`, classifier included: logits are its logits, and its state dict
    fits an `STGCN` of the same options. Absent persons are left out everywhere; a person is absent
    if all of its coordinates are zero, and its poses are answered by zeros.

    Args:
        layout: the skeleton, or its name.
        num_classes: number of actions.
        in_channels: C of the input, and of the poses that come out.
        channels: output channels of the encoder's blocks; the decoder takes them in reverse.
        strides: by which the encoder's blocks shorten clips and the decoder's repeat frames.
        dropout: in every block but the encoder's first and the decoder's last.
        bottleneck: what the decoder is given: the encoder's whole feature ``map``, or one
            ``vector`` a person, its mean over frames and joints.
        future: k, how many frames `predict_future` looks ahead; 0 for a model that does not.
        options: further ones of `STGCN`, for the encoder. Graph convolutions of the decoder have
            the encoder's A and their own edge importance.

    Raises:
        ModelError: options that do not make a network.
        UnknownNameError: an unknown bottleneck, or what `STGCN` does not know.
    """

    options_of = (STGCN, ("excitation", "faithful"))

    def __init__(
        self,
        layout: SkeletonLayout | str,
        num_classes: int,
        *,
        in_channels: int = 3,
        channels: Sequence[int] = CHANNELS,
        strides: Sequence[int] = STRIDES,
        dropout: float = 0.0,
        bottleneck: Bottleneck = "map",
        future: int = 0,
        **options: Any,
    ) -> None:
        super().__init__()
        if foreign := {"excitation", "faithful"} & options.keys():
            raise ModelError(f"an auto-encoder has no option {', '.join(sorted(foreign))}")
        if bottleneck not in get_args(Bottleneck):
            raise unknown_name("bottleneck", bottleneck, get_args(Bottleneck))
        if isinstance(future, bool) or not isinstance(future, int) or future < 0:
            raise ModelError(f"future: expected a number of frames, 0 or more, got {future!r}")
        blocks: dict[str, Any] = {"channels": channels, "strides": strides, "dropout": dropout}
        self.encoder = STGCN(layout, num_classes, in_channels=in_channels, **blocks, **options)
        convolutions = {**self.encoder.block_options, "dropout": dropout}
        self.layout = self.encoder.layout
        self.in_channels = in_channels
        self.pool = self.encoder.pool
        self.num_features = F = self.encoder.num_features
        self.future = future
        A = self.encoder.get_buffer("blocks.0.gcn.A")
        joints = self.layout.num_joints
        self.bottleneck = VectorBottleneck(F, joints) if bottleneck == "vector" else nn.Identity()
        self.decoder = Decoder(in_channels, channels, strides, A, **convolutions)
        self.forecaster = Forecaster(F, in_channels, future, A, **convolutions) if future else None
        self.to(memory_format=torch.channels_last)

    def forward_persons(self, rows: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, F, T', V)."""
        return self.encoder.forward_persons(rows)

    def apply_head(self, pooled: Tensor) -> Tensor:
        """(N, P) -> (N, classes)."""
        return self.encoder.apply_head(pooled)

    def reconstruct(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The clip, or whatever of its length it is trained to be, from its features.

        Args:
            x: (N, C, T, V, M).
            lengths: (N,) how many of the first frames are real. What stands in the others then
                has no influence: the last real frame is put in their place.

        Returns:
            (N, C, T, V, M) in input units; zero where a person is absent.
        """
        if lengths is not None:
            steps = torch.arange(x.shape[2], device=x.device)
            x = frames_at(x, torch.minimum(steps, lengths[:, None] - 1))
        present = present_persons(x)
        features = _present_rows(self.forward_features(x), present)
        rows = self.decoder(self.bottleneck(features), x.shape[2])
        return unfold_persons(rows, present).permute(0, 2, 3, 4, 1)

    def predict_future(
        self, context: Tensor, last: Tensor, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The k poses after a clip: the last pose, held, plus what the features say of the change.

        Args:
            context: (N, C, T, V, M), the frames before the future.
            last: (N, C, V, M), the pose right before the future.
            lengths: (N,) how many of the context's first frames are real. What stands in the
                others then has no influence: the real frames are moved to the end, and the first
                of them fills the room before. Without it all frames count.

        Returns:
            logits (N, classes) of the context, and poses (N, C, k, V, M) in input units. A person
            that is absent from the context keeps its last pose.

        Raises:
            ModelError: the model was made with ``future=0``, or ``last`` does not fit the context.
        """
        if self.forecaster is None:
            raise ModelError(
                "this auto-encoder was made without a forecaster (future=0): give the number of "
                "frames to predict, such as future=10, when making it"
            )
        check_last_pose(context, last)
        if lengths is not None:
            steps = torch.arange(context.shape[2], device=context.device)
            context = frames_at(context, (steps - len(steps) + lengths[:, None]).clamp(min=0))
        present = present_persons(context)
        features = self.forward_features(context)
        held = last.unsqueeze(2)
        rows = self.forecaster(
            _present_rows(features, present), fold_persons(held)[present.flatten()]
        )
        offset = unfold_persons(rows, present).permute(0, 2, 3, 4, 1)
        return self.forward_head(features, present), held + offset

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the encoder's head by a fresh one."""
        self.encoder.reset_classifier(num_classes)

    def set_classifier(self, weight: Tensor, bias: Tensor) -> None:
        """Replace the encoder's head by the linear layer ``weight @ pooled + bias``."""
        self.encoder.set_classifier(weight, bias)


def _present_rows(features: Tensor, present: Tensor) -> Tensor:
    """(N, M, F, T', V) -> (n, F, T', V), the opposite of `unfold_persons`."""
    rows = features.flatten(0, 1)
    return rows if bool(present.all()) else rows[present.flatten()]
