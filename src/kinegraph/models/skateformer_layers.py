"""Layers of SkateFormer (Do and Kim, ECCV 2024): attention within four kinds of blocks of tokens.

Shapes: n persons that are computed, N clips and M persons of a group of clips, T frames, V tokens
of a person in P parts of J joints, C channels, h heads, d channels of a head, B blocks of S tokens.
Activations are channels-last, (n, T, V, C).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from kinegraph.models.joint_axes import JointAxes

RelativePosition = Literal["released", "fixed"]

#: Frames of a block of attention.
BLOCK_FRAMES = 8
CONV_KERNEL_FRAMES = 7
MAX_HEADS, MAX_GROUPS = 4, 8
#: Kinds of blocks: whether their frames, and their tokens, are neighbors.
BLOCK_KINDS = ((True, True), (True, False), (False, True), (False, False))
INIT_STD = 0.02


class TokenLayout(NamedTuple):
    """The division of the tokens of a clip.

    Attributes:
        parts: P.
        joints: J, tokens of a part.
        near: tokens of a block of neighbors, of one part or two.
        persons: most persons of a clip.
    """

    parts: int
    joints: int
    near: int
    persons: int


@dataclass(frozen=True)
class PersonGroup:
    """Clips in which the same persons are present; their rows follow one another.

    Attributes:
        clips: N.
        persons: the numbers of the M persons.
        present: (N, M) bool, where some of them are absent all the same; None: all are present.
    """

    clips: int
    persons: tuple[int, ...]
    present: Tensor | None = None


class BlockAttention(nn.Module):
    """Attention within blocks of 8 frames and some tokens, with a learned bias of their positions.

    softmax(q k / sqrt(h) + b) v: the scale is that of the released code, by heads. Blocks of
    neighboring tokens lie within a person, and their bias depends on the frames only; the others
    have one token of each part of each person, and their bias depends on these tokens too.

    Args:
        tokens: the division of the tokens.
        near_frames: blocks of consecutive frames; else of frames T / 8 apart.
        near_tokens: blocks of neighboring tokens; else of one token of each part.
        heads: h.
        dropout: of the attention weights.
        relative_position: how the bias of neighboring tokens finds the frame of the i-th token of
            a block: i // tokens, or, as in the released code, i mod 8.
    """

    def __init__(
        self,
        tokens: TokenLayout,
        *,
        near_frames: bool,
        near_tokens: bool,
        heads: int,
        dropout: float,
        relative_position: RelativePosition,
    ) -> None:
        super().__init__()
        self.tokens = tokens
        self.near_frames, self.near_tokens = near_frames, near_tokens
        self.relative_position = relative_position
        self.dropout = dropout
        ends = tokens.persons * tokens.parts
        pairs = () if near_tokens else (ends, ends)
        self.table = nn.Parameter(torch.empty(2 * BLOCK_FRAMES - 1, *pairs, heads))
        nn.init.trunc_normal_(self.table, std=INIT_STD)
        if near_tokens:
            position = torch.arange(BLOCK_FRAMES * tokens.near)
            is_fixed = relative_position == "fixed"
            frame = position // tokens.near if is_fixed else position % BLOCK_FRAMES
        else:
            frame = torch.arange(BLOCK_FRAMES)
        self.register_buffer("relative_frames", relative_frames(frame), persistent=False)

    def joint_axes(self) -> dict[str, JointAxes]:
        """Return the table, whose axes are parts of the layout."""
        return {"table": JointAxes(None)}

    def forward(self, qkv: Tensor, group: PersonGroup) -> Tensor:
        """(N, M, T, V, 3, h, d) -> (N, M, T, V, h * d)."""
        if torch.compiler.is_exporting():
            return self._attend_to_all(qkv, group)
        T, heads = qkv.shape[2], qkv.shape[5]
        hidden = self._hidden_keys(T, group)
        x = self._divide_frames(qkv, by_index=hidden is not None)
        P, J, near = self.tokens.parts, self.tokens.joints, self.tokens.near
        x = x.unflatten(4, (P * J // near, near) if self.near_tokens else (P, J))
        # axes 0 N, 1 M, 2 blocks of frames, 3 frames, 4 and 5 tokens, 6 qkv, 7 h, 8 d
        order = (6, 0, 2, 4, 7, 3, 1, 5, 8) if self.near_tokens else (6, 0, 2, 5, 7, 3, 1, 4, 8)
        x = x.permute(order).contiguous()
        block = x.shape[5:8]
        q, k, v = x.flatten(5, 7).unbind(0)  # (N, blocks of frames, of tokens, h, S, d)
        blocks = q.shape[:3]
        bias = self._bias(group)
        if hidden is None:
            q, k, v = (part.flatten(0, 2) for part in (q, k, v))  # as fused kernels need it
        else:
            bias = bias.masked_fill(hidden[:, :, None, None, None], float("-inf"))
        y = scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=bias,
            dropout_p=self.dropout if self.training else 0.0,
            scale=heads**-0.5,
        )
        y = y.unflatten(0, blocks) if hidden is None else y
        y = y.unflatten(4, block)  # (N, blocks of frames, of tokens, h, 8, M, tokens, d)
        back = (0, 5, 1, 4, 2, 6, 3, 7) if self.near_tokens else (0, 5, 1, 4, 6, 2, 3, 7)
        y = y.permute(back).flatten(6).flatten(4, 5)
        return self._join_frames(y, T, by_index=hidden is not None)

    def _divide_frames(self, x: Tensor, *, by_index: bool) -> Tensor:
        """(N, M, T, ...) -> (N, M, blocks, 8, ...); by index any T, the last frame repeated."""
        if by_index:
            T = x.shape[2]
            return x[:, :, self._frame_numbers(T).clamp(max=T - 1)]
        if self.near_frames:
            return x.unflatten(2, (-1, BLOCK_FRAMES))
        return x.unflatten(2, (BLOCK_FRAMES, -1)).transpose(2, 3)

    def _join_frames(self, y: Tensor, T: int, *, by_index: bool) -> Tensor:
        """(N, M, blocks, 8, ...) -> (N, M, T, ...)."""
        if by_index:
            t, blocks = torch.arange(T, device=y.device), y.shape[2]
            if self.near_frames:
                return y[:, :, t // BLOCK_FRAMES, t % BLOCK_FRAMES]
            return y[:, :, t % blocks, t // blocks]
        return (y if self.near_frames else y.transpose(2, 3)).flatten(2, 3)

    def _frame_numbers(self, T: int) -> Tensor:
        """Return (blocks, 8) frames of each block; some are T or later unless 8 divides T."""
        blocks = (T + BLOCK_FRAMES - 1) // BLOCK_FRAMES
        device = self.table.device
        block, frame = (torch.arange(size, device=device) for size in (blocks, BLOCK_FRAMES))
        per_block, per_frame = (BLOCK_FRAMES, 1) if self.near_frames else (1, blocks)
        return block[:, None] * per_block + frame * per_frame

    def _bias(self, group: PersonGroup) -> Tensor:
        """Return (1, h, S, S)."""
        table = self.table
        if self.near_tokens:
            return table[self.relative_frames].permute(2, 0, 1).unsqueeze(0)
        if len(group.persons) < self.tokens.persons:
            P = self.tokens.parts
            own = [person * P + part for person in group.persons for part in range(P)]
            table = table[:, own][:, :, own]
        bias = table[self.relative_frames]  # (8, 8, MP, MP, h)
        return bias.permute(4, 0, 2, 1, 3).flatten(3).flatten(1, 2).unsqueeze(0)

    def _hidden_keys(self, T: int, group: PersonGroup) -> Tensor | None:
        """Return (1, blocks of frames, S) bool: keys that do not exist; None if all do."""
        if T % BLOCK_FRAMES == 0:
            return None
        width = self.tokens.near if self.near_tokens else self.tokens.parts
        hidden = (self._frame_numbers(T) >= T)[None, :, :, None]
        return hidden.expand(-1, -1, -1, len(group.persons) * width).flatten(2)

    def _attend_to_all(self, qkv: Tensor, group: PersonGroup) -> Tensor:
        """Do the same with one block of all frames, where a mask hides all but 8 from each.

        A graph of operations for any T cannot divide frames into blocks. Absent persons are among
        the rows, and hidden too.
        """
        T, heads = qkv.shape[2], qkv.shape[5]
        P, J, near = self.tokens.parts, self.tokens.joints, self.tokens.near
        x = qkv.unflatten(3, (P * J // near, near) if self.near_tokens else (P, J))
        # axes 0 N, 1 M, 2 frames, 3 and 4 tokens, 5 qkv, 6 h, 7 d
        order = (5, 0, 3, 6, 2, 1, 4, 7) if self.near_tokens else (5, 0, 4, 6, 2, 1, 3, 7)
        x = x.permute(order).contiguous()
        persons, width = x.shape[5:7]
        q, k, v = x.flatten(4, 6).flatten(1, 2).unbind(0)  # (N * blocks of tokens, h, S, d)
        t = torch.arange(T, device=qkv.device)
        blocks = (T + BLOCK_FRAMES - 1) // BLOCK_FRAMES
        # ONNX has no remainder by a number that depends on T
        size = BLOCK_FRAMES if self.near_frames else blocks
        quotient, remainder = t // size, t - t // size * size
        block, rank = (quotient, remainder) if self.near_frames else (remainder, quotient)
        token = torch.arange(persons * width, device=qkv.device)
        frame = rank[:, None].expand(-1, persons * width)
        if self.near_tokens and self.relative_position == "released":
            frame = (rank[:, None] * near + token) % BLOCK_FRAMES
        relative = relative_frames(frame.flatten()).clamp(0, 2 * BLOCK_FRAMES - 2)
        if self.near_tokens:
            bias = self.table[relative]
        else:
            token = token.expand(T, -1).flatten()
            bias = self.table[relative, token[:, None], token]
        own = block[:, None].expand(-1, persons * width).flatten()
        shown = own[:, None] == own
        if group.present is not None:
            keys = group.present[:, None, :, None].expand(-1, T, -1, width).flatten(1)
            shown = (shown & keys[:, None])[:, None].expand(-1, x.shape[2], -1, -1).flatten(0, 1)
            shown = shown.unsqueeze(1)
        bias = bias.permute(2, 0, 1).masked_fill(~shown, float("-inf"))
        y = scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=heads**-0.5)
        y = y.unflatten(2, (-1, persons, width)).unflatten(0, (-1, x.shape[2]))
        # axes 0 N, 1 blocks of tokens, 2 h, 3 frames, 4 M, 5 tokens, 6 d
        back = (0, 4, 3, 1, 5, 2, 6) if self.near_tokens else (0, 4, 3, 5, 1, 2, 6)
        return y.permute(back).flatten(5).flatten(3, 4)


class SkateFormerBlock(nn.Module):
    """Graph product, temporal convolution and four attentions side by side, then an MLP.

    f = W LN(x) has 2C channels. A quarter of C goes through a learned product over all tokens of a
    clip, a quarter through a grouped convolution over frames, and the rest, q, k and v of four
    attentions, comes to C / 8 each: y = x + W' [G, T, A1, A2, A3, A4], z = y + MLP(LN(y)).

    Args:
        channels: C, a multiple of 8.
        tokens: the division of the tokens.
        mlp_ratio: hidden features of the MLP, as a multiple of C.
        attention_dropout: of attention weights.
        drop_path: probability in training that a clip skips a branch.
        relative_position: see `BlockAttention`.
    """

    def __init__(
        self,
        channels: int,
        tokens: TokenLayout,
        *,
        mlp_ratio: float,
        attention_dropout: float,
        drop_path: float,
        relative_position: RelativePosition,
    ) -> None:
        super().__init__()
        quarter, hidden = channels // 4, max(1, int(mlp_ratio * channels))
        U = tokens.persons * tokens.parts * tokens.joints
        self.tokens = tokens
        self.drop_path = drop_path
        self.heads = gcd(MAX_HEADS, channels // 8)
        self.norm_1 = nn.LayerNorm(channels)
        self.mapping = nn.Linear(channels, 2 * channels)
        self.graph = nn.Parameter(torch.empty(gcd(MAX_GROUPS, quarter), U, U))
        nn.init.trunc_normal_(self.graph, std=INIT_STD)
        self.temporal = nn.Conv2d(
            quarter,
            quarter,
            (CONV_KERNEL_FRAMES, 1),
            padding=(CONV_KERNEL_FRAMES // 2, 0),
            groups=len(self.graph),
        )
        self.attentions = nn.ModuleList(
            BlockAttention(
                tokens,
                near_frames=near_frames,
                near_tokens=near_tokens,
                heads=self.heads,
                dropout=attention_dropout,
                relative_position=relative_position,
            )
            for near_frames, near_tokens in BLOCK_KINDS
        )
        self.proj = nn.Linear(channels, channels)
        self.norm_2 = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def joint_axes(self) -> dict[str, JointAxes]:
        """Return the graph of tokens, which are ordered by parts of the layout."""
        return {"graph": JointAxes(None)}

    def forward(
        self, x: Tensor, groups: Sequence[PersonGroup], clip_of_row: Tensor | None = None
    ) -> Tensor:
        """Return features of the same shape.

        Args:
            x: (n, T, V, C).
            groups: the clips of the rows, in their order.
            clip_of_row: (n,) numbers of the clips, by which paths are dropped in training.
        """
        quarter = x.shape[-1] // 4
        f = self.mapping(self.norm_1(x))
        mixed, moved, attended = f.split([quarter, quarter, 6 * quarter], dim=-1)
        qkv = attended.unflatten(-1, (len(BLOCK_KINDS), 3, self.heads, -1)).unbind(3)
        alone = [PersonGroup(x.shape[0], (0,))]
        parts = [
            _by_group(mixed, groups, self._mix_tokens),
            self.temporal(moved.permute(0, 3, 1, 2)).permute(0, 2, 3, 1),
            *(
                _by_group(given, alone if attention.near_tokens else groups, attention)
                for given, attention in zip(qkv, self.attentions, strict=True)
            ),
        ]
        y = x + self._drop(self.proj(torch.cat(parts, dim=-1)), clip_of_row)
        return y + self._drop(self.fc2(gelu(self.fc1(self.norm_2(y)))), clip_of_row)

    def _mix_tokens(self, x: Tensor, group: PersonGroup) -> Tensor:
        """(N, M, T, V, C) -> the same shape: y[u'] = sum_u G[u', u] x[u], by groups of channels."""
        N, M, T, V, C = x.shape
        G, heads = self.graph, len(self.graph)
        if len(group.persons) < self.tokens.persons:
            own = [person * V + token for person in group.persons for token in range(V)]
            G = G[:, own][:, :, own]
        if group.present is not None:
            x = x * group.present.view(N, M, 1, 1, 1)
        rows = x.unflatten(-1, (heads, -1)).permute(4, 1, 3, 0, 2, 5).flatten(3).flatten(1, 2)
        mixed = (G @ rows).view(heads, M, V, N, T, C // heads)
        return mixed.permute(3, 1, 4, 2, 0, 5).flatten(4)

    def _drop(self, branch: Tensor, clip_of_row: Tensor | None) -> Tensor:
        """Set the branch of some clips to zero in training, and scale up the others."""
        if not self.training or self.drop_path == 0 or clip_of_row is None:
            return branch
        kept = 1 - self.drop_path
        clips = int(clip_of_row.max()) + 1
        factor = torch.empty(clips, dtype=branch.dtype, device=branch.device).bernoulli_(kept)
        return branch * (factor / kept)[clip_of_row].view(-1, 1, 1, 1)


class Downsample(nn.Module):
    """Convolution over seven frames with a stride, and batch norm."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            (CONV_KERNEL_FRAMES, 1),
            stride=(stride, 1),
            padding=(CONV_KERNEL_FRAMES // 2, 0),
        )
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, V, C) -> (n, ceil(T / stride), V, C')."""
        y: Tensor = self.bn(self.conv(x.permute(0, 3, 1, 2)))
        return y.permute(0, 2, 3, 1)


class Stage(nn.Module):
    """Blocks of equal width, after a step down in frames unless it is the first stage."""

    def __init__(
        self,
        in_channels: int | None,
        channels: int,
        stride: int,
        blocks: Sequence[SkateFormerBlock],
    ) -> None:
        super().__init__()
        self.downsample = None if in_channels is None else Downsample(in_channels, channels, stride)
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self, x: Tensor, groups: Sequence[PersonGroup], clip_of_row: Tensor | None
    ) -> Tensor:
        """(n, T, V, C) -> (n, ceil(T / stride), V, C'); see `SkateFormerBlock`."""
        y = x if self.downsample is None else self.downsample(x)
        for block in self.blocks:
            y = block(y, groups, clip_of_row)
        return y


def relative_frames(frame: Tensor) -> Tensor:
    """(S,) frames of a block, 0 to 7 -> (S, S) rows of a table of relative frames, 0 to 14."""
    return frame[:, None] - frame[None] + BLOCK_FRAMES - 1


def _by_group(
    x: Tensor,
    groups: Sequence[PersonGroup],
    function: Callable[[Tensor, PersonGroup], Tensor],
) -> Tensor:
    """Apply a function of (N, M, ...) to the rows (n, ...) of each group of clips."""
    counts = [group.clips * len(group.persons) for group in groups]
    if len(groups) == 1:
        (group,) = groups
        return function(x.unflatten(0, (group.clips, len(group.persons))), group).flatten(0, 1)
    done = [
        function(rows.unflatten(0, (group.clips, len(group.persons))), group).flatten(0, 1)
        for rows, group in zip(x.split(counts), groups, strict=True)
    ]
    return torch.cat(done)
