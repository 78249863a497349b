"""Probabilities that can be believed, and answers that are none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.special import softmax

from kinegraph.clips.scores import Scores
from kinegraph.errors import CheckpointError
from kinegraph.inference.calibration import Calibration, fit_temperature
from kinegraph.inference.recognizer import Recognizer
from kinegraph.training.checkpoint import (
    find_checkpoint,
    load_header,
    load_model,
    save_checkpoint,
)

LOGITS = np.array([[2.0, 0.0, 1.0], [0.0, 0.1, 3.0]], np.float32)


def test_none_at_all_is_plain_softmax_and_always_known():
    nothing = Calibration.from_dict(None)
    np.testing.assert_allclose(nothing.probabilities(LOGITS), softmax(LOGITS, axis=1))
    assert nothing.is_confident(nothing.probabilities(LOGITS)).all()


def test_temperature_divides_and_the_background_takes_its_share_away():
    made = Calibration(2.0, 0.4, background=2).probabilities(LOGITS)
    whole = softmax(LOGITS / 2, axis=1)
    np.testing.assert_allclose(made[:, :2], whole[:, :2], rtol=1e-6)
    assert (made[:, 2] == 0).all()
    assert Calibration(2.0, 0.4, 2).is_confident(made).tolist() == [True, False]


def test_a_fitted_temperature_finds_the_one_that_labels_were_drawn_with():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (4000, 5))
    shares = softmax(logits / 2.5, axis=1)
    labels = np.array([rng.choice(5, p=row) for row in shares])
    assert fit_temperature(logits, labels) == pytest.approx(2.5, rel=0.1)


def test_what_states_no_calibration_is_refused():
    assert Calibration.from_dict(vars(Calibration(1.5, 0.2, 4))) == Calibration(1.5, 0.2, 4)
    for wrong in ({"heat": 1}, {"temperature": 0}, {"threshold": 2}, {"temperature": "hot"}):
        with pytest.raises(CheckpointError, match="invalid calibration in the header"):
            Calibration.from_dict(wrong)


def test_a_calibrated_checkpoint_says_when_it_does_not_know(tiny_run, tmp_path):
    model, header = load_model(tiny_run)
    assert header.calibration is None
    stated = vars(Calibration(1.0, 0.6, background=2))
    path = tmp_path / "calibrated.safetensors"
    save_checkpoint(path, model.state_dict(), dataclasses.replace(header, calibration=stated))
    assert load_header(path).calibration == stated
    recognizer = Recognizer.load(path)
    logits = np.array([[3.0, 0, 0], [1.0, 0.9, 0], [0, 0, 4.0]], np.float32)
    sure, unsure, other = recognizer.decode(Scores(("a", "b", "c"), np.array([-1] * 3), logits))
    assert sure.is_confident
    assert sure.accepted == sure.candidates[0]
    assert sure.accepted.name == "here"
    for answer in (unsure, other):
        assert not answer.is_confident
        assert answer.accepted is None
        assert [guess.label for guess in answer.candidates] == [0, 1]
        assert not answer.to_dict()["is_confident"]


def test_checkpoints_of_the_time_before_still_answer(tiny_run, tiny_store):
    assert "calibration" in load_header(find_checkpoint(tiny_run)).__dict__
    recognizer = Recognizer.load(tiny_run)
    from kinegraph.clips.store import ClipStore

    answer = recognizer(ClipStore(tiny_store)[0])
    assert answer.is_confident
    assert answer.accepted == answer.candidates[0]
    assert sum(guess.probability for guess in answer.candidates) == pytest.approx(1, abs=1e-5)
