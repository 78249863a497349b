"""Fusion of scores by hand values, and the search of weights on clips made for it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import ArrayLike

from kinegraph.clips.scores import Scores
from kinegraph.errors import CheckpointError, RecipeError, UnknownNameError
from kinegraph.inference.fusion import fuse_scores, published_stream_weights, search_weights


def scores(logits: ArrayLike, labels: ArrayLike, ids: str = "") -> Scores:
    """Scores of clips a, b, c, ... unless other letters are given."""
    known = np.array(labels, np.int64)
    names = tuple(ids or "abcdefghijklmnopqrstuvwxyz"[: len(known)])
    return Scores(names, known, np.array(logits, np.float32))


def test_logits_are_added_with_their_weights():
    one = scores([[1.0, 2.0], [3.0, 4.0]], [0, 1])
    other = scores([[10.0, 0.0], [0.0, 10.0]], [0, 1])
    fused = fuse_scores([one, other], [0.6, 0.4])
    assert fused.ids == ("a", "b")
    assert fused.logits.dtype == np.float32
    np.testing.assert_allclose(fused.logits, [[4.6, 1.2], [1.8, 6.4]], rtol=1e-6)


def test_clips_are_joined_by_id_and_never_by_order():
    rng = np.random.default_rng(0)
    logits, labels, order = rng.normal(size=(6, 3)), rng.integers(0, 3, 6), rng.permutation(6)
    one = scores(logits, labels)
    other = scores(logits[order], labels[order], "".join("abcdef"[i] for i in order))
    assert one.ids != other.ids
    fused = fuse_scores([one, other], [0.5, 0.5])
    np.testing.assert_array_equal(fused.labels, one.labels)
    np.testing.assert_allclose(fused.logits, one.logits, rtol=1e-6)


def test_a_clip_without_a_label_is_fused_too():
    assert fuse_scores([scores([[1.0, 0.0]], [-1])] * 2, [1, 1]).labels.tolist() == [-1]


def test_the_published_weights_are_shift_gcns():
    streams = ["joint", "bone", "joint_motion", "bone-motion"]
    assert published_stream_weights(streams) == [0.6, 0.6, 0.4, 0.4]
    assert published_stream_weights(["joint", "joint"]) == [0.6, 0.6]
    assert published_stream_weights(["joint", "joint+bone"]) is None
    with pytest.raises(UnknownNameError, match="unknown stream 'bones'"):
        published_stream_weights(["joint", "bones"])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "a weight for each of 2 runs, got 1"),
        ([1.0, -0.5], "0 or more, not all of them 0, got 1, -0.5"),
        ([1.0, float("nan")], "got 1, nan"),
        ([1.0, float("inf")], "got 1, inf"),
        ([0.0, 0.0], "got 0, 0"),
    ],
)
def test_weights_that_are_none(weights, message):
    with pytest.raises(RecipeError, match=message):
        fuse_scores([scores([[1.0, 0.0]], [0])] * 2, weights)


ONE = scores([[1.0, 0.0], [0.0, 1.0]], [0, 1])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            scores([[1, 0]] * 3, [0, 0, 0], "bcd"),
            r"left and right are of different clips: 2 missing from left, such as 'c'; "
            r"1 missing from right, such as 'a'",
        ),
        (scores([[1, 0]], [0]), "clips: 1 missing from right, such as 'b'"),
        (scores([[1, 0, 0]] * 2, [0, 1]), "differ in their classes: 2 and 3 of them"),
        (scores([[1, 0]] * 2, [0, 0]), "left and right label clip 'b' differently"),
        (scores([[1, 0]] * 3, [0, 1, 1], "abb"), "right: expected each clip id once, got"),
        (scores([[1, 0], [float("nan"), 0]], [0, 1]), "right: some scores are not finite"),
    ],
)
def test_scores_that_do_not_go_together(other, message):
    with pytest.raises(CheckpointError, match=message):
        fuse_scores([ONE, other], [1, 1], names=("left", "right"))


def test_no_scores_are_not_fused():
    with pytest.raises(CheckpointError, match="got none"):
        search_weights([])


def noisy(runs: int, clips: int = 25, seed: int = 0) -> list[Scores]:
    """Scores of three classes, the later runs the noisier."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, clips)
    sure = np.eye(3)[labels]
    return [
        scores(sure + (0.5 + 0.3 * run) * rng.normal(size=sure.shape), labels)
        for run in range(runs)
    ]


def accuracy(fused: Scores) -> float:
    """Share of right answers."""
    return float((fused.logits.argmax(axis=1) == fused.labels).mean())


def cross_entropy(fused: Scores) -> float:
    """Mean over clips, by the definition."""
    return float(-np.log(fused.probabilities[range(len(fused.ids)), fused.labels]).mean())


@pytest.mark.parametrize("runs", [2, 3])
def test_the_search_finds_the_best_of_all_tenths(runs):
    held_out = noisy(runs)
    shares = [c for c in itertools.product(range(11), repeat=runs) if sum(c) == 10]
    tried = [fuse_scores(held_out, np.array(c) / 10) for c in [*shares, (1 / runs * 10,) * runs]]
    best = max(map(accuracy, tried))
    found = search_weights(held_out)
    assert found.accuracy == pytest.approx(best)
    least = min(cross_entropy(fused) for fused in tried if accuracy(fused) == best)
    assert cross_entropy(fuse_scores(held_out, found.weights)) == pytest.approx(least, rel=1e-5)
    assert sum(found.weights) == pytest.approx(1)
    assert found.ids == held_out[0].ids


def test_a_run_that_guesses_gets_no_weight():
    labels = [0, 1, 2, 0, 1, 2]
    good = scores(3 * np.eye(3)[labels], labels)
    wrong = scores(3 * np.eye(3)[[1, 2, 0, 1, 2, 0]], labels)
    found = search_weights([wrong, good])
    assert found.weights == (0.0, 1.0)
    assert (found.accuracy, found.equal_accuracy) == (
        1.0,
        accuracy(fuse_scores([wrong, good], [1, 1])),
    )


@pytest.mark.parametrize("runs", [1, 3, 4, 6])
def test_found_weights_are_never_worse_than_equal_ones(runs):
    for seed in range(3):
        held_out = noisy(runs, seed=seed)
        found = search_weights(held_out)
        equal = fuse_scores(held_out, [1 / runs] * runs)
        assert found.equal_accuracy == pytest.approx(accuracy(equal))
        assert found.accuracy == pytest.approx(accuracy(fuse_scores(held_out, found.weights)))
        assert found.accuracy >= found.equal_accuracy
        assert len(found.weights) == runs
        assert sum(found.weights) == pytest.approx(1)
        assert search_weights(held_out) == found


def test_many_runs_are_climbed_to_the_one_that_is_right():
    labels = np.array([0, 1, 2, 0, 1, 2])
    wrong = [scores(3 * np.eye(3)[(labels + 1) % 3], labels) for _ in range(4)]
    found = search_weights([*wrong, scores(3 * np.eye(3)[labels], labels)])
    assert found.weights == (0, 0, 0, 0, 1)
    assert (found.accuracy, found.equal_accuracy) == (1, 0)


def test_clips_without_labels_are_not_searched_on():
    with pytest.raises(CheckpointError, match="labels from 0 to 1"):
        search_weights([scores([[1.0, 0.0]], [-1])] * 2)
