"""Evaluation by hand values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conftest import made_up_clips
from kinegraph.cli.run_summary import format_evaluation
from kinegraph.clips.scores import Scores
from kinegraph.clips.store import ClipStore
from kinegraph.clips.writer import StoreWriter
from kinegraph.errors import CheckpointError
from kinegraph.inference.evaluate import CleanResult, evaluate, evaluate_run


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


def write_store(path, clips, classes):
    with StoreWriter(path, clips[0].layout, classes, {"reader": "arrays", "options": {}}) as writer:
        for clip in clips:
            writer.write(clip)
    return ClipStore(path)


def test_a_store_of_fewer_classes_is_evaluated_by_their_names(tiny_run, tmp_path):
    _, whole = evaluate_run(tiny_run)
    assert whole.top1 == 1
    # the model's classes are here, there and away; this store's first is missing
    clips = [replace(c, label=c.label - 1) for c in made_up_clips() if c.label]
    store = write_store(tmp_path / "two.arrow", clips, ("There", "away "))
    scores, result = evaluate_run(tiny_run, store=store)
    assert (result.clips, result.top1) == (8, 1)
    assert [row.clips for row in result.per_class] == [0, 4, 4]
    assert set(scores.labels) == {1, 2}
    assert not result.left_out


def test_classes_that_the_model_does_not_have_are_left_out_and_named(tiny_run, tmp_path):
    store = write_store(tmp_path / "other.arrow", made_up_clips(), ("jump", "there", "away"))
    _, result = evaluate_run(tiny_run, store=store)
    assert (result.clips, result.top1, result.left_out) == (8, 1, {"jump": 4})
    assert "the model does not have their classes: jump (4)" in format_evaluation(result)
    strange = write_store(tmp_path / "strange.arrow", made_up_clips(), ("a", "b", "c"))
    message = "none of these clips' classes: they are a, b, c; the model's are here, there, away$"
    with pytest.raises(CheckpointError, match=message):
        evaluate_run(tiny_run, store=strange)


def test_a_store_without_class_names_is_evaluated_by_numbers(tiny_run, tmp_path):
    _, result = evaluate_run(tiny_run, store=write_store(tmp_path / "s", made_up_clips(), None))
    assert (result.clips, result.top1) == (12, 1)


def test_the_accuracy_without_test_clips_that_equal_a_training_clip(tiny_run, tmp_path):
    assert evaluate_run(tiny_run)[1].clean is None
    clips = made_up_clips()  # clips 3, 4, 5 are of subject 1, which trains
    leaked = [replace(clips[i], id=f"leaked{i}", meta={"subject": 2}) for i in (3, 4)]
    wrong = replace(leaked[1], label=0)
    store = write_store(
        tmp_path / "leaky.arrow", [*clips, leaked[0], wrong], ("here", "there", "away")
    )
    _, result = evaluate_run(tiny_run, store=store)
    assert result.top1 == pytest.approx(13 / 14)
    assert result.clean == CleanResult(leaked=2, clips=12, top1=1.0)
    told = "; without the 2 that equal a training clip: 12 clips, top-1 100.0%"
    assert format_evaluation(result).endswith(told)
    assert result.to_dict()["clean"] == {"leaked": 2, "clips": 12, "top1": 1.0}
    assert evaluate_run(tiny_run, store=store, split="train")[1].clean is None
