"""Step networks: a fast network that is given a clip a few frames at a time.

Shapes: S streams, M persons, n = S*M folded persons, C channels, f frames of a hop, V joints,
P pooled features, W frames of the window.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError
from kinegraph.runtime.layers import Hop, done, zero_outside
from kinegraph.runtime.network import FastNetwork, Path, fold

NEVER = 2**62  # a clip whose end is not known yet


LONGEST = 100_000  # frames of a window; an hour at 30 frames a second


def check_window(window: int) -> None:
    """Refuse what is no number of frames, or so many that they would fill the memory.

    Raises:
        ModelError: with the number.
    """
    if isinstance(window, bool) or not isinstance(window, int) or not 1 <= window <= LONGEST:
        raise ModelError(f"expected a window of 1 to {LONGEST} frames, got {window!r}")


class StepNetwork(nn.Module):
    """Frames and what is kept of those before -> logits and what to keep: a function.

    After the last frame of a clip and `FastNetwork.delay` more, whatever they hold, it has given
    the logits of the clip, if ``end`` says where that was.

    Args:
        network: of the model.
        persons: M.
        window: how many of the latest frames the classifier sees; None for all since the start.

    Attributes:
        cost: of one hop of one stream, in what `work` yields.

    Raises:
        ModelError: a window that is no number of frames.
    """

    def __init__(self, network: FastNetwork, persons: int, window: int | None = None) -> None:
        super().__init__()
        if persons < 1:
            raise ModelError(f"expected at least one person, got persons={persons}")
        network.check_persons(persons)
        if window is not None:
            check_window(window)
        self.network = network
        self.persons = persons
        self.window = None if window is None else -(-window // network.hop)
        self.heads = [
            _RunningPool(path, first, network.hop, self.window)
            for path, first in zip(self._paths(), network.first, strict=True)
        ]
        self._dtype = network.dtype
        self._blank, self.cost = self._dry()

    def forward(
        self, frames: Tensor, before: Tensor, end: Tensor, present: Tensor, *kept: Tensor
    ) -> tuple[Tensor, ...]:
        """The next frames of S streams.

        Args:
            frames: (S, C, f, V, M), f a multiple of ``network.hop``.
            before: (S,) how many frames the streams have been given so far. The first
                ``network.hop - 1`` of them do not belong to the clip, whatever they hold.
            end: (S,) how many frames the clips have; `NEVER` as long as that is not known.
            present: (S, M) bool: who has been seen so far.
            kept: what the last call returned, or `blank`.

        Returns:
            logits (S, classes), present, and what is to be kept. Logits are not a number as long
            as no feature of the clip is known.
        """
        return self.advance(frames, before, end, present, kept, mask=True)

    def advance(
        self,
        frames: Tensor,
        before: Tensor,
        end: Tensor | None,
        present: Tensor,
        kept: Sequence[Tensor] | None,
        *,
        mask: bool,
    ) -> tuple[Tensor, ...]:
        """`forward`; without ``mask`` all frames and all features have to belong to the clip."""
        return done(self.work(frames, before, end, present, kept, mask=mask))

    def work(
        self,
        frames: Tensor,
        before: Tensor,
        end: Tensor | None,
        present: Tensor,
        kept: Sequence[Tensor] | None,
        *,
        mask: bool,
    ) -> Generator[float, None, tuple[Tensor, ...]]:
        """`advance`, a layer at a time: yields how much each was, all of it in ``cost`` a hop."""
        S, M = present.shape
        rows = fold(frames)
        stop = None if end is None else end.repeat_interleave(M)
        hop = Hop(before.repeat_interleave(M) if mask else before, stop, kept, mask=mask)
        seen = (rows != 0).flatten(2).any(dim=2)
        if mask:
            seen = seen & hop.inside(1 - self.network.hop, rows.shape[1], 1)
        present = present | seen.any(dim=1).view(S, M)
        counting = present if self.window is None else self._lately(seen, hop).view(S, M)
        pooled = yield from self._pooled(rows.to(self._dtype), hop)
        counted = None if self.network.ghosts else counting | ~counting.any(dim=1, keepdim=True)
        logits = self.network.logits(pooled, counted, M)
        return logits, present, *hop.keeping

    def _pooled(self, rows: Tensor, hop: Hop) -> Generator[float, None, list[Tensor]]:
        """(n, f, V, C) -> of each path (n, P)."""
        pooled = []
        for head, path in self._both():
            features = yield from path.layers.work(rows, hop)
            pooled.append(head.hop(features, hop))
        return pooled

    def _lately(self, seen: Tensor, hop: Hop) -> Tensor:
        """(n, f) bool, who was seen when -> (n,) bool, who was in the frames of the window."""
        hops = (self.window or 0) + self.network.delay // self.network.hop
        new = seen.unflatten(1, (-1, self.network.hop)).any(dim=2)
        flags = torch.cat([hop.kept((len(seen), hops), seen), new], dim=1)
        hop.keep(flags[:, -hops:])
        return flags.any(dim=1)

    def blank(self, streams: int) -> tuple[Tensor, ...]:
        """Of streams that have not begun: present, and what is kept."""
        return tuple(row.repeat(streams, *[1] * (row.ndim - 1)) for row in self._blank)

    @torch.no_grad()
    def _dry(self) -> tuple[tuple[Tensor, ...], float]:
        """What is kept of one stream before its first hop, and how much work a hop is."""
        network = self.network
        V, device = network.layout.num_joints, next(network.parameters()).device
        present = torch.zeros(1, self.persons, dtype=torch.bool, device=device)
        shape = (1, network.in_channels, network.hop, V, self.persons)
        rows = fold(torch.zeros(shape, device=device))
        hop = _Blank(torch.zeros(self.persons, dtype=torch.int64, device=device))
        if self.window is not None:
            self._lately((rows != 0).flatten(2).any(dim=2), hop)
        cost = sum(self._pooled(rows.to(self._dtype), hop))
        return (present, *hop.blanks), cost

    def _paths(self) -> Iterator[Path]:
        return iter(self.network.paths)  # type: ignore[arg-type]

    def _both(self) -> Iterator[tuple[_RunningPool, Path]]:
        return zip(self.heads, self._paths(), strict=True)


class _Blank(Hop):
    """Notes what layers want to have kept of the hop before the first."""

    def __init__(self, before: Tensor) -> None:
        super().__init__(before, None, None, mask=True)
        self.blanks: list[Tensor] = []

    def kept(self, *given: Any, **options: Any) -> Tensor:
        """Nothing yet: full of ``fill``; see `Hop.kept`."""
        self.blanks.append(super().kept(*given, **options))
        return self.blanks[-1]


class _RunningPool:
    """Pools the features of a path over all frames so far, or over the latest.

    Args:
        path: whose features.
        first: number of the first feature of the first hop.
        rate: frames for one feature.
        window: features; None for all.
    """

    def __init__(self, path: Path, first: int, rate: int, window: int | None) -> None:
        self.path, self.first, self.rate, self.window = path, first, rate, window
        self.largest = path.pool == "joints"

    def hop(self, features: Tensor, hop: Hop) -> Tensor:
        """(n, f', V, F) -> (n, P); not a number where there is no feature yet."""
        places = self.path.places(features)
        inside = torch.ones(places.shape[:2], dtype=torch.bool, device=places.device)
        if hop.mask:
            inside = hop.inside(self.first, places.shape[1], self.rate)
        if self.window is None:
            pooled, count = self._all(places, inside, hop)
        else:
            pooled, count = self._latest(places, inside, hop, self.window)
        return pooled.masked_fill(count == 0, float("nan"))

    def _all(self, places: Tensor, inside: Tensor, hop: Hop) -> tuple[Tensor, Tensor]:
        """The maximum, or the mean: as such, because a sum would lose its last bits in hours."""
        n, _, P = places.shape
        new = inside.sum(dim=1, keepdim=True)
        count = hop.kept((n, 1), places, dtype=torch.int64) + new
        if self.largest:
            best = places.masked_fill(~inside[:, :, None], float("-inf")).amax(dim=1)
            pooled = torch.maximum(hop.kept((n, P), places, fill=float("-inf")), best)
        else:
            mean = hop.kept((n, P), places)
            way = zero_outside(places - mean.unsqueeze(1), inside).sum(dim=1)
            pooled = mean + way / count.clamp(min=1)
        hop.keep(count)
        hop.keep(pooled)
        return pooled, count

    def _latest(
        self, places: Tensor, inside: Tensor, hop: Hop, window: int
    ) -> tuple[Tensor, Tensor]:
        n, _, P = places.shape
        valid = torch.cat([hop.kept((n, window), places, dtype=torch.bool), inside], dim=1)
        entries = torch.cat([hop.kept((n, window, P), places), places], dim=1)
        hop.keep(valid[:, -window:])
        hop.keep(entries[:, -window:])
        later = valid.long().flip(1).cumsum(dim=1).flip(1)
        chosen = valid & (later <= window)
        count = chosen.sum(dim=1, keepdim=True)
        if self.largest:
            return entries.masked_fill(~chosen[:, :, None], float("-inf")).amax(dim=1), count
        return zero_outside(entries, chosen).sum(dim=1) / count.clamp(min=1), count
