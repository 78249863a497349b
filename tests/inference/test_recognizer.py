"""The recognizer: one clip or a store, the same answer; misfits are told."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import made_up_clips
from kinegraph.clips.clip import Clip
from kinegraph.clips.store import ClipStore
from kinegraph.errors import CheckpointError, TransformError
from kinegraph.inference.evaluate import evaluate_run
from kinegraph.inference.recognizer import Recognizer
from kinegraph.skeleton.layouts import get_layout


def test_clip_by_clip_and_in_batches_agree(tiny_run, tiny_store):
    recognizer, store = Recognizer.load(tiny_run), ClipStore(tiny_store)
    batched = recognizer.score_store(store, range(6), batch_size=4)
    single = recognizer.score(store[i] for i in range(6))
    assert batched.ids == single.ids
    np.testing.assert_allclose(batched.logits, single.logits, rtol=1e-4, atol=1e-5)


def test_an_answer_is_named_sorted_and_sums_to_one(tiny_run):
    answer = Recognizer.load(tiny_run)(made_up_clips()[4])
    assert answer.id == "clip004"
    assert answer.name in ("here", "there", "away")
    probabilities = [guess.probability for guess in answer.candidates]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    data = answer.to_dict(top=2)
    assert len(data["top"]) == 2
    assert len(data["logits"]) == 3


def test_the_tiny_problem_is_learnt_by_unseen_subjects(tiny_run):
    scores, result = evaluate_run(tiny_run)
    assert result.clips == len(scores.ids) == 12
    assert result.top1 >= 0.9


@pytest.mark.parametrize(("split", "clips"), [("train", 12), ("val", 3), ("all", 24)])
def test_other_splits(tiny_run, split, clips):
    assert evaluate_run(tiny_run, split=split)[1].clips == clips


def test_clips_of_another_layout_or_dimension_are_refused(tiny_run):
    recognizer = Recognizer.load(tiny_run)
    other = Clip(np.zeros((1, 9, 24, 3), np.float32), get_layout("ntu_edge24"), id="other")
    with pytest.raises(CheckpointError, match=r"'other' has layout 'ntu_edge24' .24 joints., the"):
        recognizer(other)
    solid = Clip(np.zeros((1, 9, 25, 3), np.float32), get_layout("ntu25"), id="solid")
    with pytest.raises(TransformError, match="'solid': the clip is in 3D"):
        recognizer(solid)
    flat = Clip(np.ones((1, 9, 15, 3), np.float32), get_layout("jhmdb15"), id="deep")
    with pytest.raises(CheckpointError, match="'deep' has 3 coordinates a joint"):
        recognizer(flat)


def test_a_store_without_labels_cannot_be_evaluated(tiny_run, tmp_path):
    from kinegraph.clips.writer import StoreWriter

    clips = made_up_clips()
    with StoreWriter(tmp_path / "s.arrow", clips[0].layout, None, {}) as writer:
        for clip in clips:
            writer.write(Clip(clip.joints, clip.layout, id=clip.id, meta=clip.meta))
    with pytest.raises(CheckpointError, match="split 'test' has no labelled clips"):
        evaluate_run(tiny_run, store=ClipStore(tmp_path / "s.arrow"))


def test_answers_come_from_the_fast_form_and_diverged_weights_answer_too(tiny_run):
    import torch

    from kinegraph.runtime.network import PersonNetwork

    recognizer = Recognizer.load(tiny_run)
    assert isinstance(recognizer.network, PersonNetwork)
    assert recognizer.precision_summary == "float32"
    diverged = Recognizer.load(tiny_run)
    torch.nn.init.constant_(diverged.model.head.weight, float("nan"))
    assert diverged.network is diverged.model
