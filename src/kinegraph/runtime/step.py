"""Step network: a person network that computes a clip a few frames at a time.

Shapes: S streams, M persons, n = S*M folded persons, C channels, f frames of a step, V joints,
P pooled features, W features of the window.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kinegraph.errors import ModelError
from kinegraph.ops.persons import check_persons, fold_persons
from kinegraph.ops.step_context import Incremental, StepContext, drain, fill_outside
from kinegraph.runtime.network import PersonNetwork

UNKNOWN_LENGTH = 2**62  # frames of a clip whose end is not known yet
MAX_WINDOW_FRAMES = 100_000  # an hour at 30 frames a second


def check_window(window: int) -> None:
    """Refuse what is not a number of frames, or so many that they would fill the memory.

    Raises:
        ModelError: with the number.
    """
    if type(window) is not int or not 1 <= window <= MAX_WINDOW_FRAMES:
        raise ModelError(f"expected a window of 1 to {MAX_WINDOW_FRAMES} frames, got {window!r}")


class StepNetwork(nn.Module):
    """A pure function: frames and the state of those before -> logits and the next state.

    After the last frame of a clip and `PersonNetwork.delay` more, whatever they hold, it has given
    the logits of the clip, if ``end`` states where that was.

    Args:
        network: of the model.
        persons: M.
        window: how many of the latest frames the classifier sees; None for all since the start.

    Attributes:
        cost: of one step of ``network.hop`` frames of one stream, in what `run_incremental` yields.

    Raises:
        ModelError: a window that is not a number of frames, or fewer than one person.
    """

    def __init__(self, network: PersonNetwork, persons: int, window: int | None = None) -> None:
        super().__init__()
        if persons < 1:
            raise ModelError(f"expected at least one person, got persons={persons}")
        check_persons(persons, network.persons)
        if window is not None:
            check_window(window)
        self.network = network
        self.persons = persons
        self.window = None if window is None else -(-window // network.hop)
        self._initial, self.cost = self._dry_run()

    def forward(
        self, frames: Tensor, before: Tensor, end: Tensor, present: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        """Compute the next frames of S streams.

        Args:
            frames: (S, C, f, V, M), f a multiple of ``network.hop``.
            before: (S,) how many frames the streams have been given so far. The first
                ``network.hop - 1`` of them do not belong to the clip, whatever they hold.
            end: (S,) how many frames the clips have; `UNKNOWN_LENGTH` as long as that is not known.
            present: (S, M) bool: who has been seen so far.
            state: what the last call returned, or `initial_state`.

        Returns:
            logits (S, classes), present, and the next state. Logits are NaN as long as no feature
            of the clip is known.
        """
        return drain(self.run_incremental(frames, before, end, present, state, mask=True))

    def run_incremental(
        self,
        frames: Tensor,
        before: Tensor,
        end: Tensor | None,
        present: Tensor,
        state: Sequence[Tensor],
        *,
        mask: bool,
    ) -> Incremental[tuple[Tensor, ...]]:
        """Compute `forward` layer by layer; yields the size of each, in all ``cost`` a step.

        Without ``mask`` all frames and all features have to belong to the clip.
        """
        M = self.persons
        stop = None if end is None else end.repeat_interleave(M)
        start = before.repeat_interleave(M) if mask else before
        return self._compute(frames, present, StepContext(start, stop, state, mask=mask))

    def _compute(
        self, frames: Tensor, present: Tensor, context: StepContext
    ) -> Incremental[tuple[Tensor, ...]]:
        S, M = present.shape
        rows = fold_persons(frames).permute(0, 2, 3, 1)
        seen = (rows != 0).flatten(2).any(dim=2)
        if context.mask:
            seen = seen & context.inside(1 - self.network.hop, rows.shape[1], 1)
        present = present | seen.any(dim=1).view(S, M)
        counting = present if self.window is None else self._recent(seen, context).view(S, M)
        features = yield from self.network.layers.run_incremental(
            rows.to(self.network.dtype), context
        )
        pooled = self._pool(features, context)
        absent_count = self.network.counts_absent
        counted = None if absent_count else counting | ~counting.any(dim=1, keepdim=True)
        return self.network.logits(pooled, counted, M), present, *context.next_state

    def initial_state(self, streams: int) -> tuple[Tensor, ...]:
        """Return ``present`` and the state of streams that have not begun."""
        return tuple(row.repeat(streams, *[1] * (row.ndim - 1)) for row in self._initial)

    def _recent(self, seen: Tensor, context: StepContext) -> Tensor:
        """(n, f) bool, who was seen when -> (n,) bool, who was in the frames of the window."""
        steps = (self.window or 0) + self.network.delay // self.network.hop
        new = seen.unflatten(1, (-1, self.network.hop)).any(dim=2)
        flags = torch.cat([context.read_state((seen.shape[0], steps), seen), new], dim=1)
        context.write_state(flags[:, -steps:])
        return flags.any(dim=1)

    @torch.no_grad()
    def _dry_run(self) -> tuple[tuple[Tensor, ...], float]:
        """Return the state of one stream before its first step, and the cost of a step."""
        network, M, device = self.network, self.persons, self.network.device
        shape = (1, network.in_channels, network.hop, network.layout.num_joints, M)
        present = torch.zeros(1, M, dtype=torch.bool, device=device)
        before = torch.zeros(M, dtype=torch.int64, device=device)
        context = StepContext(before, None, None, mask=True)
        cost = sum(self._compute(torch.zeros(shape, device=device), present, context))
        return (present, *context.first_state), cost

    def _pool(self, features: Tensor, context: StepContext) -> Tensor:
        """(n, f', V, F) -> (n, P), over all frames or the window; NaN where there is no feature."""
        frames = self.network.pool_joints(features)
        inside = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
        if context.mask:
            inside = context.inside(self.network.first, frames.shape[1], self.network.hop)
        if self.window is None:
            pooled, count = self._pool_all(frames, inside, context)
        else:
            pooled, count = self._pool_latest(frames, inside, context, self.window)
        return pooled.masked_fill(count == 0, float("nan"))

    def _pool_all(
        self, frames: Tensor, inside: Tensor, context: StepContext
    ) -> tuple[Tensor, Tensor]:
        """Update the maximum, or the mean: as such, because a sum loses its last bits in hours."""
        n, _, P = frames.shape
        new = inside.sum(dim=1, keepdim=True)
        count = context.read_state((n, 1), frames, dtype=torch.int64) + new
        if self.network.pool == "joints":
            best = fill_outside(frames, inside, float("-inf")).amax(dim=1)
            pooled = torch.maximum(context.read_state((n, P), frames, fill=float("-inf")), best)
        else:
            mean = context.read_state((n, P), frames)
            change = fill_outside(frames - mean.unsqueeze(1), inside).sum(dim=1)
            pooled = mean + change / count.clamp(min=1)
        context.write_state(count)
        context.write_state(pooled)
        return pooled, count

    def _pool_latest(
        self, frames: Tensor, inside: Tensor, context: StepContext, window: int
    ) -> tuple[Tensor, Tensor]:
        n, _, P = frames.shape
        before = context.read_state((n, window), frames, dtype=torch.bool)
        valid = torch.cat([before, inside], dim=1)
        entries = torch.cat([context.read_state((n, window, P), frames), frames], dim=1)
        context.write_state(valid[:, -window:])
        context.write_state(entries[:, -window:])
        later = valid.long().flip(1).cumsum(dim=1).flip(1)
        chosen = valid & (later <= window)
        count = chosen.sum(dim=1, keepdim=True)
        if self.network.pool == "joints":
            return fill_outside(entries, chosen, float("-inf")).amax(dim=1), count
        return fill_outside(entries, chosen).sum(dim=1) / count.clamp(min=1), count
