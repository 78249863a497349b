"""Scores: softmax, and saving with ids."""

from __future__ import annotations

import numpy as np
import pytest

from kinegraph.clips.scores import Scores
from kinegraph.errors import CheckpointError


def test_probabilities_are_the_softmax_even_of_large_logits():
    scores = Scores(("a",), np.array([0]), np.array([[1000.0, 1000.0, -1000.0]], np.float32))
    np.testing.assert_allclose(scores.probabilities, [[0.5, 0.5, 0.0]])


def test_what_is_saved_is_loaded(tmp_path):
    scores = Scores(("a", "ü/b"), np.array([1, -1]), np.array([[1, 2], [3, 4]], np.float32))
    scores.save(tmp_path / "scores.npz")
    loaded = Scores.load(tmp_path / "scores.npz")
    assert loaded.ids == scores.ids
    np.testing.assert_array_equal(loaded.labels, scores.labels)
    np.testing.assert_array_equal(loaded.logits, scores.logits)


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_files_that_hold_no_scores(tmp_path, content):
    path = tmp_path / "scores.npz"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="does not contain kinegraph scores"):
        Scores.load(path)
