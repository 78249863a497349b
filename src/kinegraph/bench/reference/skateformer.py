"""Reference SkateFormer: computed as the released code computes it.

Written from the paper (Do and Kim, ECCV 2024), with the released code's names of weights: all
tokens of a clip in one tensor, each attention on a partition of its own, a matrix of attention
weights for each head. Clips have a multiple of 64 frames.
Shapes: N clips, M persons, C channels, T frames, V joints, U tokens of a frame, h heads,
B blocks of S tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.bench.reference.blocks import copy_weights, require_released
from kinegraph.models.skateformer import SkateFormer, encode_frames

BLOCK = 8


class ReferenceAttention(nn.Module):
    """Attention within blocks of 8 frames and ``width`` tokens: (N, T, U, C) of q, k and v."""

    def __init__(self, table: Tensor, width: int, *, near_frames: bool, near_tokens: bool) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.empty_like(table))
        self.heads, self.width = table.shape[-1], width
        self.near_frames, self.near_tokens = near_frames, near_tokens

    def forward(self, x: Tensor) -> Tensor:
        N, T, U, _ = x.shape
        frames = (T // BLOCK, BLOCK) if self.near_frames else (BLOCK, T // BLOCK)
        tokens = (
            (U // self.width, self.width) if self.near_tokens else (self.width, U // self.width)
        )
        x = x.reshape(N, *frames, *tokens, -1)
        x = x if self.near_frames else x.transpose(1, 2)
        x = x if self.near_tokens else x.transpose(3, 4)  # (N, T/8, 8, U/width, width, C)
        blocks = x.transpose(2, 3).flatten(0, 2).flatten(1, 2)
        q, k, v = blocks.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.mT * self.heads**-0.5 + self.bias()
        y = (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)
        y = y.view(N, T // BLOCK, U // self.width, BLOCK, self.width, -1).transpose(2, 3)
        y = y if self.near_tokens else y.transpose(3, 4)
        y = y if self.near_frames else y.transpose(1, 2)
        return y.reshape(N, T, U, -1)

    def bias(self) -> Tensor:
        """Return (h, S, S); the frames of neighbors are found as in the released code."""
        position = torch.arange(BLOCK * self.width)
        table = self.relative_position_bias_table
        if self.near_tokens:
            frame = position % BLOCK
            return table[frame[:, None] - frame + BLOCK - 1].permute(2, 0, 1)
        frame, token = position // self.width, position % self.width
        relative = frame[:, None] - frame + BLOCK - 1
        return table[relative, token[:, None], token].permute(2, 0, 1)


class ReferenceTransformer(nn.Module):
    """A block of SkateFormer: (N, T, U, C) -> (N, T, U, C)."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        C, tokens = block.proj.in_features, block.tokens
        self.gconv = nn.Parameter(torch.empty_like(block.graph))
        self.norm_1, self.norm_2 = nn.LayerNorm(C), nn.LayerNorm(C)
        self.mapping, self.proj = nn.Linear(C, 2 * C), nn.Linear(C, C)
        self.tconv = nn.Conv2d(C // 4, C // 4, (7, 1), padding=(3, 0), groups=len(self.gconv))
        self.attention = nn.ModuleList(
            ReferenceAttention(
                own.table,
                tokens.near if own.near_tokens else tokens.persons * tokens.parts,
                near_frames=own.near_frames,
                near_tokens=own.near_tokens,
            )
            for own in block.attentions
        )
        hidden = block.fc1.out_features
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(C, hidden), "fc2": nn.Linear(hidden, C)})

    def forward(self, x: Tensor) -> Tensor:
        f = self.mapping(self.norm_1(x))
        quarter = x.shape[-1] // 4
        mixed, moved, attended = f.split([quarter, quarter, 6 * quarter], dim=-1)
        by_head = mixed.unflatten(-1, (len(self.gconv), -1))
        mixed = torch.einsum("hvu,ntuhc->ntvhc", self.gconv, by_head).flatten(3)
        moved = self.tconv(moved.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        parts = [own(y) for own, y in zip(self.attention, attended.chunk(4, -1), strict=True)]
        x = x + self.proj(torch.cat([mixed, moved, *parts], dim=-1))
        hidden = nn.functional.gelu(self.mlp["fc1"](self.norm_2(x)))
        return x + self.mlp["fc2"](hidden)


class ReferenceSkateFormer(nn.Module):
    """The whole network, with the sizes of a released model."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.register_buffer("joints", model.joint_of_token, persistent=False)
        widths = [layer.in_features for layer in model.stem if isinstance(layer, nn.Linear)]
        channels = model.joint_embedding.shape[0]
        stem: list[nn.Module] = []
        for before, after in zip(widths, [*widths[1:], channels], strict=True):
            stem += [nn.Conv2d(before, after, 1), nn.GELU()]
        self.stem = nn.Sequential(*stem[:-1])
        self.joint_person_embedding = nn.Parameter(torch.empty_like(model.joint_embedding))
        self.stages = nn.ModuleList()
        for stage in model.stages:
            blocks = [nn.ModuleDict({"transformer": ReferenceTransformer(b)}) for b in stage.blocks]
            if (down := stage.downsample) is not None:
                conv = down.conv
                same: dict[str, Any] = {"stride": conv.stride, "padding": conv.padding}
                reduction = nn.Conv2d(conv.in_channels, conv.out_channels, (7, 1), **same)
                norm = nn.BatchNorm2d(conv.out_channels)
                blocks[0]["downsample"] = nn.ModuleDict({"reduction": reduction, "bn": norm})
            self.stages.append(nn.ModuleDict({"blocks": nn.ModuleList(blocks)}))
        self.head = nn.Linear(model.head.in_features, model.head.out_features)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V, M) -> (N, classes)."""
        T = x.shape[2]
        tokens = x[:, :, :, self.joints].permute(0, 1, 2, 4, 3).flatten(3)
        index = (2 * torch.arange(T) / T - 1).expand(len(x), -1)
        place = encode_frames(index, len(self.joint_person_embedding)).unsqueeze(2)
        y = self.stem(tokens).permute(0, 2, 3, 1) + place * self.joint_person_embedding.T
        for stage in self.stages:
            for block in stage["blocks"]:
                if "downsample" in block:
                    down = block["downsample"]
                    y = down["bn"](down["reduction"](y.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
                y = block["transformer"](y)
        return self.head(y.mean(dim=(1, 2)))


def build_reference_skateformer(model: SkateFormer) -> ReferenceSkateFormer:
    """Build the reference network of a released model, with its weights; it has no dropout.

    Raises:
        ModelError: the model is not the released one (``faithful=True``), or reads frame indices.
    """
    require_released(model, "SkateFormer", "frame_index=False", [not model.frame_index])
    return copy_weights(ReferenceSkateFormer(model), model, "skateformer")
