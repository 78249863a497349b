"""Metrics of segmentation, against values computed by hand."""

import numpy as np
import pytest

from kinegraph.clips.intervals import Interval
from kinegraph.inference.segment import smooth_labels, spread_frames
from kinegraph.inference.segmentation_metrics import (
    Matches,
    ScoredInterval,
    average_precision,
    edit_score,
    f1_at,
    frame_accuracy,
    match_intervals,
    overlap,
)

# background 0: the actions 1, 2, 3 of 4, 3 and 3 frames
TRUE = np.array([0, 1, 1, 1, 1, 0, 2, 2, 2, 3, 3, 3])


def test_overlap_is_the_intersection_over_the_union() -> None:
    assert overlap(Interval(0, 0, 4), Interval(1, 2, 8)) == 2 / 8
    assert overlap(Interval(0, 0, 4), Interval(0, 4, 8)) == 0
    assert overlap(Interval(0, 1, 3), Interval(0, 1, 3)) == 1


def test_frame_accuracy_counts_the_frames_of_all_recordings() -> None:
    assert frame_accuracy([TRUE, TRUE[:4]], [TRUE, 0 * TRUE[:4]]) == 13 / 16


def test_the_edit_score_compares_the_order_of_actions() -> None:
    assert edit_score(TRUE, TRUE, 0) == 1
    stretched = np.array([1, 0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 3])  # other times, same order
    assert edit_score(TRUE, stretched, 0) == 1
    assert edit_score(TRUE, np.array([1] * 6 + [3] * 6), 0) == pytest.approx(2 / 3)  # 2 is missing
    # 1 2 3 against 1 2 1 2 3: two insertions, five intervals
    split = np.array([1, 1, 2, 2, 1, 1, 2, 2, 2, 3, 3, 3])
    assert edit_score(TRUE, split, 0) == pytest.approx(1 - 2 / 5)
    assert edit_score(TRUE, 0 * TRUE, 0) == 0
    assert edit_score(0 * TRUE, 0 * TRUE, 0) == 1
    assert edit_score(np.array([0, 1]), np.array([0, 1])) == 1  # the background counts too


def test_f1_counts_intervals_that_overlap_enough_and_each_true_one_once() -> None:
    # 1: 2 of 4 frames (0.5), 2: 3 of 4 (0.75), 3: 1 of 3 frames split off (1/3, then 1/3)
    predicted = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 0, 3])
    assert f1_at([TRUE], [predicted], 0.5, 0) == pytest.approx(2 * 2 / (2 * 2 + 2 + 1))
    assert f1_at([TRUE], [predicted], 0.25, 0) == pytest.approx(2 * 3 / (2 * 3 + 1))
    assert f1_at([TRUE], [predicted], 0.6, 0) == pytest.approx(2 / (2 + 3 + 2))
    # over two recordings the numbers are added up
    both = f1_at([TRUE, TRUE], [predicted, TRUE], 0.5, 0)
    assert both == pytest.approx(2 * 5 / (2 * 5 + 2 + 1))
    assert f1_at([0 * TRUE], [0 * TRUE], 0.5, 0) == 1
    assert f1_at([TRUE], [0 * TRUE], 0.5, 0) == 0


def test_a_predicted_interval_of_another_label_is_wrong() -> None:
    assert match_intervals([Interval(1, 0, 5)], [Interval(2, 0, 5)], 0.1) == Matches(0, 1, 1)


def test_average_precision_follows_the_order_of_the_scores() -> None:
    true = [[Interval(1, 0, 10), Interval(1, 20, 30)], [Interval(1, 0, 10)]]
    predicted = [
        ScoredInterval(0, Interval(1, 0, 10), 0.9),  # right
        ScoredInterval(1, Interval(1, 30, 40), 0.8),  # wrong
        ScoredInterval(1, Interval(1, 0, 6), 0.7),  # right up to an overlap of 0.6
        ScoredInterval(0, Interval(1, 1, 9), 0.6),  # its true interval is found already
    ]
    # recall 1/3 at precision 1, 2/3 at precision 2/3
    assert average_precision(true, predicted, 0.5) == pytest.approx(1 / 3 + (1 / 3) * (2 / 3))
    assert average_precision(true, predicted, 0.7) == pytest.approx(1 / 3)
    assert average_precision(true, [], 0.5) == 0
    # the precision is made non-increasing: wrong, right, right gives 2/3 at both recalls
    late = [ScoredInterval(0, Interval(1, 40, 50), 1.0), *predicted[:1], predicted[2]]
    assert average_precision(true, late, 0.5) == pytest.approx(2 / 3 * 2 / 3)
    with pytest.raises(ValueError, match="needs a true interval"):
        average_precision([[]], predicted[:1], 0.5)


def test_frames_get_the_row_of_the_nearest_computed_frame() -> None:
    rows = np.array([[0.0], [1.0], [2.0]], np.float32)
    spread = spread_frames(rows, np.array([0, 3, 6]), 9)[:, 0]
    assert spread.tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 2]


def test_smoothed_labels_are_the_most_frequent_around_a_frame() -> None:
    labels = np.array([0, 0, 2, 0, 0, 1, 1, 1])
    assert smooth_labels(labels, 3).tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert smooth_labels(labels, 1).tolist() == labels.tolist()
