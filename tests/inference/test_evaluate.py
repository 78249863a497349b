"""Evaluation by hand values."""

from __future__ import annotations

import numpy as np
import pytest

from kinegraph.errors import CheckpointError
from kinegraph.inference.evaluate import evaluate
from kinegraph.inference.scores import Scores


def scores(answers: list[int], labels: list[int], probability: float, classes: int) -> Scores:
    """Scores that give each answer this probability and share the rest."""
    rest = (1 - probability) / (classes - 1)
    p = np.full((len(answers), classes), rest)
    p[np.arange(len(answers)), answers] = probability
    ids = tuple(str(i) for i in range(len(answers)))
    return Scores(ids, np.array(labels), np.log(p).astype(np.float32))


def test_accuracy_confusion_and_calibration_of_four_clips():
    result = evaluate(scores([0, 0, 1, 0], [0, 0, 1, 1], 0.9, classes=8), lambda i: f"c{i}")
    assert result.clips == 4
    assert result.top1 == pytest.approx(0.75)
    assert result.mean_class == pytest.approx((1.0 + 0.5) / 2)
    assert result.confusion[1, 0] == 1
    assert result.confusion.sum() == 4
    assert result.ece == pytest.approx(0.9 - 0.75, abs=1e-5)
    assert result.per_class[1].name == "c1"
    assert result.per_class[1].accuracy == 0.5
    assert result.per_class[7].accuracy is None
    (only,) = result.bins
    assert (only.clips, only.accuracy) == (4, 0.75)
    assert only.confidence == pytest.approx(0.9)


def test_top5_needs_the_label_among_the_five_most_probable():
    logits = np.tile(np.arange(8, dtype=np.float32), (2, 1))
    result = evaluate(Scores(("a", "b"), np.array([3, 2]), logits), str)
    assert result.top1 == 0
    assert result.top5 == 0.5


def test_fewer_than_five_classes_make_top5_certain():
    assert evaluate(scores([0, 1], [1, 0], 0.8, classes=3), str).top5 == 1.0


def test_a_label_beyond_the_models_classes_is_an_error():
    with pytest.raises(CheckpointError, match="labels up to 4, the model has 3 classes"):
        evaluate(scores([0], [4], 0.8, classes=3), str)
