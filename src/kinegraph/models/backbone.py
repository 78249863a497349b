"""What the families of the form of ST-GCN share: data batch norm, a sequence of blocks, a head.

Shapes: N clips, M persons, n folded persons, C channels, T frames, V joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from kinegraph.errors import ModelError
from kinegraph.models.base import SkeletonModel
from kinegraph.models.layers import DataBatchNorm, check_backbone
from kinegraph.ops.persons import Pool
from kinegraph.skeleton.layout import SkeletonLayout
from kinegraph.skeleton.layouts import get_layout


class BlockFactory(Protocol):
    """A function or class that makes a block of a backbone."""

    def __call__(
        self,
        in_channels: int,
        out_channels: int,
        /,
        *,
        stride: int,
        dropout: float,
        residual: bool,
    ) -> nn.Module:
        """Return a block (n, C, T, V) -> (n, C', ceil(T / stride), V)."""


class Backbone(SkeletonModel):
    """A model that sends normalized clips of persons through blocks, one after the other.

    The constructor of a family calls this one, which checks and sets what all have, then sets
    `blocks` (see `stack_blocks`) and calls `reset_classifier`.

    Args:
        layout: the skeleton, or its name.
        num_classes: number of actions.
        in_channels: C of the input.
        channels: output channels of each block.
        strides: temporal stride of each block.
        pool: see `kinegraph.ops.persons.pool_places`.
        head_dropout: before the classifier.
        faithful: count absent persons, all zero, in batch-norm statistics and in the mean over
            persons.
        temporal_kernel: frames that a temporal convolution sees; odd.
        persons: M of the clips, if faithful and every joint of each person has its own data
            normalization; None: all persons share one.

    Attributes:
        faithful: whether the network is the released one.
        persons: as given, 1 for None.
        data_bn: the normalization of each joint and channel.
        blocks: the blocks.

    Raises:
        ModelError: options that do not make a network.
    """

    blocks: nn.Sequential

    def __init__(
        self,
        layout: SkeletonLayout | str,
        num_classes: int,
        *,
        in_channels: int,
        channels: Sequence[int],
        strides: Sequence[int],
        pool: Pool,
        head_dropout: float,
        faithful: bool,
        temporal_kernel: int = 1,
        persons: int | None = None,
    ) -> None:
        super().__init__()
        check_backbone(num_classes, in_channels, channels, strides, pool, temporal_kernel)
        if persons is not None and persons < 1:
            raise ModelError(f"expected persons of at least 1, got {persons}")
        self.layout = get_layout(layout)
        self.in_channels = in_channels
        self.num_features = channels[-1]
        self.pool = pool
        self.faithful = self.counts_absent = faithful
        self.persons = persons or 1
        self.fixed_persons = persons if faithful else None
        self.data_bn = DataBatchNorm(self.layout.num_joints, in_channels, self.fixed_persons or 1)
        self.head_dropout = nn.Dropout(head_dropout)

    def forward_persons(self, rows: Tensor) -> Tensor:
        """(n, C, T, V) -> (n, C', T', V)."""
        features: Tensor = self.blocks(self.data_bn(rows))
        return features


def stack_blocks(
    new_block: BlockFactory,
    in_channels: int,
    channels: Sequence[int],
    strides: Sequence[int],
    dropout: float,
) -> nn.Sequential:
    """Return the blocks of a backbone; the first has neither a residual nor dropout.

    Args:
        new_block: makes a block.
        in_channels: C of the first block.
        channels: C' of each block.
        strides: of each block.
        dropout: of each block but the first.
    """
    sizes = zip((in_channels, *channels), channels, strides, strict=False)
    return nn.Sequential(
        *(
            new_block(before, after, stride=stride, dropout=dropout if i else 0.0, residual=i > 0)
            for i, (before, after, stride) in enumerate(sizes)
        )
    )
