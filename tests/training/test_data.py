"""Batches: the same bits whatever the workers, errors that name the clip."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinegraph.clips.store import ClipStore
from kinegraph.errors import TransformError
from kinegraph.training.batch import Preprocessor, Sample, collate
from kinegraph.training.data import (
    ClipDataset,
    balanced_class_weights,
    create_loader,
    split_training_clips,
)
from kinegraph.training.recipe import parse_recipe
from kinegraph.transforms import Pipeline


def batches(store: ClipStore, recipe, workers: int, epoch: int) -> torch.Tensor:
    """All of an epoch, in order."""
    dataset = ClipDataset(store, range(12), Preprocessor(recipe.pipeline(), 2, True), seed=3)
    made = create_loader(dataset, 4, workers=workers)
    made.sampler.set_epoch(epoch)
    return torch.cat([batch.x for batch in made])


def test_workers_change_nothing_and_epochs_do(tiny_store, tiny_recipe):
    store, recipe = ClipStore(tiny_store), parse_recipe(tiny_recipe, "tiny")
    alone = batches(store, recipe, 0, epoch=1)
    assert alone.shape == (12, 3, 8, 15, 2)
    assert torch.equal(alone, batches(store, recipe, 2, epoch=1))
    assert not torch.equal(alone, batches(store, recipe, 0, epoch=2))


def test_splits_hold_out_a_part_of_training_only(tiny_store, tiny_recipe):
    store, recipe = ClipStore(tiny_store), parse_recipe(tiny_recipe, "tiny")
    splits = split_training_clips(recipe, store)
    assert len(splits.train) == 9
    assert len(splits.val) == 3
    assert not set(splits.train) & set(splits.val)
    subjects = [store.metas[int(i)]["subject"] for i in (*splits.train, *splits.val)]
    assert all(subject % 2 == 1 for subject in subjects)
    recipe.validation.fraction = 0
    assert len(split_training_clips(recipe, store).train) == 12


def test_a_share_keeps_some_clips_of_every_class_and_all_that_are_held_out(tiny_store, tiny_recipe):
    store, recipe = ClipStore(tiny_store), parse_recipe({**tiny_recipe, "share": 0.3}, "tiny")
    splits = split_training_clips(recipe, store)
    assert sorted(store.labels[splits.train]) == [0, 1, 2]
    assert len(splits.val) == 3
    other = split_training_clips(recipe.model_copy(update={"seed": 5}), store)
    assert set(other.train) != set(splits.train)


def test_clips_of_different_lengths_are_refused_with_the_remedy():
    samples = [Sample(np.zeros((3, t, 5, 1), np.float32), 0, t) for t in (8, 12)]
    with pytest.raises(TransformError, match="8 to 12 frames: add a transform"):
        collate(samples)


def test_a_transform_that_does_not_fit_names_the_clip(tiny_store):
    pipeline = Pipeline.from_list([{"scale": {"by": "torso"}}, "flip_y", "image_normalize"])
    dataset = ClipDataset(ClipStore(tiny_store), [0], Preprocessor(pipeline, 1, False))
    with pytest.raises(TransformError, match="clip 'clip000': "):
        dataset[0, 0]


def test_balanced_weights_give_every_class_the_same_sum():
    labels = np.array([0, 0, 0, 1, 3, 3])
    weights = balanced_class_weights(labels, 5)
    assert weights.tolist() == pytest.approx([2 / 3, 2, 0, 1, 0])
    assert weights[labels].mean() == pytest.approx(1)
