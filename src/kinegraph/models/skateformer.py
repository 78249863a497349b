"""SkateFormer: skeletal-temporal transformer (Do and Kim, ECCV 2024).

Shapes: N clips, M persons, n persons that are computed, C channels, T frames, V joints of the
layout, V' tokens of a person in P parts of J joints, U = M V' tokens of a frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError, unknown_name
from kinegraph.models.base import SkeletonModel
from kinegraph.models.joint_axes import JointAxes
from kinegraph.models.layers import check_backbone
from kinegraph.models.skateformer_layers import (
    BLOCK_FRAMES,
    BLOCK_KINDS,
    INIT_STD,
    PersonGroup,
    RelativePosition,
    SkateFormerBlock,
    Stage,
    TokenLayout,
    relative_frames,
)
from kinegraph.ops.persons import (
    ExportMask,
    check_input,
    check_persons,
    fold_persons,
    present_persons,
    unfold_persons,
)
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout
from kinegraph.skeleton.limbs import divide_into_parts

CHANNELS = (96, 192, 192, 192)
STRIDES = (1, 2, 2, 2)
STEM_WIDTHS = (6, 9)
#: Longest wavelength of the encoding of frames, over 2 pi.
MAX_WAVELENGTH = 10_000

#: Published parts, by layout; that of Kinect v2 leaves out the joint between the shoulders.
PUBLISHED_PARTS = {
    "ntu25": (
        (6, 7, 21, 22),
        (10, 11, 23, 24),
        (12, 13, 14, 15),
        (16, 17, 18, 19),
        (4, 8, 5, 9),
        (1, 2, 0, 3),
    ),
    "kinect20": (
        (4, 5, 6, 7),
        (8, 9, 10, 11),
        (12, 13, 14, 15),
        (16, 17, 18, 19),
        (1, 2, 0, 3),
    ),
}


class SkateFormer(SkeletonModel):
    """SkateFormer for any layout and any fixed number of persons.

    Every joint of every frame is a token. Four attentions look at four kinds of blocks of tokens:
    frames that follow each other or lie far apart, joints of a part of the body or one joint of
    each part. Parts of layouts without published ones are those of `divide_into_parts`.

    Args:
        layout: the skeleton, or its name.
        num_classes: number of actions.
        in_channels: C of the input, with the frame index if there is one.
        channels: of each stage; multiples of 8.
        strides: over frames, of each stage; the first stage has none.
        depth: blocks of a stage.
        persons: M of the clips; every joint of each person has weights of its own. A recipe's
            ``persons`` if it does not set the option.
        mlp_ratio: hidden features of the MLPs, as a multiple of the channels.
        attention_dropout: of attention weights.
        drop_path: probability that a clip skips a branch of the last block; 0 in the first block,
            linear between.
        frame_index: whether the last channel of the input is the position of each frame in the
            recording (the transform ``frame_index``); without it, it is that in the clip.
        head_dropout: before the classifier.
        relative_position: how the biases of joints of a part find their frames; ``released``
            confuses frames and joints, ``fixed`` does not. None: ``released`` if faithful.
        faithful: reproduce the released code, as published weights need it: absent persons are
            computed and averaged like others.

    Raises:
        ModelError: options that do not make a network.
        UnknownNameError: an unknown relative_position.
    """

    def __init__(
        self,
        layout: SkeletonLayout | str,
        num_classes: int,
        *,
        in_channels: int = 3,
        channels: Sequence[int] = CHANNELS,
        strides: Sequence[int] = STRIDES,
        depth: int = 2,
        persons: int = 2,
        mlp_ratio: float = 4.0,
        attention_dropout: float = 0.5,
        drop_path: float = 0.2,
        frame_index: bool = False,
        head_dropout: float = 0.0,
        relative_position: RelativePosition | None = None,
        faithful: bool = False,
    ) -> None:
        super().__init__()
        check_backbone(num_classes, in_channels, channels, strides, "mean")
        relative_position = relative_position or ("released" if faithful else "fixed")
        if relative_position not in get_args(RelativePosition):
            raise unknown_name("relative_position", relative_position, get_args(RelativePosition))
        _check_options(channels, strides, depth, persons, in_channels, frame_index)
        _check_shares(attention_dropout, drop_path, mlp_ratio)
        self.layout = get_layout(layout)
        self.in_channels = in_channels
        self.num_features = channels[-1]
        self.depth = depth
        self.persons = persons
        self.frame_index = frame_index
        self.faithful = self.counts_absent = faithful
        self.fixed_persons = persons
        parts = token_parts(self.layout)
        near = len(parts[0]) * (1 if len(parts) % 2 else 2)
        self.tokens = TokenLayout(len(parts), len(parts[0]), near, persons)
        joints = torch.tensor(parts).flatten()
        self.register_buffer("joint_of_token", joints, persistent=False)
        widths = (in_channels - frame_index, *STEM_WIDTHS, channels[0])
        self.stem = nn.Sequential(
            nn.Linear(widths[0], widths[1]),
            nn.GELU(),
            nn.Linear(widths[1], widths[2]),
            nn.GELU(),
            nn.Linear(widths[2], widths[3]),
        )
        self.joint_embedding = nn.Parameter(torch.empty(channels[0], persons * len(joints)))
        blocks = depth * len(channels)
        self.stages = nn.ModuleList(
            Stage(
                before if stage else None,
                width,
                strides[stage],
                [
                    SkateFormerBlock(
                        width,
                        self.tokens,
                        mlp_ratio=mlp_ratio,
                        attention_dropout=attention_dropout,
                        drop_path=drop_path * (stage * depth + i) / max(1, blocks - 1),
                        relative_position=relative_position,
                    )
                    for i in range(depth)
                ],
            )
            for stage, (before, width) in enumerate(zip((0, *channels), channels, strict=False))
        )
        nn.init.trunc_normal_(self.joint_embedding, std=INIT_STD)
        self.stages.apply(_init_linear)
        self.head_dropout = nn.Dropout(head_dropout)
        self.reset_classifier(num_classes)

    def joint_axes(self) -> dict[str, JointAxes]:
        """Return the embeddings, whose joints are ordered by parts of the layout."""
        return {"joint_embedding": JointAxes(None)}

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, C, T, V, M) -> (N, M, C', T', V'); zero where a person is absent and not counted.

        Clips with the same persons are computed together, so that absent ones cost nothing.
        """
        check_input(x, self.layout, self.in_channels)
        check_persons(x.shape[4], self.fixed_persons)
        if self.counts_absent:
            group = PersonGroup(x.shape[0], tuple(range(x.shape[4])))
            return self._run(x, None, [group]).unflatten(0, (x.shape[0], x.shape[4]))
        present = present_persons(x)
        if isinstance(present, ExportMask):
            mask: Tensor = present.mask
            group = PersonGroup(x.shape[0], tuple(range(x.shape[4])), mask)
            return self._run(x, None, [group]).unflatten(0, mask.shape)
        order, groups = _group_by_persons(present)
        x, present = x[order], present[order]
        return unfold_persons(self._run(x, present, groups), present)[order.argsort()]

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the head by a new linear one, to learn other classes."""
        self.head = nn.Linear(self.pooled_features, num_classes)
        _init_linear(self.head)

    def released_constants(self) -> dict[str, Tensor]:
        """Return the indices that the released code stores beside the weights, by their names."""
        index = relative_frames(torch.arange(BLOCK_FRAMES))
        return {
            f"stages.{stage}.blocks.{i}.transformer.attention.{kind}.relative_position_index": index
            for stage in range(len(self.stages))
            for i in range(self.depth)
            for kind in range(len(BLOCK_KINDS))
        }

    def _run(self, x: Tensor, present: Tensor | None, groups: Sequence[PersonGroup]) -> Tensor:
        """Compute the rows of the present persons, or of all: (n, C', T', V')."""
        N, M = x.shape[0], x.shape[4]
        selected: Any = slice(None) if present is None else present.flatten()
        place = torch.arange(N * M, device=x.device)[selected]
        clip_of_row = place.div(M, rounding_mode="floor")
        coordinates, index = self._split_frame_index(x)
        rows = fold_persons(coordinates[:, :, :, self.joint_of_token])[selected]
        y = self.stem(rows.permute(0, 2, 3, 1))
        time = encode_frames(index, self.joint_embedding.shape[0]).to(y.dtype)
        joint = self.joint_embedding.T.unflatten(0, (self.persons, -1))
        y = y + time[clip_of_row].unsqueeze(2) * joint[place - clip_of_row * M].unsqueeze(1)
        dropped = clip_of_row if self.training else None
        for stage in self.stages:
            y = stage(y, groups, dropped)
        return y.permute(0, 3, 1, 2)

    def _split_frame_index(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coordinates, and (N, T) positions of the frames, -1 to 1.

        The channel of the index has one value in a frame, and zeros for absent persons.
        """
        if not self.frame_index:
            frame = torch.arange(x.shape[2], device=x.device, dtype=x.dtype)
            index = frame * 2 / (frame[-1:] + 1) - 1
            return x, index.expand(x.shape[0], -1)
        values = x[:, -1].flatten(2)
        high, low = values.amax(dim=2), values.amin(dim=2)
        return x[:, :-1], torch.where(high > -low, high, low)


def token_parts(layout: SkeletonLayout) -> tuple[tuple[int, ...], ...]:
    """Return the joints of each part: the published ones of a layout, or derived ones."""
    for name, parts in PUBLISHED_PARTS.items():
        if layout.joints == get_layout(name).joints:
            return parts
    return divide_into_parts(layout)


def encode_frames(index: Tensor, channels: int) -> Tensor:
    """(N, T) positions -> (N, T, channels): sines and cosines in turn, of falling frequencies."""
    exponent = torch.arange(0, channels, 2, device=index.device, dtype=torch.float32) / channels
    angle = index.float()[..., None] * MAX_WAVELENGTH**-exponent
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(2)[..., :channels]


def _group_by_persons(present: Tensor) -> tuple[Tensor, list[PersonGroup]]:
    """(N, M) bool -> an order of the clips in which those of the same persons follow one another,
    and these groups.
    """
    code = (present * 2 ** torch.arange(present.shape[1], device=present.device)).sum(dim=1)
    order = code.argsort(stable=True)
    codes, counts = code.unique(return_counts=True)
    groups = [
        PersonGroup(clips, tuple(m for m in range(present.shape[1]) if number >> m & 1))
        for number, clips in zip(codes.tolist(), counts.tolist(), strict=True)
    ]
    return order, groups


def _init_linear(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=INIT_STD)
        nn.init.zeros_(module.bias)


def _check_options(
    channels: Sequence[int],
    strides: Sequence[int],
    depth: int,
    persons: int,
    in_channels: int,
    frame_index: bool,
) -> None:
    if any(width % 8 for width in channels):
        raise ModelError(f"channels must be multiples of 8, got {list(channels)}")
    if strides[0] != 1:
        raise ModelError(f"the first of the strides must be 1, got {list(strides)}")
    if depth < 1 or persons < 1:
        raise ModelError(
            f"expected depth and persons of at least 1, got depth={depth}, persons={persons}"
        )
    if frame_index and in_channels < 2:
        raise ModelError(
            f"expected coordinates and the frame index (frame_index=True), got in_channels="
            f"{in_channels}: add the transform frame_index"
        )


def _check_shares(attention_dropout: float, drop_path: float, mlp_ratio: float) -> None:
    if not (0 <= attention_dropout < 1 and 0 <= drop_path < 1 and mlp_ratio > 0):
        raise ModelError(
            "expected attention_dropout and drop_path from 0 to below 1 and mlp_ratio above 0, got "
            f"{attention_dropout}, {drop_path} and {mlp_ratio}"
        )
