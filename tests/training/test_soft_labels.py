"""Self-training: scores of clips in place of the labels that they do not have."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from kinegraph.clips.scores import Scores
from kinegraph.clips.splits import get_split_indices
from kinegraph.clips.store import ClipStore
from kinegraph.errors import RecipeError
from kinegraph.training.batch import collate
from kinegraph.training.data import ClipDataset, split_training_clips
from kinegraph.training.objectives import label_loss
from kinegraph.training.recipe import Recipe, parse_recipe
from kinegraph.training.train import train


@pytest.fixture
def store(tiny_store) -> ClipStore:
    return ClipStore(tiny_store)


@pytest.fixture
def few(tiny_recipe, tmp_path) -> Recipe:
    """A third of the labels, and a file of scores for the rest."""
    path = str(tmp_path / "scores.npz")
    return parse_recipe({**tiny_recipe, "share": 0.3, "soft_labels": path}, "tiny")


def write_scores(store: ClipStore, path: str, indices, classes: int = 3) -> dict[str, np.ndarray]:
    """Made-up scores of clips, which are not their labels; by the ids of the clips."""
    logits = np.random.default_rng(0).normal(size=(len(indices), classes)).astype(np.float32)
    ids = tuple(store.ids[i] for i in indices)
    scores = Scores(ids, np.full(len(indices), -1), logits)
    scores.save(Path(path))
    return dict(zip(ids, scores.probabilities, strict=True))


def test_clips_left_out_by_the_share_get_the_scores_and_never_their_labels(store, few):
    labeled = split_training_clips(few.model_copy(update={"soft_labels": None}), store)
    every = get_split_indices(store, few.protocol, "train")
    wanted = write_scores(store, few.soft_labels, range(len(store)))
    splits = split_training_clips(few, store)
    assert splits.train.tolist() == sorted(set(every) - set(splits.val))
    assert splits.val.tolist() == labeled.val.tolist()
    for index, row in zip(splits.train, splits.soft_labels, strict=True):
        known = np.eye(3)[store.labels[index]]
        expected = known if index in labeled.train else wanted[store.ids[index]]
        np.testing.assert_allclose(row, expected, rtol=1e-6)
    data = ClipDataset(store, splits.train, few.preprocessor(), 0, splits.soft_labels)
    for position in range(len(data)):
        sample = data[0, position]
        np.testing.assert_array_equal(sample.label, splits.soft_labels[position])
        assert sample.label.argmax() == data.labels[position]
    batch = collate([data[0, position] for position in range(len(data))])
    assert batch.classes.tolist() == data.labels.tolist()


def test_clips_without_scores_stay_left_out(store, few):
    labeled = split_training_clips(few.model_copy(update={"soft_labels": None}), store)
    every = get_split_indices(store, few.protocol, "train")
    first = next(i for i in every if i not in labeled.train and i not in labeled.val)
    write_scores(store, few.soft_labels, [*labeled.train, *labeled.val, first])
    assert set(split_training_clips(few, store).train) == {*labeled.train, first}


def test_scores_that_do_not_fit_are_refused_in_a_sentence(store, few, tmp_path):
    with pytest.raises(RecipeError, match=r"'soft_labels': .* does not contain kinegraph scores"):
        split_training_clips(few, store)
    write_scores(store, few.soft_labels, range(len(store)), classes=4)
    with pytest.raises(RecipeError, match=r"scores of shape \(\d+, 4\) .* store has 3 classes"):
        split_training_clips(few, store)
    write_scores(store, few.soft_labels, get_split_indices(store, few.protocol, "test"))
    with pytest.raises(
        RecipeError, match=r"no scores of the .* training clips .*evaluate RUN --split"
    ):
        split_training_clips(few, store)


def test_the_loss_of_a_certain_soft_label_is_that_of_the_label():
    logits, labels = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    certain = torch.eye(3)[labels]
    weights = torch.tensor([1.0, 2, 0.5, 1, 3])
    for smoothing in (0, 0.1):
        for factors in (None, weights):
            torch.testing.assert_close(
                label_loss(logits, certain, smoothing, factors),
                label_loss(logits, labels, smoothing, factors),
            )


@pytest.mark.parametrize("mixup", [None, 0.5])
def test_a_run_trains_on_labels_and_scores(store, few, tmp_path, mixup):
    write_scores(store, few.soft_labels, range(len(store)))
    settings = few.train.model_copy(update={"mixup": mixup, "epochs": 2})
    run = train(few.model_copy(update={"train": settings}), tmp_path / "run")
    rows = list(csv.DictReader((run / "history.csv").read_text().splitlines()))
    assert len(rows) == 2 and all(float(row["train_loss"]) > 0 for row in rows)
