"""From a store to batches: the same bits whatever the number of workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from kinegraph.clips.clip import Clip
from kinegraph.clips.splits import get_split_indices, validation_split
from kinegraph.clips.store import ClipStore
from kinegraph.errors import RecipeError, TransformError
from kinegraph.training.devices import should_pin_memory
from kinegraph.training.objectives import Batch, create_objective
from kinegraph.training.recipe import Recipe
from kinegraph.transforms import Pipeline, to_array

#: Batches that each loading process holds ready.
PREFETCH_FACTOR = 4

Item = tuple[NDArray[np.float32], int, int]


@dataclass(frozen=True)
class TrainingSplits:
    """Clip indices of the two parts that training may see."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]


def split_training_clips(recipe: Recipe, store: ClipStore) -> TrainingSplits:
    """The training split of the recipe's protocol, divided into train and validation.

    Raises:
        RecipeError: clips without a label, where the objective needs one.
    """
    indices = get_split_indices(store, recipe.protocol, "train")
    answers = create_objective(recipe.objective.name, recipe.objective.options).is_classifier
    if answers and (store.labels[indices] < 0).any():
        nameless = int((store.labels[indices] < 0).sum())
        raise RecipeError(
            f"{recipe.store}: {nameless} of {len(indices)} training clips have no label"
        )
    v = recipe.validation
    if answers and store.num_classes < 2:
        raise RecipeError(f"{recipe.store} has clips of one class alone: nothing to tell apart")
    held = indices[:0]
    if v.fraction:
        indices, held = validation_split(indices, store, v.fraction, seed=v.seed, by=v.by)
    if recipe.share < 1:
        indices = _share_of_each_class(indices, store.labels[indices], recipe.share, recipe.seed)
    return TrainingSplits(indices, held)


def _share_of_each_class(
    indices: NDArray[np.int64], labels: NDArray[np.int64], share: float, seed: int
) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    kept = []
    for label in np.unique(labels):
        own = rng.permutation(indices[labels == label])
        kept.append(own[: max(1, round(share * len(own)))])
    return np.sort(np.concatenate(kept))


class Share(NamedTuple):
    """What one of several processes works on: number ``number`` of ``of``."""

    number: int
    of: int


WHOLE = Share(0, 1)


class ClipDataset(Dataset[Item]):
    """Clips of a store as model input.

    Args:
        store: where they are.
        indices: which of them.
        pipeline: from clip to clip.
        persons: M.
        confidence: append the confidence as a channel.
        seed: of the augmentation, or None for evaluation.
    """

    def __init__(
        self,
        store: ClipStore,
        indices: Sequence[int] | NDArray[np.int64],
        pipeline: Pipeline,
        *,
        persons: int,
        confidence: bool,
        seed: int | None,
    ) -> None:
        self.store = store
        self.indices = np.asarray(indices)
        self.pipeline = pipeline
        self.persons = persons
        self.confidence = confidence
        self.seed = seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        """``key`` is (epoch, position): the generator depends on nothing else than the seed."""
        epoch, position = key
        index = int(self.indices[position])
        rng = None if self.seed is None else np.random.default_rng((self.seed, epoch, index))
        return prepare_clip(
            self.store[index], self.pipeline, rng, persons=self.persons, confidence=self.confidence
        )


def prepare_clip(
    clip: Clip,
    pipeline: Pipeline,
    rng: np.random.Generator | None,
    *,
    persons: int,
    confidence: bool,
) -> Item:
    """A clip as model input: (C, T, V, M) array, label (-1 if unknown), real frames.

    Raises:
        TransformError: the transforms do not fit the clip, which is named.
    """
    try:
        prepared = pipeline(clip, rng)
        x = to_array(prepared, persons, confidence=confidence)
    except TransformError as error:
        raise TransformError(f"clip {clip.id!r}: {error}") from error
    return x, -1 if clip.label is None else clip.label, prepared.num_real_frames


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, position), in an order that seed and epoch decide.

    Of several processes each is given its share of every step, so that N of them do in one step
    what one does in N accumulated batches. In training a few clips of the epoch are repeated where
    the last step would not come out even; in evaluation each clip is seen once.
    """

    def __init__(self, length: int, *, seed: int | None, batch_size: int, share: Share) -> None:
        self.length = length
        self.seed = seed
        self.step = batch_size * share.of
        self.share = share
        self.epoch = 0
        self._own_length = sum(len(self._own(step)) for step in self._steps(np.arange(length)))

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._own_length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.length)
        if self.seed is not None:
            np.random.default_rng((self.seed, self.epoch)).shuffle(order)
        own = (self._own(step) for step in self._steps(order))
        return ((self.epoch, int(position)) for step in own for position in step)

    def _steps(self, order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        if self.seed is not None:
            order = np.resize(order, -(-len(order) // self.share.of) * self.share.of)
        return [order[i : i + self.step] for i in range(0, len(order), self.step)]

    def _own(self, step: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.array_split(step, self.share.of)[self.share.number]


def collate(items: Sequence[Item]) -> Batch:
    """Arrays (C, T, V, M), labels and real frames side by side.

    Raises:
        TransformError: the clips differ in frames: no transform brings them to one length.
    """
    frames = sorted({x.shape[1] for x, *_ in items})
    if len(frames) > 1:
        raise TransformError(
            f"one batch holds clips of {frames[0]} to {frames[-1]} frames: add a transform that "
            "gives all of them one length, such as `resize: {frames: 64}`"
        )
    arrays, labels, lengths = zip(*items, strict=True)
    return Batch(torch.from_numpy(np.stack(arrays)), torch.tensor(labels), torch.tensor(lengths))


def create_loader(
    dataset: ClipDataset, batch_size: int, *, workers: int, share: Share = WHOLE
) -> DataLoader[Item]:
    """Batches of a data set, or a process's share of them; shuffled if it is augmented.

    Clips are read from the store's memory map as they are needed. Workers outlive the epoch, and
    hold a few batches ready each.
    """
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=EpochSampler(len(dataset), seed=dataset.seed, batch_size=batch_size, share=share),
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCH_FACTOR if workers else None,
        pin_memory=should_pin_memory(),
    )
