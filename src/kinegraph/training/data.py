"""Data loading: clips of a store as shuffled, reproducible batches.

The batches do not depend on the number of loader workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from kinegraph.clips.clip import Clip
from kinegraph.clips.intervals import has_intervals, parse_intervals
from kinegraph.clips.scores import Scores
from kinegraph.clips.splits import get_split_indices, validation_clips, validation_split
from kinegraph.clips.store import ClipStore
from kinegraph.errors import CheckpointError, RecipeError
from kinegraph.training.batch import Preprocessor, Sample, collate
from kinegraph.training.devices import should_pin_memory
from kinegraph.training.recipe import Recipe
from kinegraph.transforms.registry import View

#: Batches that each loader worker prepares in advance.
PREFETCH_FACTOR = 4


@dataclass(frozen=True)
class TrainingSplits:
    """Clip indices for training, for validation, and for evaluation during the training.

    Attributes:
        train: clips to train on.
        val: clips that select the best epoch; none if the last one is kept.
        test: clips to evaluate on in some epochs; none unless ``train.evaluate_every`` is set.
        unlabeled: how many clips of the training split were left out because they have no label.
        soft_labels: (train, classes) class probabilities of the training clips, 1 for the class of
            a labeled clip; None without the recipe's ``soft_labels``.
    """

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]
    unlabeled: int = 0
    soft_labels: NDArray[np.float32] | None = None


def split_training_clips(recipe: Recipe, store: ClipStore) -> TrainingSplits:
    """Divide the training split of the recipe's protocol into training and validation clips.

    Clips that the protocol itself states to be for validation (meta ``split`` is ``val``) are used
    instead of a fraction of the training split, and the test split if the recipe sets it. After the
    selection of the epochs (``validation.retrain`` with fraction 0) they are training clips as
    well. A classifier leaves out clips without a label, unless ``soft_labels`` has scores of them;
    a segmentation leaves out recordings without intervals.

    Raises:
        RecipeError: the objective needs labels, and no clip has one or all have the same; or the
            frame rate of some clips is unknown and the recipe resamples; or the soft labels do not
            fit the store.
        ProtocolError: a split is empty that the recipe needs.
    """
    every = indices = get_split_indices(store, recipe.protocol, "train")
    validation, held_out, unlabeled = recipe.validation, indices[:0], 0
    if validation.split == "test":
        held_out = get_split_indices(store, recipe.protocol, "test")
    elif validation.fraction or validation.retrain:
        held_out = validation_clips(store, recipe.protocol)
    objective = recipe.objective.create()
    if objective.is_classifier or objective.names_frames:
        has_label = labeled_clips(store) if objective.is_classifier else has_intervals(store.metas)
        labeled = indices[has_label[indices]]
        unlabeled, indices = len(indices) - len(labeled), labeled
        held_out = held_out[has_label[held_out]]
    if objective.is_classifier:
        _check_labels(recipe.store, store, indices)
    elif objective.names_frames:
        _check_intervals(recipe.store, store, indices)
    if recipe.pipeline().resamples:
        _check_rates(recipe.store, store.rates[indices])
    if validation.fraction and not len(held_out):
        indices, held_out = validation_split(
            indices, store, validation.fraction, seed=validation.seed, by=validation.by
        )
    if validation.retrain and not validation.fraction:
        indices, held_out = np.union1d(indices, held_out), held_out[:0]
    if recipe.share < 1:
        indices = _sample_per_class(indices, store.labels[indices], recipe.share, recipe.seed)
    test = _select_test_clips(recipe, store) if recipe.train.evaluate_every else indices[:0]
    if recipe.soft_labels is None:
        return TrainingSplits(indices, held_out, test, unlabeled)
    others = np.setdiff1d(every, np.union1d(indices, held_out))
    rows, soft_labels = read_soft_labels(Path(recipe.soft_labels), store, indices, others)
    left = int(np.count_nonzero(store.labels[np.setdiff1d(others, rows)] < 0))
    return TrainingSplits(rows, held_out, test, left, soft_labels)


def _select_test_clips(recipe: Recipe, store: ClipStore) -> NDArray[np.int64]:
    indices = get_split_indices(store, recipe.protocol, "test")
    objective = recipe.objective.create()
    if objective.names_frames:
        return indices[has_intervals(store.metas)[indices]]
    return indices[labeled_clips(store)[indices]] if objective.is_classifier else indices


def labeled_clips(store: ClipStore) -> NDArray[np.bool_]:
    """Return (clips,) whether a clip has a label."""
    return store.labels >= 0


def _check_intervals(path: str, store: ClipStore, indices: NDArray[np.int64]) -> None:
    if not len(indices):
        raise RecipeError(
            f"{path}: no training recording has interval labels, which segmentation needs: "
            "convert the recordings with --intervals FILE"
        )
    if not store.classes:
        raise RecipeError(f"{path}: its classes have no names, which segmentation needs")
    for i in indices:
        parse_intervals(store.metas[i], int(store.frames[i]), len(store.classes))


def read_soft_labels(
    path: Path, store: ClipStore, labeled: NDArray[np.int64], others: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Add the clips whose scores a file has to the labeled ones.

    Args:
        path: scores of clips, see `Scores`; those of labeled clips are not used.
        labeled, others: clips with a label to train on, and clips that may be added.

    Returns:
        (N,) clips in the order of the store, and (N, classes) their class probabilities.

    Raises:
        RecipeError: the file cannot be read, has other classes, or scores of none of ``others``.
    """
    try:
        scores = Scores.load(path)
        scores.require_finite(str(path))
    except CheckpointError as error:
        raise RecipeError(f"'soft_labels': {error}") from error
    if scores.logits.ndim != 2 or scores.logits.shape != (len(scores.ids), store.num_classes):
        raise RecipeError(
            f"'soft_labels': {path} has scores of shape {scores.logits.shape} for "
            f"{len(scores.ids)} clips, the store has {store.num_classes} classes"
        )
    row_of = dict(zip(scores.ids, scores.probabilities, strict=True))
    soft = {int(i): row_of[store.ids[i]] for i in others if store.ids[i] in row_of}
    if not soft:
        raise RecipeError(
            f"'soft_labels': {path} has no scores of the {len(others)} training clips without a "
            "label: write them by `kinegraph evaluate RUN --split train`"
        )
    rows = np.union1d(labeled, np.array(list(soft), np.int64))
    certain = np.eye(store.num_classes, dtype=np.float32)
    labels = [soft[i] if i in soft else certain[store.labels[i]] for i in rows.tolist()]
    return rows, np.stack(labels).astype(np.float32)


def _check_labels(path: str, store: ClipStore, indices: NDArray[np.int64]) -> None:
    if not len(indices):
        raise RecipeError(f"{path}: no training clip has a label, which a classifier needs")
    if store.num_classes < 2:
        raise RecipeError(f"{path} has clips of only one class; a classifier needs at least two")


def _check_rates(path: str, rates: NDArray[np.float32]) -> None:
    unknown = int(np.isnan(rates).sum())
    if 0 < unknown < len(rates):
        raise RecipeError(
            f"{path}: the transform resample brings clips to one frame rate, but {unknown} of "
            f"{len(rates)} training clips state none: convert them with --fps, or leave out "
            "resample"
        )


def _sample_per_class(
    indices: NDArray[np.int64], labels: NDArray[np.int64], share: float, seed: int
) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    kept = []
    for label in np.unique(labels):
        own = rng.permutation(indices[labels == label])
        kept.append(own[: max(1, round(share * len(own)))])
    return np.sort(np.concatenate(kept))


def balanced_class_weights(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.float32]:
    """Return (classes,) weights with which every class has the same sum over the clips.

    A clip of class c gets clips / (present classes x clips of c), so the mean over the clips is 1.
    Classes without clips get 0.
    """
    counts = np.bincount(labels, minlength=num_classes)
    present = np.count_nonzero(counts)
    weights = len(labels) / np.maximum(present * counts, 1)
    return np.where(counts > 0, weights, 0).astype(np.float32)


class ClipDataset(Dataset[Sample]):
    """Clips of a store as model input.

    Args:
        seed: seed of the augmentation, or None for evaluation.
        soft_labels: (clips, classes) class probabilities, None for the labels of the store.
        views: the inputs that an evaluation makes of each clip, one after another; in training
            their number is that of the random draws.
    """

    def __init__(
        self,
        store: ClipStore,
        indices: Sequence[int] | NDArray[np.int64],
        preprocess: Preprocessor,
        seed: int | None = None,
        soft_labels: NDArray[np.float32] | None = None,
        views: Sequence[View | None] = (None,),
    ) -> None:
        self.store = store
        self.indices = np.asarray(indices)
        self.preprocess = preprocess
        self.seed = seed
        self.soft_labels = soft_labels
        self.views = views

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(clips,) labels, -1 where unknown; the most probable class of soft labels."""
        if self.soft_labels is not None:
            return self.soft_labels.argmax(axis=1)
        return self.store.labels[self.indices]

    def __len__(self) -> int:
        return len(self.indices) * len(self.views)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        """Return the sample of ``key``, which is (epoch, position).

        The random generator depends only on the seed, the epoch, the clip's index and the number
        of the draw. Steps that mix clips get another clip of the same class from the data set
        itself.
        """
        epoch, position = key
        clip, view = divmod(position, len(self.views))
        index = int(self.indices[clip])
        if self.seed is None:
            return self.preprocess(self.store[index], view=self.views[view])
        draw = (view,) if view else ()
        rng = np.random.default_rng((self.seed, epoch, index, *draw))
        partner = None
        if self.preprocess.pipeline.uses_partner:
            partner = partial(self._draw_partner, index, int(self.labels[clip]), rng)
        sample = self.preprocess(self.store[index], rng, partner)
        if self.soft_labels is None:
            return sample
        return sample._replace(label=self.soft_labels[clip])

    def _draw_partner(self, index: int, label: int, rng: np.random.Generator) -> Clip:
        """Return another clip of the same class; the clip itself if there is none."""
        own = self._indices_by_label[label] if label >= 0 else self.indices[:0]
        others = own[own != index]
        return self.store[int(rng.choice(others)) if len(others) else index]

    @cached_property
    def _indices_by_label(self) -> dict[int, NDArray[np.int64]]:
        labels = self.labels
        return {int(label): self.indices[labels == label] for label in np.unique(labels)}


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, position) in an order that only seed and epoch determine.

    Each process gets its part of every step, so that N processes compute in one step what one
    process computes in N accumulated batches. In training a few clips of the epoch are repeated
    so that the last step divides evenly; in evaluation every clip is seen once.

    Args:
        length: number of positions.
        seed: seed of the order, or None for the order of the store.
        batch_size: clips of one process in one step.
        draws: number of positions in a row that belong to one clip, which stay together.
    """

    def __init__(
        self,
        length: int,
        seed: int | None,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        draws: int = 1,
    ) -> None:
        self.clips = length // draws
        self.seed = seed
        self.step_size = batch_size * world_size
        self.rank = rank
        self.world_size = world_size
        self.draws = draws
        self.epoch = 0
        self._num_samples = draws * sum(map(len, self._own_parts(np.arange(self.clips))))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; Lightning calls this before each one."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._num_samples

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.arange(self.clips)
        if self.seed is not None:
            np.random.default_rng((self.seed, self.epoch)).shuffle(order)
        return (
            (self.epoch, int(clip) * self.draws + draw)
            for part in self._own_parts(order)
            for clip in part
            for draw in range(self.draws)
        )

    def _own_parts(self, order: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        if self.seed is not None:
            order = np.resize(order, -(-len(order) // self.world_size) * self.world_size)
        for start in range(0, len(order), self.step_size):
            step = order[start : start + self.step_size]
            yield np.array_split(step, self.world_size)[self.rank]


def create_loader(
    dataset: ClipDataset, batch_size: int, *, workers: int, rank: int = 0, world_size: int = 1
) -> DataLoader[Sample]:
    """Create a loader of a process's batches, shuffled if the data set has a seed.

    Clips are read from the store's memory map when they are needed. Loader workers persist
    between epochs. In training all draws of a clip are in one batch, next to each other.
    """
    draws = 1 if dataset.seed is None else len(dataset.views)
    return DataLoader(
        dataset,
        batch_size=batch_size * draws,
        sampler=EpochSampler(len(dataset), dataset.seed, batch_size, rank, world_size, draws),
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCH_FACTOR if workers else None,
        pin_memory=should_pin_memory(),
    )
