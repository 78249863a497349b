"""A fast network: persons of clips through fast layers, and what they make to logits.

Shapes: N clips, M persons, n folded persons, C channels, T frames, V joints, F features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError
from kinegraph.models.layers import Pool, check_input, mean_over_persons, present_persons
from kinegraph.runtime.layers import Chain
from kinegraph.skeleton.layout import SkeletonLayout


class Path(nn.Module):
    """Layers, and the classifier of what they give; pooling and classifier are in float32.

    Args:
        layers: (n, T, V, C) -> (n, T', V, F).
        head: of the model.
        pool: of the model.
    """

    def __init__(self, layers: Chain, head: nn.Linear, pool: Pool) -> None:
        super().__init__()
        self.layers = layers
        self.head = head
        self.pool = pool

    def places(self, features: Tensor) -> Tensor:
        """(n, T', V, F) -> (n, T', P): what is pooled over frames, of each frame."""
        if self.pool == "joints":
            return features.transpose(2, 3).flatten(2).float()
        return features.float().mean(dim=2)

    def pooled(self, rows: Tensor) -> Tensor:
        """(n, T, V, C) -> (n, P)."""
        places = self.places(self.layers(rows))
        return places.amax(dim=1) if self.pool == "joints" else places.mean(dim=1)


class FastNetwork(nn.Module):
    """What a trained model computes, derived from it by `kinegraph.runtime.fuse.fast`.

    It keeps no link to the model: train the model, then make another. Logits are float32.

    Attributes:
        layout: the skeleton.
        in_channels: C of the input.
        ghosts: whether absent persons are counted (models of released code, ``faithful=True``).
            Others are not worked on, but where the network is exported: there the answer is the
            same, with more work.
        persons: M, where each has data statistics of its own (released Shift-GCN); else 0: any.
        hop: frames that a stream works on at a time: as many as make one feature.
        delay: frames that have to follow a frame until all of its features are known.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        layout: SkeletonLayout,
        in_channels: int,
        *,
        ghosts: bool,
        persons: int = 0,
    ) -> None:
        super().__init__()
        self.paths = nn.ModuleList(paths)
        self.layout = layout
        self.in_channels = in_channels
        self.ghosts = ghosts
        self.persons = persons
        self.hop = max(path.layers.plan(0, 1)[1] for path in paths)
        plans = [path.layers.plan(1 - self.hop, 1) for path in paths]
        self.first = [first for first, _ in plans]
        self.delay = -min(self.first) * self.hop
        self.eval().requires_grad_(False)

    @property
    def dtype(self) -> torch.dtype:
        """Of the activations."""
        return next(buffer.dtype for buffer in self.buffers() if buffer.is_floating_point())

    @property
    def first_answer(self) -> int:
        """How many frames a stream has to be given until every path knows a feature.

        From then on no frame lies before the clip for any layer.
        """
        return self.delay + self.hop

    def to_dtype(self, dtype: torch.dtype) -> FastNetwork:
        """Activations in another precision; classifiers stay as they are. In place."""
        for path in self._paths():
            path.layers.to(dtype)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, T, V, M) -> logits (N, classes)."""
        check_input(x, self.layout, self.in_channels)
        self.check_persons(x.shape[4])
        counted = None if self.ghosts else present_persons(x)
        rows = fold(x).to(self.dtype)
        if counted is None or torch.compiler.is_exporting() or bool(counted.all()):
            pooled = [path.pooled(rows) for path in self._paths()]
        else:
            chosen = counted.flatten().nonzero().flatten()
            blank = rows.new_zeros(len(rows), 1, dtype=torch.float32)
            pooled = [
                blank.expand(-1, p.shape[1]).index_copy(0, chosen, p)
                for p in (path.pooled(rows[chosen]) for path in self._paths())
            ]
        return self.logits(pooled, counted, x.shape[4])

    def check_persons(self, persons: int) -> None:
        """Refuse clips of more or fewer persons than the network knows.

        Raises:
            ModelError: with both numbers.
        """
        if self.persons and persons != self.persons:
            raise ModelError(
                f"this network normalises {self.persons} persons together (faithful=True), but "
                f"the clips have {persons}"
            )

    def logits(self, pooled: list[Tensor], counted: Tensor | None, persons: int) -> Tensor:
        """Of each path (N*M, P), and who of (N, M) counts -> (N, classes)."""
        logits = [
            path.head(mean_over_persons(p.unflatten(0, (-1, persons)), counted))
            for path, p in zip(self._paths(), pooled, strict=True)
        ]
        return torch.stack(logits).sum(dim=0)

    def _paths(self) -> Iterator[Path]:
        return iter(self.paths)  # type: ignore[arg-type]


def fold(x: Tensor) -> Tensor:
    """(N, C, T, V, M) -> (N*M, T, V, C), contiguous; row n*M + m."""
    return x.permute(0, 4, 2, 3, 1).flatten(0, 1).contiguous()
